"""Small encoder-decoder models of tokens, and what they are given."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import compiled, random_like

import jaxrnn
from jaxrnn import seq2seq

S, T, B, V, W = 6, 4, 3, 7, 5  # W: target symbols
ATTENTIONS = {
    "none": None,
    "additive": seq2seq.additive(4),
    "dot product": seq2seq.dot_product(),
}
CELLS = {"lstm": jaxrnn.lstm, "gru": jaxrnn.gru, "elman": jaxrnn.elman}
attentions = pytest.mark.parametrize("attention", ATTENTIONS)


def make(attention, cell="lstm", wrap=lambda cell: cell):
    """A model of tokens."""
    return seq2seq.encoder_decoder(
        jaxrnn.stack(
            jaxrnn.embedding(V, 3), jaxrnn.bidirectional(jaxrnn.gru(4), jaxrnn.lstm(2))
        ),
        wrap(CELLS[cell](5)),
        inputs=jaxrnn.embedding(W, 3),
        readout=jaxrnn.dense(W),
        attention=ATTENTIONS[attention],
    )


@functools.cache
def compiled_model(attention, cell):
    """The same model in all tests, and its functions jitted."""
    model = make(attention, cell)
    return model._replace(
        encode=jax.jit(model.encode),
        apply=jax.jit(model.apply),
        attention_weights=jax.jit(model.attention_weights),
        decoder=compiled(model.decoder),
    )


def setup(attention, cell="lstm", batch=(B,), wrap=None):
    if wrap is None:
        model = compiled_model(attention, cell)
    else:
        model = make(attention, cell, wrap)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), V, W, jnp.float64))
    params = random_like(0, shapes, 0.7)
    rng = np.random.default_rng(1)
    sources = rng.integers(0, V, (S, *batch))
    targets = rng.integers(0, W, (T, *batch))
    lengths = rng.integers(1, S + 1, batch)
    mask = np.arange(S).reshape(-1, *(1,) * len(batch)) < lengths
    return model, params, sources, targets, mask
