"""A leaky integrator: the simple recurrent network in continuous time.

Forward, with ``s`` any activation, ``p`` what is kept and ``k`` the rate, here
``p = 1 - k``::

    a_x = x W_x                                 project
    a   = a_x + h_prev W_h + b
    n   = s(a)
    h   = p * h_prev + k * n
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    da      = s'(a) * k * dh
    dh_prev = p * dh + da W_h^T

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import Activation, activation_transposed, kept_of
from .._numerics.precision import Product, add_bias, dot, dot_in_loop, dot_transposed
from .._options import check_positive, check_size
from .._typing import Array
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import project_inputs, step_of, zero_state
from .elman import ElmanParams, elman_accumulate, elman_init


class LeakyIntegratorResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H)
    n: Array  # (*B, H)
    a: Array | None  # (*B, H), None where the derivative has a formula in n


def leaky_integrator_forward(
    params: ElmanParams,
    state: Array,
    a_x: Array,
    *,
    kept: float,
    rate: float,
    activation: Activation = jnp.tanh,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[Array, Array, LeakyIntegratorResidual]:
    """One step and its residual."""
    a = add_bias(a_x + recurrent_dot(state, params.w_h), params.b)
    n = activation(a)
    h = kept * state + rate * n
    residual = LeakyIntegratorResidual(h_prev=state, n=n, a=kept_of(activation, a))
    return h, h.astype(params.w_h.dtype), residual


leaky_integrator_step = step_of(leaky_integrator_forward, recurrent_dot=dot)


def leaky_integrator_backward(
    params: ElmanParams,
    residual: LeakyIntegratorResidual,
    dstate: Array,
    dy: Array,
    *,
    kept: float,
    rate: float,
    activation: Activation = jnp.tanh,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    dh = dstate + dy.astype(dstate.dtype)
    da = activation_transposed(activation, residual.n, residual.a, rate * dh)
    return kept * dh + recurrent_dot_transposed(da, params.w_h), (da,)


@described
def leaky_integrator(
    hidden_size: int,
    *,
    time_constant: float,
    step_size: float = 1.0,
    activation: Activation = jnp.tanh,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Leaky integrator: ``h = (1 - k) h_prev + k s(x W_x + h_prev W_h + b)``.

    This is one Euler step of ``tau dh/dt = -h + s(x W_x + h W_h + b)`` with
    ``k = step_size / time_constant``. The state is ``h (*B, H)`` and so is the output.
    With k = 1 it is :func:`jaxrnn.elman`.

    Args:
        hidden_size: H.
        time_constant: tau, in the unit of ``step_size``.
        step_size: time from one input to the next, at most ``time_constant``.
        activation: s, any function of arrays.
        w_x_init: initialiser of ``w_x (I, H)``.
        w_h_init: initialiser of ``w_h (H, H)``.

    Returns:
        A :class:`Cell` with parameters :class:`ElmanParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1, ``time_constant`` or ``step_size`` is
            not positive, or ``step_size`` is above ``time_constant``.
        TypeError: ``hidden_size`` is not an int, a time is not a number, or
            ``activation`` is not callable.

    torch, Keras and Flax have no such cell.

    References:
        Jaeger et al., Optimization and applications of echo state networks with
        leaky-integrator neurons, 2007. Funahashi and Nakamura, Approximation of
        dynamical systems by continuous time recurrent neural networks, 1993.

    >>> import jax
    >>> cell = leaky_integrator(5, time_constant=10.0)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> y.shape
    (3, 5)
    """
    tau = check_positive("time_constant", time_constant)
    step = check_positive("step_size", step_size)
    if step > tau:
        raise ValueError(
            f"step_size must be at most time_constant = {tau}, got {step}: Euler steps "
            "of a decay must not be longer than its time constant"
        )
    rate = step / tau
    return integrator(hidden_size, 1 - rate, rate, activation, w_x_init, w_h_init)


@described
def integrator(
    hidden_size: int,
    kept: float,
    rate: float,
    activation: Activation,
    w_x_init: Initializer,
    w_h_init: Initializer,
) -> Cell:
    """``h = kept * h_prev + rate * s(x W_x + h_prev W_h + b)``, for any two numbers."""
    hidden_size = check_size("hidden_size", hidden_size)
    check_activation("activation", activation)
    options = {"kept": kept, "rate": rate, "activation": activation}
    return Cell(
        init=functools.partial(
            elman_init, hidden_size=hidden_size, w_x_init=w_x_init, w_h_init=w_h_init
        ),
        initial_state=zero_state,
        project=project_inputs,
        step=functools.partial(leaky_integrator_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(leaky_integrator_forward, **options),
            backward=functools.partial(leaky_integrator_backward, **options),
            accumulate=elman_accumulate,
        ),
    )
