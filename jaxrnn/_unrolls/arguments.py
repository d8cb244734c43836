"""The arguments of an unroll, checked and made ready for the loop."""

from typing import NamedTuple

import jax.numpy as jnp

from .._base import Cell
from .._checks import check_cell, check_flags, check_like, check_sequence
from .._numerics.placement import placed_like
from .._options import check_bool
from .._params import check_cell_params
from .._tree import select, zeros_like
from .._typing import Array, ArrayLike, Key, Params, Shape, State


class Sequence(NamedTuple):
    """The arguments of an unroll, checked and ready for the scan."""

    xs: Array  # (T, *B, I), zero where masked
    state: State  # before the first step taken
    fresh: State  # what a reset restores
    mask: Array | None  # (T, *B)
    resets: Array | None  # (T, *B), in the order of the scan


def hoisted(cell: Cell, params: Params) -> tuple[Cell, Params]:
    """A cell and parameters of the same steps, without what each step would repeat."""
    check_cell("cell", cell)
    check_cell_params(cell, params)
    if cell.derived is None:
        return cell, params
    return hoisted(cell.derived.cell, cell.derived.weights(params))


def batch_shape(cell: Cell, inputs: Array) -> Shape:
    """What is in front of the features, and of the axes of space, of the inputs."""
    return inputs.shape[: inputs.ndim - 1 - len(cell.spatial_shape)]


def prepare(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
) -> Sequence:
    """Check the arguments of an unroll and give each its final form."""
    check_cell("cell", cell)
    check_cell_params(cell, params)
    check_bool("reverse", reverse)
    inputs = check_sequence("xs", xs, cell.spatial_shape)
    steps = batch_shape(cell, inputs)
    valid = check_flags("mask", mask, steps)
    starts = check_flags("resets", resets, steps)
    fresh = cell.initial_state(params, steps[1:])
    state = fresh if state is None else check_like("state", state, fresh)
    if valid is not None:
        # Garbage times a zero cotangent is garbage: it must not enter the products.
        inputs = select(valid, inputs, zeros_like(inputs))
    if starts is not None:
        starts = segment_resets(starts, reverse=reverse)
    data = (inputs, valid, starts)
    state, fresh = placed_like((state, fresh), data, len(steps) - 1)
    return Sequence(xs=inputs, state=state, fresh=fresh, mask=valid, resets=starts)


def segment_resets(resets: Array, *, reverse: bool) -> Array:
    """Where the state is renewed, in the order in which the steps are taken.

    ``resets`` marks the first step of each segment. Forward, that is where a
    segment is entered. In reverse it is entered at its last step, which is the one
    before the next segment's first.
    """
    if not reverse:
        return resets
    return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])


def draw_noise(
    cell: Cell, params: Params, xs: ArrayLike, key: Key | None
) -> tuple[Cell, ArrayLike]:
    """The cell and the inputs for a run with this key; those given if it is None."""
    if key is None or cell.noise is None:
        return cell, xs
    inputs = check_sequence("xs", xs)
    noise = cell.noise.draw(key, params, inputs.shape[:-1])
    return cell.noise.cell, jnp.concatenate([inputs, noise.astype(inputs.dtype)], -1)
