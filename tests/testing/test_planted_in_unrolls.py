"""Mistakes in an unroll, and a derivative that lies, are named by check_cell."""

import functools

import jax
import jax.numpy as jnp
import pytest
from cases import H
from jax import lax

import jaxrnn
from jaxrnn.testing import cell_properties, check_cell

STEPS = cell_properties(jaxrnn.elman(H))[:5]  # those that look at single steps


def loop_unroll(hold, renew, shift=True):
    """An unroll that holds and renews states as it is told, to plant mistakes in."""

    def run(cell, params, xs, state=None, *, mask=None, resets=None, reverse=False):
        batch = xs.shape[1:-1]
        fresh = cell.initial_state(params, batch)
        state = fresh if state is None else state
        mask = jnp.ones(xs.shape[:-1], bool) if mask is None else jnp.asarray(mask)
        resets = jnp.zeros_like(mask) if resets is None else jnp.asarray(resets)
        if reverse and shift:
            resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])

        def body(state, inputs):
            x, valid, reset = inputs
            valid, reset = valid[:, None], reset[:, None]
            state = renew(reset, fresh, state)
            new_state, y = cell.step(params, state, cell.project(params, x))
            return hold(valid, new_state, state), hold(valid, y, jnp.zeros_like(y))

        return lax.scan(body, state, (xs, mask, resets), reverse=reverse)

    return run


def select(condition, on_true, on_false):
    return jnp.where(condition, on_true, on_false)


def multiply(condition, on_true, on_false):
    condition = condition.astype(on_true.dtype)
    return condition * on_true + (1 - condition) * on_false


def cut(cell, params, xs, state=None, **flags):
    """No gradient goes from one chunk to the one before."""
    return jaxrnn.unroll(cell, params, xs, lax.stop_gradient(state), **flags)


def when(condition):
    """Doubles the outputs under a condition on the inputs and the state."""

    def run(cell, params, xs, state=None, **flags):
        last, ys = jaxrnn.unroll(cell, params, xs, state, **flags)
        return last, ys * 2 if condition(xs, state) else ys

    return run


UNROLLS = {
    "one step": (when(lambda xs, state: len(xs) == 1), "streaming", "ys"),
    "two batch dimensions": (when(lambda xs, state: xs.ndim == 4), "streaming", "ys"),
    "no batch dimension": (when(lambda xs, state: xs.ndim == 2), "streaming", "ys"),
    "no state": (when(lambda xs, state: state is None), "streaming", "ys"),
    # NaN in the padding: times zero it is NaN.
    "mask multiplied instead of selected": (
        loop_unroll(multiply, select),
        "masks",
        "state",
    ),
    # Selected, but in the loop alone: the gradient of the weights is NaN.
    "mask after the product": (loop_unroll(select, select), "masks", "dparams.w_x"),
    "reset multiplied instead of selected": (
        loop_unroll(select, multiply),
        "resets",
        "state",
    ),
    "reset at the wrong end of a segment": (
        loop_unroll(select, select, shift=False),
        "resets",
        "ys",
    ),
    "state lost by a mask": (
        loop_unroll(lambda valid, new, old: select(valid, new, 0 * new), select),
        "masks",
        "state",
    ),
    "reset ignored": (
        loop_unroll(select, lambda reset, new, old: old),
        "resets",
        "state",
    ),
    "gradient cut between chunks": (cut, "streaming", "dstate0"),
}
SLOW = ("two batch dimensions", "no batch dimension", "no state")  # as "one step"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in UNROLLS
    ],
)
def test_a_planted_mistake_in_an_unroll_is_named(name):
    unroll_fn, found_by, leaf = UNROLLS[name]
    check = functools.partial(check_cell, jaxrnn.elman(H), unroll_fn=unroll_fn)
    with pytest.raises(AssertionError) as caught:
        check(properties=[found_by])
    assert f"- {found_by}" in str(caught.value)
    assert f": {leaf}[" in str(caught.value)


def test_a_derivative_that_lies_is_found_by_finite_differences_alone():
    @jax.custom_vjp
    def activation(a):
        return jnp.tanh(a)

    activation.defvjp(
        lambda a: (jnp.tanh(a), a), lambda a, dh: (1.01 * dh * (1 - jnp.tanh(a) ** 2),)
    )
    cell = jaxrnn.elman(H, activation=activation)
    check_cell(cell, properties=[*STEPS, "streaming", "bptt against jax.grad"])
    with pytest.raises(AssertionError, match=r"finite differences .*: dparams\.w_x"):
        check_cell(cell, properties=["finite differences"])


def test_nan_in_one_run_is_not_hidden_by_the_next():
    """The cell gives NaN at a state that it reaches in reverse only."""
    cell = jaxrnn.elman(H)._replace(adjoint=None)
    seen = []

    def remember(cell, params, xs, state=None, *, reverse=False, **flags):
        last, ys = jaxrnn.unroll(cell, params, xs, state, reverse=reverse, **flags)
        if reverse:
            jax.debug.callback(lambda y: seen.append(float(y)), ys[1, 0, 0])
        return last, ys

    check_cell(cell, unroll_fn=remember, properties=["streaming"])
    value = seen[-1]

    def step(params, state, a_x):
        met = abs(state[..., :1] - value) < 1e-9
        return cell.step(params, jnp.where(met, jnp.nan, state), a_x)

    with pytest.raises(AssertionError, match=r"streaming \(reverse\): .*nan"):
        check_cell(cell._replace(step=step), properties=["streaming"])
