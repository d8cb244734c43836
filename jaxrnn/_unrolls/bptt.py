"""``unroll_bptt`` and ``bptt``: the backward pass derived by hand.

Let ``s_t`` be the state, ``a_t`` the projected input and ``L`` the loss. Backward in
time, one step takes ``ds_t = dL/ds_t`` and ``dy_t = dL/dy_t`` to::

    ds_(t-1) = (ds_t/ds_(t-1))^T ds_t + (dy_t/ds_(t-1))^T dy_t
    da_t     = (ds_t/da_t)^T ds_t     + (dy_t/da_t)^T dy_t

which is ``Adjoint.backward``. The loop over these steps forms no parameter gradient.
Each is a sum over all steps of products with ``da_t``, so ``Adjoint.accumulate`` forms
it after the steps of a chunk of time, by one product. How time is cut into chunks
(:mod:`jaxrnn._unrolls.plan`) changes speed and memory, and no value.
"""

import functools

import jax
import jax.numpy as jnp

from .._base import Cell
from .._checks import adjoint_of, check_like
from .._descriptions.known import known
from .._options import check_size
from .._tree import zeros_like
from .._typing import Array, ArrayLike, Params, State
from .arguments import batch_shape, begin, prepare
from .loop import Saved
from .plan import fast_loops, size_of, small_loops
from .reverse_mode import run_backward, run_fast, run_forward


@known
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
    """Run a cell over time, with the hand-derived backward pass for gradients.

    Arguments, values and gradients are those of :func:`unroll`. Use it for training:
    the backward loop carries no parameter gradient, every weight gradient is one
    product for each chunk of time, and less is stored. Use ``unroll`` for forward mode
    (``jax.jvp``, ``jax.jacfwd``), which a custom backward pass cannot offer. Reverse
    over reverse and forward over reverse (``jax.hessian``) work with both.

    The function is the same as ``unroll`` inside ``jax.shard_map``, on arrays sharded
    over explicit axes, with symbolic sizes (``jax.export``), and for a cell that closes
    over a traced value.

    Args:
        cell: cell to run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.

    Returns:
        ``(state, ys)``, see :func:`unroll`.

    Raises:
        ValueError: ``cell`` has no adjoint, or see :func:`unroll`.
        TypeError: see :func:`unroll`.

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
    adjoint_of(cell)
    run, params, inputs = begin(cell, params, xs, state, mask, resets, reverse)
    return run_fast(run, fast_loops, params, inputs)


@known
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
    """Run a cell over long sequences with little memory for gradients.

    It is :func:`unroll_bptt` for sequences whose residuals do not fit in memory. Time
    is cut into chunks. The forward pass keeps the state before each chunk, and the
    backward pass runs each chunk once more for its residuals. Besides inputs, outputs
    and their gradients, memory holds the residuals and pre-activations of one chunk and
    ``T / chunk_size`` states. With the default, both are of the order of ``sqrt(T)``.
    The price is one more forward pass.

    Args:
        cell: cell to run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.
        chunk_size: number of steps in a chunk; None uses about ``sqrt(T)``. To set it
            for a layer, pass ``functools.partial(unroll_chunked, chunk_size=...)``.

    Returns:
        ``(state, ys)``, see :func:`unroll`; the same values and gradients.

    Raises:
        ValueError: ``chunk_size`` is below 1, or see :func:`unroll_bptt`.
        TypeError: ``chunk_size`` is not an int, or see :func:`unroll_bptt`.

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
    adjoint_of(cell)
    if chunk_size is not None:
        chunk_size = check_size("chunk_size", chunk_size)
    run, params, inputs = begin(cell, params, xs, state, mask, resets, reverse)
    choose = functools.partial(small_loops, chunk_size=chunk_size)
    return run_fast(run, choose, params, inputs)


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
    """Compute all gradients of a run by the explicit backward pass, without autodiff.

    Let ``L(state, ys)`` be a loss of the results of :func:`unroll`, with
    ``dys = dL/dys`` and ``dstate = dL/dstate``. The function returns the gradients of
    ``L``.

    Args:
        cell: cell that was run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.
        dys: cotangents of the outputs ``(T, *B, O)``; those of masked steps have no
            effect.
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
    adjoint_of(cell)
    if cell.derived is not None:
        inner, weights = cell.derived.cell, cell.derived.weights
        made, pull_weights = jax.vjp(weights, params)
        flags = {"mask": mask, "resets": resets, "reverse": reverse}
        results = bptt(inner, made, xs, dys, state, dstate=dstate, **flags)
        (dparams,) = pull_weights(results[0])
        return dparams, *results[1:]
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    loop = fast_loops(run, size_of(run, params, inputs)).with_gradient
    (last, ys), kept = run_forward(run, loop, params, inputs)
    dlast = zeros_like(last) if dstate is None else check_like("dstate", dstate, last)
    cotangents = (dlast, check_like("dys", dys, ys))
    saved = Saved(params, inputs, kept)
    dparams, dxs, dstate0, dfresh = run_backward(run, loop, saved, cotangents)

    # An initial state that is computed from parameters passes its gradient on to them.
    if state is None:
        dfresh = jax.tree.map(jnp.add, dfresh, dstate0)
    _, pull = jax.vjp(
        lambda params: cell.initial_state(params, batch_shape(cell, dxs)[1:]), params
    )
    dparams = jax.tree.map(jnp.add, dparams, *pull(dfresh))
    return dparams, dxs, dstate0
