"""One step of an unroll as a function of all that it depends on."""

from jax import lax

from .._base import Cell
from .._eager import compiled
from .._typing import Array, Params, State
from .._unrolls.arguments import Sequence, batch_shape
from .._unrolls.masked_scan import masked_step


def transition(
    cell: Cell,
    params: Params,
    state: State,
    inputs: tuple[Array, Array | None, Array | None],
) -> tuple[State, Array]:
    """One step of :func:`unroll` as a function of all that it depends on.

    For what looks at one step at a time: its Jacobians, its vector products.

    Args:
        cell, params: as of the unroll.
        state: the state that enters the step.
        inputs: ``(x, valid, reset)``, one step of the inputs, mask and resets of a
            :class:`Sequence`.

    Returns:
        ``(state, y)``.
    """
    fresh = cell.initial_state(params, batch_shape(cell, inputs[0]))

    def step(state, x):
        return *cell.step(params, state, cell.project(params, x)), None

    state, (y, _) = masked_step(step, fresh)(state, inputs)
    return state, y


@compiled(num_static=2)
def entering_states(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, State, Array]:
    """The states ``(T, *B, ...)`` that enter each step, the last state and outputs."""

    def step(state, inputs):
        new_state, y = transition(cell, params, state, inputs)
        return new_state, (state, y)

    inputs = (sequence.xs, sequence.mask, sequence.resets)
    last, (states, ys) = lax.scan(step, sequence.state, inputs, reverse=reverse)
    return states, last, ys
