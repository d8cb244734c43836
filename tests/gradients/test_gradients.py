"""Every way to the gradient agrees with the others."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import pytest
from cases import (
    BASE,
    BATCHES,
    CELLS,
    KINDS,
    B,
    H,
    assert_close,
    gradients,
    problem,
    random_like,
)
from covering import combinations, quick

import jaxrnn

some_cells = quick("name", BASE, by_default=KINDS)
REVERSE = {"forward": False, "reverse": True}


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
    """What ``check_cell`` leaves out: one flag alone, batch dimensions, float32."""
    for name in KINDS:
        yield name, True, False, False, "batch", jnp.float64
        yield name, False, True, True, "batch", jnp.float64
        yield name, True, True, True, "unbatched", jnp.float64
        yield name, True, True, False, "two-batch-dims", jnp.float64
    for name in BASE:
        yield name, True, True, False, "batch", jnp.float32
        yield name, False, False, True, "batch", jnp.float32


def in_turn(case):
    """Choose one of the two in float32 for each cell."""
    name, mask, *_, dtype = case
    return dtype != jnp.float32 or mask == BASE.index(name) % 2


@quick(
    ("name", "mask", "resets", "reverse", "batch", "dtype"),
    list(grid()),
    by_default=list(filter(in_turn, grid())),
)
def test_explicit_equals_autodiff(name, mask, resets, reverse, batch, dtype):
    tolerance = 1e-10 if dtype == jnp.float64 else 1e-5
    cell = CELLS[name].cell
    case = problem(cell, BATCHES[batch], mask=mask, resets=resets, dtype=dtype)
    by_jax, by_hand, explicit = every_gradient(
        cell, reverse, *case.args, case.mask, case.resets, case.dys, case.dstate
    )
    assert_close(by_hand, by_jax, tolerance)
    assert_close(explicit, by_jax[1], tolerance)


# bfloat16 has 8 bits of significand: gradients are rounded to it once at the end by
# hand and once a step by JAX.
TOLERANCES = {jnp.float32: 1e-5, jnp.bfloat16: 3e-2, jnp.float16: 4e-3}


@pytest.mark.usefixtures("optimized")
@combinations(strength=1, name=KINDS, dtype=TOLERANCES.keys())
def test_explicit_equals_autodiff_over_more_steps(name, dtype):
    tolerance = TOLERANCES[dtype]
    cell = CELLS[name].cell
    case = problem(cell, dtype=dtype, steps=30)
    by_jax, by_hand, explicit = every_gradient(
        cell, False, *case.args, case.mask, case.resets, case.dys, case.dstate
    )
    assert_close(by_hand, by_jax, tolerance)
    assert_close(explicit, by_jax[1], tolerance)


@some_cells
def test_forward_mode_agrees_with_reverse(name):
    cell = CELLS[name].cell
    case = problem(cell)
    directions = random_like(1, case.args)

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


@some_cells
def test_hessian_vector_products_agree(name):
    """Forward over reverse through ``unroll``, reverse over reverse by hand."""
    cell = CELLS[name].cell
    case = problem(cell)
    direction = random_like(1, case.params)

    def gradient(unroll_fn, params):
        def loss(params):
            _, ys = unroll_fn(cell, params, case.xs, case.state, **case.flags)
            return (ys**3).sum()

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


def test_forward_mode_through_the_explicit_backward_pass_is_refused():
    cell = jaxrnn.elman(H)
    case = problem(cell)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(
            lambda xs: jaxrnn.unroll_bptt(cell, case.params, xs), (case.xs,), (case.xs,)
        )


@combinations(strength=1, name=KINDS, reverse=REVERSE, given_state=[False, True])
def test_a_learned_initial_state_gets_its_gradient(name, reverse, given_state):
    cell = jaxrnn.learned_state(CELLS[name].cell)
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
    assert any(leaf.any() for leaf in jax.tree.leaves(by_jax.state))
    assert_close(by_hand, by_jax, 1e-10)
    assert_close(explicit, by_jax, 1e-10)


@combinations(strength=1, name=KINDS, reverse=REVERSE, flags=[False, True])
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
