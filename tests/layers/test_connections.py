"""Residual and highway connections, and the merging of directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    I,
    T,
    assert_close,
    compiled,
    initial_params,
    random_normal,
    random_params,
    unroll,
)

import jaxrnn

inner = compiled(jaxrnn.layer(jaxrnn.gru(I)))
xs = np.asarray(random_normal(1, (T, B, I)))


def test_residual_adds_the_inputs():
    model = compiled(jaxrnn.residual(inner))
    params = random_params(0, model)
    assert_close(model.apply(params, xs)[1], xs + inner.apply(params, xs)[1], 1e-15)


def test_highway_is_a_gate_between_inputs_and_outputs():
    model = compiled(jaxrnn.highway(inner, gate_bias=-2.0))
    params = initial_params(model)
    b, w = map(np.asarray, (params.b, params.w))
    assert (b == -2).all()
    gate = 1 / (1 + np.exp(-(xs @ w + b)))
    expected = gate * np.asarray(inner.apply(params.layer, xs)[1]) + (1 - gate) * xs
    assert_close(model.apply(params, xs)[1], expected, 1e-12)


@pytest.mark.parametrize("wrap", [jaxrnn.residual, jaxrnn.highway])
def test_sizes_that_cannot_be_added_are_named(wrap):
    model = wrap(jaxrnn.layer(jaxrnn.gru(I + 1)))
    message = rf"input_size must be the output size {I + 1} of .*, got {I}"
    with pytest.raises(ValueError, match=message):
        model.init(jax.random.key(0), I)
    with pytest.raises(TypeError, match="layer must be a Layer, got Cell"):
        wrap(jaxrnn.gru(I))


@pytest.mark.parametrize(
    "merge", [jnp.add, jnp.multiply, lambda f, b: (f + b) / 2, jnp.maximum]
)
def test_directions_are_merged(merge):
    cell = jaxrnn.gru(5)
    model = compiled(jaxrnn.bidirectional(cell, cell, merge=merge))
    params = random_params(0, model)
    _, forward = unroll(cell, params.forward, xs)
    _, backward = unroll(cell, params.backward, xs, reverse=True)
    assert model.output_size == 5
    assert_close(model.apply(params, xs)[1], merge(forward, backward), 1e-12)


def test_a_merge_mode_is_a_function():
    with pytest.raises(TypeError, match=r"merge must be a function .* got 'sum'"):
        jaxrnn.bidirectional(jaxrnn.gru(5), jaxrnn.gru(5), merge="sum")


def test_sizes_that_cannot_be_merged_are_named():
    with pytest.raises(ValueError, match=r"merge must take .* sizes 5 and 4"):
        jaxrnn.bidirectional(jaxrnn.gru(5), jaxrnn.gru(4), merge=jnp.add)
