"""What ``check_cell`` leaves out of ``unroll_associative``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    CELLS,
    B,
    H,
    I,
    T,
    assert_close,
    gradients,
    problem,
    random_normal,
    random_params,
)
from covering import quick

import jaxrnn

LINEAR = [name for name in CELLS if CELLS[name].cell.coefficients is not None]
linear = pytest.mark.parametrize("name", LINEAR)


def test_cells_with_coefficients_are_the_linear_ones():
    kinds = {name.split("-")[0] for name in LINEAR}
    assert kinds == {"mingru", "minlstm", "lru"}


@linear
def test_associative_chunks_equal_the_whole_sequence(name):
    cell = CELLS[name].cell
    case = problem(cell)

    @jax.jit
    def both(params, xs, state):
        run = functools.partial(jaxrnn.unroll_associative, cell, params)
        whole = run(xs, state, **case.flags)
        parts = []
        for part in (slice(0, 3), slice(3, 4), slice(4, T)):
            flags = {flag: values[part] for flag, values in case.flags.items()}
            state, ys = run(xs[part], state, **flags)
            parts.append(ys)
        return (state, jnp.concatenate(parts)), whole

    assert_close(*both(*case.args), 1e-12)


@pytest.mark.parametrize("batch", [(), (2, B)])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan_takes_any_batch_dimensions(batch, reverse):
    cell = CELLS["lru"].cell
    case = problem(cell, batch=batch)

    @jax.jit
    def both():
        return [
            gradients(unroll_fn, cell, case, reverse)
            for unroll_fn in (jaxrnn.unroll_associative, jaxrnn.unroll)
        ]

    assert_close(*both(), 1e-10)


@linear
def test_associative_scan_stops_nan_at_a_reset(name):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    resets = np.broadcast_to((np.arange(T) == 3)[:, None], (T, B))
    xs = np.array(case.xs)
    xs[1] = np.nan

    def run(unroll_fn, xs):
        _, ys = unroll_fn(cell, case.params, xs, case.state, resets=resets)
        return ys

    @jax.jit
    def every(xs):
        ys, pull = jax.vjp(lambda xs: run(jaxrnn.unroll_associative, xs), xs)
        (dxs,) = pull(jnp.zeros_like(ys).at[4].set(1))
        return ys, run(jaxrnn.unroll, xs), dxs

    ys, expected, dxs = jax.tree.map(np.asarray, every(xs))
    assert np.isfinite(ys[0]).all()
    assert np.isnan(ys[2]).all()
    assert_close(ys[3:], expected[3:], 1e-12)
    assert np.isfinite(dxs[3:]).all()


def test_associative_scan_has_second_derivatives():
    cell = CELLS["mingru"].cell
    case = problem(cell)

    def loss(unroll_fn):
        def of(params):
            _, ys = unroll_fn(cell, params, case.xs, case.state, **case.flags)
            return (ys * case.dys).sum() + (ys**2).sum()

        return of

    direction = jax.tree.map(jnp.ones_like, case.params)
    products = [
        jax.jit(jax.jvp, static_argnums=0)(
            jax.grad(loss(run)), (case.params,), (direction,)
        )[1]
        for run in (jaxrnn.unroll_associative, jaxrnn.unroll)
    ]
    assert_close(*products, 1e-10)


def test_associative_scan_of_no_step_and_of_one():
    cell = CELLS["lru"].cell
    case = problem(cell)
    for steps in (0, 1):
        actual, expected = (
            jax.jit(unroll_fn, static_argnums=0)(
                cell, case.params, case.xs[:steps], case.state
            )
            for unroll_fn in (jaxrnn.unroll_associative, jaxrnn.unroll)
        )
        assert_close(actual, expected, 1e-12)


@quick("name", LINEAR, by_default=["lru"])
def test_associative_scan_of_a_hundred_thousand_steps(name):
    cell = CELLS[name].make(3)
    params = random_params(0, cell)
    xs = random_normal(1, (100_000, I))

    def values(unroll_fn):
        def loss(params):
            state, ys = unroll_fn(cell, params, xs)
            return (ys**2).mean() + state.sum(), state

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    actual = values(jaxrnn.unroll_associative)
    assert_close(actual, values(jaxrnn.unroll_bptt), 1e-9)


def test_associative_scan_refuses_cells_that_are_not_linear():
    cell = jaxrnn.gru(H)
    params = cell.init(jax.random.key(0), I)
    message = r"cell must be linear in its state.*got cell\.coefficients = None: use"
    with pytest.raises(ValueError, match=message):
        jaxrnn.unroll_associative(cell, params, jnp.ones((T, I)))
    linear = jaxrnn.mingru(H)
    params_of_it = linear.init(jax.random.key(0), I, jnp.float64)

    def last(xs):
        return jaxrnn.unroll_associative(linear, params_of_it, xs)[1][-1]

    with pytest.raises(TypeError, match="unroll_fn must allow forward-mode"):
        jax.jacfwd(last)(jnp.ones((T, I)))
    wrapped = jaxrnn.zoneout(jaxrnn.mingru(H), 0.1)
    with pytest.raises(ValueError, match=message):
        jaxrnn.unroll_associative(wrapped, params_of_it, jnp.ones((T, I)))
