"""Norms of gradients: of the state, by time and by lag, and of the parameters."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._base import Cell
from .._checks import check_floating, check_like
from .._eager import compiled
from .._gradients.by_lag import scan_by_lag
from .._gradients.rows import flat, over_rows
from .._numerics.precision import accumulation_dtype
from .._typing import Array, ArrayLike, Params, State
from .._unrolls.arguments import Inputs, Run, batch_shape, prepare
from .._unrolls.masked_scan import masked_step


class StateGradientNorms(NamedTuple):
    """Norms of the gradient of the state; result of :func:`state_gradient_norms`."""

    by_time: Array  # (T, *B), of the whole loss, at the state that enters each step
    by_lag: Array  # (T, *B), of the loss l steps later, mean over all steps


class GradientNorms(NamedTuple):
    """L2 norms of a gradient; result of :func:`gradient_norms`."""

    total: Array  # ()
    by_parameter: Params  # pytree like the gradient with leaves ()


def _norm(tree: Any) -> Array:
    """L2 norm ``()`` of all entries of a pytree, in accumulation dtype."""
    vector = flat(tree)
    vector = vector.astype(accumulation_dtype(vector.dtype))
    # Scaled, because gradients that vanish or explode have squares out of range. The
    # scale needs a reciprocal, as XLA may turn a quotient into a product with it.
    largest = jnp.abs(vector).max(initial=0)
    tiny = jnp.finfo(vector.dtype).tiny
    scale = jnp.where(jnp.isfinite(largest), jnp.clip(largest, tiny, 1 / tiny), 1)
    return scale * jnp.sqrt(jnp.square(vector / scale).sum())


@functools.cache
def _norms(num_axes: int) -> Callable[[Any], Array]:
    """Return a function of pytrees ``(*B, ...)``, the same function in every call."""
    return over_rows(_norm, num_axes)


def state_gradients(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    dys: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> State:
    """Compute the gradient of a loss with respect to the state that enters each step.

    The function adds a zero to each of these states and differentiates with respect to
    it, so it needs no adjoint. Gradients vanish, or explode, as fast as the norm falls,
    or grows, with the distance from the steps where ``dys`` is not zero.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.
        dys: dL/dys ``(T, *B, O)``, gradients with respect to the outputs.

    Returns:
        A pytree like a state, with leaves ``(T, *B, ...)``: entry t is dL/ds for the
        state s handed to step t, before a reset there replaces it.

    Raises:
        ValueError, TypeError: see :func:`jaxrnn.unroll`.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013.

    >>> import jaxrnn
    >>> cell = jaxrnn.elman(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> dys = jnp.zeros((7, 3, 5)).at[-1].set(1.0)
    >>> gradients = state_gradients(cell, params, jnp.ones((7, 3, 2)), dys)
    >>> norms = jnp.linalg.norm(gradients, axis=(1, 2))
    >>> bool(norms[0] < norms[-1])
    True
    """
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    return _state_gradients(run, params, inputs, jnp.asarray(dys))


@compiled(num_static=1)
def _state_gradients(run: Run, params: Params, inputs: Inputs, dys: Array) -> State:
    cell, num_steps = run.cell, inputs.xs.shape[0]

    def step(state, a_x):
        return *cell.step(params, state, a_x), None

    body = masked_step(step, inputs.fresh)

    def shifted(state, at_step):
        shift, *at_step = at_step
        return body(jax.tree.map(jnp.add, state, shift), at_step)

    def outputs(shifts):
        a_xs = cell.project(params, inputs.xs)
        sequences = (shifts, a_xs, inputs.mask, inputs.resets)
        _, (ys, _) = lax.scan(shifted, inputs.state, sequences, reverse=run.reverse)
        return ys

    shifts = jax.tree.map(
        lambda s: jnp.zeros((num_steps, *s.shape), s.dtype), inputs.state
    )
    ys, pull = jax.vjp(outputs, shifts)
    return pull(check_like("dys", dys, ys))[0]


def state_gradient_norms(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    dys: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> StateGradientNorms:
    """Compute norms of the gradient of the state, by time and by distance to the loss.

    ``by_time[k]`` is the norm of dL/ds for the state s that enters step k, the gradient
    that :func:`state_gradients` returns. ``by_lag[l]`` separates the losses: it is the
    norm of dL_(k+l)/ds for the same s, a distance of ``l + 1`` steps, averaged over the
    steps k that have a loss l steps later. A step has a loss if it is unmasked and its
    ``dys`` are not all zero. Lags count masked steps too, and follow the order in which
    the steps are taken. With a single loss at the last step, ``by_lag`` is ``by_time``
    in reverse order.

    ``by_time`` costs O(T) steps of backward pass, ``by_lag`` O(T^2). Under ``jax.jit``
    the one that is not used is not computed.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.
        dys: dL/dys ``(T, *B, O)``, gradients with respect to the outputs.

    Returns:
        :class:`StateGradientNorms`, both ``(T, *B)``. ``by_lag`` is NaN at lags at
        which no step has a loss.

    Raises:
        ValueError, TypeError: see :func:`jaxrnn.unroll`.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013.

    >>> import jaxrnn
    >>> cell = jaxrnn.elman(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> xs, dys = jnp.ones((7, 3, 2)), jnp.ones((7, 3, 5))
    >>> norms = state_gradient_norms(cell, params, xs, dys)
    >>> norms.by_time.shape, norms.by_lag.shape
    ((7, 3), (7, 3))
    >>> bool((norms.by_lag[-1] < norms.by_lag[0]).all())
    True
    """
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    num_axes = len(batch_shape(cell, inputs.xs))
    norms = _norms(num_axes)
    flags = {"mask": mask, "resets": resets, "reverse": reverse}
    by_time = norms(state_gradients(cell, params, xs, dys, state, **flags))

    _, _, of_pairs = scan_by_lag(run, norms, params, inputs, (dys, None))
    has_loss = (jnp.asarray(dys) != 0).any(axis=tuple(range(num_axes, jnp.ndim(dys))))
    if inputs.mask is not None:
        has_loss &= inputs.mask
    # Lag l exists for losses of the step taken l steps after the first, and of later
    # ones.
    from_last = has_loss if reverse else has_loss[::-1]
    count = jnp.cumsum(from_last, axis=0)[::-1]
    by_lag = of_pairs.sum(axis=0) / count.astype(of_pairs.dtype)
    return StateGradientNorms(by_time=by_time, by_lag=by_lag)


def gradient_norms(dparams: Params) -> GradientNorms:
    """Compute the L2 norm of a gradient, as a whole and for each parameter.

    Args:
        dparams: pytree of arrays, as from ``jax.grad``.

    Returns:
        :class:`GradientNorms`, in float32 for 16-bit gradients. ``total`` is the norm
        that clipping by global norm compares with its limit.

    Raises:
        ValueError: ``dparams`` has no leaf.
        TypeError: a leaf is not floating.

    >>> norms = gradient_norms({"w": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])})
    >>> float(norms.by_parameter["w"]), float(norms.total)
    (3.0, 5.0)
    """
    leaves = jax.tree_util.tree_leaves_with_path(dparams)
    if not leaves:
        raise ValueError(f"dparams must have at least one array, got {dparams}")
    for path, leaf in leaves:
        check_floating("dparams" + jax.tree_util.keystr(path), jnp.asarray(leaf).dtype)
    by_parameter = jax.tree.map(_norm, dparams)
    widest = np.result_type(*(norm.dtype for norm in jax.tree.leaves(by_parameter)))
    total = _norm(jax.tree.map(lambda norm: norm.astype(widest), by_parameter))
    return GradientNorms(total=total, by_parameter=by_parameter)
