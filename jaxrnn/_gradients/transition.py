"""One step of an unroll as a function of all that it depends on."""

from jax import lax

from .._base import Cell
from .._eager import compiled
from .._typing import Array, Params, State
from .._unrolls.arguments import Inputs, Run, batch_shape
from .._unrolls.masked_scan import masked_step


def transition(
    cell: Cell,
    params: Params,
    state: State,
    inputs: tuple[Array, Array | None, Array | None],
) -> tuple[State, Array]:
    """Take one step of an unroll, as a function of everything that the step depends on.

    It serves to look at single steps: their Jacobians, their vector products.

    Args:
        cell, params: those of the unroll.
        state: the state that enters the step.
        inputs: ``(x, valid, reset)``, one step of ``xs``, ``mask`` and ``resets`` of
            :class:`~jaxrnn._unrolls.arguments.Inputs`.

    Returns:
        ``(state, y)``.
    """
    fresh = cell.initial_state(params, batch_shape(cell, inputs[0]))

    def step(state, x):
        return *cell.step(params, state, cell.project(params, x)), None

    state, (y, _) = masked_step(step, fresh)(state, inputs)
    return state, y


@compiled(num_static=1)
def entering_states(
    run: Run, params: Params, inputs: Inputs
) -> tuple[State, State, Array]:
    """Run over time; return the state before each step, the last state and the ys."""

    def step(state, at_step):
        new_state, y = transition(run.cell, params, state, at_step)
        return new_state, (state, y)

    sequences = (inputs.xs, inputs.mask, inputs.resets)
    last, (states, ys) = lax.scan(step, inputs.state, sequences, reverse=run.reverse)
    return states, last, ys
