"""Minimal gated unit: one gate forgets and resets.

Forward, with ``s`` the logistic sigmoid and blocks in the order f, n::

    a_x = x W_x                                 project
    f   = s(a_x_f + h_prev W_h_f + b_f)
    q   = f * h_prev
    n   = tanh(a_x_n + q W_h_n + b_n)
    h   = (1 - f) * h_prev + f * n
    y   = h

Backward, with ``dh = dh' + dy``, and ``dh'`` the cotangent from later::

    da_n = dh * f * (1 - n^2)
    dq   = da_n W_h_n^T
    da_f = (dh * (n - h_prev) + dq * h_prev) * f * (1 - f)
    dh_prev = dh * (1 - f) + dq * f + da_f W_h_f^T

Accumulated over all steps::

    dW_x   = sum x^T da          dx     = da W_x^T        db = sum da
    dW_h_f = sum h_prev^T da_f   dW_h_n = sum q^T da_n
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Kernel
from .._descriptions.spec import described
from .._numerics.int8 import WeightT, split_columns
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
from .._options import check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of, zero_state

NUM_GATES = 2


class MGUParams(NamedTuple):
    """Parameters of :func:`mgu`; blocks in the order f, n."""

    w_x: Array  # (I, 2H)
    w_h: Array  # (H, 2H)
    b: Array  # (2H,)


class MGUResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    f: Array
    n: Array


def mgu_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> MGUParams:
    """Draw the weights block by block; the bias is zero."""
    w_x, w_h = draw_gates(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        num_gates=NUM_GATES,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    return MGUParams(w_x=w_x, w_h=w_h, b=jnp.zeros(w_x.shape[1:], w_x.dtype))


def _split(a: WeightT) -> tuple[WeightT, WeightT]:
    return split_columns(a, a.shape[-1] // NUM_GATES)


def mgu_forward(
    params: MGUParams,
    state: Array,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
) -> tuple[Array, Array, MGUResidual]:
    """One step and its residual; dropout may scale the candidate n ``(*B, H)``."""
    a_f, a_n = _split(add_bias(a_x, params.b))
    w_f, w_n = _split(params.w_h)
    f = jax.nn.sigmoid(a_f + recurrent_dot(state, w_f))
    n = jnp.tanh(a_n + recurrent_dot(f * state, w_n))
    h = (1 - f) * state + f * scaled(n, candidate_scale)
    return h, h.astype(params.w_h.dtype), MGUResidual(h_prev=state, f=f, n=n)


mgu_step = step_of(mgu_forward, recurrent_dot=dot)


def mgu_backward(
    params: MGUParams,
    residual: MGUResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step, with the options of :func:`mgu_forward`."""
    h_prev, f, n = residual
    w_f, w_n = _split(params.w_h)
    dh = dstate + dy.astype(dstate.dtype)
    da_n = scaled(dh * f, candidate_scale) * (1 - n * n)
    dq = recurrent_dot_transposed(da_n, w_n)
    df = dh * (scaled(n, candidate_scale) - h_prev) + dq * h_prev
    da_f = df * f * (1 - f)
    dh_prev = dh * (1 - f) + dq * f + recurrent_dot_transposed(da_f, w_f)
    return dh_prev, (jnp.concatenate([da_f, da_n], axis=-1),)


def mgu_accumulate(
    params: MGUParams, xs: Array, residuals: MGUResidual, da_xs: tuple[Array]
) -> tuple[MGUParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    h_prev, f, _ = residuals
    da_f, da_n = _split(das)
    w_f, w_n = _split(params.w_h)
    dw_f, dw_n = outer_sum(h_prev, da_f, w_f), outer_sum(f * h_prev, da_n, w_n)
    dparams = MGUParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=jnp.concatenate([dw_f, dw_n], axis=-1),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def mgu(
    hidden_size: int,
    *,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Minimal gated unit: a GRU with one gate for both purposes.

    ``h = (1 - f) h_prev + f n``, where the candidate ``n`` reads ``f h_prev``. The
    state, an array ``h (*B, H)``, is also the output.

    Args:
        hidden_size: H.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`MGUParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    Differs from Flax's ``MGUCell``, whose gate keeps the old state and resets after the
    product. Here the gate lets the candidate in, as in the paper.

    References:
        Zhou et al., Minimal gated unit for recurrent neural networks, 2016.

    >>> cell = mgu(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_h.shape, y.shape
    ((5, 10), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            mgu_init, hidden_size=hidden_size, w_x_init=w_x_init, w_h_init=w_h_init
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=mgu_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=mgu_forward, backward=mgu_backward, accumulate=mgu_accumulate
        ),
        kernel=Kernel("mgu", num_kept=2),
    )
