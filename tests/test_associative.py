"""What ``check_cell`` leaves out of ``unroll_associative``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CELLS, B, H, I, T, assert_close, gradients, problem

import jaxrnn

LINEAR = [name for name in CELLS if CELLS[name].cell.coefficients is not None]
linear = pytest.mark.parametrize("name", LINEAR)


def test_which_cells_are_linear():
    kinds = {name.split("-")[0] for name in LINEAR}
    assert kinds == {"mingru", "minlstm", "lru"}


@linear
def test_chunks_and_single_steps_are_the_whole(name):
    cell = CELLS[name].cell
    case = problem(cell)
    whole = jaxrnn.unroll_associative(cell, *case.args, **case.flags)
    state, parts = case.state, []
    for part in (slice(0, 3), slice(3, 4), slice(4, T)):
        flags = {flag: values[part] for flag, values in case.flags.items()}
        state, ys = jaxrnn.unroll_associative(
            cell, case.params, case.xs[part], state, **flags
        )
        parts.append(ys)
    assert_close((state, jnp.concatenate(parts)), whole, 1e-12)


@pytest.mark.parametrize("batch", [(), (2, B)])
@pytest.mark.parametrize("reverse", [False, True])
def test_any_batch_dimensions(batch, reverse):
    cell = CELLS["lru"].cell
    case = problem(cell, batch=batch)
    actual = gradients(jaxrnn.unroll_associative, cell, case, reverse)
    assert_close(actual, gradients(jaxrnn.unroll, cell, case, reverse), 1e-10)


@linear
def test_nan_ends_at_a_reset_and_reaches_no_gradient_before_it(name):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    resets = jnp.zeros((T, B), bool).at[3].set(True)
    xs = case.xs.at[1].set(jnp.nan)

    def run(unroll_fn, xs):
        _, ys = unroll_fn(cell, case.params, xs, case.state, resets=resets)
        return ys

    ys = run(jaxrnn.unroll_associative, xs)
    assert np.isfinite(ys[0]).all()
    assert np.isnan(ys[2]).all()
    assert_close(ys[3:], run(jaxrnn.unroll, xs)[3:], 1e-12)
    loss = jax.grad(lambda xs: run(jaxrnn.unroll_associative, xs)[4].sum())
    assert np.isfinite(loss(xs)[3:]).all()


def test_second_derivatives():
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


def test_no_steps_and_one():
    cell = jaxrnn.lru(H)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    state = cell.initial_state(params, (B,)) + 1
    for steps in (0, 1):
        xs = jnp.ones((steps, B, I))
        actual = jaxrnn.unroll_associative(cell, params, xs, state)
        assert_close(actual, jaxrnn.unroll(cell, params, xs, state), 1e-12)


@linear
def test_a_hundred_thousand_steps(name):
    cell = CELLS[name].make(3)
    key_p, key_x = jax.random.split(jax.random.key(0))
    params = cell.init(key_p, I, jnp.float64)
    xs = jax.random.normal(key_x, (100_000, I))

    def values(unroll_fn):
        def loss(params):
            state, ys = unroll_fn(cell, params, xs)
            return (ys**2).mean() + state.sum(), state

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    actual = values(jaxrnn.unroll_associative)
    assert_close(actual, values(jaxrnn.unroll_bptt), 1e-9)


def test_a_cell_that_is_not_linear_is_named():
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
        jaxrnn.unroll_associative(wrapped, params, jnp.ones((T, I)))
