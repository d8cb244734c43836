"""The loop over time, row by row of the batch where the plan says so.

A row has no batch dimension, so that its products are those of a vector with a matrix.
XLA's CPU backend then makes one kernel of a small loop, instead of some for each step.
Rows are independent runs of the same parameters, whose gradients add.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Adjoint, Cell
from .._tree import add
from .._typing import Array, Params, Shape, State
from . import chunks
from .arguments import Sequence, batch_shape
from .plan import Plan


def run_forward(
    cell: Cell,
    adjoint: Adjoint,
    plan: Plan,
    reverse: bool,
    params: Params,
    sequence: Sequence,
) -> tuple[tuple[State, Array], Any]:
    """Run over time; what is kept is for :func:`run_backward` by the same plan."""
    run = functools.partial(chunks.run_forward, cell, adjoint, plan, reverse, params)
    if not plan.by_row:
        return run(sequence)
    batch = batch_shape(cell, sequence.xs)[1:]
    runs = [run(row) for row in _rows(sequence, batch)]
    states, outputs = zip(*(values for values, _ in runs), strict=True)
    values = _together(states, batch), _together(outputs, batch, axis=1)
    return values, [kept for _, kept in runs]


def run_backward(
    cell: Cell,
    adjoint: Adjoint,
    plan: Plan,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    kept: Any,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    """The transpose of :func:`run_forward`."""
    run = functools.partial(chunks.run_backward, cell, adjoint, plan, reverse, params)
    if not plan.by_row:
        return run(sequence, kept, cotangents)
    batch = batch_shape(cell, sequence.xs)[1:]
    dstate, dys = cotangents
    runs = [
        run(row, row_kept, (_row(dstate, index), _row(dys, index, axis=1)))
        for row, row_kept, index in zip(
            _rows(sequence, batch), kept, np.ndindex(*batch), strict=True
        )
    ]
    dparams, dxs, dstates, dfreshs = zip(*runs, strict=True)
    return (
        functools.reduce(add, dparams),
        _together(dxs, batch, axis=1),
        _together(dstates, batch),
        _together(dfreshs, batch),
    )


def _row(tree: Any, index: Shape, axis: int = 0) -> Any:
    """One row of leaves whose batch dimensions begin at ``axis``."""
    before = (slice(None),) * axis
    return jax.tree.map(lambda leaf: leaf[(*before, *index)], tree)


def _rows(sequence: Sequence, batch: Shape) -> list[Sequence]:
    """A run for each row."""
    return [
        Sequence(
            xs=_row(sequence.xs, index, axis=1),
            state=_row(sequence.state, index),
            fresh=_row(sequence.fresh, index),
            mask=_row(sequence.mask, index, axis=1),
            resets=_row(sequence.resets, index, axis=1),
        )
        for index in np.ndindex(*batch)
    ]


def _together(rows: tuple[Any, ...], batch: Shape, axis: int = 0) -> Any:
    """The inverse of :func:`_row` of every row."""

    def join(*leaves):
        shape = leaves[0].shape
        joined = jnp.stack(leaves, axis)
        return joined.reshape(*shape[:axis], *batch, *shape[axis:])

    return jax.tree.map(join, *rows)
