"""Cells whose initial state is a parameter."""

import jax
import jax.numpy as jnp
import pytest
from cases import B, H, I, T, assert_close, problem, random_normal, unroll

import jaxrnn
from jaxrnn.testing import check_cell

xs = random_normal(1, (T, B, I))


@pytest.mark.parametrize(
    "make", [jaxrnn.elman, pytest.param(jaxrnn.lstm, marks=pytest.mark.slow)]
)
def test_learned_state_passes_check_cell(make):
    check_cell(jaxrnn.learned_state(make(H)))


def test_runs_start_and_restart_with_the_learned_state():
    inner = jaxrnn.gru(H)
    cell = jaxrnn.learned_state(inner)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    assert not params.state.any()
    params = params._replace(state=jnp.linspace(-1.0, 1.0, H))
    start = jnp.broadcast_to(params.state, (B, H))
    resets = jnp.isin(jnp.arange(T), jnp.array([3]))[:, None].repeat(B, 1)
    _, ys = unroll(cell, params, xs, resets=resets)
    _, first = unroll(inner, params.cell, xs[:3], start)
    _, rest = unroll(inner, params.cell, xs[3:], start)
    assert_close(ys, jnp.concatenate([first, rest]), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_learned_state_has_the_dtype_of_the_other_parameters(dtype):
    cell = jaxrnn.learned_state(jaxrnn.lstm(H))
    params = cell.init(jax.random.key(0), I, dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert cell.initial_state(params, (B,)).c.dtype == jnp.float32


def test_learned_state_needs_a_cell_and_no_adjoint():
    cell = jaxrnn.learned_state(jaxrnn.gru(H)._replace(adjoint=None))
    params = cell.init(jax.random.key(0), I, jnp.float64)
    grads = jax.grad(lambda p: jaxrnn.unroll(cell, p, xs)[1].sum())(params)
    assert grads.state.all()
    with pytest.raises(TypeError, match="cell must be a Cell, got Layer"):
        jaxrnn.learned_state(jaxrnn.layer(jaxrnn.gru(H)))


def test_learned_state_keeps_what_the_cell_can_do():
    linear = jaxrnn.learned_state(jaxrnn.mingru(H))
    case = problem(linear)
    run = jax.jit(jaxrnn.unroll_associative, static_argnums=0)
    actual = run(linear, case.params, case.xs, **case.flags)
    expected = unroll(linear, case.params, case.xs, **case.flags)
    assert_close(actual, expected, 1e-12)
    assert jaxrnn.learned_state(jaxrnn.orthogonal_rnn(H)).derived is not None
