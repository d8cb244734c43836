"""Every way to the gradient agrees with the others."""

import functools
import itertools

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest
from cases import (
    BATCHES,
    CELLS,
    B,
    H,
    I,
    assert_close,
    gradients,
    learned_start,
    problem,
    random_like,
    random_params,
)
from jax.test_util import check_grads

import jaxrnn

cells = pytest.mark.parametrize("name", CELLS)
quick = pytest.mark.usefixtures("quick_compilation")
reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)


@functools.partial(jax.jit, static_argnums=(0, 1))
def every_gradient(cell, reverse, params, xs, state, mask, resets, dys, dstate):
    """Values and gradients by JAX, by ``unroll_bptt`` and by ``bptt``."""
    flags = {"mask": mask, "resets": resets, "reverse": reverse}

    def pulled(unroll_fn):
        def run(params, xs, state):
            return unroll_fn(cell, params, xs, state, **flags)

        values, pull = jax.vjp(run, params, xs, state)
        return values, pull((dstate, dys))

    explicit = jaxrnn.bptt(cell, params, xs, dys, state, dstate=dstate, **flags)
    return pulled(jaxrnn.unroll), pulled(jaxrnn.unroll_bptt), explicit


def grid():
    """Masks and resets in float64, then batch dimensions, then float32."""
    both = (False, True)
    for mask, resets, reverse in itertools.product(both, repeat=3):
        yield mask, resets, reverse, "batch", jnp.float64
    for batch, reverse in itertools.product(("unbatched", "two-batch-dims"), both):
        yield True, True, reverse, batch, jnp.float64
    for flagged, reverse in itertools.product(both, repeat=2):
        yield flagged, flagged, reverse, "batch", jnp.float32


@quick
@cells
@pytest.mark.parametrize(("mask", "resets", "reverse", "batch", "dtype"), list(grid()))
def test_explicit_equals_autodiff(name, mask, resets, reverse, batch, dtype):
    tolerance = 1e-10 if dtype == jnp.float64 else 1e-5
    cell = CELLS[name].cell
    case = problem(cell, BATCHES[batch], mask=mask, resets=resets, dtype=dtype)
    by_jax, by_hand, explicit = every_gradient(
        cell, reverse, *case.args, case.mask, case.resets, case.dys, case.dstate
    )
    assert_close(by_hand, by_jax, tolerance)
    assert_close(explicit, by_jax[1], tolerance)


@cells
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # bfloat16 has 8 bits of significand: gradients are rounded to it once at the end
    # by hand and once a step by JAX.
    [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2), (jnp.float16, 4e-3)],
)
def test_explicit_equals_autodiff_over_more_steps(name, dtype, tolerance):
    cell = CELLS[name].cell
    case = problem(cell, dtype=dtype, steps=30)
    by_jax, by_hand, explicit = every_gradient(
        cell, False, *case.args, case.mask, case.resets, case.dys, case.dstate
    )
    assert_close(by_hand, by_jax, tolerance)
    assert_close(explicit, by_jax[1], tolerance)


@quick
@cells
@reversals
@pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll, jaxrnn.unroll_bptt])
def test_gradients_equal_finite_differences(name, reverse, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell)

    @jax.jit
    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **case.flags, reverse=reverse)

    # The kink of a ReLU lies within a step of 1e-6 of none of these numbers.
    check_grads(run, case.args, order=1, modes=["rev"], atol=1e-6, rtol=1e-6, eps=1e-6)


@quick
@cells
def test_forward_mode_agrees_with_reverse(name):
    cell = CELLS[name].cell
    case = problem(cell)
    directions = random_like(jax.random.key(1), case.args)

    def run(params, xs, state):
        return jaxrnn.unroll(cell, params, xs, state, **case.flags)

    @jax.jit
    def both():
        _, tangents = jax.jvp(run, case.args, directions)
        _, cotangents = gradients(jaxrnn.unroll, cell, case, False)
        return tangents, cotangents

    def inner(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return sum(jnp.vdot(x, y) for x, y in pairs)

    tangents, cotangents = both()
    left = inner(tangents, (case.dstate, case.dys))
    right = inner(directions, cotangents)
    assert abs(left - right) < 1e-10 * abs(left)


@quick
@cells
@reversals
def test_hessian_vector_products_agree(name, reverse):
    """Forward over reverse through ``unroll``, reverse over reverse by hand."""
    cell = CELLS[name].cell
    case = problem(cell)
    direction = random_like(jax.random.key(1), case.params)
    flags = {**case.flags, "reverse": reverse}

    def gradient(unroll_fn, params):
        def loss(params):
            return (unroll_fn(cell, params, case.xs, case.state, **flags)[1] ** 3).sum()

        return jax.grad(loss)(params)

    def along(params):
        products = jax.tree.map(
            jnp.vdot, gradient(jaxrnn.unroll_bptt, params), direction
        )
        return jnp.stack(jax.tree.leaves(products)).sum()

    @jax.jit
    def both(params):
        by_jax = functools.partial(gradient, jaxrnn.unroll)
        _, forward_over_reverse = jax.jvp(by_jax, (params,), (direction,))
        return forward_over_reverse, jax.grad(along)(params)

    assert_close(*both(case.params), 1e-10)


@quick
@cells
def test_second_derivatives_agree(name):
    """Hessian, forward over reverse, and reverse over reverse by both unrolls."""
    cell = CELLS[name].make(2)
    params = random_params(jax.random.key(0), cell)
    xs = jax.random.normal(jax.random.key(1), (3, 2, I))
    mask = jnp.array([[True, True], [True, False], [True, True]])
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def loss(unroll_fn, flat):
        return (unroll_fn(cell, unravel(flat), xs, mask=mask)[1] ** 3).sum()

    plain = functools.partial(loss, jaxrnn.unroll)
    by_hand = functools.partial(loss, jaxrnn.unroll_bptt)
    hessian = jax.jit(jax.hessian(plain))(flat)
    assert_close(jax.jit(jax.jacrev(jax.grad(plain)))(flat), hessian, 1e-10)
    assert_close(jax.jit(jax.jacrev(jax.grad(by_hand)))(flat), hessian, 1e-10)


def test_forward_mode_through_the_explicit_backward_pass_is_refused():
    cell = jaxrnn.elman(H)
    case = problem(cell)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(
            lambda xs: jaxrnn.unroll_bptt(cell, case.params, xs), (case.xs,), (case.xs,)
        )


@quick
@cells
@reversals
@pytest.mark.parametrize("given_state", [False, True])
def test_a_learned_initial_state_gets_its_gradient(name, reverse, given_state):
    cell = learned_start(CELLS[name].cell)
    case = problem(cell)
    flags = {**case.flags, "reverse": reverse}
    state = (case.state,) if given_state else ()

    def run(unroll_fn, params):
        return unroll_fn(cell, params, case.xs, *state, **flags)

    @jax.jit
    def every(params):
        pulled = [
            jax.vjp(functools.partial(run, f), params)[1]((case.dstate, case.dys))[0]
            for f in (jaxrnn.unroll, jaxrnn.unroll_bptt)
        ]
        explicit = jaxrnn.bptt(
            cell, params, case.xs, case.dys, *state, dstate=case.dstate, **flags
        )
        return *pulled, explicit[0]

    by_jax, by_hand, explicit = every(case.params)
    assert any(leaf.any() for leaf in jax.tree.leaves(by_jax["start"]))
    assert_close(by_hand, by_jax, 1e-10)
    assert_close(explicit, by_jax, 1e-10)


@quick
@cells
@reversals
@pytest.mark.parametrize("flags", [False, True])
def test_state_gradients_are_those_of_the_suffixes(name, reverse, flags):
    """dL/ds of the state that enters step t is the gradient of a run from t on."""
    cell = CELLS[name].cell
    steps = 4
    case = problem(cell, mask=flags, resets=flags, steps=steps)

    def part(params, state, where):
        flags = {k: v if v is None else v[where] for k, v in case.flags.items()}
        return jaxrnn.unroll(
            cell, params, case.xs[where], state, **flags, reverse=reverse
        )

    @jax.jit
    def both():
        actual = jaxrnn.diagnostics.state_gradients(
            cell, *case.args[:2], case.dys, case.state, **case.flags, reverse=reverse
        )
        expected = []
        for t in range(steps):
            done = slice(t + 1, None) if reverse else slice(None, t)
            left = slice(None, t + 1) if reverse else slice(t, None)

            def loss(state, left=left, t=t):
                if flags and reverse and t + 1 < steps:
                    # The reset between steps t + 1 and t lies in neither part.
                    fresh = cell.initial_state(case.params, (B,))
                    rows = case.resets[t + 1][:, None]
                    state = jax.tree.map(
                        lambda s, f: jnp.where(rows, f, s), state, fresh
                    )
                return (part(case.params, state, left)[1] * case.dys[left]).sum()

            entered, _ = part(case.params, case.state, done)
            expected.append(jax.grad(loss)(entered))
        return actual, jax.tree.map(lambda *s: jnp.stack(s), *expected)

    assert_close(*both(), 1e-10)
