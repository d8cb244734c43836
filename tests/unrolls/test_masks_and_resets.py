"""Masks and resets: nothing crosses them, in values or in gradients."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import (
    BATCHES,
    CELLS,
    KINDS,
    B,
    H,
    T,
    assert_close,
    problem,
)
from covering import combinations

import jaxrnn

kinds = pytest.mark.parametrize("name", KINDS)
EVERY = {
    "name": KINDS,
    "reverse": {"forward": False, "reverse": True},
    "unroll_fn": [jaxrnn.unroll, jaxrnn.unroll_bptt],
}
unrolls = pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll, jaxrnn.unroll_bptt])


@combinations(**EVERY)
def test_padded_batch_equals_each_sequence_alone(name, reverse, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    lengths = np.array([4, 0, T])
    mask = jaxrnn.lengths_to_mask(lengths, T)
    xs = jnp.where(mask[..., None], case.xs, jnp.nan)
    run = jax.jit(functools.partial(unroll_fn, cell, reverse=reverse))
    state, ys = run(case.params, xs, case.state, mask=mask)
    for row, length in enumerate(lengths):
        own = jax.tree.map(lambda s, r=row: s[r], case.state)
        alone = (own, jnp.zeros((0, H), xs.dtype))
        if length:
            alone = run(case.params, xs[:length, row], own)
        padded = jax.tree.map(lambda s, r=row: s[r], state), ys[:length, row]
        assert_close(padded, alone, 1e-12)
        assert not ys[length:, row].any()


@combinations(**EVERY)
def test_packed_segments_equal_segments_alone(name, reverse, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, batch=(), mask=False, resets=False, steps=10)
    bounds = [(0, 4), (4, 5), (5, 8)]  # and two steps of padding
    mask = jnp.arange(10) < 8
    resets = jnp.isin(jnp.arange(10), jnp.array([0, 4, 5]))
    xs = jnp.where(mask[:, None], case.xs, jnp.inf)

    def packed(params, xs):
        flags = {"mask": mask, "resets": resets}
        return unroll_fn(cell, params, xs, **flags, reverse=reverse)[1][:8]

    def alone(params, xs):
        return jnp.concatenate(
            [unroll_fn(cell, params, xs[a:b], reverse=reverse)[1] for a, b in bounds]
        )

    @jax.jit
    def both(params, xs):
        results = []
        for function in (packed, alone):
            ys, pull = jax.vjp(function, params, xs)
            results.append((ys, pull(case.dys[:8])))
        return results

    assert_close(*both(case.params, xs), 1e-12)


@combinations(**EVERY, garbage=[jnp.nan, jnp.inf])
def test_garbage_in_padding_reaches_nothing(name, reverse, unroll_fn, garbage):
    cell = CELLS[name].cell
    case = problem(cell)
    held = case.mask[..., None]

    def results(xs, dys):
        def run(params, xs, state):
            return unroll_fn(cell, params, xs, state, **case.flags, reverse=reverse)

        values, pull = jax.vjp(run, case.params, xs, case.state)
        return values, pull((case.dstate, dys))

    clean = jax.jit(results)(case.xs, case.dys)
    spoilt = jax.jit(results)(
        jnp.where(held, case.xs, garbage), jnp.where(held, case.dys, garbage)
    )
    chex.assert_trees_all_equal(spoilt, clean)
    assert not jnp.where(held, 0.0, spoilt[1][1]).any()


@combinations(**EVERY, garbage=[jnp.nan, jnp.inf])
def test_garbage_before_a_reset_does_not_cross_it(name, reverse, unroll_fn, garbage):
    cell = CELLS[name].cell
    case = problem(cell, batch=(), mask=False, resets=False)
    cut = 3
    resets = jnp.arange(T) == cut
    spoilt_steps = (jnp.arange(T) >= cut) if reverse else (jnp.arange(T) < cut)
    xs = jnp.where(spoilt_steps[:, None], garbage, case.xs)
    state = jax.tree.map(lambda s: jnp.full_like(s, garbage), case.state)
    kept = slice(0, cut) if reverse else slice(cut, T)

    # Gradients of the inputs on this side of the reset are those of the piece alone.
    dys = jnp.zeros_like(case.dys).at[kept].set(case.dys[kept])

    @jax.jit
    def both():
        def run(xs):
            return unroll_fn(
                cell, case.params, xs, state, resets=resets, reverse=reverse
            )

        def alone(xs):
            return unroll_fn(cell, case.params, xs, reverse=reverse)

        (end, ys), pull = jax.vjp(run, xs)
        values, pull_alone = jax.vjp(alone, case.xs[kept])
        (dxs,) = pull((case.dstate, dys))
        return (end, ys[kept], dxs[kept]), (
            *values,
            *pull_alone((case.dstate, dys[kept])),
        )

    assert_close(*both(), 1e-12)


@kinds
@unrolls
def test_a_state_of_nan_is_cleared_by_a_reset_in_every_gradient(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    first = jnp.zeros((T, B), bool).at[0].set(True)
    spoilt = jax.tree.map(lambda s: jnp.full_like(s, jnp.nan), case.state)

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, resets=first)

    @jax.jit
    def both():
        values, pull = jax.vjp(run, case.params, case.xs, spoilt)
        clean, pull_clean = jax.vjp(
            lambda params, xs: unroll_fn(cell, params, xs), case.params, case.xs
        )
        cotangents = case.dstate, case.dys
        return values, pull(cotangents), clean, pull_clean(cotangents)

    values, (dparams, dxs, dstate), clean, expected = both()
    assert_close((values, (dparams, dxs)), (clean, expected), 1e-12)
    assert not any(leaf.any() for leaf in jax.tree.leaves(dstate))


@kinds
@unrolls
def test_a_state_of_nan_held_by_the_mask_reaches_no_gradient(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    spoilt = jax.tree.map(lambda s: s.at[0].set(jnp.nan), case.state)
    mask = jnp.ones((T, B), bool).at[:2, 0].set(False)
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True)

    @jax.jit
    def gradients(state):
        def run(params, xs):
            return unroll_fn(cell, params, xs, state, mask=mask, resets=resets)

        return jax.vjp(run, case.params, case.xs)[1]((case.dstate, case.dys))

    chex.assert_trees_all_equal(gradients(spoilt), gradients(case.state))


@combinations(**EVERY)
def test_a_fully_masked_row_returns_its_state(name, reverse, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    mask = jnp.ones((T, B), bool).at[:, 1].set(False)
    state, ys = unroll_fn(
        cell, case.params, case.xs, case.state, mask=mask, reverse=reverse
    )
    second = [jax.tree.map(lambda s: s[1], tree) for tree in (state, case.state)]
    chex.assert_trees_all_equal(*second)
    assert not ys[:, 1].any()


@kinds
@unrolls
def test_a_reset_at_a_masked_step_leaves_the_fresh_state(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)
    off = jnp.zeros((T, B), bool)
    state, _ = unroll_fn(
        cell, case.params, case.xs, case.state, mask=off, resets=off.at[2].set(True)
    )
    chex.assert_trees_all_equal(state, cell.initial_state(case.params, (B,)))


@pytest.mark.parametrize("batch", BATCHES)
def test_lengths_to_mask_is_true_up_to_each_length(batch):
    shape = BATCHES[batch]
    lengths = np.random.default_rng(0).integers(0, T + 1, shape)
    mask = np.asarray(jaxrnn.lengths_to_mask(lengths, T))
    assert mask.shape == (T, *shape)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask.sum(0), lengths)
    assert (np.diff(mask.astype(int), axis=0) <= 0).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_lengths_of_a_small_dtype_do_not_wrap(dtype):
    lengths = np.array([100, 10], dtype)
    np.testing.assert_array_equal(jaxrnn.lengths_to_mask(lengths, 300).sum(0), lengths)
