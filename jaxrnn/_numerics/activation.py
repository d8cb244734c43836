"""Activations of cells and their derivatives, by formula where one is known."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from .._descriptions.known import known
from .._typing import Array

Activation: TypeAlias = Callable[[Array], Array]


@known
def identity(a: Array) -> Array:
    """Return ``a``: no activation."""
    return a


def _tanh_derivative(h: Array) -> Array:
    return 1 - h * h


def _relu_derivative(h: Array) -> Array:
    return (h > 0).astype(h.dtype)


def _leaky_relu_derivative(h: Array) -> Array:
    return jnp.where(h >= 0, jnp.ones_like(h), jnp.full_like(h, 0.01))


_DERIVATIVES = [
    (jnp.tanh, _tanh_derivative),
    (jax.nn.tanh, _tanh_derivative),
    (jax.lax.tanh, _tanh_derivative),
    (jax.nn.relu, _relu_derivative),
    (jax.nn.leaky_relu, _leaky_relu_derivative),
    (identity, jnp.ones_like),
]


def _derivative(activation: Activation) -> Callable[[Array], Array] | None:
    """Return the derivative as a function of ``h = s(a)``, if a formula is known."""
    return next((d for known, d in _DERIVATIVES if known is activation), None)


def kept_of(activation: Activation, a: Array) -> Array | None:
    """Return ``a``, or None if ``h`` alone gives the derivative of the activation."""
    return a if _derivative(activation) is None else None


def activation_transposed(
    activation: Activation, h: Array, kept: Array | None, dh: Array
) -> Array:
    """Compute ``s'(a) * dh`` from ``h = s(a)`` and the result of :func:`kept_of`."""
    derivative = _derivative(activation)
    if derivative is not None:
        return derivative(h) * dh
    _, pull = jax.vjp(activation, kept)
    return pull(dh)[0]
