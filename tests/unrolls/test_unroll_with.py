"""Unrolled and rematerialised scans."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import CELLS, H, I, assert_close, gradients, problem, random_params
from covering import quick

import jaxrnn

NOTHING = jax.checkpoint_policies.nothing_saveable
OPTIONS = {
    "unroll": {"unroll": 3},
    "unroll beyond": {"unroll": 100},
    "remat": {"chunk_size": 3},
    "remat, even": {"chunk_size": 7},
    "remat, long": {"chunk_size": 50},
    "remat, each": {"chunk_size": 1},
    "all": {"chunk_size": 3, "unroll": 2, "policy": NOTHING},
}


@quick(
    ("name", "options", "reverse"),
    [("lstm", options, False) for options in OPTIONS]
    + [("lstm", "remat", True), ("gru", "all", True)],
    by_default=[
        ("lstm", "unroll", False),
        ("lstm", "remat, long", False),
        ("lstm", "remat", True),
        ("gru", "all", True),
    ],
)
def test_values_and_gradients_are_those_of_unroll(name, options, reverse):
    cell = CELLS[name].cell
    case = problem(cell)
    run = jaxrnn.unroll_with(**OPTIONS[options])

    @jax.jit
    def both():
        return (
            gradients(run, cell, case, reverse),
            gradients(jaxrnn.unroll, cell, case, reverse),
        )

    ours, expected = both()
    assert_close(ours, expected, 1e-12)


def test_forward_mode_and_the_hessian():
    cell = jaxrnn.gru(3)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (5, I), jnp.float64)

    def second_derivatives(run):
        def loss(w_h):
            return run(cell, params._replace(w_h=w_h), xs)[1].sum()

        return jax.jit(jax.hessian(loss))(params.w_h)

    run = jaxrnn.unroll_with(chunk_size=2, unroll=2)
    assert_close(second_derivatives(run), second_derivatives(jaxrnn.unroll), 1e-10)


@pytest.mark.parametrize("num_steps", [0, 1, 2])
def test_unroll_with_takes_few_steps(num_steps):
    cell = jaxrnn.lstm(H)
    case = problem(cell, steps=num_steps)
    run = jaxrnn.unroll_with(chunk_size=2)
    expected = jaxrnn.unroll(cell, *case.args, **case.flags)
    assert_close(run(cell, *case.args, **case.flags), expected, 1e-12)


def memory(run, num_steps=1000):
    cell = jaxrnn.lstm(32)
    params = random_params(0, cell, jnp.float32, input_size=8)
    xs = jnp.zeros((num_steps, 4, 8), jnp.float32)

    def loss(params):
        return run(cell, params, xs)[1].sum()

    compiled = jax.jit(jax.grad(loss)).lower(params).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_rematerialisation_needs_less_memory(optimized):
    plain = memory(jaxrnn.unroll)
    chunked = memory(jaxrnn.unroll_with(chunk_size=32))
    dots = jax.checkpoint_policies.dots_saveable
    saving = memory(jaxrnn.unroll_with(chunk_size=32, policy=dots))
    assert chunked < 0.4 * plain
    assert chunked < saving < plain


def test_unroll_with_compiles_once():
    cell = jaxrnn.gru(H)
    params = cell.init(jax.random.key(0), I)
    run = jax.jit(functools.partial(jaxrnn.unroll_with(chunk_size=3), cell))
    for seed in range(2):
        run(params, jax.random.normal(jax.random.key(seed), (7, I), params.b.dtype))
    assert run._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unroll": 0}, ValueError, "unroll must be at least 1, got 0"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        ({"chunk_size": 2.5}, TypeError, "chunk_size must be an int"),
        ({"policy": NOTHING}, ValueError, "policy must come with chunk_size"),
    ],
)
def test_wrong_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        jaxrnn.unroll_with(**options)
