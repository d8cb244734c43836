"""Dropout inside of a step: recurrent, of the candidate, and zoneout."""

import jax
import numpy as np
import oracles
import pytest
from cases import (
    H,
    I,
    assert_close,
    compiled,
    gradients,
    problem,
    unroll,
    unroll_bptt,
)
from covering import quick
from noisy_cells import CELLS, KEY, RATE, WRAPPERS, draw, wrapped

import jaxrnn
from jaxrnn import candidate_dropout, recurrent_dropout, zoneout

COMBINATIONS = [
    *(("lstm", wrapper) for wrapper in (*WRAPPERS, "cell zoneout")),
    *(("gru", wrapper) for wrapper in ("recurrent", "candidate", "zoneout", "all")),
    ("gru-before", "all"),
    ("elman", "each step"),
    ("elman", "zoneout"),
]
QUICK = [  # in which the parts of all the others meet
    ("lstm", "all"),
    ("lstm", "cell zoneout"),
    ("gru", "candidate"),
    ("gru-before", "all"),
    ("elman", "zoneout"),
]
combinations = quick(("cell", "wrapper"), COMBINATIONS, by_default=QUICK)


def with_noise(cell, case):
    """The cell that runs in training, and the case with its inputs."""
    noise = draw(cell, case.params, case.xs.shape[:-1])
    xs = np.concatenate([case.xs, noise.astype(case.xs.dtype)], axis=-1)
    return noise, cell.noise.cell, case.__class__(**{**vars(case), "xs": xs})


DIRECTED = [(*each, False) for each in COMBINATIONS]


@quick(
    ("cell", "wrapper", "reverse"),
    [*DIRECTED, ("lstm", "all", True), ("gru", "learned", True)],
    by_default=[
        ("lstm", "all", True),
        ("gru", "learned", True),
        ("gru-before", "all", False),
        ("elman", "zoneout", False),
    ],
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
def test_evaluation_takes_expectations(cell, wrapper):
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


def test_what_has_no_adjoint_can_be_zoned_out_only():
    plain = jaxrnn.gru(H)._replace(adjoint=None)
    case = problem(plain)
    zoned = compiled(jaxrnn.layer(zoneout(plain, RATE)))
    expected = compiled(jaxrnn.layer(zoneout(jaxrnn.gru(H), RATE)))
    assert_close(
        zoned.apply(*case.args, key=KEY), expected.apply(*case.args, key=KEY), 1e-12
    )
    with pytest.raises(ValueError, match=r"takes recurrent_dot, got cell.adjoint = N"):
        recurrent_dropout(plain, RATE)


def test_a_residual_without_the_state_is_named():
    cell = jaxrnn.elman(H)

    def forward(params, state, a_x, **options):
        state, y, residual = cell.adjoint.forward(params, state, a_x, **options)
        return state, y, tuple(residual)

    nameless = cell._replace(adjoint=cell.adjoint._replace(forward=forward))
    with pytest.raises(ValueError, match=r"residual has a field h_prev, .* got tuple"):
        recurrent_dropout(nameless, RATE)


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
            "forward takes candidate_scale, such as .*unexpected keyword",
        ),
        (
            lambda: zoneout(jaxrnn.gru(3)._replace(output_size=2), 0.1),
            ValueError,
            r"h as its output .* shape \(3,\) and output size 2",
        ),
    ],
)
def test_wrong_cells_and_rates_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
