"""What is drawn inside of a step: masks, their rates, keys and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    B,
    H,
    I,
    T,
    assert_close,
    compiled,
    problem,
    random_normal,
    random_params,
    unroll,
)
from noisy_cells import KEY, RATE, draw, wrapped

import jaxrnn
from jaxrnn import candidate_dropout, recurrent_dropout, zoneout


@pytest.mark.parametrize("make", [recurrent_dropout, candidate_dropout])
@pytest.mark.parametrize("variational", [True, False])
def test_a_mask_is_reused_or_not(make, variational):
    cell = make(jaxrnn.lstm(50), RATE, variational=variational)
    noise = draw(cell, random_params(0, cell), (30, 20))
    assert noise.shape == (30, 20, 50)
    assert abs(noise.mean() - (1 - RATE)) < 0.05
    assert bool((noise == noise[0]).all()) == variational
    assert not (noise == noise[:, :1]).all()


def test_masks_are_reused_by_default_as_documented():
    for make, same in ((recurrent_dropout, True), (candidate_dropout, False)):
        cell = make(jaxrnn.gru(50), RATE)
        noise = draw(cell, random_params(0, cell), (30, 20))
        assert bool((noise == noise[0]).all()) == same
    cell = zoneout(jaxrnn.lstm(50), 0.2, cell_rate=0.6)
    noise = draw(cell, random_params(0, cell), (30, 20))
    assert not (noise == noise[0]).all()
    kept = [part.mean() for part in np.split(noise, 2, axis=-1)]
    np.testing.assert_allclose(kept, [0.8, 0.4], atol=0.01)


@pytest.mark.parametrize("wrapper", ["recurrent", "candidate", "zoneout", "both"])
def test_the_mean_over_many_draws_is_that_of_evaluation(wrapper):
    # One step, in which what is drawn enters linearly: the cell state of an LSTM with
    # small weights is nearly linear in all of it.
    cell = wrapped("lstm", wrapper)
    case = problem(cell)
    params = jax.tree.map(lambda p: 0.01 * np.asarray(p), case.params)
    rows = 40_000
    state = jax.tree.map(
        lambda s: np.broadcast_to(np.asarray(s)[0], (rows, H)), case.state
    )
    xs = np.broadcast_to(np.asarray(case.xs)[0, 0], (1, rows, I))
    layer = jaxrnn.layer(cell)

    @jax.jit
    def both_means(params, state, xs):
        drawn, _ = layer.apply(params, xs, state, key=KEY)
        expected, _ = layer.apply(params, xs, state)
        return jax.tree.map(lambda s: s.mean(0), (drawn, expected))

    drawn, expected = both_means(params, state, xs)
    assert_close(drawn, expected, 0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda cell: jaxrnn.stack(jaxrnn.layer(cell), jaxrnn.layer(cell)),
        lambda cell: jaxrnn.bidirectional(cell, cell),
        lambda cell: jaxrnn.dropout(jaxrnn.layer(cell), 0.2),
    ],
)
def test_every_layer_draws_for_itself(make):
    layer = make(recurrent_dropout(jaxrnn.lstm(H), 0.5))
    params = random_params(0, layer)
    xs = random_normal(1, (T, B, I))

    @jax.jit
    def outputs(key):
        return layer.apply(params, xs, key=key)[1]

    drawn = outputs(KEY)
    assert not np.allclose(drawn, outputs(jax.random.key(4)))
    np.testing.assert_array_equal(drawn, outputs(KEY))
    assert outputs._cache_size() == 1


def test_the_two_directions_draw_apart():
    cell = recurrent_dropout(jaxrnn.elman(H), 0.5)
    layer = compiled(jaxrnn.bidirectional(cell, cell))
    one = random_params(0, cell)
    xs = np.asarray(random_normal(1, (T, B, I)))
    both_ways = np.concatenate([xs, xs[::-1]])  # the same in either direction
    _, ys = layer.apply(jaxrnn.BidirectionalParams(one, one), both_ways, key=KEY)
    forward, backward = np.split(np.asarray(ys), 2, axis=-1)
    assert not np.allclose(forward, backward[::-1])


def test_garbage_in_padding_reaches_nothing_while_drawing():
    cell = zoneout(recurrent_dropout(jaxrnn.gru(H), RATE), 0.2)
    case = problem(cell)
    layer = compiled(jaxrnn.layer(cell))

    @jax.jit
    def gradient(xs):
        def loss(params):
            return layer.apply(params, xs, **case.flags, key=KEY)[1].sum()

        return jax.grad(loss)(case.params)

    spoilt = np.where(np.asarray(case.mask)[..., None], case.xs, np.nan)
    assert_close(gradient(spoilt), gradient(case.xs), 0)


def test_16_bit_parameters_keep_a_wide_state_while_drawing():
    cell = zoneout(recurrent_dropout(jaxrnn.lstm(H), RATE), 0.2)
    layer = compiled(jaxrnn.layer(cell))

    def run():
        params = layer.init(KEY, I, jnp.bfloat16)
        return layer.apply(params, jnp.ones((T, B, I), jnp.bfloat16), key=KEY)

    state, ys = jax.eval_shape(run)
    assert (state.h.dtype, ys.dtype) == (jnp.float32, jnp.bfloat16)


def test_a_rate_of_zero_draws_nothing_that_matters():
    case = problem(jaxrnn.lstm(H))
    expected = unroll(jaxrnn.lstm(H), *case.args, **case.flags)
    for cell in (
        zoneout(jaxrnn.lstm(H), 0),
        recurrent_dropout(jaxrnn.lstm(H), 0),
        candidate_dropout(jaxrnn.lstm(H), 0),
    ):
        run = compiled(jaxrnn.layer(cell)).apply(*case.args, **case.flags, key=KEY)
        assert_close(run, expected, 1e-12)
