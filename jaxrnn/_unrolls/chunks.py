"""The loop over time in chunks, forward and transposed, writing in place.

Within a chunk of K steps the inputs are projected by one product, and the parameter
gradients are accumulated by one for each; so the pre-activations, and their
cotangents, of K steps exist at a time, which stay in the caches. Outputs and residuals
are written straight to where they remain, as a ``lax.scan`` within a ``lax.scan``
would copy them once more.

Buffers that a loop writes to are what JAX cannot differentiate cheaply: it would keep
every version of them. So these are for ``jax.custom_vjp`` rules, and what
differentiates those again takes the plain scans (see ``_unrolls/bptt.py``).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Adjoint, Cell
from .._checks import check_like
from .._numerics.precision import narrow, widen
from .._tree import zeros_like
from .._typing import Array, Params, Residual, State
from .arguments import Sequence
from .buffers import at, buffer, only, slice_of, write, write_slice
from .masked_scan import masked_step, masked_step_transposed
from .plan import Plan

Carry = TypeVar("Carry")


class Kept(NamedTuple):
    """What the backward pass needs of the forward pass; one of them is None."""

    residuals: Residual | None  # leaves (T, *B, ...)
    starts: State | None  # leaves (number of chunks, *B, ...), before each chunk


class _Chunk(NamedTuple):
    """Some consecutive steps, in the order in which the loop takes them."""

    index: Array  # among the chunks
    start: Array  # its earliest step
    size: int
    reverse: bool
    unroll: int  # steps in one iteration of a scan; 0 writes each in place

    def row(self, index: Array) -> Array:
        """Where in the chunk the step is that is taken as number ``index``."""
        return self.size - 1 - index if self.reverse else index


def _for_each_chunk(
    num_steps: int,
    plan: Plan,
    reverse: bool,
    body: Callable[[_Chunk, Carry], Carry],
    carry: Carry,
    *,
    backwards: bool = False,
) -> Carry:
    """Run ``body`` on every chunk; ``backwards``, from the last taken to the first.

    If the chunk size does not divide the number of steps, the rest is a chunk of its
    own, at the end of the order in which the steps are taken.
    """
    size = plan.chunk_size
    count, rest = divmod(num_steps, size)

    def run(index, size, carry):
        taken = index * plan.chunk_size
        start = num_steps - taken - size if reverse else taken
        return body(_Chunk(index, start, size, reverse, plan.unroll), carry)

    def whole(index, carry):
        return run(count - 1 - index if backwards else index, size, carry)

    if rest and backwards:
        carry = run(jnp.asarray(count), rest, carry)
    if count == 1:
        carry = whole(jnp.asarray(0), carry)
    elif count > 1:
        carry = lax.fori_loop(0, count, whole, carry)
    if rest and not backwards:
        carry = run(jnp.asarray(count), rest, carry)
    return carry


def _forward_chunk(
    cell: Cell,
    adjoint: Adjoint,
    params: Params,
    sequence: Sequence,
    chunk: _Chunk,
    state: State,
    kept: Any,
    offset: Array,
) -> tuple[State, Any]:
    """Take the steps of a chunk, writing what is kept of each at ``offset`` + row.

    ``kept`` are buffers for the outputs and the residuals; None: not kept.
    """
    body = masked_step(functools.partial(adjoint.forward, params), sequence.fresh)
    xs = slice_of(sequence.xs, chunk.start, chunk.size)
    # The barrier keeps the product one, instead of one row of it in each step.
    a_xs = lax.optimization_barrier(cell.project(params, xs))
    if chunk.unroll:
        flags = slice_of((sequence.mask, sequence.resets), chunk.start, chunk.size)
        state, made = lax.scan(
            body, state, (a_xs, *flags), reverse=chunk.reverse, unroll=chunk.unroll
        )
        return state, write_slice(kept, only(kept, made), offset)

    def take(index, carry):
        state, kept = carry
        row = chunk.row(index)
        flags = at((sequence.mask, sequence.resets), chunk.start + row)
        state, made = body(state, (at(a_xs, row), *flags))
        return state, write(kept, only(kept, made), offset + row)

    return lax.fori_loop(0, chunk.size, take, (state, kept))


def _shapes(
    cell: Cell, adjoint: Adjoint, params: Params, sequence: Sequence
) -> tuple[Any, Any]:
    """Of the output and the residual of one step."""

    def step(params, state, x):
        return adjoint.forward(params, state, cell.project(params, x))[1:]

    xs = sequence.xs
    x = jax.ShapeDtypeStruct(xs.shape[1:], xs.dtype)
    return jax.eval_shape(step, params, sequence.state, x)


def run_forward(
    cell: Cell,
    adjoint: Adjoint,
    plan: Plan,
    reverse: bool,
    params: Params,
    sequence: Sequence,
) -> tuple[tuple[State, Array], Kept]:
    """Run over time, keeping what :func:`run_backward` needs by the same plan."""
    num_steps = len(sequence.xs)
    output, residual = _shapes(cell, adjoint, params, sequence)
    buffers = buffer((output, None if plan.recompute else residual), num_steps)
    chunks = -(-num_steps // plan.chunk_size)
    starts = buffer(sequence.state, chunks) if plan.recompute else None

    def body(chunk, carry):
        state, buffers, starts = carry
        if starts is not None:
            starts = write(starts, state, chunk.index)
        state, buffers = _forward_chunk(
            cell, adjoint, params, sequence, chunk, state, buffers, chunk.start
        )
        return state, buffers, starts

    carry = (sequence.state, buffers, starts)
    carry = _for_each_chunk(num_steps, plan, reverse, body, carry)
    state, (ys, residuals), starts = carry
    return (state, ys), Kept(residuals, starts)


def run_backward(
    cell: Cell,
    adjoint: Adjoint,
    plan: Plan,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    kept: Kept,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    """The transpose of :func:`run_forward`.

    Returns:
        ``(dparams, dxs, dstate, dfresh)``; the last two are the cotangents of the
        first state and of the state that resets restore.
    """
    dstate, dys = cotangents
    num_steps = len(sequence.xs)
    output, residual = _shapes(cell, adjoint, params, sequence)
    da = jax.eval_shape(adjoint.backward, params, residual, dstate, output)[1]

    def residuals_of(chunk):
        """Those of the chunk, and where they begin."""
        if kept.residuals is not None:
            return kept.residuals, chunk.start
        buffers = (None, buffer(residual, chunk.size))
        state = at(kept.starts, chunk.index)
        _, (_, residuals) = _forward_chunk(
            cell, adjoint, params, sequence, chunk, state, buffers, jnp.asarray(0)
        )
        return residuals, jnp.asarray(0)

    def body(chunk, carry):
        adjoint_states, dparams, dxs, das = carry
        residuals, offset = residuals_of(chunk)
        own = jax.tree.map(lambda leaf: leaf[: chunk.size], das)
        step = masked_step_transposed(
            lambda dstate, inputs: adjoint.backward(
                params, inputs[0], dstate, inputs[1]
            )
        )

        def take_all(adjoint_states):
            flags = slice_of((sequence.mask, sequence.resets), chunk.start, chunk.size)
            kept = slice_of(residuals, offset, chunk.size)
            inputs = ((kept, slice_of(dys, chunk.start, chunk.size)), *flags)
            return lax.scan(
                step,
                adjoint_states,
                inputs,
                reverse=not chunk.reverse,
                unroll=chunk.unroll,
            )

        def take(index, carry):
            adjoint_states, own = carry
            row = chunk.row(chunk.size - 1 - index)
            time = chunk.start + row
            dy, valid, reset = at((dys, sequence.mask, sequence.resets), time)
            inputs = ((at(residuals, offset + row), dy), valid, reset)
            adjoint_states, da = step(adjoint_states, inputs)
            return adjoint_states, write(own, da, row)

        if chunk.unroll:
            adjoint_states, own = take_all(adjoint_states)
        else:
            carry = (adjoint_states, own)
            adjoint_states, own = lax.fori_loop(0, chunk.size, take, carry)
        xs = slice_of(sequence.xs, chunk.start, chunk.size)
        more, dx = adjoint.accumulate(
            params, xs, slice_of(residuals, offset, chunk.size), own
        )
        more = check_like("dparams of cell.adjoint.accumulate", more, params)
        dparams = _add(dparams, more)
        dxs = write_slice(dxs, dx, chunk.start)
        # A loop hands its buffer on; a remainder comes first and has its own.
        das = own if chunk.size == plan.chunk_size else das
        return adjoint_states, dparams, dxs, das

    # One chunk's gradients are the sum already: nothing of the size of the parameters
    # is added.
    several = num_steps > plan.chunk_size
    carry = (
        (dstate, zeros_like(dstate)),
        zeros_like(widen(params)) if several or not num_steps else None,
        jnp.zeros_like(sequence.xs),
        buffer(da, plan.chunk_size),
    )
    carry = _for_each_chunk(num_steps, plan, reverse, body, carry, backwards=True)
    (dstate, dfresh), dparams, dxs, _ = carry
    return narrow(dparams, params), dxs, dstate, dfresh


def _add(total: Params | None, more: Params) -> Params:
    """``total + more`` in the wider dtype; ``more`` if there is nothing yet."""
    if total is None:
        return more
    return jax.tree.map(lambda t, m: t + m.astype(t.dtype), total, more)
