"""Long short-term memory with normalised pre-activations and cell state.

Forward, with ``s`` the logistic sigmoid, ``N`` the normalisation over features to mean
0 and variance 1, and gates in the order i, f, g, o::

    a_x = k_x * N(x W_x)                        project
    n_h = N(h_prev W_h)
    a_i, a_f, a_g, a_o = split(a_x + k_h * n_h + b)
    i, f, o = s(a_i), s(a_f), s(a_o)
    g   = tanh(a_g)
    c   = f * c_prev + i * g
    n_c = N(c)
    m   = tanh(k_c * n_c + b_c)
    h   = o * m
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'``, ``dc'`` the cotangents from later, and
``N^T(dn) = (dn - mean(dn) - n mean(dn * n)) / deviation``::

    da_c = dh * o * (1 - m^2)                   of k_c * n_c + b_c
    dc   = dc' + N^T(k_c * da_c)
    da_i = dc * g      * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i      * (1 - g^2)
    da_o = dh * m      * o * (1 - o)
    dv_h = N^T(k_h * da)                        of h_prev W_h
    dh_prev = dv_h W_h^T
    dc_prev = dc * f

Accumulated over all steps, with ``dv_x = N^T(k_x * da)``, of ``x W_x``::

    dW_x = sum x^T dv_x      dW_h = sum h_prev^T dv_h      dx = dv_x W_x^T
    dk_x = sum da * n_x      dk_h = sum da * n_h           db = sum da
    dk_c = sum da_c * n_c    db_c = sum da_c
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._descriptions.spec import described
from .._numerics.gate_activation import activate
from .._numerics.normalized import Normalized, normalized, normalized_transposed
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
from ._shared import project_inputs, step_of
from .lstm import CANDIDATE, NUM_GATES, LSTMState, lstm_init, lstm_initial_state


class LayerNormLSTMParams(NamedTuple):
    """Parameters of :func:`layer_norm_lstm`; gates in the order i, f, g, o."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)
    k_x: Array  # (4H,), scale of the normalised input product
    k_h: Array  # (4H,), scale of the normalised recurrent product
    k_c: Array  # (H,), scale of the normalised cell state
    b_c: Array  # (H,), added to it


class LayerNormLSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H)
    c_prev: Array  # (*B, H)
    n_h: Normalized  # (*B, 4H) and (*B, 1)
    i: Array  # (*B, H), as all below
    f: Array
    g: Array
    o: Array


def layer_norm_lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> LayerNormLSTMParams:
    """Draw the parameters of an LSTM; the scales are one, the bias ``b_c`` is zero."""
    own = lstm_init(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        forget_bias=forget_bias,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    return LayerNormLSTMParams(
        *own,
        k_x=jnp.ones_like(own.b),
        k_h=jnp.ones_like(own.b),
        k_c=jnp.ones((hidden_size,), own.b.dtype),
        b_c=jnp.zeros((hidden_size,), own.b.dtype),
    )


def layer_norm_lstm_project(params: LayerNormLSTMParams, xs: Array) -> Array:
    """``k_x * N(xs W_x)``, shape ``(..., 4H)``."""
    return scaled(normalized(project_inputs(params, xs)).values, params.k_x)


def _squashed(params: LayerNormLSTMParams, c: Array) -> tuple[Array, Normalized]:
    """Return ``tanh(k_c * N(c) + b_c)`` and the normalised cell state ``N(c)``."""
    n_c = normalized(c)
    return jnp.tanh(add_bias(scaled(n_c.values, params.k_c), params.b_c)), n_c


def layer_norm_lstm_forward(
    params: LayerNormLSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[LSTMState, Array, LayerNormLSTMResidual]:
    """One step and its residual."""
    h_prev, c_prev = state
    n_h = normalized(recurrent_dot(h_prev, params.w_h))
    a = add_bias(a_x + scaled(n_h.values, params.k_h), params.b)
    i, f, g, o = jnp.split(activate(a, NUM_GATES, CANDIDATE), NUM_GATES, axis=-1)
    c = f * c_prev + i * g
    m, _ = _squashed(params, c)
    h = o * m
    residual = LayerNormLSTMResidual(
        h_prev=h_prev, c_prev=c_prev, n_h=n_h, i=i, f=f, g=g, o=o
    )
    return LSTMState(h=h, c=c), h.astype(params.w_h.dtype), residual


layer_norm_lstm_step = step_of(layer_norm_lstm_forward, recurrent_dot=dot)


def layer_norm_lstm_backward(
    params: LayerNormLSTMParams,
    residual: LayerNormLSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[LSTMState, tuple[Array, Array]]:
    """Transpose of one step; ``da_c`` is for the gradients of ``k_c`` and ``b_c``."""
    _, c_prev, n_h, i, f, g, o = residual
    m, n_c = _squashed(params, f * c_prev + i * g)
    dh = dstate.h + dy.astype(dstate.h.dtype)
    da_c = dh * o * (1 - m * m)
    dc = dstate.c + normalized_transposed(scaled(da_c, params.k_c), n_c)
    da_i = dc * g * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i * (1 - g * g)
    da_o = dh * m * o * (1 - o)
    da = jnp.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    dv_h = normalized_transposed(scaled(da, params.k_h), n_h)
    return LSTMState(h=recurrent_dot_transposed(dv_h, params.w_h), c=dc * f), (da, da_c)


def layer_norm_lstm_accumulate(
    params: LayerNormLSTMParams,
    xs: Array,
    residuals: LayerNormLSTMResidual,
    da_xs: tuple[Array, Array],
) -> tuple[LayerNormLSTMParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    h_prev, c_prev, n_h, i, f, g, _ = residuals
    das, da_cs = da_xs
    n_x, n_c = normalized(dot(xs, params.w_x)), normalized(f * c_prev + i * g)
    dv_x = normalized_transposed(scaled(das, params.k_x), n_x)
    dv_h = normalized_transposed(scaled(das, params.k_h), n_h)
    dparams = LayerNormLSTMParams(
        w_x=outer_sum(xs, dv_x, params.w_x),
        w_h=outer_sum(h_prev, dv_h, params.w_h),
        b=leading_sum(das, params.b),
        k_x=leading_sum(das * n_x.values, params.k_x),
        k_h=leading_sum(das * n_h.values, params.k_h),
        k_c=leading_sum(da_cs * n_c.values, params.k_c),
        b_c=leading_sum(da_cs, params.b_c),
    )
    return dparams, dot_transposed(dv_x, params.w_x).astype(xs.dtype)


@described
def layer_norm_lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Long short-term memory with layer normalisation inside the step.

    The products with the input and with the hidden state are normalised, each over all
    four gates together. The cell state is normalised where the output reads it. The
    state is ``LSTMState(h, c)``; the output is ``h (*B, H)``.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`LayerNormLSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    The paper adds a bias to each of the two products and to the gates; ``b`` is the sum
    of the three. torch, Keras and Flax have no such cell. To normalise between layers
    instead, use :func:`jaxrnn.layer_norm`.

    References:
        Ba, Kiros and Hinton, Layer normalization, 2016, equations 20 to 22.

    >>> import jax
    >>> cell = layer_norm_lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.k_h.shape, y.shape
    ((20,), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            layer_norm_lstm_init,
            hidden_size=hidden_size,
            forget_bias=check_finite("forget_bias", forget_bias),
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=lstm_initial_state,
        project=layer_norm_lstm_project,
        step=layer_norm_lstm_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=layer_norm_lstm_forward,
            backward=layer_norm_lstm_backward,
            accumulate=layer_norm_lstm_accumulate,
        ),
    )
