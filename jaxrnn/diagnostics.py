"""Looking inside the backward pass."""

import jax
import jax.numpy as jnp
from jax import lax

from ._base import Cell
from ._checks import check_like
from ._scan import masked_step
from ._typing import ArrayLike, Params, State
from ._unroll import prepare

__all__ = ["state_gradients"]


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
    """Gradient of a loss with respect to the state that enters each step.

    Found by adding a zero to each of these states and differentiating with respect to
    it, so it needs no adjoint. How fast its norm falls, or grows, with the distance
    from the steps where ``dys`` is not zero is how fast gradients vanish, or explode.

    Args:
        cell, params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.
        dys: dL/dys ``(T, *B, O)``, gradients with respect to the outputs.

    Returns:
        A pytree like a state, with leaves ``(T, *B, ...)``: entry t is dL/ds for the
        state s handed to step t, before a reset there replaces it.

    Raises:
        ValueError, TypeError: as :func:`jaxrnn.unroll`.

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
    sequence = prepare(cell, params, xs, state, mask, resets, reverse)
    num_steps = sequence.xs.shape[0]

    def step(state, a_x):
        return *cell.step(params, state, a_x), None

    body = masked_step(step, sequence.fresh)

    def shifted(state, inputs):
        shift, *inputs = inputs
        return body(jax.tree.map(jnp.add, state, shift), inputs)

    def outputs(shifts):
        a_xs = cell.project(params, sequence.xs)
        inputs = (shifts, a_xs, sequence.mask, sequence.resets)
        _, (ys, _) = lax.scan(shifted, sequence.state, inputs, reverse=reverse)
        return ys

    shifts = jax.tree.map(
        lambda s: jnp.zeros((num_steps, *s.shape), s.dtype), sequence.state
    )
    ys, pull = jax.vjp(outputs, shifts)
    return pull(check_like("dys", dys, ys))[0]
