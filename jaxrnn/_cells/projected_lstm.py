"""Long short-term memory whose hidden state is a projection.

Forward, with ``s`` the logistic sigmoid and gates in the order i, f, g, o::

    a_x = x W_x                                 project
    a_i, a_f, a_g, a_o = split(a_x + h_prev W_h + b)
    i, f, o = s(a_i), s(a_f), s(a_o)
    g  = tanh(a_g)
    c  = f * c_prev + i * g
    m  = tanh(c)
    h  = (o * m) W_r
    y  = h

Backward, with ``dh = dh' + dy``, and ``dh'``, ``dc'`` the cotangents from later::

    dm   = dh W_r^T                             of o * m
    dc   = dc' + dm * o * (1 - m^2)
    da_i = dc * g      * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i      * (1 - g^2)
    da_o = dm * m      * o * (1 - o)
    dh_prev = da W_h^T
    dc_prev = dc * f

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da        dW_r = sum (o * m)^T dh
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._descriptions.spec import described
from .._numerics.gate_activation import activate
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
from .lstm import CANDIDATE, NUM_GATES, LSTMResidual, LSTMState


class ProjectedLSTMParams(NamedTuple):
    """Parameters of :func:`projected_lstm`; gates in the order i, f, g, o."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (P, 4H)
    b: Array  # (4H,)
    w_r: Array  # (H, P), from what the output gate lets through to the hidden state


def projected_lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    projection_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
    w_r_init: Initializer = glorot_uniform,
) -> ProjectedLSTMParams:
    """Draw the weights gate by gate; the bias is zero but for the forget gate."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_h, key_r = jax.random.split(key, 3)
    width = NUM_GATES * hidden_size
    b = jnp.zeros((width,), float_dtype)
    return ProjectedLSTMParams(
        w_x=per_gate(w_x_init, NUM_GATES)(key_x, (input_size, width), float_dtype),
        w_h=per_gate(w_h_init, NUM_GATES)(key_h, (projection_size, width), float_dtype),
        b=b.at[hidden_size : 2 * hidden_size].set(forget_bias),
        w_r=w_r_init(key_r, (hidden_size, projection_size), float_dtype),
    )


def projected_lstm_initial_state(
    params: ProjectedLSTMParams, batch_shape: Shape = ()
) -> LSTMState:
    """Zeros: h ``(*B, P)`` and c ``(*B, H)``."""
    hidden_size, projection_size = params.w_r.shape
    dtype = params.w_h.dtype
    return LSTMState(
        h=batch_zeros((projection_size,), batch_shape, dtype),
        c=batch_zeros((hidden_size,), batch_shape, dtype),
    )


def projected_lstm_forward(
    params: ProjectedLSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[LSTMState, Array, LSTMResidual]:
    """One step and its residual."""
    h_prev, c_prev = state
    a = add_bias(a_x + recurrent_dot(h_prev, params.w_h), params.b)
    i, f, g, o = jnp.split(activate(a, NUM_GATES, CANDIDATE), NUM_GATES, axis=-1)
    c = f * c_prev + i * g
    h = dot(o * jnp.tanh(c), params.w_r)
    residual = LSTMResidual(h_prev=h_prev, c_prev=c_prev, i=i, f=f, g=g, o=o)
    return LSTMState(h=h, c=c), h.astype(params.w_h.dtype), residual


projected_lstm_step = step_of(projected_lstm_forward, recurrent_dot=dot)


def projected_lstm_backward(
    params: ProjectedLSTMParams,
    residual: LSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[LSTMState, tuple[Array, Array]]:
    """Transpose of one step; ``dh`` is for the gradient of ``w_r``."""
    _, c_prev, i, f, g, o = residual
    m = jnp.tanh(f * c_prev + i * g)
    dh = dstate.h + dy.astype(dstate.h.dtype)
    dm = dot_transposed(dh, params.w_r)
    dc = dstate.c + dm * o * (1 - m * m)
    da_i = dc * g * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i * (1 - g * g)
    da_o = dm * m * o * (1 - o)
    da = jnp.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    return LSTMState(h=recurrent_dot_transposed(da, params.w_h), c=dc * f), (da, dh)


def projected_lstm_accumulate(
    params: ProjectedLSTMParams,
    xs: Array,
    residuals: LSTMResidual,
    da_xs: tuple[Array, Array],
) -> tuple[ProjectedLSTMParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    h_prev, c_prev, i, f, g, o = residuals
    das, dhs = da_xs
    dparams = ProjectedLSTMParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
        w_r=outer_sum(o * jnp.tanh(f * c_prev + i * g), dhs, params.w_r),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def projected_lstm(
    hidden_size: int,
    projection_size: int,
    *,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
    w_r_init: Initializer = glorot_uniform,
) -> Cell:
    """Long short-term memory whose hidden state is projected to fewer units.

    The state is ``LSTMState(h, c)``, ``h (*B, P)`` and ``c (*B, H)``; the output is
    ``h``. The recurrent product costs ``P 4H`` where that of an LSTM costs ``H 4H``.

    Args:
        hidden_size: H, of the cell state and the gates.
        projection_size: P, size of the hidden state and of the output, below H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(P, H)`` of ``w_h``.
        w_r_init: initialiser of ``w_r (H, P)``.

    Returns:
        A :class:`Cell` with parameters :class:`ProjectedLSTMParams`.

    Raises:
        ValueError: a size is below 1, or ``projection_size`` is not below H.
        TypeError: a size is not an int.

    Differs from ``torch.nn.LSTM(proj_size=...)`` in having one bias instead of two, and
    transposed weights. Keras and Flax have no such cell. The paper also has peepholes,
    and a second projection that is not fed back.

    References:
        Sak, Senior and Beaufays, Long short-term memory recurrent neural network
        architectures for large scale acoustic modeling, 2014.

    >>> cell = projected_lstm(5, 3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (4,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((4, 2))))
    >>> state.c.shape, y.shape
    ((4, 5), (4, 3))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    projection_size = check_size("projection_size", projection_size)
    if projection_size >= hidden_size:
        raise ValueError(
            f"projection_size must be below hidden_size = {hidden_size}, got "
            f"{projection_size}: without a projection use jaxrnn.lstm"
        )
    return Cell(
        init=functools.partial(
            projected_lstm_init,
            hidden_size=hidden_size,
            projection_size=projection_size,
            forget_bias=forget_bias,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
            w_r_init=w_r_init,
        ),
        initial_state=projected_lstm_initial_state,
        project=project_inputs,
        step=projected_lstm_step,
        output_size=projection_size,
        adjoint=Adjoint(
            forward=projected_lstm_forward,
            backward=projected_lstm_backward,
            accumulate=projected_lstm_accumulate,
        ),
    )
