"""The recurrent highway network: several gated sublayers within a step of time.

Forward, with ``s`` the logistic sigmoid, sublayers ``l = 1, ..., L``, blocks in the
order n, t, and ``h_0 = h_prev``::

    a_x  = x W_x                                project, for the first sublayer
    a_l  = (a_x if l = 1) + h_(l-1) W_l + b_l
    n_l  = tanh(a_l_n)       t_l = s(a_l_t)
    h_l  = h_(l-1) + t_l * (n_l - h_(l-1))
    h = y = h_L

Backward, with ``dh_L = dh' + dy``, ``dh'`` the cotangent of ``h`` from later, and for
``l = L, ..., 1``::

    da_l_n   = dh_l * t_l * (1 - n_l^2)
    da_l_t   = dh_l * (n_l - h_(l-1)) * t_l * (1 - t_l)
    dh_(l-1) = dh_l * (1 - t_l) + da_l W_l^T
    dh_prev  = dh_0          da_x = da_1

Accumulated over all steps::

    dW_x = sum x^T da_1      dW_l = sum h_(l-1)^T da_l
    db_l = sum da_l          dx   = da_1 W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._descriptions.spec import described
from .._numerics.precision import (
    Product,
    add_bias,
    dot,
    dot_in_loop,
    dot_transposed,
    leading_sum,
    outer_sum,
)
from .._options import check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, orthogonal, per_gate
from ._shared import batch_zeros, checked_init, project_inputs, step_of

NUM_GATES = 2


class RecurrentHighwayParams(NamedTuple):
    """Parameters of :func:`recurrent_highway`; blocks in the order n, t."""

    w_x: Array  # (I, 2H)
    w_h: Array  # (L, H, 2H)
    b: Array  # (L, 2H)


class RecurrentHighwayResidual(NamedTuple):
    """What the backward pass of a step needs: one entry for each sublayer."""

    h_prev: tuple[Array, ...]  # (*B, H), as all below; what enters each
    n: tuple[Array, ...]
    t: tuple[Array, ...]


def recurrent_highway_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    depth: int,
    transform_bias: float = -1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> RecurrentHighwayParams:
    """Draw the weights block by block; the bias is zero but for the transform gates."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, *keys = jax.random.split(key, 1 + depth)
    width = NUM_GATES * hidden_size
    draw = per_gate(w_h_init, NUM_GATES)
    b = jnp.zeros((depth, width), float_dtype)
    return RecurrentHighwayParams(
        w_x=per_gate(w_x_init, NUM_GATES)(key_x, (input_size, width), float_dtype),
        w_h=jnp.stack([draw(k, (hidden_size, width), float_dtype) for k in keys]),
        b=b.at[:, hidden_size:].set(transform_bias),
    )


def recurrent_highway_initial_state(
    params: RecurrentHighwayParams, batch_shape: Shape = ()
) -> Array:
    """Zeros ``(*B, H)``."""
    return batch_zeros(params.w_h.shape[1:2], batch_shape, params.w_h.dtype)


def recurrent_highway_forward(
    params: RecurrentHighwayParams,
    state: Array,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[Array, Array, RecurrentHighwayResidual]:
    """One step and its residual."""
    h, sublayers = state, []
    for w, b in zip(params.w_h, params.b, strict=True):
        a = recurrent_dot(h, w) if sublayers else a_x + recurrent_dot(h, w)
        a_n, a_t = jnp.split(add_bias(a, b), NUM_GATES, axis=-1)
        n, t = jnp.tanh(a_n), jax.nn.sigmoid(a_t)
        sublayers.append((h, n, t))
        h = h + t * (n - h)
    residual = RecurrentHighwayResidual(*zip(*sublayers, strict=True))
    return h, h.astype(params.w_h.dtype), residual


recurrent_highway_step = step_of(recurrent_highway_forward, recurrent_dot=dot)


def recurrent_highway_backward(
    params: RecurrentHighwayParams,
    residual: RecurrentHighwayResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[Array, tuple[Array, ...]]:
    """Transpose of one step; one cotangent for each sublayer, the first one first."""
    dh, das = dstate + dy.astype(dstate.dtype), []
    for w, h_prev, n, t in reversed(list(zip(params.w_h, *residual, strict=True))):
        da_n = dh * t * (1 - n * n)
        da_t = dh * (n - h_prev) * t * (1 - t)
        da = jnp.concatenate([da_n, da_t], axis=-1)
        dh = dh * (1 - t) + recurrent_dot_transposed(da, w)
        das.append(da)
    return dh, tuple(reversed(das))


def recurrent_highway_accumulate(
    params: RecurrentHighwayParams,
    xs: Array,
    residuals: RecurrentHighwayResidual,
    da_xs: tuple[Array, ...],
) -> tuple[RecurrentHighwayParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    sublayers = list(zip(params.w_h, params.b, residuals.h_prev, da_xs, strict=True))
    dparams = RecurrentHighwayParams(
        w_x=outer_sum(xs, da_xs[0], params.w_x),
        w_h=jnp.stack([outer_sum(h_prev, da, w) for w, _, h_prev, da in sublayers]),
        b=jnp.stack([leading_sum(da, b) for _, b, _, da in sublayers]),
    )
    return dparams, dot_transposed(da_xs[0], params.w_x).astype(xs.dtype)


@described
def recurrent_highway(
    hidden_size: int,
    depth: int = 2,
    *,
    transform_bias: float = -1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Recurrent highway network: ``depth`` gated sublayers in each step.

    ``h_l = h_(l-1) + t_l (n_l - h_(l-1))``, with ``1 - t`` as the carry gate. The first
    sublayer reads the input. The state is ``h (*B, H)`` and so is the output.

    Args:
        hidden_size: H.
        depth: L, the number of sublayers.
        transform_bias: initial bias of the gates t. With a negative value they carry
            the state on at first.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`RecurrentHighwayParams`.

    Raises:
        ValueError: ``hidden_size`` or ``depth`` is below 1.
        TypeError: ``hidden_size`` or ``depth`` is not an int.

    torch, Keras and Flax have no such cell.

    References:
        Zilly et al., Recurrent highway networks, 2017.

    >>> cell = recurrent_highway(5, depth=3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (4,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((4, 2))))
    >>> params.w_h.shape, y.shape
    ((3, 5, 10), (4, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    depth = check_size("depth", depth)
    return Cell(
        init=functools.partial(
            recurrent_highway_init,
            hidden_size=hidden_size,
            depth=depth,
            transform_bias=transform_bias,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=recurrent_highway_initial_state,
        project=project_inputs,
        step=recurrent_highway_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=recurrent_highway_forward,
            backward=recurrent_highway_backward,
            accumulate=recurrent_highway_accumulate,
        ),
    )
