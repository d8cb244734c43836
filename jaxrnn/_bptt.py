"""``unroll_bptt`` and ``bptt``: the backward pass derived by hand.

Let ``s_t`` be the state, ``a_t`` the projected input and ``L`` the loss. Backward in
time, one step takes ``ds_t = dL/ds_t`` and ``dy_t = dL/dy_t`` to::

    ds_(t-1) = (ds_t/ds_(t-1))^T ds_t + (dy_t/ds_(t-1))^T dy_t
    da_t     = (ds_t/da_t)^T ds_t     + (dy_t/da_t)^T dy_t

which is ``Adjoint.backward``. The loop keeps no parameter gradient: those are sums
over all steps of products with ``da_t`` and are formed after the steps of a chunk of
time, in one product for each, by ``Adjoint.accumulate``. How long the chunks are is a
:class:`~jaxrnn._plan.Plan`; it changes speed and memory, and no value.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._base import Adjoint, Cell
from ._checks import check_cell, check_like, check_size
from ._chunks import Kept, run_backward, run_forward
from ._plan import Plan, fast_plan, reads_ahead, small_plan
from ._scan import masked_scan, masked_scan_transposed, zeros_like
from ._typing import Array, ArrayLike, Params, Residual, State
from ._unroll import Sequence, prepare, unroll_sequence


def _adjoint(cell: Cell) -> Adjoint:
    check_cell("cell", cell)
    if cell.adjoint is None:
        raise ValueError(
            "cell must have an adjoint for the hand-derived backward pass, got "
            "cell.adjoint = None: use jaxrnn.unroll, which jax.grad differentiates"
        )
    return cell.adjoint


# The reference: all steps in one scan each way. JAX can differentiate it again, and
# does: the derivatives of the forms that write in place are those of the reference.


def _scan_forward(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[tuple[State, Array], Residual]:
    state, ys, residuals = masked_scan(
        functools.partial(_adjoint(cell).forward, params),
        sequence.state,
        cell.project(params, sequence.xs),
        fresh=sequence.fresh,
        mask=sequence.mask,
        resets=sequence.resets,
        reverse=reverse,
    )
    return (state, ys), residuals


def _scan_backward(
    cell: Cell,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    residuals: Residual,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    dstate, dys = cotangents
    adjoint = _adjoint(cell)

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


def _scan_gradients(
    cell: Cell,
    reverse: bool,
    params: Params,
    sequence: Sequence,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    _, residuals = _scan_forward(cell, reverse, params, sequence)
    return _scan_backward(cell, reverse, params, sequence, residuals, cotangents)


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    params: Params
    sequence: Sequence
    kept: Kept  # a function of the other two, and so without a tangent of its own


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _forward(
    cell: Cell, plan: Plan, reverse: bool, params: Params, sequence: Sequence
) -> tuple[tuple[State, Array], Kept]:
    return run_forward(cell, plan, reverse, params, sequence)


@_forward.defjvp
def _forward_jvp(cell, plan, reverse, primals, tangents):
    values, kept = _forward(cell, plan, reverse, *primals)

    def reference(params, sequence):
        return _scan_forward(cell, reverse, params, sequence)[0]

    _, dvalues = jax.jvp(reference, primals, tangents)
    return (values, kept), (dvalues, jax.tree.map(_no_tangent, kept))


def _no_tangent(leaf: Array) -> Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _backward(
    cell: Cell,
    plan: Plan,
    reverse: bool,
    saved: _Saved,
    cotangents: tuple[State, Array],
) -> tuple[Params, Array, State, State]:
    return run_backward(cell, _adjoint(cell), plan, reverse, *saved, cotangents)


@_backward.defjvp
def _backward_jvp(cell, plan, reverse, primals, tangents):
    gradients = _backward(cell, plan, reverse, *primals)
    (saved, cotangents), (dsaved, dcotangents) = primals, tangents
    _, dgradients = jax.jvp(
        functools.partial(_scan_gradients, cell, reverse),
        (saved.params, saved.sequence, cotangents),
        (dsaved.params, dsaved.sequence, dcotangents),
    )
    return gradients, dgradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _unroll(
    cell: Cell, plan: Plan, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, Array]:
    # No gradient is asked for: nothing is kept.
    rows, width = _rows_and_width(cell, params, sequence.xs)
    plan = Plan(
        plan.chunk_size,
        recompute=True,
        ahead=reads_ahead(sequence.state, rows, width),
    )
    return run_forward(cell, plan, reverse, params, sequence)[0]


def _unroll_forward(cell, plan, reverse, params, sequence):
    values, kept = _forward(cell, plan, reverse, params, sequence)
    return values, _Saved(params, sequence, kept)


def _unroll_backward(cell, plan, reverse, saved, cotangents):
    dparams, dxs, dstate, dfresh = _backward(cell, plan, reverse, saved, cotangents)
    return dparams, Sequence(dxs, dstate, dfresh, mask=None, resets=None)


_unroll.defvjp(_unroll_forward, _unroll_backward)


def _is_placed(tree: Any) -> bool:
    """Whether the type of an array says where on a mesh its parts are.

    So it is inside ``jax.shard_map``, and on meshes with explicit axes. There the
    types of what is written and of where must agree, and JAX knows how in a scan.
    """
    for leaf in jax.tree.leaves(tree):
        sharding = jax.typeof(leaf).sharding
        if any(axis is not None for axis in sharding.spec):
            return True
        if jax.sharding.AxisType.Manual in (sharding.mesh.axis_types or ()):
            return True
    return False


def _rows_and_width(cell: Cell, params: Params, xs: Array) -> tuple[int, int]:
    """B, rows of a step, and A, the size of a projected input."""
    width = jax.eval_shape(cell.project, params, xs).shape[-1]
    return math.prod(xs.shape[1:-1]), width


def _fast_plan(cell: Cell, params: Params, xs: Array) -> Plan:
    return fast_plan(len(xs), *_rows_and_width(cell, params, xs))


def unroll_bptt(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[State, Array]:
    """Run a cell over time; reverse mode takes the hand-derived backward pass.

    Same arguments, values and gradients as :func:`unroll`. Prefer it for training: the
    backward loop carries no parameter gradient, every weight gradient is one product
    for each chunk of time, and less is kept. Prefer ``unroll`` for forward mode
    (``jax.jvp``, ``jax.jacfwd``), which a custom backward pass cannot offer; reverse
    over reverse and forward over reverse (``jax.hessian``) work with both. Inside
    ``jax.shard_map``, and on arrays sharded over explicit axes, this is ``unroll``.

    Args:
        cell: what to run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.

    Returns:
        ``(state, ys)``, see :func:`unroll`.

    Raises:
        ValueError: ``cell`` has no adjoint, or as in :func:`unroll`.
        TypeError: as in :func:`unroll`.

    References:
        Werbos, Backpropagation through time: what it does and how to do it, 1990.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.elman(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> def loss(params, run):
    ...     return run(cell, params, jax.numpy.ones((7, 3, 2)))[1].sum()
    >>> by_hand = jax.grad(loss)(params, jaxrnn.unroll_bptt)
    >>> by_jax = jax.grad(loss)(params, jaxrnn.unroll)
    >>> bool(abs(by_hand.w_h - by_jax.w_h).max() < 1e-4)
    True
    """
    _adjoint(cell)
    sequence = prepare(cell, params, xs, state, mask, resets, reverse)
    plan = _fast_plan(cell, params, sequence.xs)
    return _reverse_mode(cell, plan, reverse, params, sequence)


def _reverse_mode(
    cell: Cell, plan: Plan, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, Array]:
    """``_unroll``, and where to go if forward mode comes instead."""
    if _is_placed((params, sequence)):
        return unroll_sequence(cell, reverse, params, sequence)
    try:
        return _unroll(cell, plan, reverse, params, sequence)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "unroll_fn must allow forward-mode differentiation (jvp) here, got one "
            "with a backward pass derived by hand: pass unroll_fn=jaxrnn.unroll to the "
            "layer, or call jaxrnn.unroll"
        ) from error


def unroll_chunked(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
    chunk_size: int | None = None,
) -> tuple[State, Array]:
    """:func:`unroll_bptt` for sequences so long that memory is what binds.

    Time is cut into chunks. The forward pass keeps the state before each chunk, and
    the backward pass runs each chunk once more, for its residuals. So beside inputs,
    outputs and their gradients there are residuals and pre-activations of one chunk,
    and ``T / chunk_size`` states: of the order of ``sqrt(T)`` for the default. One more
    forward pass is the price.

    Args:
        cell: what to run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.
        chunk_size: steps in a chunk; None takes about ``sqrt(T)``. To set it for a
            layer, pass ``functools.partial(unroll_chunked, chunk_size=...)``.

    Returns:
        ``(state, ys)``, see :func:`unroll`; the same values and gradients.

    Raises:
        ValueError: ``chunk_size`` is below 1, or as in :func:`unroll_bptt`.
        TypeError: ``chunk_size`` is not an int, or as in :func:`unroll_bptt`.

    References:
        Chen et al., Training deep nets with sublinear memory cost, 2016.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> def loss(params):
    ...     _, ys = jaxrnn.unroll_chunked(cell, params, jax.numpy.ones((1000, 2)))
    ...     return ys.sum()
    >>> jax.grad(loss)(params).w_h.shape
    (5, 15)
    """
    _adjoint(cell)
    if chunk_size is not None:
        chunk_size = check_size("chunk_size", chunk_size)
    sequence = prepare(cell, params, xs, state, mask, resets, reverse)
    plan = small_plan(len(sequence.xs), chunk_size)
    return _reverse_mode(cell, plan, reverse, params, sequence)


def bptt(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    dys: ArrayLike,
    state: State | None = None,
    *,
    dstate: State | None = None,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[Params, Array, State]:
    """The explicit backward pass as a plain function: every gradient, no autodiff.

    For a loss ``L(state, ys)`` of what :func:`unroll` returns, with ``dys = dL/dys``
    and ``dstate = dL/dstate``, returns the gradients of ``L``.

    Args:
        cell: what was run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.
        dys: cotangents of the outputs ``(T, *B, O)``; those of masked steps reach
            nothing.
        dstate: cotangent of the final state; None means zero.

    Returns:
        ``(dparams, dxs, dstate0)``: gradients of the parameters, of the inputs
        ``(T, *B, I)`` and of the state before the first step taken.

    Raises:
        ValueError: ``cell`` has no adjoint, or a shape or structure does not fit.
        TypeError: a dtype does not fit.

    References:
        Werbos, Backpropagation through time: what it does and how to do it, 1990.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> xs, dys = jax.numpy.ones((7, 3, 2)), jax.numpy.ones((7, 3, 5))
    >>> dparams, dxs, dstate0 = jaxrnn.bptt(cell, params, xs, dys)
    >>> dparams.w_h.shape, dxs.shape, dstate0.c.shape
    ((5, 20), (7, 3, 2), (3, 5))
    """
    _adjoint(cell)
    sequence = prepare(cell, params, xs, state, mask, resets, reverse)
    plan = _fast_plan(cell, params, sequence.xs)
    (last, ys), kept = _forward(cell, plan, reverse, params, sequence)
    dlast = zeros_like(last) if dstate is None else check_like("dstate", dstate, last)
    cotangents = (dlast, check_like("dys", dys, ys))
    saved = _Saved(params, sequence, kept)
    dparams, dxs, dstate0, dfresh = _backward(cell, plan, reverse, saved, cotangents)

    # An initial state that the parameters determine passes its gradient on to them.
    if state is None:
        dfresh = jax.tree.map(jnp.add, dfresh, dstate0)
    _, pull = jax.vjp(
        lambda params: cell.initial_state(params, dxs.shape[1:-1]), params
    )
    dparams = jax.tree.map(jnp.add, dparams, *pull(dfresh))
    return dparams, dxs, dstate0
