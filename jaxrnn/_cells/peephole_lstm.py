"""Long short-term memory whose gates see the cell state.

Forward, with ``s`` the logistic sigmoid and gates in the order i, f, g, o::

    a_x = x W_x                                 project
    a_i, a_f, a_g, a_o = split(a_x + h_prev W_h + b)
    i   = s(a_i + p_i * c_prev)
    f   = s(a_f + p_f * c_prev)
    g   = tanh(a_g)
    c   = f * c_prev + i * g
    o   = s(a_o + p_o * c)
    m   = tanh(c)
    h   = o * m
    y   = h

Backward, with ``dh = dh' + dy``, and ``dh'``, ``dc'`` the cotangents from later::

    da_o = dh * m      * o * (1 - o)
    dc   = dc' + dh * o * (1 - m^2) + da_o * p_o
    da_i = dc * g      * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i      * (1 - g^2)
    dh_prev = da W_h^T
    dc_prev = dc * f + da_i * p_i + da_f * p_f

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
    dp_i = sum c_prev * da_i
    dp_f = sum c_prev * da_f
    dp_o = sum c * da_o
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
    of_rank,
    outer_sum,
)
from .._options import check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import project_inputs, step_of
from .lstm import NUM_GATES, LSTMResidual, LSTMState, lstm_init, lstm_initial_state


class PeepholeLSTMParams(NamedTuple):
    """Parameters of :func:`peephole_lstm`; gates in the order i, f, g, o."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)
    p_i: Array  # (H,), from the old cell state to the input gate
    p_f: Array  # (H,), from the old cell state to the forget gate
    p_o: Array  # (H,), from the new cell state to the output gate


def peephole_lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> PeepholeLSTMParams:
    """Draw the parameters of an LSTM; the peepholes are zero at first."""
    own = lstm_init(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        forget_bias=forget_bias,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    zeros = functools.partial(jnp.zeros, (hidden_size,), own.b.dtype)
    return PeepholeLSTMParams(*own, p_i=zeros(), p_f=zeros(), p_o=zeros())


def peephole_lstm_forward(
    params: PeepholeLSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[LSTMState, Array, LSTMResidual]:
    """One step and its residual."""
    h_prev, c_prev = state
    p_i, p_f, p_o = _peepholes(params, c_prev)
    a = add_bias(a_x + recurrent_dot(h_prev, params.w_h), params.b)
    a_i, a_f, a_g, a_o = jnp.split(a, NUM_GATES, axis=-1)
    i = jax.nn.sigmoid(a_i + p_i * c_prev)
    f = jax.nn.sigmoid(a_f + p_f * c_prev)
    g = jnp.tanh(a_g)
    c = f * c_prev + i * g
    o = jax.nn.sigmoid(a_o + p_o * c)
    h = o * jnp.tanh(c)
    residual = LSTMResidual(h_prev=h_prev, c_prev=c_prev, i=i, f=f, g=g, o=o)
    return LSTMState(h=h, c=c), h.astype(params.w_h.dtype), residual


peephole_lstm_step = step_of(peephole_lstm_forward, recurrent_dot=dot)


def _peepholes(params: PeepholeLSTMParams, like: Array) -> tuple[Array, Array, Array]:
    """Return the peephole weights in the dtype and with the rank of a cell state."""
    weights = params.p_i, params.p_f, params.p_o
    p_i, p_f, p_o = (of_rank(like.ndim, p.astype(like.dtype)) for p in weights)
    return p_i, p_f, p_o


def peephole_lstm_backward(
    params: PeepholeLSTMParams,
    residual: LSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[LSTMState, tuple[Array]]:
    """Transpose of one step."""
    _, c_prev, i, f, g, o = residual
    p_i, p_f, p_o = _peepholes(params, c_prev)
    m = jnp.tanh(f * c_prev + i * g)
    dh = dstate.h + dy.astype(dstate.h.dtype)
    da_o = dh * m * o * (1 - o)
    dc = dstate.c + dh * o * (1 - m * m) + da_o * p_o
    da_i = dc * g * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i * (1 - g * g)
    da = jnp.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    dh_prev = recurrent_dot_transposed(da, params.w_h)
    return LSTMState(h=dh_prev, c=dc * f + da_i * p_i + da_f * p_f), (da,)


def peephole_lstm_accumulate(
    params: PeepholeLSTMParams, xs: Array, residuals: LSTMResidual, da_xs: tuple[Array]
) -> tuple[PeepholeLSTMParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    h_prev, c_prev, i, f, g, _ = residuals
    da_i, da_f, _, da_o = jnp.split(das, NUM_GATES, axis=-1)
    dparams = PeepholeLSTMParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
        p_i=leading_sum(c_prev * da_i, params.p_i),
        p_f=leading_sum(c_prev * da_f, params.p_f),
        p_o=leading_sum((f * c_prev + i * g) * da_o, params.p_o),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def peephole_lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Long short-term memory with peepholes: its gates see the cell state.

    The state is ``LSTMState(h, c)``; the output is ``h (*B, H)``.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`PeepholeLSTMParams`, whose peepholes are
        zero at first.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    torch, Keras and Flax have no such cell. Gradients flow through the peepholes, as in
    Graves (2013); the first paper cuts them off there.

    References:
        Gers and Schmidhuber, Recurrent nets that time and count, 2000. Graves,
        Generating sequences with recurrent neural networks, 2013, equations 7 to 11.

    >>> cell = peephole_lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.p_o.shape, y.shape
    ((5,), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            peephole_lstm_init,
            hidden_size=hidden_size,
            forget_bias=forget_bias,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=lstm_initial_state,
        project=project_inputs,
        step=peephole_lstm_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=peephole_lstm_forward,
            backward=peephole_lstm_backward,
            accumulate=peephole_lstm_accumulate,
        ),
    )
