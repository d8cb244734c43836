"""Norms of gradients, by step, by lag and by parameter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CELLS, B, H, I, T, problem

import jaxrnn
from jaxrnn import diagnostics

reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)


def row_norms(tree):
    """Norms over all axes of a state but ``(T, *B)``, here ``(T, B)``."""
    flat = np.concatenate([leaf.reshape(T, B, -1) for leaf in jax.tree.leaves(tree)], 2)
    return np.linalg.norm(flat, axis=-1)


@pytest.mark.parametrize("name", ["elman", "lstm"])
@reversals
def test_state_gradient_norms_are_those_of_each_loss_alone(name, reverse):
    """By time those of ``state_gradients``; by lag those of each loss alone."""
    cell = CELLS[name].cell
    case = problem(cell)
    dys = np.array(case.dys)
    dys[2] = 0.0  # a step without loss

    @jax.jit
    def both(dys):
        flags = {**case.flags, "reverse": reverse}

        def gradients(dys):
            return diagnostics.state_gradients(
                cell, case.params, case.xs, dys, case.state, **flags
            )

        alone = jax.vmap(lambda t: gradients(jnp.zeros_like(dys).at[t].set(dys[t])))
        norms = diagnostics.state_gradient_norms(
            cell, case.params, case.xs, dys, case.state, **flags
        )
        return norms, gradients(dys), alone(jnp.arange(T))

    norms, of_all, of_each = both(dys)
    np.testing.assert_allclose(norms.by_time, row_norms(of_all), rtol=1e-10)
    pairs = [row_norms(jax.tree.map(lambda g: g[t], of_each)) for t in range(T)]  # noqa: B023
    has_loss = np.array(case.mask) & (np.arange(T) != 2)[:, None]
    for lag in range(T):
        sign = -1 if reverse else 1
        steps = [(k, k + sign * lag) for k in range(T) if 0 <= k + sign * lag < T]
        for row in range(B):
            found = [pairs[t][k, row] for k, t in steps if has_loss[t, row]]
            expected = np.mean(found) if found else np.nan
            np.testing.assert_allclose(norms.by_lag[lag, row], expected, rtol=1e-10)


def test_norms_of_one_loss_at_the_last_step():
    cell = jaxrnn.gru(H)
    case = problem(cell, mask=False, resets=False)
    run = functools.partial(
        diagnostics.state_gradient_norms, cell, case.params, case.xs
    )
    run = jax.jit(run)
    last = np.arange(T)[:, None, None] == T - 1
    norms = run(np.broadcast_to(np.where(last, 1.0, 0.0), case.dys.shape))
    by_time = np.asarray(norms.by_time)
    np.testing.assert_allclose(norms.by_lag, by_time[::-1], rtol=1e-12)
    nothing = run(np.zeros(case.dys.shape))
    assert not np.asarray(nothing.by_time).any()
    assert np.isnan(nothing.by_lag).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_gradient_norms_equal_numpy(dtype):
    rng = np.random.default_rng(0)
    exact = {"w": rng.normal(size=(I, H)), "layers": [rng.normal(size=H), np.ones(())]}
    gradient = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), exact)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), gradient)
    norms = jax.jit(diagnostics.gradient_norms)(gradient)
    np.testing.assert_allclose(norms.total, optax.tree.norm(exact), rtol=1e-6)
    np.testing.assert_allclose(
        jax.tree.leaves(norms.by_parameter),
        [np.linalg.norm(leaf.ravel()) for leaf in jax.tree.leaves(exact)],
        rtol=1e-6,
    )
    assert norms.total.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30, np.inf])
def test_norms_whose_squares_have_no_float32(size):
    gradient = {"w": np.full((3, 3), size, np.float32)}
    norms = jax.jit(diagnostics.gradient_norms)(gradient)
    np.testing.assert_allclose(norms.by_parameter["w"], 3 * size, rtol=1e-6)
    np.testing.assert_allclose(norms.total, 3 * size, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_norms_at_the_ends_of_the_range(dtype):
    """Eagerly too, where a quotient becomes a product with the reciprocal."""
    info = jnp.finfo(dtype)
    for largest in (float(info.max) / 4, float(info.tiny) * 4):
        norm = diagnostics.gradient_norms({"a": jnp.full((4,), largest, dtype)}).total
        np.testing.assert_allclose(norm, 2 * np.asarray(largest, dtype), rtol=1e-6)
    infinite = diagnostics.gradient_norms({"a": jnp.full((8,), info.max, dtype)}).total
    assert infinite == np.inf
