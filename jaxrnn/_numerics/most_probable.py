"""The most probable class of some logits, if none of them is NaN."""

import jax.numpy as jnp

from .._typing import Array

NONE = -1
"""The class of logits that are NaN: no label, and NaN to an embedding."""


def most_probable(logits: Array) -> Array:
    """Return the class of the largest logit ``(*B, V)``; ``NONE`` if one is NaN."""
    return none_of_nan(logits, jnp.argmax(logits, axis=-1))


def none_of_nan(logits: Array, symbols: Array) -> Array:
    """Set tokens to ``NONE`` where their logits contain a NaN."""
    is_nan = jnp.isnan(logits).any(axis=-1)
    return jnp.where(is_nan, jnp.full_like(symbols, NONE), symbols)
