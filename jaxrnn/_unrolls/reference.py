"""Forward and backward pass as plain scans, which JAX can differentiate.

The loops of :mod:`jaxrnn._unrolls.chunks` write in place, which JAX cannot
differentiate cheaply. Where JAX asks for a derivative of theirs, it gets the derivative
of these.
"""

import functools

from .._checks import check_cotangents
from .._typing import Array, Params, Residual, State
from .arguments import Inputs, Run
from .loop import Gradients
from .masked_scan import Pull, masked_scan, masked_scan_transposed


def step_transposed(run: Run, params: Params) -> Pull:
    """The transpose of one step: ``(dstate, (residual, dy)) -> (dstate_prev, da)``."""
    adjoint = run.adjoint

    def pull(dstate, inputs):
        residual, dy = inputs
        return check_cotangents(adjoint.backward(params, residual, dstate, dy))

    return pull


def scan_forward(
    run: Run, params: Params, inputs: Inputs
) -> tuple[tuple[State, Array], Residual]:
    """Run the forward steps of the adjoint; return the values and all residuals."""
    step = functools.partial(run.adjoint.forward, params)
    a_xs = run.cell.project(params, inputs.xs)
    state, ys, residuals = masked_scan(step, run, inputs, a_xs)
    return (state, ys), residuals


def scan_gradients(
    run: Run, params: Params, inputs: Inputs, cotangents: tuple[State, Array]
) -> Gradients:
    """Run forward and then backward; return the gradients of :func:`scan_forward`."""
    _, residuals = scan_forward(run, params, inputs)
    dstate, dys = cotangents
    dstate, dfresh, da_xs = masked_scan_transposed(
        step_transposed(run, params), run, inputs, (dstate, (residuals, dys))
    )
    dparams, dxs = run.adjoint.accumulate(params, inputs.xs, residuals, da_xs)
    return dparams, dxs, dstate, dfresh
