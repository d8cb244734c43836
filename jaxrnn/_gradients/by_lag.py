"""``gradient_by_lag``: the gradient, split by the distance it came through time.

Let step k take the state ``s_(k-1)`` and the parameters ``W`` to ``s_k``, and let
``L_t`` be the loss of step t. Over every path from a use of ``W`` to a loss::

    dL/dW = sum_t sum_(k <= t) dL_t/ds_t  ds_t/ds_k  d+s_k/dW

where ``d+`` is the explicit part: the derivative by the ``W`` that step k uses, its
state held fixed. The rest is implicit: it runs through the states. Lag ``l`` has the
pairs with ``t - k = l``. Backward in time there is one cotangent of the state for each
lag; a step pulls all of them back, and each is one lag longer at the step before::

    lag                          0        1          2
    entering step k           dL_k    dL_(k+1)   dL_(k+2)
    entering step k - 1   dL_(k-1)    dL_k       dL_(k+1)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Cell
from .._checks import check_like
from .._eager import compiled
from .._numerics.precision import narrow, widen
from .._tree import zeros_like
from .._typing import ArrayLike, Params, State
from .._unrolls.arguments import Inputs, Run, batch_shape, prepare
from .transition import entering_states, transition


def no_observation(dstates: State) -> None:
    """Keep nothing of a step."""


@compiled(num_static=2)
def scan_by_lag(
    run: Run,
    observe: Callable[[State], Any],
    params: Params,
    inputs: Inputs,
    cotangents: tuple[ArrayLike, State | None],
) -> tuple[Params, State, Any]:
    """Run the backward pass with a separate cotangent of the state for each lag.

    Args:
        run, params, inputs: those of the unroll.
        observe: function of the cotangents ``(T, *B, ...)``, by lag, of the state that
            enters a step; what it returns is kept.
        cotangents: ``(dys, dstate)`` as in :func:`jaxrnn.bptt`.

    Returns:
        ``(dparams, dstates, observed)``: by lag the gradients of the parameters used in
        the steps, in accumulation dtype, and of the state before the first step taken,
        and the results of ``observe``, stacked along time.
    """
    dys, dstate = cotangents
    num_steps = inputs.xs.shape[0]
    states, last, ys = entering_states(run, params, inputs)
    dlast = zeros_like(last) if dstate is None else check_like("dstate", dstate, last)
    dys = check_like("dys", dys, ys)
    wide = widen(params)

    def every_lag(leaf):
        return jnp.zeros((num_steps, *leaf.shape), leaf.dtype)

    def body(carry, at_step):
        dparams, dstates = carry
        state, dy, *step_inputs = at_step

        def step(wide, state):
            return transition(run.cell, narrow(wide, params), state, tuple(step_inputs))

        # Every cotangent is one step further from its loss. The longest lag reaches the
        # last entry only at the first step, so the entry that rolls over is zero.
        dstates = jax.tree.map(lambda d: jnp.roll(d, 1, axis=0), dstates)
        _, pull = jax.vjp(step, wide, state)
        explicit, dstates = jax.vmap(pull)((dstates, every_lag(dy).at[:1].set(dy)))
        return (jax.tree.map(jnp.add, dparams, explicit), dstates), observe(dstates)

    # The roll before the first step turns the last entry into lag 0.
    dstates = jax.tree.map(lambda d: every_lag(d).at[-1:].set(d), dlast)
    carry = (jax.tree.map(every_lag, wide), dstates)
    sequences = (states, dys, inputs.xs, inputs.mask, inputs.resets)
    (dparams, dstates), observed = lax.scan(
        body, carry, sequences, reverse=not run.reverse
    )
    return dparams, dstates, observed


def gradient_by_lag(
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
) -> Params:
    """Gradient of the parameters, split by distance in time.

    Entry ``l`` of each leaf is the part of dL/dW that connects the loss at a step t
    with the parameters used at step ``t - l``; ``l`` counts all steps between,
    including masked ones. The sum over lags is the gradient that :func:`bptt` returns.
    If ``dys`` is zero except at the last step, entry ``l`` is one term of the textbook
    expansion of dL_T/dW.

    ``dys[t]`` is the gradient of the loss of step t, and ``dstate`` counts as part of
    the loss of the last step taken. An initial state that is computed from parameters
    counts as a use of them at the step that it enters.

    The cost is T cotangents where ``bptt`` has one: O(T^2) steps of backward pass, and
    memory for T gradients of the parameters. An adjoint is not needed.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`unroll`.
        dys: dL/dys ``(T, *B, O)``.
        dstate: dL/dstate of the final state; None means zero.

    Returns:
        Gradients with leaves ``(T, ...)``, one entry for each lag from 0 to T - 1.

    Raises:
        ValueError, TypeError: see :func:`bptt`; an adjoint is not needed.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
        networks, 2013, equations 3 to 5.

    >>> import jaxrnn
    >>> cell = jaxrnn.elman(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> xs, dys = jnp.ones((7, 3, 2)), jnp.ones((7, 3, 5))
    >>> by_lag = gradient_by_lag(cell, params, xs, dys)
    >>> by_lag.w_h.shape
    (7, 5, 5)
    >>> total, _, _ = jaxrnn.bptt(cell, params, xs, dys)
    >>> bool(abs(by_lag.w_h.sum(0) - total.w_h).max() < 1e-4)
    True
    """
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    dparams, dstates, _ = scan_by_lag(
        run, no_observation, params, inputs, (dys, dstate)
    )
    if state is None:
        batch = batch_shape(cell, inputs.xs)[1:]
        _, pull = jax.vjp(
            lambda wide: cell.initial_state(narrow(wide, params), batch),
            widen(params),
        )
        (start,) = jax.vmap(pull)(dstates)
        dparams = jax.tree.map(jnp.add, dparams, start)
    return narrow(dparams, params)
