"""Real-time recurrent learning: the gradient, carried forward in time.

Let one step take a state ``s_prev`` and the parameters ``W`` to a state ``s`` and an
output ``y``. The *influence* is the derivative of the state by every use of ``W`` so
far. The chain rule splits it into an explicit part, by the ``W`` that this step uses,
and an implicit one, through the state that it entered with::

    ds/dW = d+s/dW + (ds/ds_prev) ds_prev/dW

No later step enters, so the influence is carried along with the state, and each step
gives the gradient of its own loss, from ``dy = dL/dy``::

    dL/dW = dy d+y/dW + dy (dy/ds_prev) ds_prev/dW

Nothing is kept of the past, so memory does not grow with T. The price is the influence
itself: one number for each state entry and parameter of each batch row.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from .._base import Cell
from .._checks import check_cell, check_flags, check_like
from .._eager import compiled
from .._masks import zero_where_masked
from .._numerics.precision import narrow, widen
from .._options import check_shape
from .._params import check_floating_params
from .._tree import zeros_like
from .._typing import Array, ArrayLike, Params, Shape, State
from .._unrolls.arguments import Run, prepare
from .._unrolls.masked_scan import masked_step
from .._unrolls.unroll import unroll
from .influence import Influence, dense_influence, influence_for


class RTRLCarry(NamedTuple):
    """State and influence that one :func:`rtrl_step` passes to the next."""

    state: State  # (*B, ...)
    influence: Params  # of the representation; dense: (*B, N, *parameter.shape)


def rtrl_init(
    cell: Cell,
    params: Params,
    batch_shape: Shape = (),
    state: State | None = None,
    *,
    influence: Influence = dense_influence,
) -> RTRLCarry:
    """Make the carry for the first :func:`rtrl_step`.

    Args:
        cell, params: the cell to run and its parameters.
        batch_shape: the batch dimensions ``*B``.
        state: state to start from, which must not depend on the parameters; None uses
            the initial state.
        influence: ``dense_influence`` for any cell, or ``diagonal_influence`` for
            elementwise recurrences. Pass the same one to :func:`rtrl_step`.

    Returns:
        An :class:`RTRLCarry`.

    Raises:
        ValueError, TypeError: ``cell`` or ``state`` does not fit, or ``cell`` has axes
            of space.
    """
    influence = _usable(cell, params, influence)
    batch_shape = check_shape("batch_shape", batch_shape)
    return _carry(cell, params, batch_shape, state, influence)


def _usable(cell: Cell, params: Params, influence: Influence) -> Influence:
    """Check the cell, and return the influence to use for it."""
    check_cell("cell", cell)
    check_floating_params(cell, params)
    if cell.spatial_shape:
        raise ValueError(
            "cell must take vectors for real-time recurrent learning, got one with "
            f"spatial axes {cell.spatial_shape}: use jaxrnn.unroll_bptt"
        )
    return influence_for(cell, params, influence)


def _carry(cell, params, batch_shape, state, influence):
    """Do what :func:`rtrl_init` does, without checks."""
    kept = params

    def initial_state(params, batch_shape=()):
        return cell.initial_state(narrow(params, kept), batch_shape)

    fresh = initial_state(widen(kept), batch_shape)
    start = influence.start(initial_state, widen(kept), batch_shape)
    if state is None:
        return RTRLCarry(state=fresh, influence=start)
    given = check_like("state", state, fresh)
    return RTRLCarry(state=given, influence=zeros_like(start))


def _pull(influence, pull_y, before, wide, mask, dy):
    """Return the gradient of the loss of one step, in accumulation dtype."""
    if mask is not None:
        dy = zero_where_masked(dy, mask)
    explicit, dstate = pull_y(dy)
    implicit = influence.pull(dstate, before.influence, wide)
    return jax.tree.map(jnp.add, explicit, implicit)


def _narrowed(pull, params, dy):
    return narrow(pull(dy), params)


def _advance(cell, params, carry, x, mask, reset, influence):
    """Do what :func:`rtrl_step` does, without checks and in accumulation dtype."""
    kept, wide = params, widen(params)

    def run(params, state, x):
        params = narrow(params, kept)
        return cell.step(params, state, cell.project(params, x))

    def next_state(params, state, x):
        return run(params, state, x)[0]

    def step(before, x):
        state, y = run(wide, before.state, x)
        after = influence.advance(next_state, wide, before.state, x, before.influence)
        _, pull_y = jax.vjp(lambda p, s: run(p, s, x)[1], wide, before.state)
        pull = functools.partial(_pull, influence)
        return RTRLCarry(state, after), y, Partial(pull, pull_y, before, wide, mask)

    fresh = _carry(cell, params, x.shape[:-1], None, influence)
    carry, (y, pull) = masked_step(step, fresh)(carry, (x, mask, reset))
    return carry, y, pull


def rtrl_step(
    cell: Cell,
    params: Params,
    carry: RTRLCarry,
    x: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reset: ArrayLike | None = None,
    influence: Influence = dense_influence,
) -> tuple[RTRLCarry, Array, Partial]:
    """Take one step, and return a function that gives the gradient of its loss.

    Args:
        cell: cell to run.
        params: parameters of ``cell``. If they change from step to step, as in online
            learning, the influence lags behind them and gradients are approximate.
        carry: from :func:`rtrl_init` or the step before.
        x: one input ``(*B, I)``.
        mask: bool ``(*B)``; where False the carry is held and the output is zero.
        reset: bool ``(*B)``; where True the step starts from the initial state.
        influence: the representation that ``carry`` was made with.

    Returns:
        ``(carry, y, pull)``: the carry after the step, the output ``(*B, O)``, and a
        function that maps ``dy = dL/dy`` of this step to the gradient of its loss by
        all parameters, through every earlier step. Like that of ``jax.vjp``, the
        function is a pytree.

    Raises:
        ValueError, TypeError: an argument does not fit.

    >>> import jaxrnn
    >>> cell = jaxrnn.gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> carry = rtrl_init(cell, params, (3,))
    >>> for x in jnp.ones((7, 3, 2)):
    ...     carry, y, pull = rtrl_step(cell, params, carry, x)
    ...     dparams = pull(2 * y)  # the gradient of (y ** 2).sum()
    >>> dparams.w_h.shape, carry.influence.w_h.shape
    ((5, 15), (3, 5, 5, 15))
    """
    influence = _usable(cell, params, influence)
    x = jnp.asarray(x)
    if x.ndim < 1:
        raise ValueError(f"x must have shape (*B, I), got shape {x.shape}")
    batch_shape = x.shape[:-1]
    expected = jax.eval_shape(
        lambda params: _carry(cell, params, batch_shape, None, influence), params
    )
    carry = check_like("carry", carry, expected)
    valid = check_flags("mask", mask, batch_shape, axes="(*B)")
    starts = check_flags("reset", reset, batch_shape, axes="(*B)")
    if valid is not None:
        x = zero_where_masked(x, valid)
    carry, y, pull = _advance(cell, params, carry, x, valid, starts, influence)
    return carry, y, Partial(_narrowed, pull, params)


def rtrl(
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
    influence: Influence = dense_influence,
) -> Params:
    """Compute the gradient of the parameters by real-time recurrent learning.

    The gradient is that of :func:`bptt`, computed forward in time, so memory does not
    grow with T. With N state entries, P parameters and B batch entries, memory is
    O(B N P) and a step costs O(B N^2 P) operations, where ``bptt`` costs O(B P). It
    suits tiny networks and learning online (:func:`rtrl_step`). For elementwise
    recurrences, ``diagonal_influence`` reduces both to O(B P). An adjoint is not
    needed.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`unroll`.
        dys: dL/dys ``(T, *B, O)``; those of masked steps have no effect.
        dstate: dL/dstate of the final state; None means zero.
        influence: representation of the derivative of the state.
            ``diagonal_influence`` is for elementwise recurrences only, and refuses
            other cells.

    Returns:
        The gradient, like ``params``.

    Raises:
        ValueError, TypeError: see :func:`bptt`; an adjoint is not needed.

    References:
        Williams and Zipser, A learning algorithm for continually running fully
        recurrent neural networks, 1989.

    >>> import jaxrnn
    >>> cell = jaxrnn.lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> xs, dys = jnp.ones((7, 3, 2)), jnp.ones((7, 3, 5))
    >>> forward = rtrl(cell, params, xs, dys)
    >>> backward, _, _ = jaxrnn.bptt(cell, params, xs, dys)
    >>> bool(abs(forward.w_h - backward.w_h).max() < 1e-4)
    True
    """
    influence = _usable(cell, params, influence)
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    last, ys = jax.eval_shape(
        lambda params, xs: unroll(cell, params, xs), params, inputs.xs
    )
    dys = check_like("dys", dys, ys)
    if dstate is not None:
        dstate = check_like("dstate", dstate, last)
    if state is not None:
        state = inputs.state
    data = (inputs, dys, state, dstate)
    return _rtrl(run, influence, params, data)


@compiled(num_static=2)
def _rtrl(run: Run, influence: Influence, params: Params, data: Any) -> Params:
    cell = run.cell
    inputs, dys, state, dstate = data
    batch_shape = inputs.xs.shape[1:-1]

    def step(carry, at_step):
        carry, dparams = carry
        x, dy, valid, reset = at_step
        carry, _, pull = _advance(cell, params, carry, x, valid, reset, influence)
        return (carry, jax.tree.map(jnp.add, dparams, pull(dy))), None

    carry = _carry(cell, params, batch_shape, state, influence)
    carry = (carry, zeros_like(widen(params)))
    sequences = (inputs.xs, dys, inputs.mask, inputs.resets)
    (carry, dparams), _ = lax.scan(step, carry, sequences, reverse=run.reverse)
    if dstate is not None:
        end = influence.pull(dstate, carry.influence, dparams)
        dparams = jax.tree.map(jnp.add, dparams, end)
    return narrow(dparams, params)
