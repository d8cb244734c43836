"""The one scan over time, masked, resettable and reversible, and its transpose."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import lax

from .._masks import zero_where_masked
from .._tree import add, select, zeros_like
from .._typing import Array, State
from .arguments import Inputs, Run

Step: TypeAlias = Callable[[State, Any], tuple[State, Array, Any]]
Pull: TypeAlias = Callable[[State, Any], tuple[State, Any]]


def masked_step(step: Step, fresh: State) -> Callable[[State, Any], Any]:
    """Put a reset before a step and a mask after it, as a body for ``lax.scan``.

    Args:
        step: ``(state, x) -> (state, y, residual)``.
        fresh: the state that a reset restores.

    Returns:
        ``(state, (x, valid, reset)) -> (state, (y, residual))``; ``valid`` and
        ``reset`` are bool ``(*B)`` or None. The residual is not masked.
    """

    def body(state, inputs):
        x, valid, reset = inputs
        if reset is not None:
            state = select(reset, fresh, state)
        if valid is None:
            new_state, y, residual = step(state, x)
            return new_state, (y, residual)
        # A masked step runs on the fresh state, because the state it holds may be NaN,
        # which the backward pass would multiply by zero.
        new_state, y, residual = step(select(valid, state, fresh), x)
        new_state = select(valid, new_state, state)
        return new_state, (zero_where_masked(y, valid), residual)

    return body


def masked_scan(
    step: Step, run: Run, inputs: Inputs, a_xs: Any
) -> tuple[State, Array, Any]:
    """Scan ``step`` over time.

    Args:
        step: ``(state, x) -> (state, y, residual)``.
        run: says in which order the steps are taken, and how many in an iteration.
        inputs: first state, fresh state, mask and resets are taken from these.
        a_xs: pytree with leaves ``(T, *B, ...)``; one entry is the ``x`` of a step.

    Returns:
        ``(state, ys, residuals)``; outputs and residuals stay at their own time.
    """
    body = masked_step(step, inputs.fresh)
    state, (ys, residuals) = lax.scan(
        body,
        inputs.state,
        (a_xs, inputs.mask, inputs.resets),
        reverse=run.reverse,
        unroll=run.steps_at_once,
    )
    return state, ys, residuals


def masked_step_transposed(
    pull: Pull,
) -> Callable[[tuple[State, State], Any], tuple[tuple[State, State], Any]]:
    """The transpose of :func:`masked_step`, as a body for ``lax.scan``.

    Each line is the transpose of a line of :func:`masked_step`, read from the last to
    the first: a state that was held passes its cotangent on, and a state that was
    replaced passes it to ``fresh``.

    Args:
        pull: ``(dstate, dy) -> (dstate_prev, da)``, the transpose of one step; ``dy``
            may come with residuals.

    Returns:
        ``((dstate, dfresh), (dy, valid, reset)) -> ((dstate_prev, dfresh), da)``.
    """

    def body(carry, inputs):
        dstate, dfresh = carry
        dy, valid, reset = inputs
        dprevious, da = pull(dstate, dy)
        if valid is not None:
            dprevious = select(valid, dprevious, dstate)
            da = zero_where_masked(da, valid)
        if reset is not None:
            zeros = zeros_like(dprevious)
            dfresh = add(dfresh, select(reset, dprevious, zeros))
            dprevious = select(reset, zeros, dprevious)
        return (dprevious, dfresh), da

    return body


def masked_scan_transposed(
    pull: Pull, run: Run, inputs: Inputs, cotangents: tuple[State, Any]
) -> tuple[State, State, Any]:
    """Scan the transpose of a step against the order of :func:`masked_scan`.

    Args:
        pull: see :func:`masked_step_transposed`.
        run, inputs: those of :func:`masked_scan`.
        cotangents: ``(dstate, dys)``, of the final state and, with leaves
            ``(T, *B, ...)``, of the outputs.

    Returns:
        ``(dstate, dfresh, das)``: cotangents of the first state, of the fresh state
        and of the inputs of all steps.
    """
    dstate, dys = cotangents
    body = masked_step_transposed(pull)
    carry = (dstate, zeros_like(dstate))
    sequences = (dys, inputs.mask, inputs.resets)
    carry, das = lax.scan(body, carry, sequences, reverse=not run.reverse)
    return *carry, das
