"""The independently recurrent network: each unit sees only its own past.

Forward, with ``s`` any activation::

    a_x = x W_x                                 project
    a   = a_x + u * h_prev + b
    h   = s(a)
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    da      = s'(a) * dh
    dh_prev = da * u

Accumulated over all steps::

    dW_x = sum x^T da        du = sum h_prev * da
    db   = sum da            dx = da W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import Activation, activation_transposed, kept_of
from .._numerics.precision import (
    add_bias,
    dot_transposed,
    leading_sum,
    outer_sum,
    scaled,
)
from .._options import check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform
from ._shared import batch_zeros, checked_init, project_inputs, step_of
from .elman import ElmanResidual


class IndRNNParams(NamedTuple):
    """Parameters of :func:`indrnn`."""

    w_x: Array  # (I, H)
    u: Array  # (H,), what each unit takes of its own past
    b: Array  # (H,)


def indrnn_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
    u_init: Initializer = jax.random.uniform,
) -> IndRNNParams:
    """Draw the weights; the bias is zero."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_u = jax.random.split(key)
    return IndRNNParams(
        w_x=w_x_init(key_x, (input_size, hidden_size), float_dtype),
        u=u_init(key_u, (hidden_size,), float_dtype),
        b=jnp.zeros((hidden_size,), float_dtype),
    )


def indrnn_initial_state(params: IndRNNParams, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, H)``."""
    return batch_zeros(params.u.shape, batch_shape, params.u.dtype)


def indrnn_forward(
    params: IndRNNParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = jax.nn.relu,
) -> tuple[Array, Array, ElmanResidual]:
    """One step and its residual."""
    a = add_bias(a_x + scaled(state, params.u), params.b)
    h = activation(a)
    residual = ElmanResidual(h_prev=state, h=h, a=kept_of(activation, a))
    return h, h.astype(params.u.dtype), residual


indrnn_step = step_of(indrnn_forward)


def indrnn_backward(
    params: IndRNNParams,
    residual: ElmanResidual,
    dstate: Array,
    dy: Array,
    *,
    activation: Activation = jax.nn.relu,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    dh = dstate + dy.astype(dstate.dtype)
    da = activation_transposed(activation, residual.h, residual.a, dh)
    return scaled(da, params.u), (da,)


def indrnn_accumulate(
    params: IndRNNParams, xs: Array, residuals: ElmanResidual, da_xs: tuple[Array]
) -> tuple[IndRNNParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = IndRNNParams(
        w_x=outer_sum(xs, das, params.w_x),
        u=leading_sum(residuals.h_prev * das, params.u),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def indrnn(
    hidden_size: int,
    *,
    activation: Activation = jax.nn.relu,
    w_x_init: Initializer = glorot_uniform,
    u_init: Initializer = jax.random.uniform,
) -> Cell:
    """Independently recurrent network: ``h = s(x W_x + u * h_prev + b)``.

    The state is ``h (*B, H)`` and so is the output. Units do not interact within a
    layer; stack layers to mix them.

    Args:
        hidden_size: H.
        activation: s, any function of arrays.
        w_x_init: initialiser of ``w_x (I, H)``.
        u_init: initialiser of ``u (H,)``; the default is uniform between 0 and 1. For
            memory over T steps the paper keeps ``|u|`` at or below ``2^(1/T)``.

    Returns:
        A :class:`Cell` with parameters :class:`IndRNNParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, or ``activation`` is not callable.

    torch, Keras and Flax have no such cell.

    References:
        Li et al., Independently recurrent neural network (IndRNN): building a longer
        and deeper RNN, 2018.

    >>> cell = indrnn(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.u.shape, y.shape
    ((5,), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    check_activation("activation", activation)
    options = {"activation": activation}
    return Cell(
        init=functools.partial(
            indrnn_init, hidden_size=hidden_size, w_x_init=w_x_init, u_init=u_init
        ),
        initial_state=indrnn_initial_state,
        project=project_inputs,
        step=functools.partial(indrnn_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(indrnn_forward, **options),
            backward=functools.partial(indrnn_backward, **options),
            accumulate=indrnn_accumulate,
        ),
    )
