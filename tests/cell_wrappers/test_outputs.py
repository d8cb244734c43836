"""All states, the initial one included, those at each length, or the last alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    BASE,
    CELLS,
    B,
    H,
    I,
    T,
    assert_close,
    compiled,
    problem,
    random_like,
    random_params,
    unroll,
    unroll_bptt,
)
from covering import combinations, quick

import jaxrnn

WRAPPERS = {"all_states": jaxrnn.all_states, "no_outputs": jaxrnn.no_outputs}


def by_steps(cell, case):
    """Every state of a run, by a loop in Python."""

    @jax.jit
    def step(state, x):
        return cell.step(case.params, state, cell.project(case.params, x))[0]

    state, states = case.state, []
    for x in np.asarray(case.xs):
        state = step(state, x)
        states.append(state)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


@quick(
    ("name", "run"),
    [("lstm", unroll)] + [(name, unroll_bptt) for name in BASE],
    by_default=[("lstm", unroll), ("gru", unroll_bptt), ("elman", unroll_bptt)],
)
def test_all_states_are_those_of_a_loop(name, run):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    last, states = run(jaxrnn.all_states(cell), *case.args)
    assert_close(states, by_steps(cell, case), 1e-12)
    assert_close(jax.tree.map(lambda leaf: np.asarray(leaf)[-1], states), last, 0)
    assert_close(last, run(cell, *case.args)[0], 1e-12)


@combinations(
    strength=1,
    name=["lstm", "gru", "elman-softplus"],
    wrapper=WRAPPERS.keys(),
    reverse=[False, True],
)
def test_gradients_by_hand_are_those_of_jax(name, wrapper, reverse):
    cell = WRAPPERS[wrapper](CELLS[name].cell)
    case = problem(cell)

    @jax.jit
    def gradients():
        def through(run):
            def values(params, xs, state):
                return run(cell, params, xs, state, **case.flags, reverse=reverse)

            out, pull = jax.vjp(values, *case.args)
            return out, pull(random_like(5, out))

        return through(jaxrnn.unroll), through(jaxrnn.unroll_bptt)

    by_jax, by_hand = gradients()
    assert_close(by_hand, by_jax, 1e-10)


def test_bptt_takes_cotangents_of_states():
    cell = jaxrnn.all_states(jaxrnn.lstm(H))
    case = problem(cell)
    run = functools.partial(jaxrnn.unroll, cell, **case.flags)
    dstates = random_like(2, jax.eval_shape(run, *case.args[:2])[1])

    @jax.jit
    def both(params):
        def loss(params):
            return sum(map(jnp.vdot, run(params, case.xs)[1], dstates))

        dparams, _, _ = jaxrnn.bptt(cell, params, case.xs, dstates, **case.flags)
        return dparams, jax.grad(loss)(params)

    assert_close(*both(case.params), 1e-10)


def test_the_state_at_each_length_is_that_of_a_masked_run():
    cell = jaxrnn.lstm(H)
    case = problem(cell, mask=False, resets=False)

    @jax.jit
    def three_ways(lengths):
        mask = jaxrnn.lengths_to_mask(lengths, T)
        expected, _ = jaxrnn.unroll(cell, *case.args, mask=mask)
        _, states = jaxrnn.unroll(jaxrnn.all_states(cell), *case.args)
        states = jaxrnn.with_initial(case.state, states)
        assert states.c.shape == (T + 1, B, H)
        alone, _ = jaxrnn.unroll(jaxrnn.no_outputs(cell), *case.args, mask=mask)
        return expected, jaxrnn.at_lengths(states, lengths), alone

    expected, at_lengths, alone = three_ways(np.array([0, T, 3]))
    assert_close(at_lengths, expected, 1e-12)
    assert_close(alone, expected, 1e-12)


def test_no_outputs_have_size_zero_in_layers():
    encoder = jaxrnn.stack(
        jaxrnn.layer(jaxrnn.gru(4)), jaxrnn.layer(jaxrnn.no_outputs(jaxrnn.lstm(H)))
    )

    def run():
        params = encoder.init(jax.random.key(0), I)
        return encoder.apply(params, jnp.ones((T, B, I), params[0].b.dtype))

    state, ys = jax.eval_shape(run)
    assert (encoder.output_size, ys.shape) == (0, (T, B, 0))
    assert state[1].c.shape == (B, H)


def test_all_states_draw_the_same_noise():
    plain = jaxrnn.zoneout(jaxrnn.lstm(H), 0.5)
    case = problem(plain)
    key = jax.random.key(1)
    layer = compiled(jaxrnn.layer(jaxrnn.all_states(plain)))
    _, states = layer.apply(*case.args, **case.flags, key=key)
    _, ys = compiled(jaxrnn.layer(plain)).apply(*case.args, **case.flags, key=key)
    assert_close(states.h, ys, 1e-12)


def memory(cell, run=jaxrnn.unroll_bptt):
    params = jax.tree.map(np.float32, random_params(0, cell, input_size=8))
    xs = jnp.zeros((1000, 4, 8), jnp.float32)

    def forward(params):
        return run(cell, params, xs)

    analysis = jax.jit(forward).lower(params).compile().memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def test_less_that_is_asked_for_costs_less(optimized, without_kernels):
    cell = jaxrnn.lstm(64)
    last, outputs, states = (
        memory(each)
        for each in (jaxrnn.no_outputs(cell), cell, jaxrnn.all_states(cell))
    )
    one = 1000 * 4 * 64 * 4  # bytes of an array (T, B, H)
    assert outputs - last > 0.9 * one
    assert states - outputs > 0.9 * one


def states_layer():
    return jaxrnn.layer(jaxrnn.all_states(jaxrnn.lstm(I)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: jaxrnn.stack(states_layer(), jaxrnn.dense(2)),
        lambda: jaxrnn.stack(states_layer(), jaxrnn.layer(jaxrnn.gru(3))),
        lambda: jaxrnn.skip_stack(jaxrnn.layer(jaxrnn.gru(I)), states_layer()),
        lambda: jaxrnn.residual(states_layer()._replace(output_size=I)),
        lambda: jaxrnn.highway(states_layer()._replace(output_size=I)),
        lambda: jaxrnn.dropout(states_layer(), 0.5),
        lambda: jaxrnn.bidirectional(*2 * [jaxrnn.all_states(jaxrnn.lstm(3))]),
    ],
)
def test_states_go_into_no_other_layer(make):
    model = make()

    def run():
        key = jax.random.key(0)
        model.apply(model.init(key, I), jnp.ones((T, B, I)), key=key)

    with pytest.raises(TypeError, match="must be one array here, got LSTMState"):
        jax.eval_shape(run)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jaxrnn.layer(jaxrnn.gru(3), unroll_fn=2), TypeError, "unroll_fn must"),
        (lambda: jaxrnn.all_states(jaxrnn.lstm), TypeError, "cell must be a Cell"),
        (
            lambda: jaxrnn.no_outputs(jaxrnn.layer(jaxrnn.gru(3))),
            TypeError,
            "must be a Cell, got Layer",
        ),
        (
            lambda: jaxrnn.at_lengths(np.zeros((3, 2, 4)), np.array([1.0, 2.0])),
            TypeError,
            "lengths must be integers",
        ),
        (
            lambda: jaxrnn.at_lengths(np.zeros((3, 2, 4)), np.array([1, 2, 3])),
            ValueError,
            r"batch shape of states.*\(3, 2, 4\), got shape \(3,\)",
        ),
    ],
)
def test_wrong_cells_and_lengths_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
