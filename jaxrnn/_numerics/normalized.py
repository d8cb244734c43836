"""Features with mean 0 and variance 1, and the transpose of that."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from .._typing import Array

EPSILON = 1e-5  # added to the variance


class Normalized(NamedTuple):
    """What was normalised over its last axis."""

    values: Array  # (..., F)
    rate: Array  # (..., 1), 1 / sqrt(variance + epsilon), which they were scaled by


def normalized(v: Array, epsilon: float = EPSILON) -> Normalized:
    """``(v - mean) / sqrt(variance + epsilon)``, over the last axis."""
    centred = v - v.mean(axis=-1, keepdims=True)
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    rate = lax.rsqrt(variance + jnp.asarray(epsilon, v.dtype))
    return Normalized(values=centred * rate, rate=rate)


def normalized_transposed(dn: Array, n: Normalized) -> Array:
    """The cotangent of ``v``, from ``dn`` of what :func:`normalized` made of it.

    Neither a shift of v nor, but for epsilon, its scale changes anything: so both are
    taken out of the cotangent::

        dv = rate * (dn - mean(dn) - n mean(dn n))
    """
    shift = dn.mean(axis=-1, keepdims=True)
    scale = jnp.mean(dn * n.values, axis=-1, keepdims=True)
    return n.rate * (dn - shift - n.values * scale)
