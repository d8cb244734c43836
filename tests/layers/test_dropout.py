"""Dropout of inputs, outputs and recurrent weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, I, T, assert_close, compiled, random_normal, random_params

import jaxrnn

KEY = jax.random.key(7)
RATE = 0.4
inner = compiled(jaxrnn.layer(jaxrnn.gru(5)))
params = random_params(0, inner)
xs = np.asarray(random_normal(1, (T, B, I)))


def noting(seen):
    """A layer that hands its inputs on, and notes its key."""

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        seen.append(key)
        return (), jnp.asarray(xs)

    return inner._replace(apply=apply)


def test_without_a_key_nothing_is_dropped():
    expected = inner.apply(params, xs)
    for model in (
        jaxrnn.dropout(inner, RATE, input_rate=RATE, variational=True),
        jaxrnn.weight_drop(inner, RATE),
    ):
        model = compiled(model)
        assert_close(model.apply(params, xs), expected, 1e-15)
        state = model.initial_state(params, batch_shape=(B,))
        first = np.asarray(expected[1])[0]
        assert_close(model.step(params, state, xs[0])[1], first, 1e-12)


def test_outputs_are_dropped_or_scaled():
    _, ys = compiled(jaxrnn.dropout(inner, RATE)).apply(params, xs, key=KEY)
    _, whole = inner.apply(params, xs)
    dropped = np.asarray(ys) == 0
    assert 0 < dropped.mean() < 1
    assert_close(ys, np.where(dropped, 0, np.asarray(whole) / (1 - RATE)), 1e-12)


@pytest.mark.loose
@pytest.mark.parametrize("arguments", [{"rate": RATE}, {"input_rate": RATE}])
def test_a_fraction_of_the_entries_is_dropped_and_the_mean_stays(arguments):
    model = compiled(jaxrnn.dropout(noting([]), **arguments))
    ones = np.ones((50, 40, 30))
    ys = np.asarray(model.apply((), ones, key=KEY)[1])
    assert abs((ys == 0).mean() - RATE) < 0.01
    assert abs(ys.mean() - 1) < 0.02
    assert not np.array_equal(ys, model.apply((), ones, key=jax.random.key(8))[1])
    np.testing.assert_array_equal(ys, model.apply((), ones, key=KEY)[1])


@pytest.mark.loose
def test_inputs_and_outputs_are_dropped_apart():
    model = compiled(jaxrnn.dropout(noting([]), 0.5, input_rate=0.5))
    _, ys = model.apply((), np.ones((50, 40, 30)), key=KEY)
    assert abs((np.asarray(ys) != 0).mean() - 0.25) < 0.01


@pytest.mark.loose
@pytest.mark.parametrize("arguments", [{"rate": RATE}, {"input_rate": RATE}])
def test_variational_dropout_has_one_mask_for_all_steps(arguments):
    model = compiled(jaxrnn.dropout(noting([]), variational=True, **arguments))
    ys = np.asarray(model.apply((), np.ones((9, 40, 30)), key=KEY)[1])
    np.testing.assert_array_equal(ys, np.broadcast_to(ys[0], ys.shape))
    assert abs((ys[0] == 0).mean() - RATE) < 0.05
    assert (ys[0, 0] != ys[0, 1]).any()


def test_the_layer_inside_gets_a_key_of_its_own():
    seen = []
    model = jaxrnn.weight_drop(jaxrnn.dropout(noting(seen), RATE), RATE)
    model.apply(params, xs, key=KEY)
    model.apply(params, xs)
    assert seen[1] is None
    assert not jnp.array_equal(*map(jax.random.key_data, (seen[0], KEY)))


@pytest.mark.parametrize("cell", [jaxrnn.elman(5), jaxrnn.lstm(5), jaxrnn.gru(5)])
def test_the_recurrent_weights_are_the_same_at_all_steps_and_rows(cell):
    """Where a weight is dropped its gradient is zero, over all steps and rows."""
    params = random_params(0, cell)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        model = jaxrnn.weight_drop(jaxrnn.layer(cell, unroll_fn=unroll_fn), RATE)

        def loss(params):
            return (model.apply(params, xs, key=KEY)[1] ** 2).sum()

        return jax.grad(loss)(params)

    by_hand, by_jax = gradient(jaxrnn.unroll_bptt), gradient(jaxrnn.unroll)
    assert_close(by_hand, by_jax, 1e-10)
    by_jax = jax.tree.map(np.asarray, by_jax)
    assert 0.1 < (by_jax.w_h == 0).mean() < 0.8
    assert (by_jax.w_x != 0).all()


def test_dropped_weights_are_those_of_the_layer_run_by_hand():
    model = jaxrnn.weight_drop(inner, RATE)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(params):
        _, ys = model.apply(params, xs, key=KEY)
        return ys.sum(), ys

    dparams, ys = gradient(params)
    kept = np.asarray(dparams.w_h) != 0
    w_h = np.where(kept, np.asarray(params.w_h) / (1 - RATE), 0)
    assert_close(ys, inner.apply(params._replace(w_h=w_h), xs)[1], 1e-12)


def test_dropout_under_mask_and_resets():
    mask = np.arange(T)[:, None] < np.array([4, 1, T])
    spoilt = np.where(mask[..., None], xs, np.nan)
    resets = np.arange(T)[:, None] == np.array([2, 2, 2])
    model = jaxrnn.weight_drop(jaxrnn.dropout(inner, RATE, input_rate=RATE), RATE)
    model = compiled(model)
    run = functools.partial(model.apply, params, mask=mask, resets=resets, key=KEY)
    assert_close(run(spoilt), run(xs), 1e-15)
    assert not np.asarray(run(xs)[1])[~mask].any()


@pytest.mark.parametrize("wrap", [jaxrnn.dropout, jaxrnn.weight_drop])
@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_is_a_probability_below_one(wrap, rate):
    with pytest.raises(ValueError, match="rate must be at least 0 and below 1, got"):
        wrap(inner, rate)


@pytest.mark.parametrize("wrap", [jaxrnn.dropout, jaxrnn.weight_drop])
def test_what_is_no_rate_or_no_layer_is_named(wrap):
    with pytest.raises(TypeError, match="rate must be a number, got 'half'"):
        wrap(inner, "half")
    with pytest.raises(TypeError, match="layer must be a Layer, got Cell"):
        wrap(jaxrnn.gru(5), 0.5)


def test_tokens_cannot_be_dropped():
    model = jaxrnn.dropout(jaxrnn.embedding(9, 4), input_rate=0.5)
    params = model.init(jax.random.key(0), 9)
    with pytest.raises(TypeError, match="must be floating for input_rate, got dtype"):
        model.apply(params, jnp.zeros((T, B), int), key=KEY)


@pytest.mark.parametrize("names", ["w_x", ("w_x",), ["w_x", "b"]])
def test_the_named_parameters_alone_are_dropped(names):
    model = jaxrnn.weight_drop(inner, RATE, names=names)

    def loss(params):
        return model.apply(params, xs, key=KEY)[1].sum()

    gradient = jax.tree.map(np.asarray, jax.jit(jax.grad(loss))(params))
    assert (gradient.w_x == 0).any()
    assert (gradient.w_h != 0).all()


@pytest.mark.parametrize("names", ["w_hh", ("w_hh",), ("",)])
def test_a_name_that_no_parameter_has(names):
    model = jaxrnn.weight_drop(inner, RATE, names=names)
    with pytest.raises(ValueError, match=r"names must be names of parameters.*w_h"):
        model.apply(params, xs, key=KEY)
