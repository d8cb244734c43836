"""The class with the largest of some logits, where there is one."""

import jax.numpy as jnp

from .._typing import Array

NONE = -1
"""The class of logits that are NaN: no label, and NaN to an embedding."""


def most_probable(logits: Array) -> Array:
    """Integers ``(*B)`` of logits ``(*B, V)``; ``NONE`` where one of them is NaN."""
    return none_of_nan(logits, jnp.argmax(logits, axis=-1))


def none_of_nan(logits: Array, symbols: Array) -> Array:
    """``symbols``, drawn by these logits; ``NONE`` where one of the logits is NaN."""
    is_nan = jnp.isnan(logits).any(axis=-1)
    return jnp.where(is_nan, jnp.full_like(symbols, NONE), symbols)
