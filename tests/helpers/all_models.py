"""Every cell and layer of the tables as a layer, for tests that run on all."""

import functools

import jax
import numpy as np
from cases import CELLS, B, I, T, random_params
from covering import quick
from layer_cases import LAYERS, VOCAB

import jaxrnn

MODELS = {
    **{name: (jaxrnn.layer(case.cell), False) for name, case in CELLS.items()},
    **{name: (case.make(None), case.tokens) for name, case in LAYERS.items()},
}
SMALL = {"lstm", "gru", "mingru", "conv-gru-2d", "orthogonal", "stack", "model"}
models = quick("name", MODELS, by_default=SMALL)


@functools.cache
def model(name):
    layer, tokens = MODELS[name]
    params = random_params(0, layer, input_size=VOCAB if tokens else I)
    return layer, params, tokens


def inputs(name, steps=T, batch=B):
    rng = np.random.default_rng(0)
    space = CELLS[name].cell.spatial_shape if name in CELLS else ()
    if MODELS[name][1]:
        return rng.integers(0, VOCAB, (steps, batch))
    return rng.normal(size=(steps, batch, *space, I))


def squares(layer, params, xs, **flags):
    return sum(
        (ys**2).sum() for ys in jax.tree.leaves(layer.apply(params, xs, **flags))
    )
