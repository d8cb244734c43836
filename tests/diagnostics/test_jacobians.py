"""Jacobians of steps and windows, and Lyapunov exponents."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, B, H, I, T, assert_close, initial_params, problem
from jax.flatten_util import ravel_pytree

import jaxrnn
from jaxrnn import diagnostics

runs = pytest.mark.parametrize(
    ("name", "reverse"),
    [("elman", False), ("lstm", False), ("gru", False), ("lstm", True)],
)
reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)


@runs
def test_jacobians_are_those_of_running_the_window(name, reverse):
    cell = CELLS[name].cell
    steps, window = 5, 3
    case = problem(cell, steps=steps)
    # The loop that the docstring of unroll shows, for one row.
    mask, resets = case.mask, case.resets
    if reverse:
        resets = jnp.concatenate([resets[1:], jnp.zeros((1, B), bool)])

    def run(state, times, xs, mask, resets):
        for t in times:
            fresh = cell.initial_state(case.params)
            entering = jax.tree.map(
                functools.partial(jnp.where, resets[t]), fresh, state
            )
            new, _ = cell.step(case.params, entering, cell.project(case.params, xs[t]))
            state = jax.tree.map(functools.partial(jnp.where, mask[t]), new, entering)
        return state

    def of_row(state, xs, mask, resets):
        found = []
        for first in range(steps - window + 1):
            times = range(first, first + window)
            before = range(first)
            if reverse:
                times, before = times[::-1], range(first + window, steps)[::-1]
            flat, unravel = ravel_pytree(run(state, before, xs, mask, resets))

            def end(flat, times=times, unravel=unravel):
                return ravel_pytree(run(unravel(flat), times, xs, mask, resets))[0]

            found.append(jax.jacobian(end)(flat))
        return jnp.stack(found)

    @jax.jit
    def both():
        actual = diagnostics.jacobian_spectrum(
            cell, *case.args, window=window, **case.flags, reverse=reverse
        )
        rows = jax.vmap(of_row, (0, 1, 1, 1), 1)
        return actual, rows(case.state, case.xs, mask, resets)

    actual, expected = both()
    assert_close(actual.jacobians, expected, 1e-10)
    values = np.linalg.svd(np.asarray(expected), compute_uv=False)
    assert_close(actual.singular_values, values, 1e-10)
    assert_close(actual.norms, np.linalg.norm(expected, 2, axis=(2, 3)), 1e-10)


@reversals
def test_jacobians_of_windows_are_products_of_steps(reverse):
    cell = jaxrnn.elman(H)
    case = problem(cell)
    windows = [1, 2, 3, 6, 7]

    @jax.jit
    def run():
        flags = {**case.flags, "reverse": reverse}
        return [
            diagnostics.jacobian_spectrum(cell, *case.args, window=w, **flags).jacobians
            for w in windows
        ]

    single, *longer = map(np.asarray, run())
    for window, jacobians in zip(windows[1:], longer, strict=True):
        for t in range(T - window + 1):
            steps = single[t : t + window]
            product = functools.reduce(np.matmul, steps if reverse else steps[::-1])
            assert_close(jacobians[t], product, 1e-12)


@reversals
def test_jacobians_of_masked_and_reset_steps(reverse):
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    mask = jnp.ones((T, B), bool).at[1].set(False)
    resets = jnp.zeros((T, B), bool).at[4].set(True)
    flags = {"mask": mask, "resets": resets, "reverse": reverse}
    run = functools.partial(diagnostics.jacobian_spectrum, cell, **flags)
    jacobians = jax.jit(run)(*case.args).jacobians
    np.testing.assert_array_equal(
        jacobians[1], np.broadcast_to(np.eye(2 * H), (B, 2 * H, 2 * H))
    )
    entered = 3 if reverse else 4  # the first step of the next segment
    np.testing.assert_array_equal(
        (jacobians == 0).all((1, 2, 3)), np.arange(T) == entered
    )


LINEAR = jaxrnn.elman(4, activation=lambda a: a)
lyapunov_exponents = jax.jit(
    diagnostics.lyapunov_exponents, static_argnums=0, static_argnames="num_exponents"
)


def linear(weights):
    """A cell whose every Jacobian is the transpose of ``weights``."""
    params = initial_params(jaxrnn.elman(len(weights)))
    return LINEAR, params._replace(w_h=np.asarray(weights))


@pytest.mark.parametrize("weights", ["diagonal", "full"])
def test_lyapunov_exponents_of_a_linear_cell(weights):
    values = np.array([1.5, -0.8, 0.3, 0.1])
    basis = np.random.default_rng(0).normal(size=(4, 4))
    matrices = {
        "diagonal": np.diag(values[[2, 0, 3, 1]]),
        "full": basis @ np.diag(values) @ np.linalg.inv(basis),
    }
    cell, params = linear(matrices[weights])
    exact = np.log(np.abs(values))
    steps = 200
    xs = np.zeros((steps, I))
    exponents, growth = map(np.asarray, lyapunov_exponents(cell, params, xs))
    np.testing.assert_allclose(growth[-1], exact, rtol=1e-10)
    np.testing.assert_allclose(exponents.sum(), exact.sum(), rtol=1e-10)
    # The first steps, until the vectors have turned, weigh 1 / T.
    np.testing.assert_allclose(exponents, exact, atol=5 / steps)
    # No direction is lost if there are fewer vectors, and they are the same ones.
    fewer = lyapunov_exponents(cell, params, xs, num_exponents=2)
    np.testing.assert_allclose(fewer.growth, growth[:, :2], rtol=1e-10)


@runs
def test_lyapunov_exponents_add_up_to_the_determinant(name, reverse):
    cell = CELLS[name].cell
    case = problem(cell, resets=False)

    @jax.jit
    def both():
        flags = {**case.flags, "reverse": reverse}
        spectrum = diagnostics.jacobian_spectrum(cell, *case.args, **flags)
        determinants = jnp.linalg.slogdet(spectrum.jacobians)[1]
        return diagnostics.lyapunov_exponents(cell, *case.args, **flags), determinants

    (exponents, growth), determinants = both()
    np.testing.assert_allclose(growth.sum(-1), determinants, rtol=1e-8, atol=1e-8)
    steps = case.mask.sum(0).astype(float)
    np.testing.assert_allclose(exponents.sum(-1), determinants.sum(0) / steps, 1e-8)
    np.testing.assert_allclose(exponents, growth.sum(0) / steps[:, None], rtol=1e-10)


def test_masked_steps_have_no_exponent_and_segments_are_runs():
    cell = jaxrnn.elman(H)
    case = problem(cell, batch=())
    run = functools.partial(lyapunov_exponents, cell, case.params)
    xs, valid = np.array(case.xs), np.arange(T) < 4
    padded = run(np.where(valid[:, None], xs, np.nan), mask=valid)
    first, second = run(xs[:4]), run(xs[4:])
    np.testing.assert_allclose(padded.exponents, first.exponents, rtol=1e-12)
    assert not np.asarray(padded.growth)[4:].any()
    packed = run(xs, resets=np.arange(T) == 4)
    segments = np.concatenate([first.growth, second.growth])
    np.testing.assert_allclose(packed.growth, segments, rtol=1e-12)
    assert np.isnan(run(xs, mask=np.zeros(T, bool)).exponents).all()


def test_dead_units_have_no_growth():
    cell = jaxrnn.elman(H, activation=jax.nn.relu)
    params = initial_params(cell)._replace(b=np.full(H, -100.0))
    result = lyapunov_exponents(cell, params, np.zeros((T, I)))
    np.testing.assert_array_equal(result.exponents, -np.inf)
