"""The one scan over time, masked, resettable and reversible, and its transpose."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jax import lax

from .._tree import add, select, zeros_like
from .._typing import Array, State

Step: TypeAlias = Callable[[State, Any], tuple[State, Array, Any]]


def masked_step(step: Step, fresh: State) -> Callable[[State, Any], Any]:
    """``step`` with reset before it and mask after it, as a body for ``lax.scan``.

    Args:
        step: ``(state, x) -> (state, y, residual)``.
        fresh: the state that a reset restores.

    Returns:
        ``(state, (x, valid, reset)) -> (state, (y, residual))``; ``valid`` and
        ``reset`` are bool ``(*B)`` or None. The residual is left as it is.
    """

    def body(state, inputs):
        x, valid, reset = inputs
        if reset is not None:
            state = select(reset, fresh, state)
        if valid is None:
            new_state, y, residual = step(state, x)
            return new_state, (y, residual)
        # A masked step runs on the fresh state: the one it holds may be NaN.
        new_state, y, residual = step(select(valid, state, fresh), x)
        new_state = select(valid, new_state, state)
        return new_state, (select(valid, y, zeros_like(y)), residual)

    return body


def masked_scan(
    step: Step,
    state: State,
    xs: Any,
    *,
    fresh: State,
    mask: Array | None,
    resets: Array | None,
    reverse: bool,
    unroll: int = 1,
) -> tuple[State, Array, Any]:
    """Scan ``step`` over time.

    Args:
        step: ``(state, x) -> (state, y, residual)``.
        state: state before the first step taken.
        xs: pytree with leaves ``(T, *B, ...)``.
        fresh: the state that a reset restores.
        mask: bool ``(T, *B)`` or None; where False, state held and output zero.
        resets: bool ``(T, *B)`` or None, as :func:`segment_resets` gives them.
        reverse: take the steps from the last to the first.
        unroll: steps in one iteration of the loop.

    Returns:
        ``(state, ys, residuals)``; outputs and residuals stay at their own time.
    """
    body = masked_step(step, fresh)
    inputs = (xs, mask, resets)
    state, (ys, residuals) = lax.scan(
        body, state, inputs, reverse=reverse, unroll=unroll
    )
    return state, ys, residuals


def masked_step_transposed(
    backward: Callable[[State, Any], tuple[State, Any]],
) -> Callable[[tuple[State, State], Any], tuple[tuple[State, State], Any]]:
    """The transpose of :func:`masked_step`, as a body for ``lax.scan``.

    Each line is the transpose of one of :func:`masked_step`, from the last to the
    first: a held state hands its cotangent on, a replaced state hands it to ``fresh``.

    Args:
        backward: ``(dstate, dy) -> (dstate_prev, da)``; ``dy`` may carry residuals.

    Returns:
        ``((dstate, dfresh), (dy, valid, reset)) -> ((dstate_prev, dfresh), da)``.
    """

    def body(carry, inputs):
        dstate, dfresh = carry
        dy, valid, reset = inputs
        dprevious, da = backward(dstate, dy)
        if valid is not None:
            dprevious = select(valid, dprevious, dstate)
            da = select(valid, da, zeros_like(da))
        if reset is not None:
            none = zeros_like(dprevious)
            dfresh = add(dfresh, select(reset, dprevious, none))
            dprevious = select(reset, none, dprevious)
        return (dprevious, dfresh), da

    return body


def masked_scan_transposed(
    backward: Callable[[State, Any], tuple[State, Any]],
    dstate: State,
    dys: Any,
    *,
    mask: Array | None,
    resets: Array | None,
    reverse: bool,
) -> tuple[State, State, Any]:
    """Scan the transpose of a step against the order of :func:`masked_scan`.

    Args:
        backward: see :func:`masked_step_transposed`.
        dstate: cotangent of the final state.
        dys: pytree with leaves ``(T, *B, ...)``.
        mask, resets, reverse: as they were given to :func:`masked_scan`.

    Returns:
        ``(dstate, dfresh, das)``: cotangents of the first state, of the fresh state
        and of the inputs of all steps.
    """
    body = masked_step_transposed(backward)
    carry = (dstate, zeros_like(dstate))
    carry, das = lax.scan(body, carry, (dys, mask, resets), reverse=not reverse)
    return *carry, das
