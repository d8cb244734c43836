"""Reverse mode: a fast run over time, and what JAX differentiates in its place.

The runs of :mod:`jaxrnn._unrolls.chunks` write in place, which JAX cannot differentiate
cheaply. So forward and backward pass carry tangents of their own, those of the
reference: the same two passes as one scan each.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell
from .._checks import adjoint_of, naming_forward_mode
from .._descriptions.captured import holds_tracer
from .._eager import compiled
from .._numerics.placement import is_placed
from .._typing import Array, Params, State
from . import row_by_row
from .arguments import Sequence
from .plan import Plan, Size, size_of, without_gradient
from .reference import scan_forward, scan_gradients
from .unroll import unroll_sequence

# The reference: all steps in one scan each way. JAX can differentiate it again, and
# does: the derivatives of the forms that write in place are those of the reference.


class Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    params: Params
    sequence: Sequence
    kept: Any  # a function of the other two, and so without a tangent of its own


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def forward(
    cell: Cell, plan: Plan, reverse: bool, params: Params, sequence: Sequence
) -> tuple[tuple[State, Array], Any]:
    return row_by_row.run_forward(
        cell, adjoint_of(cell), plan, reverse, params, sequence
    )


@forward.defjvp
def _forward_jvp(cell, plan, reverse, primals, tangents):
    values, kept = forward(cell, plan, reverse, *primals)

    def reference(params, sequence):
        return scan_forward(cell, reverse, params, sequence)[0]

    _, dvalues = jax.jvp(reference, primals, tangents)
    return (values, kept), (dvalues, jax.tree.map(_no_tangent, kept))


def _no_tangent(leaf: Array) -> Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def backward(
    cell: Cell,
    plan: Plan,
    reverse: bool,
    saved: Saved,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    return row_by_row.run_backward(
        cell, adjoint_of(cell), plan, reverse, *saved, cotangents
    )


@backward.defjvp
def _backward_jvp(cell, plan, reverse, primals, tangents):
    gradients = backward(cell, plan, reverse, *primals)
    (saved, cotangents), (dsaved, dcotangents) = primals, tangents
    _, dgradients = jax.jvp(
        functools.partial(scan_gradients, cell, reverse),
        (saved.params, saved.sequence, cotangents),
        (dsaved.params, dsaved.sequence, dcotangents),
    )
    return gradients, dgradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _unroll(
    cell: Cell, plan: Plan, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, Array]:
    # No gradient is asked for.
    plan = without_gradient(plan, size_of(cell, params, sequence))
    return row_by_row.run_forward(
        cell, adjoint_of(cell), plan, reverse, params, sequence
    )[0]


def _unroll_forward(cell, plan, reverse, params, sequence):
    values, kept = forward(cell, plan, reverse, params, sequence)
    return values, Saved(params, sequence, kept)


def _unroll_backward(cell, plan, reverse, saved, cotangents):
    dparams, dxs, dstate, dfresh = backward(cell, plan, reverse, saved, cotangents)
    return dparams, Sequence(dxs, dstate, dfresh, mask=None, resets=None)


_unroll.defvjp(_unroll_forward, _unroll_backward)
_unroll_compiled = compiled(num_static=3)(_unroll)
run_forward = compiled(num_static=3)(forward)
run_backward = compiled(num_static=3)(backward)


def reverse_mode(
    cell: Cell,
    plan_of: Callable[[Size], Plan],
    reverse: bool,
    params: Params,
    sequence: Sequence,
) -> tuple[State, Array]:
    """Run over time by a plan; says where to go if forward mode comes instead."""
    if _needs_one_scan(cell, params, sequence):
        return unroll_sequence(cell, reverse, 1, params, sequence)
    plan = plan_of(size_of(cell, params, sequence))
    with naming_forward_mode():
        return _unroll_compiled(cell, plan, reverse, params, sequence)


def _needs_one_scan(cell: Cell, params: Params, sequence: Sequence) -> bool:
    """Whether JAX must see one scan, and differentiate it."""
    # On a mesh the types of what is written and of where must agree, and JAX knows how
    # in a scan. A plan needs sizes, and an exported program may have symbols for them.
    # A backward pass of our own has no way to a value that the cell closes over.
    symbolic = not all(isinstance(size, int) for size in sequence.xs.shape)
    return is_placed((params, sequence)) or symbolic or holds_tracer(cell)
