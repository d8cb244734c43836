"""Dropout inside of a step: recurrent, of the candidate, and zoneout."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from cases import (
    B,
    H,
    I,
    T,
    assert_close,
    compiled,
    gradients,
    initial_params,
    problem,
    random_normal,
    unroll,
    unroll_bptt,
)

import jaxrnn
from jaxrnn import candidate_dropout, recurrent_dropout, zoneout

KEY = jax.random.key(3)
RATE = 0.4
CELLS = {
    "elman": jaxrnn.elman,
    "lstm": jaxrnn.lstm,
    "gru": jaxrnn.gru,
    "gru-before": lambda size: jaxrnn.gru(size, reset_after=False),
}


def both(cell):
    return candidate_dropout(recurrent_dropout(cell, RATE), 0.3)


WRAPPERS = {
    "recurrent": lambda cell: recurrent_dropout(cell, RATE),
    "each step": lambda cell: recurrent_dropout(cell, RATE, variational=False),
    "candidate": lambda cell: candidate_dropout(cell, RATE),
    "both": both,
    "both, other order": lambda c: recurrent_dropout(candidate_dropout(c, 0.3), RATE),
    "zoneout": lambda cell: zoneout(cell, RATE),
    "all": lambda cell: zoneout(both(cell), 0.2),
    "all, other order": lambda cell: both(zoneout(cell, 0.2)),
    "learned": lambda cell: jaxrnn.learned_state(zoneout(both(cell), 0.2)),
}
COMBINATIONS = [
    *(("lstm", wrapper) for wrapper in (*WRAPPERS, "cell zoneout")),
    *(("gru", wrapper) for wrapper in ("recurrent", "candidate", "zoneout", "all")),
    ("gru-before", "all"),
    ("elman", "each step"),
    ("elman", "zoneout"),
]
SLOW = [  # whose parts meet in others
    ("lstm", "each step"),
    ("lstm", "candidate"),
    ("lstm", "both"),
    ("lstm", "zoneout"),
    ("lstm", "all, other order"),
    ("gru", "recurrent"),
    ("gru", "zoneout"),
    ("elman", "each step"),
]
combinations = pytest.mark.parametrize(
    ("cell", "wrapper"),
    [
        pytest.param(*each, marks=pytest.mark.slow) if each in SLOW else each
        for each in COMBINATIONS
    ],
)


def wrapped(cell, wrapper):
    if wrapper == "cell zoneout":
        return zoneout(CELLS[cell](H), 0.2, cell_rate=0.5)
    return WRAPPERS[wrapper](CELLS[cell](H))


def draw(cell, params, shape):
    """The noise of a run."""
    drawn = jax.jit(cell.noise.draw, static_argnums=2)(KEY, params, shape)
    return np.asarray(drawn)


def with_noise(cell, case):
    """The cell that runs in training, and the case with its inputs."""
    noise = draw(cell, case.params, case.xs.shape[:-1])
    xs = np.concatenate([case.xs, noise.astype(case.xs.dtype)], axis=-1)
    return noise, cell.noise.cell, case.__class__(**{**vars(case), "xs": xs})


@pytest.mark.parametrize(
    ("cell", "wrapper", "reverse"),
    [(*each, False) for each in COMBINATIONS]
    + [("lstm", "all", True), ("gru", "learned", True)],
)
def test_the_backward_pass_by_hand_is_that_of_jax(cell, wrapper, reverse):
    noisy = wrapped(cell, wrapper)
    _, run, case = with_noise(noisy, problem(noisy))

    @jax.jit
    def both_ways():
        by_jax = gradients(jaxrnn.unroll, run, case, reverse)
        by_hand = gradients(jaxrnn.unroll_bptt, run, case, reverse)
        return by_jax, by_hand

    (values, (params, xs, state)), (by_hand, hand_gradients) = both_ways()
    assert_close(by_hand, values, 1e-12)
    own = np.array(xs)
    own[..., I:] = 0  # what is drawn is no variable
    assert_close(hand_gradients, (params, own, state), 1e-10)


@combinations
def test_expectations_in_evaluation(cell, wrapper):
    noisy = wrapped(cell, wrapper)
    case = problem(noisy)
    layer = compiled(jaxrnn.layer(noisy))
    expected = unroll(noisy, *case.args, **case.flags)
    assert_close(layer.apply(*case.args, **case.flags), expected, 1e-12)
    if "zoneout" not in wrapper and "all" not in wrapper and wrapper != "learned":
        plain = unroll(CELLS[cell](H), *case.args, **case.flags)
        assert_close(expected, plain, 1e-12)
    state = case.state
    for x in np.asarray(case.xs):
        state, y = layer.step(case.params, state, x)
    last, ys = layer.apply(*case.args)
    assert_close((state, y), (last, np.asarray(ys)[-1]), 1e-12)


@combinations
def test_a_layer_draws_if_it_gets_a_key(cell, wrapper):
    noisy = wrapped(cell, wrapper)
    case = problem(noisy)
    _, run, noisy_case = with_noise(noisy, case)
    layer = compiled(jaxrnn.layer(noisy))
    drawn = layer.apply(*case.args, **case.flags, key=KEY)
    expected = unroll_bptt(run, *noisy_case.args, **case.flags)
    assert_close(drawn, expected, 0)
    other = layer.apply(*case.args, **case.flags, key=jax.random.key(4))
    assert not np.allclose(other[1], drawn[1])
    assert not np.allclose(layer.apply(*case.args, **case.flags)[1], drawn[1])


# Against NumPy, with the noise that was drawn


def numpy_run(step, case, noise):
    """The oracle's loop, with noise beside the inputs of a step."""
    xs = np.concatenate([case.xs, noise], axis=-1)

    def noisy_step(params, state, x):
        return step(params, state, x[:I], np.split(x[I:], len(x[I:]) // H))

    fresh = jax.tree.map(np.zeros_like, case.state)
    return oracles.unroll(
        noisy_step, case.params, xs, case.state, fresh, case.mask, case.resets, False
    )


def lstm_by_hand(params, state, x, h_mask, g_mask, h_keep, c_keep):
    h, c = state
    a = x @ params.w_x + (h * h_mask) @ params.w_h + params.b
    i, f, g, o = np.split(a, 4)
    new_c = oracles.sigmoid(f) * c + oracles.sigmoid(i) * np.tanh(g) * g_mask
    new_h = oracles.sigmoid(o) * np.tanh(new_c)
    h, c = np.where(h_keep, new_h, h), np.where(c_keep, new_c, c)
    return type(state)(h, c), h


def test_an_lstm_with_everything_in_numpy():
    cell = recurrent_dropout(jaxrnn.lstm(H), RATE)
    cell = zoneout(candidate_dropout(cell, 0.3), 0.2, cell_rate=0.5)
    case = problem(cell)
    noise, run, noisy = with_noise(cell, case)

    def step(params, state, x, parts):
        h_mask, g_mask, h_keep, c_keep = parts
        h_mask, g_mask = h_mask / (1 - RATE), g_mask / (1 - 0.3)
        return lstm_by_hand(params, state, x, h_mask, g_mask, h_keep, c_keep)

    expected = numpy_run(step, case, noise)
    assert_close(unroll(run, *noisy.args, **case.flags), expected, 1e-12)


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_with_everything_in_numpy(reset_after):
    cell = jaxrnn.gru(H, reset_after=reset_after)
    cell = zoneout(candidate_dropout(recurrent_dropout(cell, RATE), 0.3), 0.2)
    case = problem(cell)
    noise, run, noisy = with_noise(cell, case)

    def step(params, h, x, parts):
        h_mask, n_mask, keep = parts
        h_mask, n_mask = h_mask / (1 - RATE), n_mask / (1 - 0.3)
        x_r, x_z, x_n = np.split(x @ params.w_x + params.b, 3)
        w_r, w_z, w_n = np.split(params.w_h, 3, axis=1)
        b_r, b_z, b_n = np.split(params.b_h, 3)
        kept = h * h_mask
        r = oracles.sigmoid(x_r + kept @ w_r + b_r)
        z = oracles.sigmoid(x_z + kept @ w_z + b_z)
        if reset_after:
            n = np.tanh(x_n + r * (kept @ w_n + b_n))
        else:
            n = np.tanh(x_n + (r * kept) @ w_n + b_n)
        new = (1 - z) * n * n_mask + z * h
        h = np.where(keep, new, h)
        return h, h

    expected = numpy_run(step, case, noise)
    assert_close(unroll(run, *noisy.args, **case.flags), expected, 1e-12)


def test_zoneout_in_evaluation_in_numpy():
    case = problem(jaxrnn.lstm(H))

    def step(params, state, x):
        new, _ = oracles.lstm_step(params, state, x)
        h = 0.1 * state.h + 0.9 * new.h
        return type(state)(h, 0.3 * state.c + 0.7 * new.c), h

    fresh = jax.tree.map(np.zeros_like, case.state)
    expected = oracles.unroll(
        step, *case.args, fresh, case.mask, case.resets, reverse=False
    )
    cell = zoneout(jaxrnn.lstm(H), 0.1, cell_rate=0.3)
    assert_close(unroll(cell, *case.args, **case.flags), expected, 1e-12)


# What is drawn


@pytest.mark.parametrize("make", [recurrent_dropout, candidate_dropout])
@pytest.mark.parametrize("variational", [True, False])
def test_a_mask_is_reused_or_not(make, variational):
    cell = make(jaxrnn.lstm(50), RATE, variational=variational)
    noise = draw(cell, initial_params(cell), (30, 20))
    assert noise.shape == (30, 20, 50)
    assert abs(noise.mean() - (1 - RATE)) < 0.05
    assert bool((noise == noise[0]).all()) == variational
    assert not (noise == noise[:, :1]).all()


def test_the_default_masks():
    for make, same in ((recurrent_dropout, True), (candidate_dropout, False)):
        cell = make(jaxrnn.gru(50), RATE)
        noise = draw(cell, initial_params(cell), (30, 20))
        assert bool((noise == noise[0]).all()) == same
    cell = zoneout(jaxrnn.lstm(50), 0.2, cell_rate=0.6)
    noise = draw(cell, initial_params(cell), (30, 20))
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


# With other things


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
    params = initial_params(layer)
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
    one = initial_params(cell)
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


def test_16_bit_parameters():
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


def test_what_has_no_adjoint_can_be_zoned_out_only():
    plain = jaxrnn.gru(H)._replace(adjoint=None)
    case = problem(plain)
    zoned = compiled(jaxrnn.layer(zoneout(plain, RATE)))
    expected = compiled(jaxrnn.layer(zoneout(jaxrnn.gru(H), RATE)))
    assert_close(
        zoned.apply(*case.args, key=KEY), expected.apply(*case.args, key=KEY), 1e-12
    )
    with pytest.raises(ValueError, match=r"forward takes dot, got cell.adjoint = None"):
        recurrent_dropout(plain, RATE)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: recurrent_dropout(jaxrnn.lstm, 0.5), TypeError, "cell must be a Cell"),
        (lambda: zoneout(jaxrnn.layer(jaxrnn.gru(3)), 0.5), TypeError, "be a Cell"),
        (lambda: zoneout(jaxrnn.lstm(3), 1.0), ValueError, r"rate must be .* got 1.0"),
        (lambda: zoneout(jaxrnn.lstm(3), 0.1, cell_rate=-1), ValueError, "cell_rate"),
        (lambda: candidate_dropout(jaxrnn.gru(3), "a"), TypeError, "rate must be a nu"),
        (
            lambda: zoneout(jaxrnn.gru(3), 0.1, cell_rate=0.1),
            ValueError,
            r"state with 'c' for zoneout, got h",
        ),
        (
            lambda: candidate_dropout(jaxrnn.elman(3), 0.1),
            ValueError,
            "forward takes candidate_scale, got .*unexpected keyword",
        ),
        (
            lambda: zoneout(jaxrnn.gru(3)._replace(output_size=2), 0.1),
            ValueError,
            r"h as its output .* shape \(3,\) and output size 2",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()
