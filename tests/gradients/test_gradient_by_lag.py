"""The gradient taken apart by distance in time, and the expansions of the textbooks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import BASE, CELLS, B, H, I, T, assert_close, initial_params, problem
from covering import combinations

import jaxrnn

REVERSE = {"forward": False, "reverse": True}
gradient_by_lag = jax.jit(jaxrnn.gradient_by_lag, static_argnums=0)


def total(by_lag):
    return jax.tree.map(lambda leaf: leaf.sum(0), by_lag)


@combinations(strength=1, name=BASE, reverse=REVERSE)
def test_the_lags_add_up_to_the_gradient(name, reverse):
    cell = CELLS[name].cell
    case = problem(cell)
    flags = {**case.flags, "dstate": case.dstate, "reverse": reverse}

    @jax.jit
    def both(*args):
        by_lag = jaxrnn.gradient_by_lag(cell, *args, case.state, **flags)
        dparams, _, _ = jaxrnn.bptt(cell, *args, case.state, **flags)
        return total(by_lag), dparams

    assert_close(*both(case.params, case.xs, case.dys), 1e-12)


@combinations(strength=1, batch=[(), (2, B)], state=[False, True])
def test_a_learned_initial_state_is_used_at_the_step_it_enters(batch, state):
    cell = jaxrnn.learned_state(jaxrnn.elman(H))
    case = problem(cell, batch)
    given = case.state if state else None
    args = (cell, case.params, case.xs, case.dys, given)

    @jax.jit
    def both():
        by_lag = jaxrnn.gradient_by_lag(*args, **case.flags)
        return total(by_lag), jaxrnn.bptt(*args, **case.flags)[0]

    of_lags, dparams = both()
    assert abs(np.asarray(dparams.state)).max() > 0.1
    assert_close(of_lags, dparams, 1e-12)


@combinations(strength=1, name=["elman", "lstm"], reverse=REVERSE)
def test_a_lag_is_what_reaches_the_parameters_of_that_step(name, reverse):
    """Each step gets parameters of its own, and the loss of one step is followed."""
    cell = CELLS[name].cell
    case = problem(cell)

    @jax.jit
    def of_each_step(dys):
        """Gradients by the parameters of each step, without any code of the unroll."""
        flags = {"reverse": reverse}

        def run(copies):
            state, ys = case.state, []
            for t in reversed(range(T)) if reverse else range(T):
                own = jax.tree.map(lambda p, t=t: p[t], copies)
                step = {"mask": case.mask[t, None], "resets": case.resets[t, None]}
                if reverse:
                    following = case.resets[t + 1] if t + 1 < T else None
                    step["resets"] = None
                    if following is not None:
                        fresh = cell.initial_state(own, (B,))
                        state = jax.tree.map(
                            lambda f, s, r=following: jnp.where(r[:, None], f, s),
                            fresh,
                            state,
                        )
                state, y = jaxrnn.unroll(
                    cell, own, case.xs[t, None], state, **step, **flags
                )
                ys.append(y[0])
            return jnp.stack(ys[::-1] if reverse else ys)

        copies = jax.tree.map(lambda p: jnp.broadcast_to(p, (T, *p.shape)), case.params)
        _, pull = jax.vjp(run, copies)
        return pull(dys)[0]

    @jax.jit
    def by_lag(dys):
        return jaxrnn.gradient_by_lag(
            cell, case.params, case.xs, dys, case.state, **case.flags, reverse=reverse
        )

    actual = by_lag(case.dys)
    expected = jax.tree.map(lambda leaf: np.zeros(leaf.shape), actual)
    for t in range(T):
        one = np.zeros(case.dys.shape)
        one[t] = case.dys[t]
        for of_lag, steps in zip(expected, of_each_step(one), strict=True):
            # The steps from this one back, which in reverse are the later ones.
            steps = np.asarray(steps)
            back = steps[t:] if reverse else steps[t::-1]
            of_lag[: len(back)] += back
    assert_close(actual, expected, 1e-12)


def test_the_three_step_expansions_term_by_term():
    """Of the error of step 3, each term a product of Jacobians, in plain NumPy.

    With S_t = tanh(x_t W_X + S_(t-1) W_S), Y_3 = S_3 W_y and E_3 = |Y_3 - target|^2::

        dE_3/dW_y = dE_3/dY_3 dY_3/dW_y
        dE_3/dW_S = dE_3/dY_3 dY_3/dS_3 d+S_3/dW_S
                  + dE_3/dY_3 dY_3/dS_3 dS_3/dS_2 d+S_2/dW_S
                  + dE_3/dY_3 dY_3/dS_3 dS_3/dS_2 dS_2/dS_1 d+S_1/dW_S

    and the same with W_X.
    """
    cell = jaxrnn.elman(H)
    case = problem(cell, (), steps=3, mask=False, resets=False)
    rng = np.random.default_rng(0)
    w_y, target = rng.standard_normal((H, 2)), rng.standard_normal(2)

    # By hand, with S_0, S_1, S_2, S_3.
    w_x, w_s, b = map(np.asarray, case.params)
    x, s = np.asarray(case.xs), [np.asarray(case.state)]
    for t in range(3):
        s.append(np.tanh(x[t] @ w_x + s[t] @ w_s + b))
    y_3 = s[3] @ w_y
    de_dy = 2 * (y_3 - target)
    dy_ds = w_y.T  # (O, H)

    def jacobian(t):
        return (1 - s[t] ** 2)[:, None] * w_s.T  # dS_t/dS_(t-1), (H, H)

    def explicit(t, before):
        """d+S_t/dW for S_t = tanh(before W + ...): (H, rows of W, H)."""
        return np.einsum("j,i,jk->jik", 1 - s[t] ** 2, before, np.eye(H))

    chain = [de_dy @ dy_ds]
    chain.append(chain[0] @ jacobian(3))
    chain.append(chain[1] @ jacobian(2))
    terms_s = [
        np.tensordot(c, explicit(3 - lag, s[2 - lag]), 1) for lag, c in enumerate(chain)
    ]
    terms_x = [
        np.tensordot(c, explicit(3 - lag, x[2 - lag]), 1) for lag, c in enumerate(chain)
    ]

    def error(params, w_y):
        _, ys = jaxrnn.unroll(cell, params, case.xs, case.state)
        return ((ys[-1] @ w_y - target) ** 2).sum()

    dparams, dw_y = jax.jit(jax.grad(error, argnums=(0, 1)))(case.params, w_y)
    dys = np.stack([np.zeros(H), np.zeros(H), de_dy @ dy_ds])
    by_lag = gradient_by_lag(cell, case.params, case.xs, dys, case.state)

    np.testing.assert_allclose(dw_y, np.outer(s[3], de_dy), rtol=1e-12)
    for lag in range(3):
        np.testing.assert_allclose(by_lag.w_h[lag], terms_s[lag], rtol=1e-11)
        np.testing.assert_allclose(by_lag.w_x[lag], terms_x[lag], rtol=1e-11)
    np.testing.assert_allclose(sum(terms_s), dparams.w_h, rtol=1e-11)
    np.testing.assert_allclose(sum(terms_x), dparams.w_x, rtol=1e-11)


def test_no_step_has_no_lag():
    cell = jaxrnn.elman(H)
    params = initial_params(cell)
    by_lag = gradient_by_lag(cell, params, np.ones((0, B, I)), np.ones((0, B, H)))
    assert by_lag.w_h.shape == (0, H, H)


def test_lags_count_masked_steps_and_stop_at_resets():
    cell = jaxrnn.elman(H)
    case = problem(cell, (), steps=6, mask=False, resets=False)
    args = (cell, case.params, case.xs, np.eye(6)[5][:, None] + np.zeros(H))
    masked = gradient_by_lag(*args, mask=np.arange(6) != 3)
    zero = [lag for lag in range(6) if not np.asarray(masked.w_x)[lag].any()]
    assert zero == [2]  # the masked step is two before the last
    cut = gradient_by_lag(*args, resets=np.arange(6) == 4)
    assert [lag for lag in range(6) if np.asarray(cut.w_x)[lag].any()] == [0, 1]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_sixteen_bit_parameters_are_summed_in_float32(dtype):
    cell = jaxrnn.lstm(H)
    case = problem(cell, dtype=dtype, steps=12)
    args = (cell, case.params, case.xs, case.dys, case.state)

    @jax.jit
    def both():
        by_lag = jaxrnn.gradient_by_lag(*args, **case.flags)
        return by_lag, jaxrnn.bptt(*args, **case.flags)[0]

    by_lag, backward = both()
    assert by_lag.w_h.dtype == dtype
    # Each lag is rounded to 16 bits on its own.
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), (by_lag, backward))
    assert_close(total(wide[0]), wide[1], 3e-2 if dtype == jnp.bfloat16 else 4e-3)
