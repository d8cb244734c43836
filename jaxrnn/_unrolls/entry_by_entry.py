"""A loop that runs each entry of the batch by itself.

One batch entry has no batch dimension, so its products are of a vector with a matrix.
XLA's CPU backend then makes one kernel of a small loop, instead of several kernels for
each step. Batch entries are independent runs of the same parameters, whose gradients
add.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._tree import add
from .._typing import Array, Params, Shape, State
from .arguments import Inputs, Run, batch_shape
from .loop import Gradients, Loop, Saved


@dataclasses.dataclass(frozen=True)
class EntryByEntry:
    """Run another loop once for each batch entry."""

    loop: Loop

    def forward_pass(
        self, run: Run, params: Params, inputs: Inputs
    ) -> tuple[tuple[State, Array], Any]:
        """Run over time; what is kept is a list with one item for each batch entry."""
        batch = batch_shape(run.cell, inputs.xs)[1:]
        runs = [
            self.loop.forward_pass(run, params, _inputs_of(inputs, index))
            for index in np.ndindex(*batch)
        ]
        states, outputs = zip(*(values for values, _ in runs), strict=True)
        values = _together(states, batch), _together(outputs, batch, axis=1)
        return values, [kept for _, kept in runs]

    def backward_pass(
        self, run: Run, saved: Saved, cotangents: tuple[State, Array]
    ) -> Gradients:
        """The transpose of :meth:`forward_pass`."""
        params, inputs, kept = saved
        dstate, dys = cotangents
        batch = batch_shape(run.cell, inputs.xs)[1:]
        gradients = [
            self.loop.backward_pass(
                run,
                Saved(params, _inputs_of(inputs, index), entry_kept),
                (_entry(dstate, index), _entry(dys, index, axis=1)),
            )
            for entry_kept, index in zip(kept, np.ndindex(*batch), strict=True)
        ]
        dparams, dxs, dstates, dfreshs = zip(*gradients, strict=True)
        return (
            functools.reduce(add, dparams),
            _together(dxs, batch, axis=1),
            _together(dstates, batch),
            _together(dfreshs, batch),
        )


def _entry(tree: Any, index: Shape, axis: int = 0) -> Any:
    """One batch entry of leaves whose batch dimensions begin at ``axis``."""
    before = (slice(None),) * axis
    return jax.tree.map(lambda leaf: leaf[(*before, *index)], tree)


def _inputs_of(inputs: Inputs, index: Shape) -> Inputs:
    """The inputs of one batch entry."""
    return Inputs(
        xs=_entry(inputs.xs, index, axis=1),
        state=_entry(inputs.state, index),
        fresh=_entry(inputs.fresh, index),
        mask=_entry(inputs.mask, index, axis=1),
        resets=_entry(inputs.resets, index, axis=1),
    )


def _together(entries: tuple[Any, ...], batch: Shape, axis: int = 0) -> Any:
    """The inverse of :func:`_entry`: put the batch together again."""

    def join(*leaves):
        shape = leaves[0].shape
        joined = jnp.stack(leaves, axis)
        return joined.reshape(*shape[:axis], *batch, *shape[axis:])

    return jax.tree.map(join, *entries)
