"""Runs cut into chunks of time equal those that are not."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    BASE,
    BATCHES,
    CELLS,
    KINDS,
    B,
    T,
    assert_close,
    problem,
    random_like,
)
from covering import combinations, quick

import jaxrnn
from jaxrnn._unrolls.arguments import prepare
from jaxrnn._unrolls.chunks import Chunks
from jaxrnn._unrolls.entry_by_entry import EntryByEntry
from jaxrnn._unrolls.plan import Loops
from jaxrnn._unrolls.reverse_mode import run_loops
from jaxrnn._unrolls.stretch import Scanned

REVERSE = {"forward": False, "reverse": True}
RECOMPUTE = {"keep": False, "recompute": True}
OTHER_BATCHES = {name: batch for name, batch in BATCHES.items() if name != "batch"}
keeping = combinations(strength=1, recompute=RECOMPUTE)


def unroll_by(loop):
    """An unroll that runs by ``loop``, whatever the shapes are."""
    loops = Loops(with_gradient=loop, without_gradient=loop)

    def unroll(cell, params, xs, state=None, *, mask=None, resets=None, reverse=False):
        run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
        return run_loops(run, loops, params, inputs)

    return unroll


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def values_and_gradients(unroll_fn, cell, reverse, params, xs, state, mask, resets, by):
    flags = {"mask": mask, "resets": resets, "reverse": reverse}

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **flags)

    values, pull = jax.vjp(run, params, xs, state)
    return run(params, xs, state), values, pull(by)


def check(unroll_fn, cell, case, reverse, tolerance=1e-10):
    arguments = *case.args, case.mask, case.resets, (case.dstate, case.dys)
    expected = values_and_gradients(jaxrnn.unroll, cell, reverse, *arguments)
    actual = values_and_gradients(unroll_fn, cell, reverse, *arguments)
    assert_close(actual, expected, tolerance)


@combinations(
    strength=1, name=KINDS, reverse=REVERSE, recompute=RECOMPUTE, chunk_size=[1, 3, T]
)
def test_chunks_equal_the_whole(name, reverse, recompute, chunk_size):
    cell = CELLS[name].cell
    case = problem(cell)
    check(unroll_by(Chunks(chunk_size, recompute)), cell, case, reverse)


@combinations(
    strength=1,
    name=KINDS,
    reverse=REVERSE,
    recompute=RECOMPUTE,
    sizes=[(3, 2), (T, 4), (T, T + 1)],
)
def test_chunks_of_a_scan_equal_the_whole(name, reverse, recompute, sizes):
    cell = CELLS[name].cell
    chunk_size, steps_at_once = sizes
    loop = Chunks(chunk_size, recompute, Scanned(steps_at_once))
    check(unroll_by(loop), cell, problem(cell), reverse)


@quick("name", [name for name in BASE if name not in KINDS], by_default=["gru"])
def test_every_cell_runs_in_chunks(name):
    cell = CELLS[name].cell
    chunked = functools.partial(jaxrnn.unroll_chunked, chunk_size=3)
    check(chunked, cell, problem(cell), reverse=False)


@combinations(strength=1, name=KINDS, reverse=REVERSE, recompute=RECOMPUTE)
def test_entries_one_by_one_equal_the_batch(name, reverse, recompute):
    cell = CELLS[name].cell
    loop = EntryByEntry(Chunks(3, recompute))
    check(unroll_by(loop), cell, problem(cell), reverse)


@combinations(strength=1, batch=OTHER_BATCHES)
def test_entries_one_by_one_take_any_batch(batch):
    cell = CELLS["lstm"].cell
    loop = EntryByEntry(Chunks(T, recompute=False))
    check(unroll_by(loop), cell, problem(cell, batch), reverse=True)


@combinations(strength=1, batch=OTHER_BATCHES, recompute=RECOMPUTE)
def test_chunks_take_any_batch(batch, recompute):
    cell = CELLS["lstm"].cell
    case = problem(cell, batch)
    check(unroll_by(Chunks(3, recompute)), cell, case, reverse=True)


@keeping
def test_chunks_take_no_steps(recompute):
    cell = CELLS["gru"].cell
    case = problem(cell, steps=0)
    check(unroll_by(Chunks(1, recompute, Scanned(4))), cell, case, reverse=False)
    check(unroll_by(Chunks(3, recompute)), cell, case, reverse=False)
    check(jaxrnn.unroll_chunked, cell, case, reverse=True)


@combinations(strength=1, recompute=RECOMPUTE, reverse=REVERSE)
def test_garbage_in_the_padding_of_a_chunk_reaches_nothing(recompute, reverse):
    cell = CELLS["lstm"].cell
    case = problem(cell, resets=False)
    garbage = jnp.where(case.mask[..., None], case.xs, jnp.nan)
    arguments = (case.state, case.mask, case.resets, (case.dstate, case.dys))
    run = functools.partial(
        values_and_gradients,
        unroll_by(Chunks(3, recompute)),
        cell,
        reverse,
        case.params,
    )
    clean, dirty = run(case.xs, *arguments), run(garbage, *arguments)
    assert_close(dirty, clean, 1e-12)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(dirty))


@combinations(strength=1, recompute=RECOMPUTE, reverse=REVERSE)
def test_a_learned_initial_state_gets_its_gradient_through_chunks(recompute, reverse):
    cell = jaxrnn.learned_state(CELLS["lstm"].cell)
    case = problem(cell)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def loss(params):
            state, ys = unroll_fn(cell, params, case.xs, **case.flags, reverse=reverse)
            return (ys * case.dys).sum() + state.c.sum()

        return jax.grad(loss)(case.params)

    assert_close(
        gradient(unroll_by(Chunks(3, recompute))), gradient(jaxrnn.unroll), 1e-10
    )


@pytest.mark.usefixtures("optimized")
@combinations(strength=1, dtype=[jnp.float32, jnp.bfloat16], recompute=RECOMPUTE)
def test_gradients_of_chunks_are_summed_in_float32(dtype, recompute):
    """In bfloat16, 256 + 1 is 256: a sum of 600 like terms would stop growing."""
    cell = CELLS["gru"].cell
    case = problem(cell, dtype=dtype, steps=600, mask=False, resets=False)
    case = dataclasses.replace(case, dys=jnp.ones_like(case.dys))
    tolerance = {jnp.float32: 1e-5, jnp.bfloat16: 3e-2}[dtype]
    check(unroll_by(Chunks(1, recompute)), cell, case, False, tolerance)


@keeping
def test_chunks_can_be_differentiated_again(recompute):
    """Reverse over reverse, and forward over reverse."""
    cell = CELLS["lstm"].cell
    case = problem(cell)
    direction = random_like(1, case.params)

    @functools.partial(jax.jit, static_argnums=0)
    def products(unroll_fn):
        def gradient(params):
            def loss(params):
                _, ys = unroll_fn(cell, params, case.xs, case.state, **case.flags)
                return (ys**3).sum()

            return jax.grad(loss)(params)

        def along(params):
            inner = jax.tree.map(jnp.vdot, gradient(params), direction)
            return jnp.stack(jax.tree.leaves(inner)).sum()

        _, forward = jax.jvp(gradient, (case.params,), (direction,))
        return forward, jax.grad(along)(case.params)

    assert_close(
        products(unroll_by(Chunks(3, recompute))), products(jaxrnn.unroll), 1e-10
    )


@keeping
def test_chunks_can_be_mapped(recompute):
    cell = CELLS["gru"].cell
    case = problem(cell, (4, B))

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(unroll_fn):
        def one(params, xs, dys):
            def loss(params):
                return (unroll_fn(cell, params, xs)[1] * dys).sum()

            return jax.grad(loss)(params)

        return jax.vmap(one, (None, 1, 1))(case.params, case.xs, case.dys)

    assert_close(
        gradient(unroll_by(Chunks(3, recompute))), gradient(jaxrnn.unroll), 1e-10
    )
