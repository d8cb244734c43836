"""Mistakes with layers are named: the argument, what was expected and what came."""

import jax
import jax.numpy as jnp
import pytest
from cases import B, H, I, T

import jaxrnn


def test_layers_that_do_not_fit():
    with pytest.raises(
        ValueError, match="stack must have at least one layer, got no layers"
    ):
        jaxrnn.stack()
    with pytest.raises(
        TypeError, match=r"layers\[1\] must be a Layer, got Cell: wrap it in"
    ):
        jaxrnn.stack(jaxrnn.dense(2), jaxrnn.gru(3))


def test_what_is_no_cell_is_named():
    lstm = jaxrnn.lstm(H)
    params = lstm.init(jax.random.key(0), I)
    xs = jnp.zeros((T, I))
    layer = jaxrnn.layer(lstm)
    by_apply = "must be a Cell, got Layer: a layer is run by its own apply"
    for call, message in [
        (lambda: jaxrnn.unroll(layer, params, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.unroll_bptt(layer, params, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.bptt(layer, params, xs, xs), f"cell {by_apply}"),
        (lambda: jaxrnn.layer(layer), f"cell {by_apply}"),
        (lambda: jaxrnn.bidirectional(lstm, layer), f"backward {by_apply}"),
        (lambda: jaxrnn.layer(jaxrnn.lstm), "got function: call the factory"),
        (
            lambda: jaxrnn.unroll(params, lstm, xs),
            "cell must be a Cell, got LSTMParams",
        ),
        (lambda: jaxrnn.stack([layer]), r"layers\[0\] .* got list: unpack it"),
        (lambda: jaxrnn.dense(2, activation="relu"), "activation must be a function"),
    ]:
        with pytest.raises(TypeError, match=message):
            call()


def test_steps_that_do_not_fit_are_named():
    layer = jaxrnn.layer(jaxrnn.lstm(H))
    params = layer.init(jax.random.key(0), I)
    state = layer.initial_state(params, (B,))
    with pytest.raises(ValueError, match="2 features"):
        layer.step(params, state, jnp.zeros((B, 1)))
    with pytest.raises(ValueError, match=r"state\.h must have shape \(4, 5\)"):
        layer.step(params, state, jnp.zeros((4, I)))
    both = jaxrnn.bidirectional(jaxrnn.gru(2), jaxrnn.gru(2))
    with pytest.raises(ValueError, match=r"a bidirectional layer.*later inputs"):
        jaxrnn.stack(layer, both).step((params, None), (state, None), jnp.zeros((B, I)))


def test_states_of_stacks_that_do_not_fit_are_named():
    layer = jaxrnn.layer(jaxrnn.gru(I))
    model = jaxrnn.stack(layer, layer, layer)
    params = model.init(jax.random.key(0), I)
    with pytest.raises(
        ValueError, match="state must be a tuple with 3 entries, one for each"
    ):
        model.apply(params, jnp.zeros((T, I)), jnp.zeros(I))
    with pytest.raises(ValueError, match="state must be a tuple with 3 entries"):
        model.step(params, model.initial_state(params)[:2], jnp.zeros(I))
    with pytest.raises(ValueError, match="params must be a tuple with 3 entries"):
        model.apply(params[:2], jnp.zeros((T, I)))


def test_embeddings_of_what_is_no_token():
    layer = jaxrnn.embedding(4, 3)
    params = layer.init(jax.random.key(0), 4)
    with pytest.raises(TypeError, match="xs must be integers, got dtype float64"):
        layer.apply(params, jnp.zeros((T, B)))
    with pytest.raises(ValueError, match=r"mask must have shape \(T, \*B\) = \(7, 3\)"):
        layer.apply(params, jnp.zeros((T, B), int), mask=jnp.ones((T,), bool))
    with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
        jaxrnn.embedding(0, 3)
