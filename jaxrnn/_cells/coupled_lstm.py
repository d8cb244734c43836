"""Long short-term memory that forgets as much as it takes in.

Forward, with ``s`` the logistic sigmoid and gates in the order f, g, o::

    a_x = x W_x                                 project
    a_f, a_g, a_o = split(a_x + h_prev W_h + b)
    f, o = s(a_f), s(a_o)
    g  = tanh(a_g)
    c  = f * c_prev + (1 - f) * g
    m  = tanh(c)
    h  = o * m
    y  = h

Backward, with ``dh = dh' + dy``, and ``dh'``, ``dc'`` the cotangents from later::

    dc   = dc' + dh * o * (1 - m^2)
    da_f = dc * (c_prev - g) * f * (1 - f)
    da_g = dc * (1 - f)      * (1 - g^2)
    da_o = dh * m            * o * (1 - o)
    dh_prev = da W_h^T
    dc_prev = dc * f

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from .._base import Adjoint, Cell, Kernel
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
    scaled,
)
from .._options import check_finite, check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of
from .lstm import LSTMState, lstm_initial_state

NUM_GATES, CANDIDATE = 3, 1


class CoupledLSTMParams(NamedTuple):
    """Parameters of :func:`coupled_lstm`; gates in the order f, g, o."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b: Array  # (3H,)


class CoupledLSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    c_prev: Array
    f: Array
    g: Array
    o: Array


def coupled_lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> CoupledLSTMParams:
    """Draw the weights gate by gate; the bias is zero but for the forget gate."""
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
    return CoupledLSTMParams(w_x=w_x, w_h=w_h, b=b.at[:hidden_size].set(forget_bias))


def coupled_lstm_forward(
    params: CoupledLSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
) -> tuple[LSTMState, Array, CoupledLSTMResidual]:
    """One step and its residual; dropout may scale the candidate g ``(*B, H)``."""
    h_prev, c_prev = state
    a = add_bias(a_x + recurrent_dot(h_prev, params.w_h), params.b)
    f, g, o = jnp.split(activate(a, NUM_GATES, CANDIDATE), NUM_GATES, axis=-1)
    c = f * c_prev + (1 - f) * scaled(g, candidate_scale)
    h = o * jnp.tanh(c)
    residual = CoupledLSTMResidual(h_prev=h_prev, c_prev=c_prev, f=f, g=g, o=o)
    return LSTMState(h=h, c=c), h.astype(params.w_h.dtype), residual


coupled_lstm_step = step_of(coupled_lstm_forward, recurrent_dot=dot)


def coupled_lstm_backward(
    params: CoupledLSTMParams,
    residual: CoupledLSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
) -> tuple[LSTMState, tuple[Array]]:
    """Transpose of one step, with the options of :func:`coupled_lstm_forward`."""
    _, c_prev, f, g, o = residual
    kept = scaled(g, candidate_scale)
    m = jnp.tanh(f * c_prev + (1 - f) * kept)
    dh = dstate.h + dy.astype(dstate.h.dtype)
    dc = dstate.c + dh * o * (1 - m * m)
    da_f = dc * (c_prev - kept) * f * (1 - f)
    da_g = scaled(dc * (1 - f), candidate_scale) * (1 - g * g)
    da_o = dh * m * o * (1 - o)
    da = jnp.concatenate([da_f, da_g, da_o], axis=-1)
    return LSTMState(h=recurrent_dot_transposed(da, params.w_h), c=dc * f), (da,)


def coupled_lstm_accumulate(
    params: CoupledLSTMParams,
    xs: Array,
    residuals: CoupledLSTMResidual,
    da_xs: tuple[Array],
) -> tuple[CoupledLSTMParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = CoupledLSTMParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def coupled_lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Long short-term memory with coupled input and forget gate: ``i = 1 - f``.

    The state is ``LSTMState(h, c)``; the output is ``h (*B, H)``. It has three quarters
    of the weights of an LSTM, and a cell state that stays between -1 and 1.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`CoupledLSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    The paper parametrises the input gate, ``f = 1 - i``, which is the same function
    with the weights and the bias of that gate negated. torch, Keras and Flax have no
    such cell.

    References:
        Greff et al., LSTM: a search space odyssey, 2015 (CIFG).

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.coupled_lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_h.shape, y.shape
    ((5, 15), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            coupled_lstm_init,
            hidden_size=hidden_size,
            forget_bias=check_finite("forget_bias", forget_bias),
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=lstm_initial_state,
        project=project_inputs,
        step=coupled_lstm_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=coupled_lstm_forward,
            backward=coupled_lstm_backward,
            accumulate=coupled_lstm_accumulate,
        ),
        kernel=Kernel("coupled_lstm", num_kept=4),
    )
