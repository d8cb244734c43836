"""``unroll_associative``: a parallel scan for cells that are linear in their state.

One step is ``s_t = k_t * s_(t-1) + u_t``, and two steps are one of the same form::

    (k_1, u_1) then (k_2, u_2)  =  (k_2 k_1, k_2 u_1 + u_2)

which is associative: all states follow from about ``2 log2(T)`` passes over the
sequence, of independent products, instead of T steps that wait for each other. The
cotangents obey such a recurrence too, in the other direction::

    ds_t = ds_t' + k_(t+1) * ds_(t+1)
    du_t = ds_t            dk_t = ds_t * s_(t-1)
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Cell
from .._checks import naming_forward_mode
from .._descriptions.known import known
from .._masks import zero_where_masked
from .._tree import select
from .._typing import Array, ArrayLike, Params, State
from .arguments import begin


@known
def unroll_associative(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[State, Array]:
    """Run a cell that is linear in its state over time, by a parallel scan.

    Arguments, values and gradients are those of :func:`unroll`, up to rounding. There
    is no loop over time. The cost is more work, and memory for a few arrays of all
    states. It pays if steps are small and many, and if there are many processors; see
    docs/cells.md for measurements. The backward pass is derived by hand, so forward
    mode (``jax.jvp``) needs :func:`unroll`.

    Args:
        cell: cell to run; must have ``coefficients``, as mingru, minlstm and lru do.
        params, xs, state, mask, resets, reverse: see :func:`unroll`.

    Returns:
        ``(state, ys)``, see :func:`unroll`.

    Raises:
        ValueError: ``cell`` is not linear in its state, or see :func:`unroll`.
        TypeError: see :func:`unroll`.

    References:
        Blelloch, Prefix sums and their applications, 1990. Martin and Cundy,
        Parallelizing linear recurrent neural nets over sequence length, 2018.

    >>> import jaxrnn
    >>> cell = jaxrnn.mingru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state, ys = unroll_associative(cell, params, jnp.ones((7, 3, 2)))
    >>> state.shape, ys.shape
    ((3, 5), (7, 3, 5))
    """
    run, params, inputs = begin(cell, params, xs, state, mask, resets, reverse)
    cell = run.cell
    if cell.coefficients is None:
        raise ValueError(
            "cell must be linear in its state for an associative scan, like mingru, "
            "minlstm and lru without wrappers that change the step, got "
            "cell.coefficients = None: use jaxrnn.unroll_bptt or jaxrnn.unroll"
        )
    a_xs = cell.project(params, inputs.xs)
    decay, drive = cell.coefficients(params, a_xs)
    decay = jnp.broadcast_to(decay, drive.shape)
    if inputs.mask is not None:
        decay = select(inputs.mask, decay, jnp.ones_like(decay))
        drive = zero_where_masked(drive, inputs.mask)
    if inputs.resets is not None:
        fresh = _as_multiplied(inputs.fresh, drive.dtype)
        drive = select(inputs.resets, decay * fresh[None] + drive, drive)
    first = _as_multiplied(inputs.state, drive.dtype)
    with naming_forward_mode():
        states = recurrence(run.reverse, decay, drive, first, inputs.resets)
    states = _as_stored(states, inputs.state.dtype)
    last = states[0 if run.reverse else -1] if len(states) else inputs.state
    ys = jnp.asarray(states, inputs.xs.dtype)
    return last, zero_where_masked(ys, inputs.mask)


def _as_multiplied(state: Array, dtype: Any) -> Array:
    """Join the halves of a state to complex numbers if ``dtype`` is complex."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return state
    return lax.complex(*jnp.split(state, 2, axis=-1))


def _as_stored(states: Array, dtype: Any) -> Array:
    """Split complex states into real and imaginary halves; cast to ``dtype``."""
    if jnp.issubdtype(states.dtype, jnp.complexfloating):
        states = jnp.concatenate([states.real, states.imag], axis=-1)
    return states.astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    reverse: bool, decay: Array, drive: Array, first: Array, starts: Array | None
) -> Array:
    """Solve ``s_t = decay_t * s_(t-1) + drive_t`` for all steps at once.

    Args:
        reverse: if True, go from the last step to the first.
        decay: ``(T, *B, H)``, real or complex.
        drive: ``(T, *B, H)``.
        first: the state before the first step taken, ``(*B, H)``.
        starts: bool ``(T, *B)`` or None. Where it is True, ``s_t = drive_t``, even if
            the state before is NaN.

    Returns:
        ``s_t (T, *B, H)``.
    """
    return _scan(reverse, decay, drive, first, starts)


def _scan(reverse, decay, drive, first, starts):
    if not len(drive):
        return drive
    at = -1 if reverse else 0
    entering = decay[at] * first
    if starts is not None:
        entering = select(starts[at], jnp.zeros_like(entering), entering)
    elements = (decay, drive.at[at].add(entering))
    if starts is None:
        return lax.associative_scan(_then, elements, reverse=reverse)[1]
    elements = (*elements, starts)
    return lax.associative_scan(_then_unless_started, elements, reverse=reverse)[1]


def _then(before, after):
    return after[0] * before[0], after[0] * before[1] + after[1]


def _then_unless_started(before, after):
    joined = _then(before, after)
    started = after[2]
    return *select(started, after[:2], joined), before[2] | started


def _shifted(values: Array, first: Array, reverse: bool) -> Array:
    """Shift a sequence by one step, in the order in which the steps are taken."""
    if reverse:
        return jnp.concatenate([values[1:], first[None]])
    return jnp.concatenate([first[None], values[:-1]])


def _recurrence_forward(reverse, decay, drive, first, starts):
    states = _scan(reverse, decay, drive, first, starts)
    return states, (decay, states, first, starts)


def _recurrence_backward(reverse, saved, dstates):
    decay, states, first, starts = saved
    if not len(states):
        return decay, dstates, jnp.zeros_like(first), None
    zero = jnp.zeros_like(first)
    later = _shifted(decay, zero, not reverse)
    cut = None
    if starts is not None:
        cut = _shifted(starts, jnp.zeros_like(starts[0]), not reverse)
    ddrive = _scan(not reverse, later, dstates, zero, cut)
    ddecay = ddrive * _shifted(states, first, reverse)
    at = -1 if reverse else 0
    dfirst = ddrive[at] * decay[at]
    if starts is not None:
        ddecay = select(starts, jnp.zeros_like(ddecay), ddecay)
        dfirst = select(starts[at], zero, dfirst)
    return ddecay, ddrive, dfirst, None


recurrence.defvjp(_recurrence_forward, _recurrence_backward)
