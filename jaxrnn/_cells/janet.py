"""JANET: an LSTM reduced to its forget gate.

Forward, with ``s`` the logistic sigmoid, a constant ``beta``, and blocks f, g::

    a_x = x W_x                                 project
    a_f, a_g = split(a_x + h_prev W_h + b)
    f   = s(a_f)
    i   = 1 - s(a_f - beta)
    g   = tanh(a_g)
    h   = f * h_prev + i * g
    y   = h

Backward, with ``dh = dh' + dy``, and ``dh'`` the cotangent from later::

    da_f = dh * (h_prev * f * (1 - f) - g * i * (1 - i))
    da_g = dh * i * (1 - g^2)
    dh_prev = dh * f + da W_h^T

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Kernel
from .._descriptions.spec import described
from .._numerics.precision import (
    Product,
    add_bias,
    dot,
    dot_in_loop,
    dot_transposed,
    leading_sum,
    outer_sum,
    scaled,
)
from .._options import check_finite, check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of, zero_state

NUM_GATES = 2


class JANETParams(NamedTuple):
    """Parameters of :func:`janet`; blocks in the order f, g."""

    w_x: Array  # (I, 2H)
    w_h: Array  # (H, 2H)
    b: Array  # (2H,)


class JANETResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    f: Array
    i: Array
    g: Array


def janet_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> JANETParams:
    """Draw the weights block by block; the bias is zero but for the forget gate."""
    w_x, w_h = draw_gates(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        num_gates=NUM_GATES,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    b = jnp.zeros(w_x.shape[1:], w_x.dtype)
    return JANETParams(w_x=w_x, w_h=w_h, b=b.at[:hidden_size].set(forget_bias))


def janet_forward(
    params: JANETParams,
    state: Array,
    a_x: Array,
    *,
    beta: float = 1.0,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
) -> tuple[Array, Array, JANETResidual]:
    """One step and its residual; dropout may scale the candidate g ``(*B, H)``."""
    a = add_bias(a_x + recurrent_dot(state, params.w_h), params.b)
    a_f, a_g = jnp.split(a, NUM_GATES, axis=-1)
    f = jax.nn.sigmoid(a_f)
    i = jax.nn.sigmoid(beta - a_f)
    g = jnp.tanh(a_g)
    h = f * state + i * scaled(g, candidate_scale)
    return h, h.astype(params.w_h.dtype), JANETResidual(h_prev=state, f=f, i=i, g=g)


janet_step = step_of(janet_forward, recurrent_dot=dot)


def janet_backward(
    params: JANETParams,
    residual: JANETResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step, with the options of :func:`janet_forward`."""
    h_prev, f, i, g = residual
    dh = dstate + dy.astype(dstate.dtype)
    kept = scaled(g, candidate_scale)
    da_f = dh * (h_prev * f * (1 - f) - kept * i * (1 - i))
    da_g = scaled(dh * i, candidate_scale) * (1 - g * g)
    da = jnp.concatenate([da_f, da_g], axis=-1)
    return dh * f + recurrent_dot_transposed(da, params.w_h), (da,)


def janet_accumulate(
    params: JANETParams, xs: Array, residuals: JANETResidual, da_xs: tuple[Array]
) -> tuple[JANETParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = JANETParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def janet(
    hidden_size: int,
    *,
    beta: float = 1.0,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Just Another NETwork, with only a forget gate: ``h = s(a_f) h_prev + i g``.

    The candidate enters with weight ``i = 1 - s(a_f - beta)``, which exceeds ``1 - f``
    if ``beta`` is above 0. The state, an array ``h (*B, H)``, is also the output.

    Args:
        hidden_size: H.
        beta: shift of the input gate relative to the forget gate.
        forget_bias: initial bias of the forget gate, stored in ``b``. The paper uses
            chrono initialisation, which you can draw yourself for long memory.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`JANETParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    torch, Keras and Flax have no such cell.

    References:
        Van der Westhuizen and Lasenby, The unreasonable effectiveness of the forget
        gate, 2018.

    >>> cell = janet(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_h.shape, y.shape
    ((5, 10), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            janet_init,
            hidden_size=hidden_size,
            forget_bias=check_finite("forget_bias", forget_bias),
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=functools.partial(janet_step, beta=beta),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(janet_forward, beta=beta),
            backward=janet_backward,
            accumulate=janet_accumulate,
        ),
        kernel=Kernel("janet", num_kept=3, option=beta),
    )
