"""``unroll_bptt`` and ``bptt``: the backward pass derived by hand.

Let ``s_t`` be the state, ``a_t`` the projected input and ``L`` the loss. Backward in
time, one step takes ``ds_t = dL/ds_t`` and ``dy_t = dL/dy_t`` to::

    ds_(t-1) = (ds_t/ds_(t-1))^T ds_t + (dy_t/ds_(t-1))^T dy_t
    da_t     = (ds_t/da_t)^T ds_t     + (dy_t/da_t)^T dy_t

which is ``Adjoint.backward``. The loop keeps no parameter gradient: those are sums
over all steps of products with ``da_t`` and are formed once, after the loop, by
``Adjoint.accumulate``. The forward loop, over ``Adjoint.forward``, keeps the residual
of each step.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._base import Adjoint, Cell
from ._checks import check_cell, check_like
from ._scan import masked_scan, masked_scan_transposed, zeros_like
from ._typing import Array, ArrayLike, Params, Residual, State
from ._unroll import Sequence, prepare


class _Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    params: Params
    sequence: Sequence
    residuals: Residual  # leaves (T, *B, ...)


def _adjoint(cell: Cell) -> Adjoint:
    check_cell("cell", cell)
    if cell.adjoint is None:
        raise ValueError(
            "cell must have an adjoint for the hand-derived backward pass, got "
            "cell.adjoint = None: use jaxrnn.unroll, which jax.grad differentiates"
        )
    return cell.adjoint


def _forward(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[tuple[State, Array], _Saved]:
    state, ys, residuals = masked_scan(
        functools.partial(_adjoint(cell).forward, params),
        sequence.state,
        cell.project(params, sequence.xs),
        fresh=sequence.fresh,
        mask=sequence.mask,
        resets=sequence.resets,
        reverse=reverse,
    )
    return (state, ys), _Saved(params, sequence, residuals)


def _backward(
    cell: Cell, reverse: bool, saved: _Saved, cotangents: tuple[State, Array]
) -> tuple[Params, Sequence]:
    params, sequence, residuals = saved
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
    return dparams, Sequence(xs=dxs, state=dstate, fresh=dfresh, mask=None, resets=None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _unroll(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, Array]:
    values, _ = _forward(cell, reverse, params, sequence)
    return values


_unroll.defvjp(_forward, _backward)


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

    Same arguments, values and gradients as :func:`unroll`. Prefer it for training:
    the backward loop carries no parameter gradient, and every weight gradient is one
    product after the loop. Prefer ``unroll`` for forward mode (``jax.jvp``,
    ``jax.jacfwd``, ``jax.hessian``), which a custom backward pass cannot offer; reverse
    over reverse works with both.

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
    return _unroll(cell, reverse, params, sequence)


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
    (last, ys), saved = _forward(cell, reverse, params, sequence)
    dlast = zeros_like(last) if dstate is None else check_like("dstate", dstate, last)
    cotangents = (dlast, check_like("dys", dys, ys))
    dparams, dsequence = _backward(cell, reverse, saved, cotangents)
    dparams = check_like("dparams of cell.adjoint.accumulate", dparams, params)
    dxs = dsequence.xs

    # An initial state that the parameters determine passes its gradient on to them.
    dfresh = dsequence.fresh
    if state is None:
        dfresh = jax.tree.map(jnp.add, dfresh, dsequence.state)
    _, pull = jax.vjp(
        lambda params: cell.initial_state(params, dxs.shape[1:-1]), params
    )
    dparams = jax.tree.map(jnp.add, dparams, *pull(dfresh))
    return dparams, dxs, dsequence.state
