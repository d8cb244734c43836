"""The arguments of an unroll, checked once and made ready for a loop."""

from typing import NamedTuple

import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_cell, check_flags, check_like, check_sequence
from .._masks import zero_where_masked
from .._numerics.placement import placed_like
from .._options import check_bool
from .._params import check_floating_params, loop_params
from .._typing import Array, ArrayLike, Key, Params, Shape, State


class Run(NamedTuple):
    """What stays the same during a run over time; it is static under ``jax.jit``."""

    cell: Cell
    reverse: bool  # take the steps from the last to the first
    steps_at_once: int = 1  # steps in one iteration of a loop that JAX differentiates

    @property
    def adjoint(self) -> Adjoint:
        """The adjoint of the cell, which the caller has checked to be there."""
        assert self.cell.adjoint is not None
        return self.cell.adjoint


class Inputs(NamedTuple):
    """The arrays of a run besides the parameters."""

    xs: Array  # (T, *B, I), zero where masked
    state: State  # before the first step taken
    fresh: State  # what a reset restores
    mask: Array | None  # (T, *B)
    resets: Array | None  # (T, *B), in the order in which the steps are taken


def begin(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
) -> tuple[Run, Params, Inputs]:
    """Check the arguments of an unroll, derive weights, and pack the arrays.

    Weights that a cell derives from its parameters are derived here, before the loop,
    and int8 weights become floats. So the parameters returned belong to the cell of
    the run.
    """
    check_cell("cell", cell)
    params = loop_params(cell, params)
    while cell.derived is not None:
        cell, params = cell.derived.cell, cell.derived.weights(params)
    inputs = _inputs(cell, params, xs, state, mask, resets, reverse)
    return Run(cell, reverse), params, inputs


def prepare(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
) -> tuple[Run, Inputs]:
    """Do what :func:`begin` does, but leave derived weights uncomputed."""
    check_cell("cell", cell)
    check_floating_params(cell, params)
    inputs = _inputs(cell, params, xs, state, mask, resets, reverse)
    return Run(cell, reverse), inputs


def _inputs(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
) -> Inputs:
    check_bool("reverse", reverse)
    inputs = check_sequence("xs", xs, cell.spatial_shape)
    steps = batch_shape(cell, inputs)
    valid = check_flags("mask", mask, steps)
    starts = check_flags("resets", resets, steps)
    fresh = cell.initial_state(params, steps[1:])
    state = fresh if state is None else check_like("state", state, fresh)
    # Selecting outputs and states in the loop is not enough: a weight gradient is
    # xs^T da, and NaN times a cotangent of zero is NaN. So garbage is replaced before
    # it enters a product.
    inputs = zero_where_masked(inputs, valid)
    if starts is not None:
        starts = segment_resets(starts, reverse=reverse)
    data = (inputs, valid, starts)
    state, fresh = placed_like((state, fresh), data, len(steps) - 1)
    return Inputs(xs=inputs, state=state, fresh=fresh, mask=valid, resets=starts)


def batch_shape(cell: Cell, inputs: Array) -> Shape:
    """Return the axes of the inputs before the spatial axes and the features."""
    return inputs.shape[: inputs.ndim - 1 - len(cell.spatial_shape)]


def segment_resets(resets: Array, *, reverse: bool) -> Array:
    """Mark the steps before which the state is renewed, in the order of the loop.

    ``resets`` marks the first step of each segment. A forward run enters a segment
    there. A reversed run enters it at its last step, which is the step before the
    first one of the next segment.
    """
    if not reverse:
        return resets
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])


def draw_noise(
    cell: Cell, params: Params, xs: ArrayLike, key: Key | None
) -> tuple[Cell, ArrayLike]:
    """Return the cell and the inputs of a run that draws its noise with ``key``.

    Without a key, or for a cell without noise, both are returned as they are.
    """
    if key is None or cell.noise is None:
        return cell, xs
    inputs = check_sequence("xs", xs)
    noise = cell.noise.draw(key, params, inputs.shape[:-1])
    return cell.noise.cell, jnp.concatenate([inputs, noise.astype(inputs.dtype)], -1)
