"""The simple recurrent network of Elman.

Forward, with ``s`` any activation::

    a_x = x W_x                                 project
    a   = a_x + h_prev W_h + b
    h   = s(a)
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    da     = s'(a) * dh
    dh_prev = da W_h^T

    tanh:        s'(a) = 1 - h^2
    ReLU:        s'(a) = 1 where h > 0, else 0
    leaky ReLU:  s'(a) = 1 where h >= 0, else 0.01

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Kernel
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import (
    Activation,
    activation_transposed,
    identity,
    kept_of,
)
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
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of, zero_state


class ElmanParams(NamedTuple):
    """Parameters of :func:`elman`."""

    w_x: Array  # (I, H)
    w_h: Array  # (H, H)
    b: Array  # (H,)


class ElmanResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H)
    h: Array  # (*B, H)
    a: Array | None  # (*B, H), None where the derivative has a formula in h


def elman_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> ElmanParams:
    """Draw the weights; the bias is zero."""
    w_x, w_h = draw_gates(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    return ElmanParams(w_x=w_x, w_h=w_h, b=jnp.zeros(w_x.shape[1:], w_x.dtype))


def elman_forward(
    params: ElmanParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = jnp.tanh,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[Array, Array, ElmanResidual]:
    """One step and its residual."""
    a = add_bias(a_x + recurrent_dot(state, params.w_h), params.b)
    h = activation(a)
    residual = ElmanResidual(h_prev=state, h=h, a=kept_of(activation, a))
    return h, h.astype(params.w_h.dtype), residual


elman_step = step_of(elman_forward, recurrent_dot=dot)


def elman_backward(
    params: ElmanParams,
    residual: ElmanResidual,
    dstate: Array,
    dy: Array,
    *,
    activation: Activation = jnp.tanh,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    dh = dstate + dy.astype(dstate.dtype)
    da = activation_transposed(activation, residual.h, residual.a, dh)
    return recurrent_dot_transposed(da, params.w_h), (da,)


def elman_accumulate(
    params: ElmanParams, xs: Array, residuals: ElmanResidual, da_xs: tuple[Array]
) -> tuple[ElmanParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = ElmanParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


_KERNELS = [
    (jnp.tanh, "elman_tanh"),
    (jax.nn.tanh, "elman_tanh"),
    (jax.lax.tanh, "elman_tanh"),
    (jax.nn.relu, "elman_relu"),
    (jax.nn.leaky_relu, "elman_leaky_relu"),
    (identity, "elman_identity"),
]


def _kernel(activation: Activation) -> Kernel | None:
    names = (name for known, name in _KERNELS if known is activation)
    return next((Kernel(name, num_kept=0) for name in names), None)


@described
def elman(
    hidden_size: int,
    *,
    activation: Activation = jnp.tanh,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Simple recurrent cell: ``h = s(x W_x + h_prev W_h + b)``.

    The state is ``h (*B, H)`` and so is the output.

    Args:
        hidden_size: H.
        activation: s, any function of arrays. The adjoint has formulas for
            ``jnp.tanh``, ``jax.nn.relu`` and ``jax.nn.leaky_relu`` (slope 0.01); JAX
            differentiates any other function.
        w_x_init: initialiser of ``w_x (I, H)``.
        w_h_init: initialiser of ``w_h (H, H)``.

    Returns:
        A :class:`Cell` with parameters :class:`ElmanParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, or ``activation`` is not callable.

    Differs from ``torch.nn.RNN`` in having one bias, the sum of the two biases there.

    References:
        Elman, Finding structure in time, 1990.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.elman(5, activation=jax.nn.relu)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> y.shape
    (3, 5)
    """
    hidden_size = check_size("hidden_size", hidden_size)
    check_activation("activation", activation)
    options = {"activation": activation}
    return Cell(
        init=functools.partial(
            elman_init, hidden_size=hidden_size, w_x_init=w_x_init, w_h_init=w_h_init
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=functools.partial(elman_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(elman_forward, **options),
            backward=functools.partial(elman_backward, **options),
            accumulate=elman_accumulate,
        ),
        kernel=_kernel(activation),
    )
