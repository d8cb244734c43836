"""Semantics of the unrolls: masks, resets, directions, batches, chunks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from cases import (
    BASE,
    CELLS,
    KINDS,
    B,
    H,
    I,
    T,
    assert_close,
    problem,
    random_like,
    random_normal,
    random_params,
    random_state,
    unroll,
)
from covering import quick
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxrnn

cells = pytest.mark.parametrize("name", BASE)
kinds = pytest.mark.parametrize("name", KINDS)
reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)
unrolls = pytest.mark.parametrize("unroll_fn", [jaxrnn.unroll, jaxrnn.unroll_bptt])


def every_value_and_gradient(run, case):
    values, pull = jax.vjp(run, *case.args)
    return values, pull((case.dstate, case.dys))


@cells
@reversals
@pytest.mark.parametrize("flags", ["plain", "mask-resets"])
def test_unroll_equals_a_numpy_loop(name, reverse, flags):
    cell = CELLS[name].cell
    case = problem(cell, mask="mask" in flags, resets="resets" in flags)
    initial = jax.tree.map(np.zeros_like, case.state)
    expected = oracles.unroll(
        CELLS[name].numpy_step, *case.args, initial, case.mask, case.resets, reverse
    )
    actual = unroll(cell, *case.args, **case.flags, reverse=reverse)
    assert_close(actual, expected, 1e-12)


def runs_of(cell):
    """The unrolls that the cell can take."""
    runs = [jaxrnn.unroll, jaxrnn.unroll_bptt, jaxrnn.unroll_chunked]
    return runs if cell.coefficients is None else [*runs, jaxrnn.unroll_associative]


def check_against_numpy_loop(name, run, cell, dtype, sizes, flags, reverse, seed):
    """Compare a run with masks and resets with the loop of ``oracles``."""
    steps, rows, inputs = sizes
    params = random_params((0, seed), cell, dtype, input_size=inputs)
    shape = (steps, rows, *cell.spatial_shape, inputs)
    xs = random_normal((1, seed), shape, dtype)
    state = random_state((2, seed), cell, params, (rows,))
    mask, resets = flags
    if not mask.any():
        mask[0, 0] = True  # the oracle reads the output size off an output

    @jax.jit
    def compiled(params, xs, state):
        fresh = cell.initial_state(params, (rows,))
        flags = {"mask": mask, "resets": resets, "reverse": reverse}
        return run(cell, params, xs, state, **flags), fresh

    actual, fresh = compiled(params, xs, state)
    wide = jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64), (params, xs, state, fresh)
    )
    expected = oracles.unroll(
        CELLS[name].numpy_step, *wide, mask.copy(), resets.copy(), reverse
    )
    expected = jax.tree.map(lambda leaf: leaf.astype(dtype), expected)
    assert_close(actual, expected, 1e-12 if dtype == jnp.float64 else 1e-5)


SOME = (  # of each structure one; check_cell looks at single steps of them all
    *BASE,
    *("multihead-lstm", "slstm", "mingru", "orthogonal", "conv-lstm-2d", "lru"),
)


@quick("name", CELLS, by_default=SOME)
def test_every_cell_equals_a_numpy_loop(name):
    """Unrolls, dtypes and directions take turns from cell to cell."""
    cell, turn = CELLS[name].cell, list(CELLS).index(name)
    runs = runs_of(cell)
    rng = np.random.default_rng(turn)
    flags = rng.random((4, 2)) < 0.7, rng.random((4, 2)) < 0.3
    check_against_numpy_loop(
        name,
        runs[turn % len(runs)],
        cell,
        (jnp.float64, jnp.float32)[turn // 2 % 2],
        (4, 2, I),
        flags,
        reverse=bool(turn // 3 % 2),
        seed=turn,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
@settings(deadline=None, max_examples=3, derandomize=True)
@given(data=st.data())
def test_every_cell_equals_a_numpy_loop_for_any_sizes(name, data):
    sizes = st.integers(1, 4)
    steps, rows, inputs, hidden = (data.draw(sizes) for _ in range(4))
    cell = CELLS[name].make(hidden)
    bits = st.lists(st.booleans(), min_size=steps * rows, max_size=steps * rows)
    check_against_numpy_loop(
        name,
        data.draw(st.sampled_from(runs_of(cell))),
        cell,
        data.draw(st.sampled_from([jnp.float32, jnp.float64])),
        (steps, rows, inputs),
        [np.array(data.draw(bits)).reshape(steps, rows) for _ in range(2)],
        reverse=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
    )


@kinds
@unrolls
def test_steps_chunks_and_the_whole_agree(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell)

    def chunked(bounds, run):
        def total(params, xs, state):
            outputs = []
            for start, end in bounds:
                flags = {k: v[start:end] for k, v in case.flags.items()}
                state, ys = run(params, xs[start:end], state, flags)
                outputs.append(ys)
            return state, jnp.concatenate(outputs)

        @jax.jit
        def with_gradients():
            values, pull = jax.vjp(total, *case.args)
            return values, pull((case.dstate, case.dys))

        return with_gradients()

    def whole(params, xs, state, flags):
        return unroll_fn(cell, params, xs, state, **flags)

    expected = chunked([(0, T)], whole)
    assert_close(chunked([(0, 3), (3, 4), (4, T)], whole), expected, 1e-12)
    assert_close(chunked([(t, t + 1) for t in range(T)], whole), expected, 1e-12)

    def by_step(params, xs, state, flags):
        y = jnp.zeros((B, H), xs.dtype)
        fresh = cell.initial_state(params, (B,))
        rows = flags["resets"][0][:, None]
        state = jax.tree.map(lambda s, f: jnp.where(rows, f, s), state, fresh)
        held = state
        state, y = cell.step(params, state, cell.project(params, xs[0]))
        rows = flags["mask"][0][:, None]
        state = jax.tree.map(lambda s, h: jnp.where(rows, s, h), state, held)
        return state, jnp.where(rows, y, jnp.zeros_like(y))[None]

    assert_close(chunked([(t, t + 1) for t in range(T)], by_step), expected, 1e-12)


@kinds
@reversals
@unrolls
@pytest.mark.parametrize("steps", [0, 1])
def test_unrolls_take_no_step_and_one_step(name, reverse, unroll_fn, steps):
    cell = CELLS[name].cell
    case = problem(cell, steps=steps)

    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, reverse=reverse)

    (state, ys), gradients = jax.jit(lambda: every_value_and_gradient(run, case))()
    assert ys.shape == (steps, B, H)
    if steps == 0:
        chex.assert_trees_all_equal(state, case.state)
        chex.assert_trees_all_equal(gradients[2], case.dstate)
        assert not any(leaf.any() for leaf in gradients[0])
    else:
        one = cell.step(case.params, case.state, cell.project(case.params, case.xs[0]))
        assert_close((state, ys[0]), one, 1e-12)


@kinds
@unrolls
def test_vmap_equals_batch(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell)

    def run(xs, state, mask, resets):
        return unroll_fn(cell, case.params, xs, state, mask=mask, resets=resets)

    mapped = jax.vmap(run, in_axes=(1, 0, 1, 1), out_axes=(0, 1))
    arguments = case.xs, case.state, case.mask, case.resets
    assert_close(jax.jit(mapped)(*arguments), jax.jit(run)(*arguments), 1e-12)

    def loss(params, xs, state, mask, resets):
        _, ys = unroll_fn(cell, params, xs, state, mask=mask, resets=resets)
        return (ys**2).sum()

    each = jax.vmap(jax.grad(loss), in_axes=(None, 1, 0, 1, 1))
    together = jax.jit(jax.grad(loss))(case.params, *arguments)
    summed = jax.jit(each)(case.params, *arguments)
    summed = jax.tree.map(lambda g: g.sum(0), summed)
    assert_close(summed, together, 1e-12)


@kinds
@unrolls
def test_parameters_can_be_mapped(name, unroll_fn):
    """An ensemble: one model for each entry of a leading axis."""
    cell = CELLS[name].cell
    case = problem(cell)
    members = random_like(1, jax.tree.map(lambda p: jnp.stack([p] * 4), case.params))

    @jax.jit
    def run(params):
        return unroll_fn(cell, params, case.xs)[1]

    ys = jax.jit(jax.vmap(run))(members)
    last = run(jax.tree.map(lambda p: p[3], members))
    assert_close(ys[3], last, 1e-12)


@kinds
@unrolls
def test_two_calls_trace_once(name, unroll_fn):
    cell = CELLS[name].cell
    case = problem(cell)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def gradient(params, xs, state):
        def loss(params):
            state_and_ys = unroll_fn(cell, params, xs, state, **case.flags)
            return state_and_ys[1].sum(), state_and_ys

        return jax.grad(loss, has_aux=True)(params)

    # What comes out can go in again: parameters, outputs, and above all the state.
    params, state = case.params, jax.tree.map(jnp.zeros_like, case.state)
    for _ in range(3):
        params, (state, _) = gradient(params, case.xs, state)


@kinds
@unrolls
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_dtype_follows_the_parameters(name, unroll_fn, dtype):
    cell = CELLS[name].cell
    case = problem(cell, dtype=dtype)

    @jax.jit
    def run(params, xs, state):
        return unroll_fn(cell, params, xs, state, **case.flags)

    state, ys = run(*case.args)
    _, gradients = jax.eval_shape(lambda: every_value_and_gradient(run, case))
    assert ys.dtype == dtype
    chex.assert_trees_all_equal_dtypes(gradients, case.args)
    chex.assert_trees_all_equal_dtypes(state, case.state)
    # Against float64 on the same numbers: a few units of rounding, no more.
    exact = jax.tree.map(lambda leaf: np.asarray(leaf).astype(np.float64), case.args)
    _, expected = run(*exact)
    expected = np.asarray(expected)
    error = np.abs(np.asarray(ys).astype(np.float64) - expected).max()
    scale = max(1.0, float(np.abs(expected).max()))
    assert float(error) < 8 * float(jnp.finfo(dtype).eps) * scale


def test_numpy_inputs_are_welcome():
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    arguments = jax.tree.map(np.asarray, (case.params, case.xs, case.state))
    flags = {name: np.asarray(flag) for name, flag in case.flags.items()}
    assert_close(
        jaxrnn.unroll_bptt(cell, *arguments, **flags),
        jaxrnn.unroll(cell, *case.args, **case.flags),
        1e-12,
    )
    assert case.xs.shape == (T, B, I)
