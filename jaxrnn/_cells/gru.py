"""Gated recurrent unit, in both published forms.

Forward, with ``s`` the logistic sigmoid and gates in the order r, z, n; the reset
gate multiplies after the recurrent product (``reset_after=True``) or before it::

    a_x = x W_x                                 project
    a_i = a_x + b
    a_h = h_prev W_h + b_h
    r   = s(a_i_r + a_h_r)
    z   = s(a_i_z + a_h_z)
    n   = tanh(a_i_n + r * a_h_n)                        after
    n   = tanh(a_i_n + (r * h_prev) W_n + b_h_n)         before
    h   = (1 - z) * n + z * h_prev
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    da_n = dh * (1 - z)      * (1 - n^2)
    da_z = dh * (h_prev - n) * z * (1 - z)

    after:   da_r    = da_n * a_h_n * r * (1 - r)
             da_h    = (da_r, da_z, r * da_n)
             dh_prev = dh * z + da_h W_h^T

    before:  dq      = da_n W_n^T               with q = r * h_prev
             da_r    = dq * h_prev * r * (1 - r)
             dh_prev = dh * z + dq * r + (da_r, da_z) W_rz^T

    da_x = (da_r, da_z, da_n)

Accumulated over all steps::

    dW_x = sum x^T da_x      dx = da_x W_x^T      db = sum da_x

    after:   dW_h  = sum h_prev^T da_h            db_h = sum da_h
    before:  dW_rz = sum h_prev^T (da_r, da_z)    db_h = sum da_x
             dW_n  = sum (r * h_prev)^T da_n
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
from .._options import check_bool, check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of, zero_state

NUM_GATES = 3


class GRUParams(NamedTuple):
    """Parameters of :func:`gru`; gates in the order r, z, n."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b: Array  # (3H,), added to the input product
    # Without reset_after only the sum of b and b_h matters. It is kept all the same, so
    # that the option does not change the structure of a file of parameters.
    b_h: Array  # (3H,), added to the recurrent product


class GRUResidual(NamedTuple):
    """What the backward pass of a step needs, with the reset after the product."""

    h_prev: Array  # (*B, H), as all below
    r: Array
    z: Array
    n: Array
    a_h_n: Array


class GRUBeforeResidual(NamedTuple):
    """What the backward pass of a step needs, with the reset before the product."""

    h_prev: Array  # (*B, H), as all below
    r: Array
    z: Array
    n: Array


def gru_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> GRUParams:
    """Draw the weights gate by gate; the biases are zero."""
    w_x, w_h = draw_gates(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        num_gates=NUM_GATES,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    return GRUParams(
        w_x=w_x,
        w_h=w_h,
        b=jnp.zeros(w_x.shape[1:], w_x.dtype),
        b_h=jnp.zeros(w_x.shape[1:], w_x.dtype),
    )


def gates_and_candidate(a: WeightT) -> tuple[WeightT, WeightT]:
    """Split columns into those of the gates r, z, and of the candidate n."""
    return split_columns(a, 2 * a.shape[-1] // NUM_GATES)


def gru_forward(
    params: GRUParams,
    state: Array,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
) -> tuple[Array, Array, GRUResidual]:
    """One step with the reset after the product, and its residual."""
    a_i_rz, a_i_n = gates_and_candidate(add_bias(a_x, params.b))
    a_h_rz, a_h_n = gates_and_candidate(
        add_bias(recurrent_dot(state, params.w_h), params.b_h)
    )
    r, z = jnp.split(jax.nn.sigmoid(a_i_rz + a_h_rz), 2, axis=-1)
    n = jnp.tanh(a_i_n + r * a_h_n)
    h = (1 - z) * scaled(n, candidate_scale) + z * state
    residual = GRUResidual(h_prev=state, r=r, z=z, n=n, a_h_n=a_h_n)
    return h, h.astype(params.w_h.dtype), residual


gru_step = step_of(gru_forward, recurrent_dot=dot)


def gru_backward(
    params: GRUParams,
    residual: GRUResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step with the reset after the product."""
    h_prev, r, z, n, a_h_n = residual
    dh = dstate + dy.astype(dstate.dtype)
    da_n = scaled(dh * (1 - z), candidate_scale) * (1 - n * n)
    da_z = dh * (h_prev - scaled(n, candidate_scale)) * z * (1 - z)
    da_r = da_n * a_h_n * r * (1 - r)
    da_h = jnp.concatenate([da_r, da_z, r * da_n], axis=-1)
    dh_prev = dh * z + recurrent_dot_transposed(da_h, params.w_h)
    return dh_prev, (jnp.concatenate([da_r, da_z, da_n], axis=-1),)


def gru_accumulate(
    params: GRUParams, xs: Array, residuals: GRUResidual, da_xs: tuple[Array]
) -> tuple[GRUParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    da_rz, da_n = gates_and_candidate(das)
    da_hs = jnp.concatenate([da_rz, residuals.r * da_n], axis=-1)
    dparams = GRUParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.h_prev, da_hs, params.w_h),
        b=leading_sum(das, params.b),
        b_h=leading_sum(da_hs, params.b_h),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


def gru_before_forward(
    params: GRUParams,
    state: Array,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
) -> tuple[Array, Array, GRUBeforeResidual]:
    """One step with the reset before the product, and its residual."""
    a_i_rz, a_i_n = gates_and_candidate(add_bias(a_x, params.b))
    w_rz, w_n = gates_and_candidate(params.w_h)
    b_h_rz, b_h_n = gates_and_candidate(params.b_h)
    a_h_rz = add_bias(recurrent_dot(state, w_rz), b_h_rz)
    r, z = jnp.split(jax.nn.sigmoid(a_i_rz + a_h_rz), 2, axis=-1)
    n = jnp.tanh(a_i_n + add_bias(recurrent_dot(r * state, w_n), b_h_n))
    h = (1 - z) * scaled(n, candidate_scale) + z * state
    residual = GRUBeforeResidual(h_prev=state, r=r, z=z, n=n)
    return h, h.astype(params.w_h.dtype), residual


gru_before_step = step_of(gru_before_forward, recurrent_dot=dot)


def gru_before_backward(
    params: GRUParams,
    residual: GRUBeforeResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step with the reset before the product."""
    h_prev, r, z, n = residual
    w_rz, w_n = gates_and_candidate(params.w_h)
    dh = dstate + dy.astype(dstate.dtype)
    da_n = scaled(dh * (1 - z), candidate_scale) * (1 - n * n)
    da_z = dh * (h_prev - scaled(n, candidate_scale)) * z * (1 - z)
    dq = recurrent_dot_transposed(da_n, w_n)
    da_r = dq * h_prev * r * (1 - r)
    da_rz = jnp.concatenate([da_r, da_z], axis=-1)
    dh_prev = dh * z + dq * r + recurrent_dot_transposed(da_rz, w_rz)
    return dh_prev, (jnp.concatenate([da_rz, da_n], axis=-1),)


def gru_before_accumulate(
    params: GRUParams, xs: Array, residuals: GRUBeforeResidual, da_xs: tuple[Array]
) -> tuple[GRUParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    h_prev, r = residuals.h_prev, residuals.r
    w_rz, w_n = gates_and_candidate(params.w_h)
    da_rz, da_n = gates_and_candidate(das)
    dw_rz = outer_sum(h_prev, da_rz, w_rz)
    dw_n = outer_sum(r * h_prev, da_n, w_n)
    dparams = GRUParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=jnp.concatenate([dw_rz, dw_n], axis=-1),
        b=leading_sum(das, params.b),
        b_h=leading_sum(das, params.b_h),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def gru(
    hidden_size: int,
    *,
    reset_after: bool = True,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Gated recurrent unit: ``h = (1 - z) n + z h_prev``.

    The state is ``h (*B, H)`` and so is the output.

    Args:
        hidden_size: H.
        reset_after: True applies the reset gate after the recurrent product, as torch
            and cuDNN do; False applies it before, as in the paper's last version.
            Weights that were trained in one form do not fit the other.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`GRUParams`, the same for both forms.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    Gates and biases are as in ``torch.nn.GRU``, with transposed weights. Differs
    from Keras in the order of the gates (z, r, n there) and, without ``reset_after``,
    in keeping ``b_h``. Differs from Haiku in that z keeps the old state, not the new
    one.

    References:
        Cho et al., Learning phrase representations using RNN encoder-decoder for
        statistical machine translation, 2014.

    >>> cell = gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> y.shape
    (3, 5)
    """
    hidden_size = check_size("hidden_size", hidden_size)
    reset_after = check_bool("reset_after", reset_after)
    if reset_after:
        step, kernel = gru_step, Kernel("gru", num_kept=4)
        adjoint = Adjoint(gru_forward, gru_backward, gru_accumulate)
    else:
        step, kernel = gru_before_step, Kernel("gru_before", num_kept=3)
        adjoint = Adjoint(
            gru_before_forward, gru_before_backward, gru_before_accumulate
        )
    return Cell(
        init=functools.partial(
            gru_init, hidden_size=hidden_size, w_x_init=w_x_init, w_h_init=w_h_init
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=step,
        output_size=hidden_size,
        adjoint=adjoint,
        kernel=kernel,
    )
