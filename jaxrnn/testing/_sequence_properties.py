"""Properties of whole sequences: values, gradients, masks and resets."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from .._unrolls.arguments import batch_shape
from .._unrolls.associative import unroll_associative
from .._unrolls.bptt import bptt
from .._unrolls.unroll import unroll
from ._finite_differences import directional_derivatives
from ._problem import (
    DIFFERENCES,
    SEQUENCE,
    Comparison,
    Problem,
    compare_all,
    quick_jit,
    random_like,
)

RESULTS = ("state", "ys", "dparams", "dxs", "dstate0")


_DIRECTIONS = ((False, "forward"), (True, "reverse"))


def _flags(problem: Problem, mask: bool, resets: bool) -> dict[str, Any]:
    return {
        "mask": problem.mask if mask else None,
        "resets": problem.resets if resets else None,
    }


def _zeros_like(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)


def _entry(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def _take_steps(
    problem: Problem, xs: Any, s: Any, mask: Any, resets: Any, reverse: bool
) -> tuple[Any, list[Any], list[Any]]:
    """Run one batch entry step by step, in Python.

    Returns:
        The last state, the outputs by time, and the steps that were taken, each as
        ``(t, state that enters it)``; a reset is ``(None, fresh state)``.
    """
    one, params, num_steps = problem.one_step, problem.params, len(xs)
    ys, taken = [np.zeros_like(problem.dys[0, 0])] * num_steps, []
    for t in reversed(range(num_steps)) if reverse else range(num_steps):
        # Written apart from segment_resets of the engine, on purpose: a reversed run
        # enters a segment at its last step.
        boundary = t + 1 if reverse else t
        if resets is not None and boundary < num_steps and resets[boundary]:
            s = one.start(params)
            taken.append((None, s))
        if mask is None or mask[t]:
            taken.append((t, s))
            s, ys[t] = one.step(params, s, xs[t])
    return s, ys, taken


def _pull_steps(
    problem: Problem, xs: Any, taken: list[Any], ds: Any, dys: Any
) -> tuple[Any, Any, Any]:
    """Pull cotangents back through the steps of one batch entry, the last one first."""
    one, params = problem.one_step, problem.params
    dparams, dxs = _zeros_like(params), np.zeros_like(xs)
    for t, s in reversed(taken):
        # A reset passes the cotangent to the initial state, and to nothing before it.
        if t is None:
            more, ds = one.pull_start(params, ds), _zeros_like(ds)
        else:
            more, ds, dxs[t] = one.pull_step(params, s, xs[t], ds, dys[t])
        dparams = jax.tree.map(np.add, dparams, more)
    return dparams, dxs, ds


def _loop(
    problem: Problem, xs: Any, state: Any, mask: Any, resets: Any, reverse: bool
) -> tuple[Any, ...]:
    """Compute values and gradients by the loop that :func:`jaxrnn.unroll` equals.

    JAX differentiates single steps of single batch entries. Nothing is shared with the
    scan of the engine.
    """
    results = []
    for entry in range(xs.shape[1]):
        valid = None if mask is None else mask[:, entry]
        starts = None if resets is None else resets[:, entry]
        s, inputs = _entry(state, entry), xs[:, entry]
        last, ys, taken = _take_steps(problem, inputs, s, valid, starts, reverse)
        ds, dys = _entry(problem.dstate, entry), problem.dys[:, entry]
        pulled = _pull_steps(problem, inputs, taken, ds, dys)
        results.append((last, np.stack(ys), *pulled))
    last, ys, dparams, dxs, dstate0 = zip(*results, strict=True)
    return (
        jax.tree.map(lambda *leaves: np.stack(leaves), *last),
        np.stack(ys, axis=1),
        jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *dparams),
        np.stack(dxs, axis=1),
        jax.tree.map(lambda *leaves: np.stack(leaves), *dstate0),
    )


def _values_and_gradients(problem: Problem, run: Callable, *args: Any) -> Any:
    values, pull = jax.vjp(run, *args)
    return *values, *pull((problem.dstate, problem.dys))


def _against_loop(problem: Problem, mask: bool, resets: bool) -> Iterator[Comparison]:
    flags = _flags(problem, mask=mask, resets=resets)
    xs = np.array(problem.xs)
    numpy_problem = problem._replace(dys=np.asarray(problem.dys))
    # NaN in the padding: an engine that multiplies by a mask would let it through.
    if mask:
        xs[~problem.mask] = np.nan
    for reverse, direction in _DIRECTIONS:
        state = jax.tree.map(np.array, problem.state)
        if resets and not reverse:
            # The first row is reset before its first step: its state must not matter.
            for leaf in jax.tree.leaves(state):
                leaf[0] = np.nan

        def unrolled(params, xs, state, reverse=reverse):
            return problem.unroll_fn(
                problem.cell, params, xs, state, **flags, reverse=reverse
            )

        run = functools.partial(_values_and_gradients, problem, unrolled)
        got = quick_jit(run)(problem.params, xs, state)
        expected = _loop(numpy_problem, xs, state, **flags, reverse=reverse)
        yield from compare_all(RESULTS, got, expected, SEQUENCE, direction)


def streaming(problem: Problem) -> Iterator[Comparison]:
    """A run one step at a time, in chunks, or all at once gives the same."""
    yield from _against_loop(problem, mask=False, resets=False)
    unroll_fn = functools.partial(problem.unroll_fn, problem.cell)

    def chunks(params, xs, state):
        state, first = unroll_fn(params, xs[:1], state)
        state, second = unroll_fn(params, xs[1:], state)
        return state, jnp.concatenate([first, second])

    def two_dims(params, xs, state):
        state = jax.tree.map(lambda leaf: leaf[None], state)
        state, ys = unroll_fn(params, xs[:, None], state)
        return jax.tree.map(lambda leaf: leaf[0], state), ys[:, 0]

    def rows(params, xs, state):
        run = jax.vmap(unroll_fn, in_axes=(None, 1, 0), out_axes=(0, 1))
        return run(params, xs, state)

    def no_state(params, xs, state):
        return unroll_fn(params, xs)

    def initial(params, xs, state):
        batch = batch_shape(problem.cell, xs)[1:]
        return unroll_fn(params, xs, problem.cell.initial_state(params, batch))

    runs = {
        "whole": unroll_fn,
        "in chunks": chunks,
        "two batch dimensions": two_dims,
        "no batch dimension": rows,
        "no state given": no_state,
        "the initial state given": initial,
    }

    # One program for all runs: compilation is nearly all of the time here.
    @quick_jit
    def every(*args):
        return {
            name: _values_and_gradients(problem, run, *args)
            for name, run in runs.items()
        }

    found = every(problem.params, problem.xs, problem.state)
    for options in ("in chunks", "two batch dimensions", "no batch dimension"):
        expected = found["whole"]
        yield from compare_all(RESULTS, found[options], expected, SEQUENCE, options)
    got, expected = found["no state given"], found["the initial state given"]
    yield from compare_all(
        RESULTS[:4], got[:4], expected[:4], SEQUENCE, "no state given"
    )


def masks(problem: Problem) -> Iterator[Comparison]:
    """A masked step holds the state and gives zero, though its input is NaN."""
    yield from _against_loop(problem, mask=True, resets=False)


def resets(problem: Problem) -> Iterator[Comparison]:
    """A reset restores the initial state, though the state before it is NaN."""
    yield from _against_loop(problem, mask=False, resets=True)


def masks_and_resets(problem: Problem) -> Iterator[Comparison]:
    """Masks and resets work together."""
    yield from _against_loop(problem, mask=True, resets=True)


def _by_hand_and_by_jax(problem: Problem, **flags: Any) -> tuple[Any, Any]:
    cell, dstate, dys = problem.cell, problem.dstate, problem.dys

    def by_hand(params, xs, state):
        return bptt(cell, params, xs, dys, state, dstate=dstate, **flags)

    def by_jax(*args):
        _, pull = jax.vjp(lambda *a: unroll(cell, *a, **flags), *args)
        return pull((dstate, dys))

    args = (problem.params, problem.xs, problem.state)
    return quick_jit(by_hand)(*args), quick_jit(by_jax)(*args)


def bptt_against_grad(problem: Problem) -> Iterator[Comparison]:
    """The explicit backward pass gives the gradients that JAX derives."""
    for flagged, (reverse, direction) in itertools.product((False, True), _DIRECTIONS):
        flags = _flags(problem, mask=flagged, resets=flagged)
        got, expected = _by_hand_and_by_jax(problem, **flags, reverse=reverse)
        options = f"{direction}, mask and resets" if flagged else direction
        yield from compare_all(RESULTS[2:], got, expected, SEQUENCE, options)


def associative(problem: Problem) -> Iterator[Comparison]:
    """An associative scan gives the values and gradients of the loop in order."""
    args = (problem.params, problem.xs, problem.state)
    for flagged, (reverse, direction) in itertools.product((False, True), _DIRECTIONS):
        flags = _flags(problem, mask=flagged, resets=flagged)

        def both(*args, flags=flags, reverse=reverse):
            runs = (
                functools.partial(run, problem.cell, **flags, reverse=reverse)
                for run in (unroll_associative, unroll)
            )
            return tuple(_values_and_gradients(problem, run, *args) for run in runs)

        got, expected = quick_jit(both)(*args)
        options = f"{direction}, mask and resets" if flagged else direction
        yield from compare_all(RESULTS, got, expected, SEQUENCE, options)


def _loss(problem: Problem, flags: dict[str, Any], point: Any) -> Array:
    """Return the loss whose gradient has the cotangents of the problem."""
    # A product with random cotangents sees every entry of every result.
    values = problem.unroll_fn(problem.cell, *point, **flags)
    products = jax.tree.map(jnp.vdot, values, (problem.dstate, problem.dys))
    return jnp.stack(jax.tree.leaves(products)).sum()


def _along_random_directions(loss: Callable, point: Any, seed: int) -> Any:
    """Compute derivatives along one direction in each leaf, in two ways."""
    leaves, treedef = jax.tree.flatten(random_like(np.random.default_rng(seed), point))
    directions = [
        jax.tree.unflatten(
            treedef, [v if i == j else _zeros_like(v) for j, v in enumerate(leaves)]
        )
        for i in range(len(leaves))
    ]
    gradient = quick_jit(jax.grad(loss))(point)
    along = jax.tree.map(np.vdot, gradient, jax.tree.unflatten(treedef, leaves))
    slopes = list(directional_derivatives(loss, point, directions))
    return along, jax.tree.unflatten(treedef, slopes)


def _close(got: Any, expected: Any) -> bool:
    got, expected = (np.stack(jax.tree.leaves(tree)) for tree in (got, expected))
    return np.allclose(got, expected, rtol=DIFFERENCES, atol=0)


def finite_differences(problem: Problem) -> Iterator[Comparison]:
    """Gradients agree with central differences along random directions."""
    point = (problem.params, problem.xs, problem.state)
    for flagged, reverse, options in (
        (False, False, "forward"),
        (True, True, "reverse, mask and resets"),
    ):
        flags = _flags(problem, mask=flagged, resets=flagged)
        flags["reverse"] = reverse
        loss = functools.partial(_loss, problem, flags)
        # A kink of an activation may lie within the smallest step in one direction. It
        # is unlikely to lie there in three.
        for seed in range(3):
            got, expected = _along_random_directions(loss, point, seed)
            if _close(got, expected):
                break
        yield from compare_all(RESULTS[2:], got, expected, DIFFERENCES, options)
