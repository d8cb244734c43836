"""The simple recurrent network of Jordan, which feeds its output back.

Forward, with ``s`` and ``q`` any activations::

    a_x = x W_x                                 project
    a   = a_x + y_prev W_h + b
    h   = s(a)
    a_y = h W_y + b_y
    y   = q(a_y)

Backward, with ``dy`` the sum of the cotangents of the output and of the state, which
are the same thing::

    da_y    = q'(a_y) * dy
    da      = s'(a) * (da_y W_y^T)
    dy_prev = da W_h^T

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum y_prev^T da    db   = sum da
    dW_y = sum h^T da_y      dx   = da W_x^T           db_y = sum da_y
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import Activation, activation_transposed, identity, kept_of
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
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform
from ._shared import checked_init, project_inputs, zero_state


class JordanParams(NamedTuple):
    """Parameters of :func:`jordan`."""

    w_x: Array  # (I, H)
    w_h: Array  # (O, H), for the output of the step before
    b: Array  # (H,)
    w_y: Array  # (H, O)
    b_y: Array  # (O,)


class JordanResidual(NamedTuple):
    """What the backward pass of a step needs."""

    y_prev: Array  # (*B, O)
    h: Array  # (*B, H)
    y: Array  # (*B, O)
    a: Array | None  # (*B, H), None where the derivative has a formula in h
    a_y: Array | None  # (*B, O), None where the derivative has a formula in y


def jordan_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    output_size: int,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
    w_y_init: Initializer = glorot_uniform,
) -> JordanParams:
    """Draw the weights; the biases are zero."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_h, key_y = jax.random.split(key, 3)
    return JordanParams(
        w_x=w_x_init(key_x, (input_size, hidden_size), float_dtype),
        w_h=w_h_init(key_h, (output_size, hidden_size), float_dtype),
        b=jnp.zeros((hidden_size,), float_dtype),
        w_y=w_y_init(key_y, (hidden_size, output_size), float_dtype),
        b_y=jnp.zeros((output_size,), float_dtype),
    )


def jordan_step(
    params: JordanParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = identity,
) -> tuple[Array, Array]:
    """One step; the new state is the output."""
    return _forward(params, state, a_x, activation, output_activation, dot)[:2]


def jordan_forward(
    params: JordanParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = identity,
) -> tuple[Array, Array, JordanResidual]:
    """One step and its residual."""
    return _forward(params, state, a_x, activation, output_activation, dot_in_loop)


def _forward(
    params: JordanParams,
    state: Array,
    a_x: Array,
    activation: Activation,
    output_activation: Activation,
    recurrent_dot: Product,
) -> tuple[Array, Array, JordanResidual]:
    a = add_bias(a_x + recurrent_dot(state, params.w_h), params.b)
    h = activation(a)
    a_y = add_bias(recurrent_dot(h, params.w_y), params.b_y)
    y = output_activation(a_y)
    kept = {"a": kept_of(activation, a), "a_y": kept_of(output_activation, a_y)}
    residual = JordanResidual(y_prev=state, h=h, y=y, **kept)
    return y, y.astype(params.w_h.dtype), residual


def jordan_backward(
    params: JordanParams,
    residual: JordanResidual,
    dstate: Array,
    dy: Array,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = identity,
) -> tuple[Array, tuple[Array, Array]]:
    """Transpose of one step; cotangents of both pre-activations."""
    _, h, y, a, a_y = residual
    dy = dstate + dy.astype(dstate.dtype)
    da_y = activation_transposed(output_activation, y, a_y, dy)
    dh = dot_transposed(da_y, params.w_y)
    da = activation_transposed(activation, h, a, dh)
    return dot_transposed(da, params.w_h), (da, da_y)


def jordan_accumulate(
    params: JordanParams,
    xs: Array,
    residuals: JordanResidual,
    da_xs: tuple[Array, Array],
) -> tuple[JordanParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    das, da_ys = da_xs
    dparams = JordanParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.y_prev, das, params.w_h),
        b=leading_sum(das, params.b),
        w_y=outer_sum(residuals.h, da_ys, params.w_y),
        b_y=leading_sum(da_ys, params.b_y),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def jordan(
    hidden_size: int,
    output_size: int,
    *,
    activation: Activation = jnp.tanh,
    output_activation: Activation = identity,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
    w_y_init: Initializer = glorot_uniform,
) -> Cell:
    """Jordan network: a hidden layer that reads the network's last output.

    ``y = q(s(x W_x + y_prev W_h + b) W_y + b_y)``. The state is the output
    ``y (*B, O)``.

    Args:
        hidden_size: H.
        output_size: O.
        activation: s, any function of arrays.
        output_activation: q, any function of arrays; the identity by default.
        w_x_init: initialiser of ``w_x (I, H)``.
        w_h_init: initialiser of ``w_h (O, H)``.
        w_y_init: initialiser of ``w_y (H, O)``.

    Returns:
        A :class:`Cell` with parameters :class:`JordanParams`.

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int, or an activation is not callable.

    Differs from Jordan's network, whose plan units also keep a share of their own past.
    torch, Keras and Flax have no such cell.

    References:
        Jordan, Serial order: a parallel distributed processing approach, 1986.

    >>> cell = jordan(5, 2)
    >>> params = cell.init(jax.random.key(0), 3)
    >>> state = cell.initial_state(params, (4,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((4, 3))))
    >>> params.w_h.shape, y.shape
    ((2, 5), (4, 2))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    output_size = check_size("output_size", output_size)
    check_activation("activation", activation)
    check_activation("output_activation", output_activation)
    activations = {"activation": activation, "output_activation": output_activation}
    return Cell(
        init=functools.partial(
            jordan_init,
            hidden_size=hidden_size,
            output_size=output_size,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
            w_y_init=w_y_init,
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=functools.partial(jordan_step, **activations),
        output_size=output_size,
        adjoint=Adjoint(
            forward=functools.partial(jordan_forward, **activations),
            backward=functools.partial(jordan_backward, **activations),
            accumulate=jordan_accumulate,
        ),
    )
