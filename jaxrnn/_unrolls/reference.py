"""The two passes as one scan each, which JAX can differentiate again."""

import functools

from .._base import Cell
from .._checks import adjoint_of
from .._typing import Array, Params, Residual, State
from .arguments import Sequence
from .masked_scan import masked_scan, masked_scan_transposed


def scan_forward(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[tuple[State, Array], Residual]:
    state, ys, residuals = masked_scan(
        functools.partial(adjoint_of(cell).forward, params),
        sequence.state,
        cell.project(params, sequence.xs),
        fresh=sequence.fresh,
        mask=sequence.mask,
        resets=sequence.resets,
        reverse=reverse,
    )
    return (state, ys), residuals


def scan_backward(
    cell: Cell,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    residuals: Residual,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    dstate, dys = cotangents
    adjoint = adjoint_of(cell)

    def backward(dstate, inputs):
        residual, dy = inputs
        return adjoint.backward(params, residual, dstate, dy)

    dstate, dfresh, da_xs = masked_scan_transposed(
        backward,
        dstate,
        (residuals, dys),
        mask=sequence.mask,
        resets=sequence.resets,
        reverse=reverse,
    )
    dparams, dxs = adjoint.accumulate(params, sequence.xs, residuals, da_xs)
    return dparams, dxs, dstate, dfresh


def scan_gradients(
    cell: Cell,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    _, residuals = scan_forward(cell, reverse, params, sequence)
    return scan_backward(cell, reverse, params, sequence, residuals, cotangents)
