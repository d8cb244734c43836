"""Normalisation of features to mean 0 and variance 1, and its transpose."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from .._typing import Array

EPSILON = 1e-5  # added to the variance


class Normalized(NamedTuple):
    """Values normalised over the last axis, and the factor that did it."""

    values: Array  # (..., F)
    rate: Array  # (..., 1), 1 / sqrt(variance + epsilon), which they were scaled by


def normalized(v: Array, epsilon: float = EPSILON) -> Normalized:
    """Normalise over the last axis: ``(v - mean) / sqrt(variance + epsilon)``."""
    centred = v - v.mean(axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    rate = lax.rsqrt(variance + jnp.asarray(epsilon, v.dtype))
    return Normalized(values=centred * rate, rate=rate)


def normalized_transposed(dn: Array, n: Normalized) -> Array:
    """Pull the cotangent ``dn`` of :func:`normalized` back to its argument.

    Neither a shift of v nor, but for epsilon, its scale changes anything: so both are
    taken out of the cotangent::

        dv = rate * (dn - mean(dn) - n mean(dn n))
    """
    shift = dn.mean(axis=-1, keepdims=True)
    scale = jnp.mean(dn * n.values, axis=-1, keepdims=True)
    return n.rate * (dn - shift - n.values * scale)
