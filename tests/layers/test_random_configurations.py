"""Random models against a loop in plain Python and NumPy that shares no code with them.

The loop takes one row and one step at a time. What is drawn at random it draws from the
same keys, which are split as the layers document.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_close, random_flags, random_like, random_normal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import sigmoid

import jaxrnn

INPUT_SIZE = 3
CELLS = {
    "elman": jaxrnn.elman,
    "lstm": jaxrnn.lstm,
    "gru": jaxrnn.gru,
    "gru-before": lambda size: jaxrnn.gru(size, reset_after=False),
}
MERGES = {
    "concatenate": None,
    "add": jnp.add,
    "multiply": jnp.multiply,
    "mean": lambda forward, backward: (forward + backward) / 2,
}
UNROLLS = {
    "unroll": jaxrnn.unroll,
    "unroll_bptt": jaxrnn.unroll_bptt,
    "unroll_chunked": jaxrnn.unroll_chunked,
    "unroll_with": jaxrnn.unroll_with(chunk_size=2, unroll=2),
}
RATES = {"recurrent": 0.4, "candidate": 0.3, "zoneout": 0.2}
TOLERANCES = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 0.1}


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    cell: str
    size: int
    direction: str  # forward, reverse or both
    merge: str
    noise: tuple[str, ...]
    dropout: float
    variational: bool
    residual: bool
    norm: bool


@dataclasses.dataclass(frozen=True)
class Spec:
    layers: tuple[LayerSpec, ...]
    skip: bool
    unroll: str
    dtype: str
    num_steps: int
    batch: tuple[int, ...]
    mask: bool
    resets: bool
    draw: bool
    seed: int


@st.composite
def layer_specs(draw):
    cell = draw(st.sampled_from(sorted(CELLS)))
    noises = ["recurrent", "zoneout"] + ["candidate"] * (cell != "elman")
    return LayerSpec(
        cell=cell,
        size=draw(st.integers(1, 4)),
        direction=draw(st.sampled_from(["forward", "reverse", "both"])),
        merge=draw(st.sampled_from(sorted(MERGES))),
        noise=tuple(sorted(draw(st.sets(st.sampled_from(noises))))),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        variational=draw(st.booleans()),
        residual=draw(st.booleans()),
        norm=draw(st.booleans()),
    )


specs = st.builds(
    Spec,
    layers=st.lists(layer_specs(), min_size=1, max_size=3).map(tuple),
    skip=st.booleans(),
    unroll=st.sampled_from(sorted(UNROLLS)),
    dtype=st.sampled_from(sorted(TOLERANCES)),
    num_steps=st.integers(1, 5),
    batch=st.sampled_from([(), (3,), (2, 2)]),
    mask=st.booleans(),
    resets=st.booleans(),
    draw=st.booleans(),
    seed=st.integers(0, 1000),
)


# The model, in the library's terms


def build_cell(spec):
    cell = CELLS[spec.cell](spec.size)
    if "recurrent" in spec.noise:
        cell = jaxrnn.recurrent_dropout(
            cell, RATES["recurrent"], variational=spec.variational
        )
    if "candidate" in spec.noise:
        cell = jaxrnn.candidate_dropout(cell, RATES["candidate"])
    if "zoneout" in spec.noise:
        cell = jaxrnn.zoneout(cell, RATES["zoneout"])
    return cell


def build_layer(spec, input_size, unroll_fn):
    cell = build_cell(spec)
    if spec.direction == "both":
        merge = {} if MERGES[spec.merge] is None else {"merge": MERGES[spec.merge]}
        layer = jaxrnn.bidirectional(cell, cell, unroll_fn=unroll_fn, **merge)
    else:
        reverse = spec.direction == "reverse"
        layer = jaxrnn.layer(cell, reverse=reverse, unroll_fn=unroll_fn)
    if spec.residual and layer.output_size == input_size:
        layer = jaxrnn.residual(layer)
    layer = jaxrnn.dropout(layer, spec.dropout, variational=spec.variational)
    if spec.norm:
        layer = jaxrnn.stack(layer, jaxrnn.layer_norm(layer.output_size))
    return layer


def build(spec, unroll_fn):
    layers, size = [], INPUT_SIZE
    for each in spec.layers:
        layers.append(build_layer(each, size, unroll_fn))
        size = layers[-1].output_size
    return (jaxrnn.skip_stack if spec.skip else jaxrnn.stack)(*layers)


# The same as a loop


def loop_step(spec, params, state, x, noise, drawn):
    """One step of one row. ``noise`` are the masks, where ``drawn``."""
    masks = {"recurrent": 1.0, "candidate": 1.0, "zoneout": 1.0}
    order = [n for n in ("recurrent", "candidate", "zoneout") if n in spec.noise]
    for name, mask in zip(order, np.split(noise, max(len(order), 1)), strict=False):
        masks[name] = mask
    scale_h = masks["recurrent"] / (1 - RATES["recurrent"] * ("recurrent" in order))
    scale_n = masks["candidate"] / (1 - RATES["candidate"] * ("candidate" in order))
    kept = masks["zoneout"]
    if not drawn:
        scale_h = scale_n = 1.0
        kept = 1 - RATES["zoneout"] * ("zoneout" in order)
    h = state.h if spec.cell == "lstm" else state
    used = h * scale_h
    if spec.cell == "elman":
        new = np.tanh(x @ params.w_x + used @ params.w_h + params.b)
    elif spec.cell == "lstm":
        i, f, g, o = np.split(x @ params.w_x + used @ params.w_h + params.b, 4)
        c = sigmoid(f) * state.c + sigmoid(i) * np.tanh(g) * scale_n
        new = sigmoid(o) * np.tanh(c)
    else:
        x_r, x_z, x_n = np.split(x @ params.w_x + params.b, 3)
        w_r, w_z, w_n = np.split(params.w_h, 3, axis=1)
        b_r, b_z, b_n = np.split(params.b_h, 3)
        r, z = sigmoid(x_r + used @ w_r + b_r), sigmoid(x_z + used @ w_z + b_z)
        after = r * (used @ w_n + b_n)
        before = (r * used) @ w_n + b_n
        n = np.tanh(x_n + (after if spec.cell == "gru" else before))
        new = (1 - z) * n * scale_n + z * h
    h = kept * new + (1 - kept) * h
    return (jaxrnn.LSTMState(h, c) if spec.cell == "lstm" else h), h


def loop_cell(spec, params, xs, state, run: "Run", key, reverse):
    """One direction, over time and rows."""
    drawn = key is not None and bool(spec.noise)
    num_steps, rows = xs.shape[:2]
    noise = np.zeros((num_steps, rows, 0))
    if drawn:
        shape = (num_steps, *run.batch)
        noise = build_cell(spec).noise.draw(key, run.jax_params(params), shape)
        noise = np.asarray(noise, np.float64).reshape(num_steps, rows, -1)
    ys = np.zeros((num_steps, rows, spec.size))
    states = []
    for row in range(rows):
        current = jax.tree.map(lambda s, row=row: s[row], state)
        fresh = jax.tree.map(np.zeros_like, current)
        order = range(num_steps)
        for t in reversed(order) if reverse else order:
            at = t + 1 if reverse else t
            if run.resets is not None and at < num_steps and run.resets[at, row]:
                current = fresh
            if run.mask is None or run.mask[t, row]:
                current, ys[t, row] = loop_step(
                    spec, params, current, xs[t, row], noise[t, row], drawn
                )
        states.append(current)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states), ys


@dataclasses.dataclass(frozen=True)
class Run:
    batch: tuple[int, ...]
    mask: Any  # bool (T, rows), as the next
    resets: Any
    dtype: str

    def jax_params(self, params):
        return jax.tree.map(lambda p: jnp.asarray(p, self.dtype), params)

    def valid(self, ys):
        return ys if self.mask is None else np.where(self.mask[..., None], ys, 0)


def loop_layer(spec, params, xs, state, run, key):
    if spec.norm:
        key = None if key is None else jax.random.split(key, 2)[0]
        (params, norm), (state, _) = params, state
    keys = (None, None, None) if key is None else jax.random.split(key, 3)
    inputs, key = run.valid(xs), keys[1]
    if spec.direction == "both":
        both = (None, None) if key is None else jax.random.split(key)
        forward, ys = loop_cell(
            spec, params.forward, inputs, state.forward, run, both[0], False
        )
        backward, zs = loop_cell(
            spec, params.backward, inputs, state.backward, run, both[1], True
        )
        state = jaxrnn.BidirectionalState(forward, backward)
        merges = {
            "concatenate": lambda a, b: np.concatenate([a, b], -1),
            "add": np.add,
            "multiply": np.multiply,
            "mean": lambda a, b: (a + b) / 2,
        }
        ys = merges[spec.merge](ys, zs)
    else:
        reverse = spec.direction == "reverse"
        state, ys = loop_cell(spec, params, inputs, state, run, key, reverse)
    if spec.residual and ys.shape == inputs.shape:
        ys = ys + inputs
    if key is not None and spec.dropout:
        num_steps, _, size = ys.shape
        shape = (1 if spec.variational else num_steps, *run.batch, size)
        kept = jax.random.bernoulli(keys[2], 1 - spec.dropout, shape)
        ys = ys * np.asarray(kept).reshape(shape[0], -1, size) / (1 - spec.dropout)
    if spec.norm:
        centred = ys - ys.mean(-1, keepdims=True)
        ys = centred / np.sqrt(ys.var(-1, keepdims=True) + 1e-5)
        ys = run.valid(ys * norm.scale + norm.b)
        state = (state, ())
    return state, ys


def loop_model(spec, params, xs, state, run, key):
    keys = [None] * len(spec.layers)
    if key is not None:
        keys = jax.random.split(key, len(spec.layers))
    states, outputs = [], []
    for each, p, s, k in zip(spec.layers, params, state, keys, strict=True):
        s, xs = loop_layer(each, p, xs, s, run, k)
        states.append(s)
        outputs.append(xs)
    return tuple(states), np.concatenate(outputs, -1) if spec.skip else xs


def check(spec):
    model = build(spec, UNROLLS[spec.unroll])
    seeds = [(spec.seed, n) for n in range(6)]
    init = functools.partial(model.init, input_size=INPUT_SIZE, dtype=spec.dtype)
    shapes = jax.eval_shape(init, jax.random.key(0))
    params = random_like(seeds[0], shapes, 0.5)
    shape = (spec.num_steps, *spec.batch)
    xs = random_normal(seeds[1], (*shape, INPUT_SIZE), spec.dtype)
    states = jax.eval_shape(lambda p: model.initial_state(p, spec.batch), params)
    state = random_like(seeds[2], states)
    mask = random_flags(seeds[3], shape, 0.7) if spec.mask else None
    resets = random_flags(seeds[4], shape, 0.3) if spec.resets else None
    key = jax.random.key(spec.seed) if spec.draw else None

    def values(model):
        def run(params, xs, state):
            return model.apply(params, xs, state, mask=mask, resets=resets, key=key)

        return run

    actual = jax.jit(values(model))(params, xs, state)
    rows = int(np.prod(spec.batch))

    def by_row(leaf, axis):
        leaf = np.asarray(leaf).astype(np.float64)
        return leaf.reshape(*leaf.shape[:axis], rows, leaf.shape[-1])

    flags = [
        None if f is None else np.asarray(f).reshape(-1, rows) for f in (mask, resets)
    ]
    expected_state, expected = loop_model(
        spec,
        jax.tree.map(lambda p: np.asarray(p).astype(np.float64), params),
        by_row(xs, 1),
        jax.tree.map(lambda s: by_row(s, 0), state),
        Run(spec.batch, *flags, spec.dtype),
        key,
    )
    like = actual[0], actual[1]
    expected = jax.tree.map(
        lambda e, a: jnp.asarray(e.reshape(a.shape), a.dtype),
        (expected_state, expected),
        like,
    )
    assert_close(actual, expected, TOLERANCES[spec.dtype])

    if spec.dtype == "float64":
        reference = build(spec, jaxrnn.unroll)
        cotangents = random_like(seeds[5], actual)

        @jax.jit
        def gradients():
            return [
                jax.vjp(values(each), params, xs, state)[1](cotangents)
                for each in (model, reference)
            ]

        assert_close(*gradients(), 1e-10)


def random_configurations(max_examples):
    """Draw the models of a test, the same ones in every run."""
    return settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )


@random_configurations(6)
@given(specs)
def test_random_models_equal_a_numpy_loop(spec):
    check(spec)


@pytest.mark.slow
@random_configurations(40)
@given(specs)
def test_many_random_models_equal_a_numpy_loop(spec):
    check(spec)
