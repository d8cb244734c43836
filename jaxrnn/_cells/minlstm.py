"""minLSTM: forget and input gate that see the input alone, and add up to 1.

Forward, with ``s`` the logistic sigmoid, ``l`` its logarithm, ``g`` any activation, and
blocks in the order i, f, n::

    a_x = x W_x                                 project
    a_i, a_f, a_n = split(a_x + b)
    k   = s(a_f) / (s(a_f) + s(a_i)) = s(l(a_f) - l(a_i))
    n   = g(a_n)
    h   = k * h_prev + (1 - k) * n
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    d       = dh * (h_prev - n) * k * (1 - k)
    da_i    = -d * s(-a_i)
    da_f    = d * s(-a_f)
    da_n    = g'(a_n) * dh * (1 - k)
    dh_prev = dh * k

Accumulated over all steps::

    dW_x = sum x^T da        db = sum da        dx = da W_x^T

As no product with ``h_prev`` is in a step, it is linear: ``k`` is the decay and
``(1 - k) * n`` the drive of :func:`jaxrnn.unroll_associative`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._activation import Activation, activation_transposed, identity, kept_of
from .._base import Adjoint, Cell
from .._checks import check_activation, check_floating, check_size
from .._precision import (
    accumulation_dtype,
    add_bias,
)
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, per_gate
from .mingru import mingru_accumulate, mingru_project

NUM_GATES = 3


class MinLSTMParams(NamedTuple):
    """Parameters of :func:`minlstm`; blocks in the order i, f, n."""

    w_x: Array  # (I, 3H)
    b: Array  # (3H,)


class MinLSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    n: Array
    a: Array  # (*B, 3H)


def minlstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
) -> MinLSTMParams:
    """Draw the weights block by block; the bias is zero but for the forget gate."""
    input_size = check_size("input_size", input_size)
    float_dtype = check_floating("dtype", dtype)
    shape = (input_size, NUM_GATES * hidden_size)
    b = jnp.zeros(shape[1:], float_dtype)
    return MinLSTMParams(
        w_x=per_gate(w_x_init, NUM_GATES)(key, shape, float_dtype),
        b=b.at[hidden_size : 2 * hidden_size].set(forget_bias),
    )


def minlstm_initial_state(params: MinLSTMParams, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, H)``."""
    shape = (*batch_shape, params.b.shape[0] // NUM_GATES)
    return jnp.zeros(shape, accumulation_dtype(params.b.dtype))


def _decay(a: Array) -> tuple[Array, Array]:
    """``k`` and ``1 - k``, each without cancellation."""
    a_i, a_f, _ = jnp.split(a, NUM_GATES, axis=-1)
    # In logarithms: both gates may be too small for their ratio.
    ratio = jax.nn.log_sigmoid(a_f) - jax.nn.log_sigmoid(a_i)
    return jax.nn.sigmoid(ratio), jax.nn.sigmoid(-ratio)


def minlstm_coefficients(
    params: MinLSTMParams, a_xs: Array, *, activation: Activation = identity
) -> tuple[Array, Array]:
    """``k`` and ``(1 - k) * n`` of all steps."""
    a = add_bias(a_xs, params.b)
    decay, share = _decay(a)
    return decay, share * activation(jnp.split(a, NUM_GATES, axis=-1)[2])


def minlstm_step(
    params: MinLSTMParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = identity,
) -> tuple[Array, Array]:
    """One step; the output is the new state."""
    return minlstm_forward(params, state, a_x, activation=activation)[:2]


def minlstm_forward(
    params: MinLSTMParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = identity,
) -> tuple[Array, Array, MinLSTMResidual]:
    """One step and its residual."""
    a = add_bias(a_x, params.b)
    decay, share = _decay(a)
    n = activation(jnp.split(a, NUM_GATES, axis=-1)[2])
    h = decay * state + share * n
    return h, h.astype(params.b.dtype), MinLSTMResidual(h_prev=state, n=n, a=a)


def minlstm_backward(
    params: MinLSTMParams,
    residual: MinLSTMResidual,
    dstate: Array,
    dy: Array,
    *,
    activation: Activation = identity,
) -> tuple[Array, Array]:
    """Transpose of one step."""
    h_prev, n, a = residual
    a_i, a_f, a_n = jnp.split(a, NUM_GATES, axis=-1)
    decay, share = _decay(a)
    dh = dstate + dy.astype(dstate.dtype)
    dratio = dh * (h_prev - n) * decay * share
    da_i = -dratio * jax.nn.sigmoid(-a_i)
    da_f = dratio * jax.nn.sigmoid(-a_f)
    kept = kept_of(activation, a_n)
    da_n = activation_transposed(activation, n, kept, dh * share)
    return dh * decay, jnp.concatenate([da_i, da_f, da_n], axis=-1)


def minlstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    activation: Activation = identity,
    w_x_init: Initializer = glorot_uniform,
) -> Cell:
    """minLSTM: ``h = f' h_prev + i' n``, with ``f' + i' = 1``.

    Gates and candidate are of the input alone. The state is ``h (*B, H)`` and so is the
    output. A step is linear in the state:
    :func:`jaxrnn.unroll_associative` runs it without a loop over time.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        activation: g of the candidate, any function of arrays; by default there is
            none, as in the paper's vanilla form; its log-space form needs one with
            positive values.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.

    Returns:
        A :class:`Cell` with parameters :class:`MinLSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, or ``activation`` not callable.

    torch, Keras and Flax have no such cell.

    References:
        Feng et al., Were RNNs all we needed?, 2024.

    >>> cell = minlstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_x.shape, y.shape
    ((2, 15), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    check_activation("activation", activation)
    return Cell(
        init=functools.partial(
            minlstm_init,
            hidden_size=hidden_size,
            forget_bias=forget_bias,
            w_x_init=w_x_init,
        ),
        initial_state=minlstm_initial_state,
        project=mingru_project,
        step=functools.partial(minlstm_step, activation=activation),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(minlstm_forward, activation=activation),
            backward=functools.partial(minlstm_backward, activation=activation),
            accumulate=mingru_accumulate,
        ),
        coefficients=functools.partial(minlstm_coefficients, activation=activation),
    )
