"""minLSTM: forget and input gates that see only the input and add up to 1.

Forward, with ``s`` the logistic sigmoid, ``g`` any activation, and blocks in the order
i, f, n::

    a   = x W_x + b                             project
    k   = s(a_f) / (s(a_f) + s(a_i))
    n   = g(a_n)
    u   = (1 - k) * n
    h   = k * h_prev + u
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    dk      = dh * h_prev
    du      = dh
    dh_prev = dh * k

Accumulated over all steps::

    d    = (dk - du * n) * k * (1 - k)
    da_i = -d * s(-a_i)
    da_f = d * s(-a_f)
    da_n = g'(a_n) * du * (1 - k)
    dW_x = sum x^T da        db = sum da        dx = da W_x^T

No gate sees the state, so that all of them are projected, and a step is two operations
on ``k`` and ``u``, the decay and the drive of :func:`jaxrnn.unroll_associative`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Adjoint, Cell
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import Activation, activation_transposed, identity, kept_of
from .._numerics.precision import (
    add_bias,
    dot_transposed,
    leading_sum,
    outer_sum,
)
from .._options import check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, per_gate
from ._shared import batch_zeros, checked_init, project_inputs, step_of

NUM_GATES = 3


class MinLSTMParams(NamedTuple):
    """Parameters of :func:`minlstm`; blocks in the order i, f, n."""

    w_x: Array  # (I, 3H)
    b: Array  # (3H,)


class MinLSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    k: Array


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
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    shape = (input_size, NUM_GATES * hidden_size)
    b = jnp.zeros(shape[1:], float_dtype)
    return MinLSTMParams(
        w_x=per_gate(w_x_init, NUM_GATES)(key, shape, float_dtype),
        b=b.at[hidden_size : 2 * hidden_size].set(forget_bias),
    )


def minlstm_initial_state(params: MinLSTMParams, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, H)``."""
    size = params.b.shape[0] // NUM_GATES
    return batch_zeros((size,), batch_shape, params.b.dtype)


def _gates(
    params: MinLSTMParams, xs: Array, activation: Activation
) -> tuple[Array, Array, Array, Array]:
    """Compute pre-activations, decay ``k``, input share ``1 - k``, candidate ``n``."""
    a = add_bias(project_inputs(params, xs), params.b)
    a_i, a_f, a_n = jnp.split(a, NUM_GATES, axis=-1)
    # With s(a) = 1 / (1 + exp(-a)), k and 1 - k are shares of a sum of exponentials. In
    # multiples of the largest one, no term overflows, and the sum is at least 1.
    largest = lax.stop_gradient(jnp.maximum(jnp.maximum(-a_i, -a_f), 0))
    one, e_i, e_f = (jnp.exp(x - largest) for x in (0, -a_i, -a_f))
    total = (one + e_i) + (one + e_f)
    return a, (one + e_i) / total, (one + e_f) / total, activation(a_n)


def minlstm_project(
    params: MinLSTMParams, xs: Array, *, activation: Activation = identity
) -> Array:
    """Compute decay ``k`` and drive ``u``, concatenated to ``(..., 2H)``."""
    _, k, rest, n = _gates(params, xs, activation)
    return jnp.concatenate([k, rest * n], axis=-1)


def minlstm_coefficients(params: MinLSTMParams, a_xs: Array) -> tuple[Array, Array]:
    """Return decay ``k`` and drive ``u`` of all steps."""
    k, u = jnp.split(a_xs, 2, axis=-1)
    return k, u


def minlstm_forward(
    params: MinLSTMParams, state: Array, a_x: Array
) -> tuple[Array, Array, MinLSTMResidual]:
    """One step and its residual."""
    k, u = jnp.split(a_x, 2, axis=-1)
    h = k * state + u
    return h, h.astype(params.b.dtype), MinLSTMResidual(h_prev=state, k=k)


minlstm_step = step_of(minlstm_forward)


def minlstm_backward(
    params: MinLSTMParams, residual: MinLSTMResidual, dstate: Array, dy: Array
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    dh = dstate + dy.astype(dstate.dtype)
    da_x = jnp.concatenate([dh * residual.h_prev, dh], axis=-1)
    return dh * residual.k, (da_x,)


def minlstm_accumulate(
    params: MinLSTMParams,
    xs: Array,
    residuals: MinLSTMResidual,
    da_xs: tuple[Array],
    *,
    activation: Activation = identity,
) -> tuple[MinLSTMParams, Array]:
    """Transpose of ``project``, which computes the gates once more."""
    a, k, rest, n = _gates(params, xs, activation)
    a_i, a_f, a_n = jnp.split(a, NUM_GATES, axis=-1)
    dk, du = jnp.split(da_xs[0], 2, axis=-1)
    d = (dk - du * n) * k * rest
    da_n = activation_transposed(activation, n, kept_of(activation, a_n), du * rest)
    das = [-d * jax.nn.sigmoid(-a_i), d * jax.nn.sigmoid(-a_f), da_n]
    da = jnp.concatenate(das, axis=-1)
    dparams = MinLSTMParams(
        w_x=outer_sum(xs, da, params.w_x), b=leading_sum(da, params.b)
    )
    return dparams, dot_transposed(da, params.w_x).astype(xs.dtype)


@described
def minlstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    activation: Activation = identity,
    w_x_init: Initializer = glorot_uniform,
) -> Cell:
    """minLSTM: ``h = f' h_prev + i' n``, with ``f' + i' = 1``.

    Gates and candidate depend only on the input. The state is ``h (*B, H)`` and so is
    the output. A step is linear in the state: :func:`jaxrnn.unroll_associative` runs it
    without a loop over time.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        activation: g of the candidate, any function of arrays; the identity by
            default, as in the paper's vanilla form. Its log-space form needs positive
            values.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.

    Returns:
        A :class:`Cell` with parameters :class:`MinLSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, or ``activation`` is not callable.

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
        project=functools.partial(minlstm_project, activation=activation),
        step=minlstm_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=minlstm_forward,
            backward=minlstm_backward,
            accumulate=functools.partial(minlstm_accumulate, activation=activation),
        ),
        coefficients=minlstm_coefficients,
    )
