"""The loop over time in chunks, forward and transposed, writing in place.

Within a chunk of K steps one product projects the inputs, and one product for each
weight accumulates its gradient. So only the pre-activations of K steps and their
cotangents exist at a time; on a CPU they stay in the caches. Outputs and residuals are
written straight to their final place. A ``lax.scan`` within a ``lax.scan`` would copy
them once more.

JAX cannot differentiate a loop that writes in place without keeping every version of
what it writes. So only ``reverse_mode.py`` runs it, by rules that give JAX the scans of
``reference.py`` to differentiate.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import check_like
from .._numerics.precision import narrow, widen
from .._tree import zeros_like
from .._typing import Array, Params, Residual, State
from .arguments import Inputs, Run
from .loop import Gradients, Saved
from .masked_scan import masked_step, masked_step_transposed
from .reference import step_transposed
from .stretch import Part, Stretch, cut, empty, entry, in_place, write, write_entry

Carry = TypeVar("Carry")
TakeSteps = Callable[[Any, Any, Stretch], tuple[Any, Any]]


class Kept(NamedTuple):
    """The field ``kept`` of :class:`Saved` for chunks; one of the two is None."""

    residuals: Residual | None  # leaves (T, *B, ...)
    starts: State | None  # leaves (number of chunks, *B, ...), before each chunk


class _Order(NamedTuple):
    """Time cut into chunks, and the order in which a loop takes them."""

    num_steps: int
    chunk_size: int
    reverse: bool  # the steps are taken from the last to the first
    last_first: bool = False  # visit the chunks in the opposite order, to go back


class _Chunk(NamedTuple):
    index: Array  # among the chunks, in the order in which the forward pass takes them
    start: Array  # the first of its steps in time
    size: int


def _for_each_chunk(
    order: _Order, body: Callable[[_Chunk, Carry], Carry], carry: Carry
) -> Carry:
    """Fold ``body`` over the chunks in their order; return the last carry.

    If the chunk size does not divide the number of steps, the remaining steps are a
    chunk of their own, which the forward pass takes last.
    """
    count, rest = divmod(order.num_steps, order.chunk_size)

    def visit(index, size, carry):
        taken = index * order.chunk_size
        start = order.num_steps - taken - size if order.reverse else taken
        return body(_Chunk(index, start, size), carry)

    def whole(index, carry):
        index = count - 1 - index if order.last_first else index
        return visit(index, order.chunk_size, carry)

    if rest and order.last_first:
        carry = visit(jnp.asarray(count), rest, carry)
    if count == 1:
        carry = whole(jnp.asarray(0), carry)
    elif count > 1:
        carry = lax.fori_loop(0, count, whole, carry)
    if rest and not order.last_first:
        carry = visit(jnp.asarray(count), rest, carry)
    return carry


@dataclasses.dataclass(frozen=True)
class Chunks:
    """A loop over chunks of time (:class:`~jaxrnn._unrolls.loop.Loop`)."""

    chunk_size: int  # K, steps whose inputs are projected at once
    recompute: bool  # keep the states between chunks, not the residuals of all steps
    take_steps: TakeSteps = in_place  # how the steps of a chunk are taken

    def forward_pass(
        self, run: Run, params: Params, inputs: Inputs
    ) -> tuple[tuple[State, Array], Kept]:
        """Run over time, and keep what :meth:`backward_pass` needs."""
        num_steps = len(inputs.xs)
        output, residual = _shapes(run, params, inputs)
        results = empty((output, None if self.recompute else residual), num_steps)
        num_chunks = -(-num_steps // self.chunk_size)
        starts = empty(inputs.state, num_chunks) if self.recompute else None
        take_chunk = self._forward_chunk(run, params, inputs)

        def body(chunk, carry):
            state, results, starts = carry
            if starts is not None:
                starts = write_entry(starts, state, chunk.index)
            state, results = take_chunk(chunk, state, Part(results, chunk.start))
            return state, results, starts

        order = _Order(num_steps, self.chunk_size, run.reverse)
        carry = _for_each_chunk(order, body, (inputs.state, results, starts))
        state, (ys, residuals), starts = carry
        return (state, ys), Kept(residuals, starts)

    def _forward_chunk(
        self, run: Run, params: Params, inputs: Inputs
    ) -> Callable[[_Chunk, State, Part], tuple[State, Any]]:
        """Make a function that takes the steps of a chunk and writes their results."""
        step = masked_step(functools.partial(run.adjoint.forward, params), inputs.fresh)

        def take(chunk, state, writes):
            xs = cut(Part(inputs.xs, chunk.start), chunk.size)
            # Without the barrier XLA moves the product into the loop, a row a step.
            a_xs = lax.optimization_barrier(run.cell.project(params, xs))
            reads = (
                Part(a_xs, None),
                Part(inputs.mask, chunk.start),
                Part(inputs.resets, chunk.start),
            )
            stretch = Stretch(chunk.size, run.reverse, reads, writes)
            return self.take_steps(step, state, stretch)

        return take

    def backward_pass(
        self, run: Run, saved: Saved, cotangents: tuple[State, Array]
    ) -> Gradients:
        """The transpose of :meth:`forward_pass`."""
        params, inputs, _ = saved
        dstate, dys = cotangents
        num_steps = len(inputs.xs)
        residuals_of = self._residuals(run, saved)
        pull_chunk = self._backward_chunk(run, saved, dys)

        def body(chunk, carry):
            adjoint_states, dparams, dxs, das = carry
            residuals = residuals_of(chunk)
            writes = jax.tree.map(lambda leaf: leaf[: chunk.size], das)
            adjoint_states, chunk_das = pull_chunk(
                chunk, adjoint_states, residuals, writes
            )
            xs = cut(Part(inputs.xs, chunk.start), chunk.size)
            residuals = cut(residuals, chunk.size)
            more, dx = run.adjoint.accumulate(params, xs, residuals, chunk_das)
            more = check_like("dparams of cell.adjoint.accumulate", more, params)
            # The next chunk overwrites this buffer. The remainder, which comes first,
            # has written to a smaller copy, so the buffer is passed on as it is.
            das = chunk_das if chunk.size == self.chunk_size else das
            dxs = write(Part(dxs, chunk.start), dx)
            return adjoint_states, _add(dparams, more), dxs, das

        # With one chunk its gradients are the sum already, and nothing of the size of
        # the parameters has to be added.
        several = num_steps > self.chunk_size
        carry = (
            (dstate, zeros_like(dstate)),
            zeros_like(widen(params)) if several or not num_steps else None,
            jnp.zeros_like(inputs.xs),
            empty(_da_shapes(run, saved), self.chunk_size),
        )
        order = _Order(num_steps, self.chunk_size, run.reverse, last_first=True)
        (dstate, dfresh), dparams, dxs, _ = _for_each_chunk(order, body, carry)
        return narrow(dparams, params), dxs, dstate, dfresh

    def _residuals(self, run: Run, saved: Saved) -> Callable[[_Chunk], Part]:
        """Make a function that looks up a chunk's residuals, or recomputes them."""
        params, inputs, kept = saved
        if not self.recompute:
            return lambda chunk: Part(kept.residuals, chunk.start)
        _, residual = _shapes(run, params, inputs)
        take_chunk = self._forward_chunk(run, params, inputs)

        def run_again(chunk):
            writes = Part((None, empty(residual, chunk.size)), None)
            state = entry(kept.starts, chunk.index)
            _, (_, residuals) = take_chunk(chunk, state, writes)
            return Part(residuals, None)

        return run_again

    def _backward_chunk(
        self, run: Run, saved: Saved, dys: Array
    ) -> Callable[[_Chunk, Any, Part, Any], tuple[Any, Any]]:
        """Make a function that pulls cotangents back through the steps of a chunk."""
        params, inputs, _ = saved
        step = masked_step_transposed(step_transposed(run, params))

        def pull(chunk, adjoint_states, residuals, das):
            reads = (
                (residuals, Part(dys, chunk.start)),
                Part(inputs.mask, chunk.start),
                Part(inputs.resets, chunk.start),
            )
            stretch = Stretch(chunk.size, not run.reverse, reads, Part(das, None))
            return self.take_steps(step, adjoint_states, stretch)

        return pull


def _shapes(run: Run, params: Params, inputs: Inputs) -> tuple[Any, Any]:
    """The shapes of the output and of the residual of one step."""

    def step(params, state, x):
        return run.adjoint.forward(params, state, run.cell.project(params, x))[1:]

    x = jax.ShapeDtypeStruct(inputs.xs.shape[1:], inputs.xs.dtype)
    return jax.eval_shape(step, params, inputs.state, x)


def _da_shapes(run: Run, saved: Saved) -> Any:
    """The shapes of the cotangents that one step of the backward pass gives."""
    params, inputs, _ = saved
    output, residual = _shapes(run, params, inputs)
    pull = step_transposed(run, params)
    return jax.eval_shape(pull, inputs.state, (residual, output))[1]


def _add(total: Params | None, more: Params) -> Params:
    """Return ``total + more`` in the wider dtype; ``more`` if there is no total yet."""
    if total is None:
        return more
    return jax.tree.map(lambda t, m: t + m.astype(t.dtype), total, more)
