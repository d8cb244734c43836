"""A loop over time by one custom call forward and one backward.

The kernels read arrays of three axes ``(T, B, I)``, so batch dimensions are joined.
What the kernel of the cell computes is what its ``step`` and ``adjoint`` compute; those
run instead where a custom call cannot (:mod:`jaxrnn._native.choice`).
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Kernel
from .._typing import Array, Params, State
from .choice import Axis, Bodies, call

LINE = 64  # bytes; what is kept of a step has a multiple of them for each number
EMPTY = (0,)  # the shape of an array that a run does not have


@dataclasses.dataclass(frozen=True)
class Native:
    """A loop that kernels run (:class:`~jaxrnn._unrolls.loop.Loop`).

    ``other`` is the loop that takes its place where custom calls cannot run.
    """

    other: Any
    keep: bool  # whether a backward pass follows

    def forward_pass(
        self, run: Any, params: Params, inputs: Any
    ) -> tuple[tuple[State, Array], Any]:
        """Run over time; what is kept are the outputs and the kernel's own record."""
        bodies = Bodies(
            functools.partial(_forward, run, self.keep),
            functools.partial(_forward_by_jax, run, self),
            functools.partial(_fold_forward, run, self.keep),
        )
        like = _forward_results(run, self.keep, params, inputs)
        state, ys, kept = call(bodies, like, params, inputs)
        return (state, ys), (ys, kept)

    def backward_pass(
        self, run: Any, saved: Any, cotangents: tuple[State, Array]
    ) -> Any:
        """The transpose of :meth:`forward_pass`."""
        bodies = Bodies(
            functools.partial(_backward, run),
            functools.partial(_backward_by_jax, run, self),
            _fold_nothing,
        )
        params, inputs, _ = saved
        like = (params, inputs.xs, inputs.state, inputs.fresh)
        return call(bodies, like, saved, cotangents)


def _forward_results(run: Any, keep: bool, params: Params, inputs: Any) -> Any:
    """The shapes of ``(state, ys, kept)``."""
    xs = inputs.xs
    ys = jax.ShapeDtypeStruct((*xs.shape[:-1], params.w_h.shape[0]), xs.dtype)
    shape = _kept_shape(run.cell.kernel, params, xs)
    return inputs.state, ys, jax.ShapeDtypeStruct(shape, xs.dtype) if keep else None


def _kept_shape(kernel: Kernel, params: Params, xs: Array) -> tuple[int, ...]:
    """The shape of the record that a backward pass needs: some numbers of each unit."""
    line = LINE // xs.dtype.itemsize
    units = -(-params.w_h.shape[0] // line) * line
    return (*xs.shape[:-1], kernel.num_kept * units)


def _forward_by_jax(run, native, params, inputs):
    # The record is not looked at: _backward_by_jax runs forward again.
    (state, ys), _ = native.other.forward_pass(run, params, inputs)
    _, _, kept = _forward_results(run, native.keep, params, inputs)
    return state, ys, jax.tree.map(lambda k: jnp.zeros(k.shape, k.dtype), kept)


def _backward_by_jax(run, native, saved, cotangents):
    _, kept = native.other.forward_pass(run, saved.params, saved.inputs)
    return native.other.backward_pass(run, saved._replace(kept=kept), cotangents)


def _operands(run, params, inputs):
    """The operands that both calls have, in the order of ``kernels/handlers.cc``."""
    xs = inputs.xs
    dtype, batch = xs.dtype, math.prod(xs.shape[1:-1])
    empty, no_flags = jnp.zeros(EMPTY, dtype), jnp.zeros(EMPTY, bool)

    def joined(leaf):
        return leaf.reshape(batch, leaf.shape[-1])

    def flags(leaf):
        return no_flags if leaf is None else leaf.reshape(len(xs), batch)

    states = [*map(joined, jax.tree.leaves(inputs.state)), empty]
    fresh = [*map(joined, jax.tree.leaves(inputs.fresh)), empty]
    if inputs.resets is None:
        fresh = [empty, empty]
    return [
        xs.reshape(len(xs), batch, xs.shape[-1]),
        params.w_x,
        params.w_h,
        params.b,
        getattr(params, "b_h", empty),
        *states[:2],
        *fresh[:2],
        flags(inputs.mask),
        flags(inputs.resets),
    ]


def _call(name, results, operands, run):
    kernel = run.cell.kernel
    return jax.ffi.ffi_call(name, results)(
        *operands,
        cell=kernel.name,
        reverse=run.reverse,
        option=np.float64(kernel.option),
    )


def _like(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _forward(run, keep, params, inputs):
    operands = _operands(run, params, inputs)
    xs, h, c = operands[0], operands[5], operands[6]
    units = h.shape[-1]
    ys = jax.ShapeDtypeStruct((*xs.shape[:2], units), xs.dtype)
    shape = _kept_shape(run.cell.kernel, params, xs) if keep else EMPTY
    kept = jax.ShapeDtypeStruct(shape, xs.dtype)
    results = _call("jaxrnn_forward", (ys, _like(h), _like(c), kept), operands, run)
    ys, *last, kept = results
    steps = inputs.xs.shape[:-1]
    if keep:
        kept = kept.reshape(*steps, kept.shape[-1])
    return _state(inputs.state, last), ys.reshape(*steps, units), kept if keep else None


def _state(like, leaves):
    """Arrange results like a state, with the batch dimensions that it has."""
    old, structure = jax.tree.flatten(like)
    new = [leaf.reshape(was.shape) for was, leaf in zip(old, leaves, strict=False)]
    return jax.tree.unflatten(structure, new)


def _backward(run, saved, cotangents):
    params, inputs, (ys, kept) = saved
    dstate, dys = cotangents
    operands = _operands(run, params, inputs)
    steps = operands[0].shape[:2]
    results = [_like(operand) for operand in operands[:9]]
    dlast = [leaf.reshape(-1, leaf.shape[-1]) for leaf in jax.tree.leaves(dstate)]
    empty = jnp.zeros(EMPTY, dys.dtype)
    operands += [leaf.reshape(*steps, leaf.shape[-1]) for leaf in (ys, kept, dys)]
    operands += [*dlast, empty][:2]
    dxs, dw_x, dw_h, db, db_h, *states = _call(
        "jaxrnn_backward", tuple(results), operands, run
    )
    dparams = params._replace(w_x=dw_x, w_h=dw_h, b=db)
    if hasattr(params, "b_h"):
        dparams = dparams._replace(b_h=db_h)
    dfresh = jax.tree.map(jnp.zeros_like, inputs.fresh)
    if inputs.resets is not None:
        dfresh = _state(inputs.fresh, states[2:])
    dstate = _state(inputs.state, states[:2])
    return dparams, dxs.reshape(inputs.xs.shape), dstate, dfresh


def _fold_forward(run, keep, args, axes):
    """Move a vmapped axis to the front of the batch dimensions.

    That works if the parameters are the same for the whole axis. The results have the
    axis where the batch dimensions begin.
    """
    params, inputs = args
    params_axes, inputs_axes = axes
    is_axis = {"is_leaf": lambda leaf: isinstance(leaf, Axis)}
    if any(a.index is not None for a in jax.tree.leaves(params_axes, **is_axis)):
        return None
    leaves = jax.tree.leaves(inputs)
    leaf_axes = jax.tree.leaves(inputs_axes, **is_axis)
    sizes = [
        leaf.shape[axis.index]
        for leaf, axis in zip(leaves, leaf_axes, strict=True)
        if axis.index is not None
    ]

    def move(position, tree, tree_axes):
        def moved(leaf, axis):
            if axis.index is not None:
                return jnp.moveaxis(leaf, axis.index, position)
            leaf = jnp.expand_dims(leaf, position)
            shape = (*leaf.shape[:position], sizes[0], *leaf.shape[position + 1 :])
            return jnp.broadcast_to(leaf, shape)

        return jax.tree.map(moved, tree, tree_axes)

    inputs = inputs._replace(
        xs=move(1, inputs.xs, inputs_axes.xs),
        state=move(0, inputs.state, inputs_axes.state),
        fresh=move(0, inputs.fresh, inputs_axes.fresh),
        mask=move(1, inputs.mask, inputs_axes.mask),
        resets=move(1, inputs.resets, inputs_axes.resets),
    )
    num_states = len(jax.tree.leaves(inputs.state))
    like = _forward_results(run, keep, params, inputs)
    return (params, inputs), like, [0] * num_states + [1] + [1] * keep


def _fold_nothing(args, axes):
    """Fold no axis: the parameters have a gradient for each of its entries."""
