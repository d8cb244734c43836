"""What the recurrences of some cells promise, by their mathematics."""

import functools

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
    initial_params,
    problem,
    random_normal,
    unroll,
)

import jaxrnn

MAPS = [jaxrnn.exponential_map, jaxrnn.cayley_transform]


@pytest.mark.parametrize("map_fn", MAPS)
def test_training_leaves_the_recurrent_matrix_orthogonal(map_fn):
    cell = jaxrnn.orthogonal_rnn(H, map_fn=map_fn)
    case = problem(cell)

    def loss(params):
        return (jaxrnn.unroll_bptt(cell, params, case.xs)[1] ** 2).mean()

    @jax.jit
    def update(params):
        moved = jax.tree.map(lambda p, g: p - 5 * g, params, jax.grad(loss)(params))
        return moved, map_fn(moved.w_h)

    params = case.params
    for _ in range(5):
        params, q = update(params)
    assert abs(np.asarray(params.w_h) - case.params.w_h).max() > 0.1
    np.testing.assert_allclose(q @ q.T, np.eye(H), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(q), 1)


def test_rotations_at_first_are_by_any_angle():
    params = initial_params(jaxrnn.orthogonal_rnn(201))
    turns = np.linalg.eigvals(np.asarray(jaxrnn.exponential_map(params.w_h)))
    np.testing.assert_allclose(abs(turns), 1)
    counts, _ = np.histogram(np.angle(turns), bins=4, range=(-np.pi, np.pi))
    assert counts.min() > 30


def test_an_antisymmetric_network_neither_grows_nor_fades():
    """Of its differential equation: every eigenvalue has the real part -d."""
    cell = jaxrnn.antisymmetric(H, diffusion=0.25)
    params = problem(cell).params
    w = cell.derived.weights(params).w_h
    np.testing.assert_allclose(np.linalg.eigvals(np.asarray(w)).real, -0.25)


def test_an_slstm_bears_any_gate():
    cell = jaxrnn.slstm(H)
    case = problem(cell, mask=False)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        state, ys = jaxrnn.unroll_bptt(cell, params, case.xs, resets=case.resets)
        return (ys**2).sum() + state.n.sum()

    for scale in (1e3, 1e5):
        value, gradient = loss(case.params._replace(w_x=scale * case.params.w_x))
        assert np.isfinite(value)
        assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_a_minlstm_bears_gates_that_are_both_shut():
    cell = jaxrnn.minlstm(H)
    params = jax.tree.map(np.float32, initial_params(cell))
    gates = np.repeat(np.array([-200.0, -199.0, 1.0], np.float32), H)
    _, ys = unroll(cell, params._replace(b=gates), np.zeros((T, I), np.float32))
    share = 1 / (1 + np.exp(1.0))
    expected = 1 - (1 - share) ** np.arange(1, T + 1)
    np.testing.assert_allclose(ys[:, 0], expected, rtol=1e-5)

    @functools.partial(jax.jit, static_argnames="unroll_fn")
    @jax.grad
    def gradient(params, unroll_fn):
        return unroll_fn(cell, params, jnp.ones((T, I), params.b.dtype))[1].sum()

    params = params._replace(b=gates)
    exact = gradient(jax.tree.map(np.float64, params), unroll_fn=jaxrnn.unroll)
    for unroll_fn in (jaxrnn.unroll, jaxrnn.unroll_bptt, jaxrnn.unroll_associative):
        actual = gradient(params, unroll_fn=unroll_fn)
        assert_close(jax.tree.map(np.float64, actual), exact, 1e-4)


def test_the_eigenvalues_of_an_lru_fill_a_ring():
    cell = jaxrnn.lru(2000, least_decay=0.4, most_decay=0.9)
    params = initial_params(cell)
    decay, _ = jax.jit(cell.coefficients)(params, np.zeros(4000))
    radius = np.sort(np.abs(decay))
    assert radius[0] >= 0.4
    assert radius[-1] <= 0.9
    # As many inside of any radius as there is area.
    inside = (radius**2 - 0.4**2) / (0.9**2 - 0.4**2)
    np.testing.assert_allclose(inside, np.linspace(0, 1, 2000), atol=0.05)
    np.testing.assert_allclose(np.exp(params.gamma) ** 2, 1 - np.abs(decay) ** 2)


@pytest.mark.parametrize("radius", [0.3, 0.9])
def test_a_reservoir_forgets_where_it_began(radius):
    cell = jaxrnn.echo_state(40, spectral_radius=radius)
    params = initial_params(cell)
    eigenvalues = np.linalg.eigvals(np.asarray(params.w_h))
    np.testing.assert_allclose(abs(eigenvalues).max(), radius)
    assert ((np.asarray(params.w_h) != 0).sum(0) <= 10).all()
    xs, first = random_normal(1, (300, B, I)), random_normal(2, (B, 40))
    one, _ = unroll(cell, params, xs, np.zeros((B, 40)))
    other, _ = unroll(cell, params, xs, first)
    assert abs(np.asarray(one) - other).max() < 1e-6
