"""Arrays that a loop over time reads from and writes to in place."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._typing import Array

# No index here is negative, and saying so saves a step some work.
_FROM_ZERO = {"allow_negative_indices": False}


def at(tree: Any, index: Array) -> Any:
    def at(leaf):
        return lax.dynamic_index_in_dim(leaf, index, keepdims=False, **_FROM_ZERO)

    return jax.tree.map(at, tree)


def write(tree: Any, entry: Any, index: Array) -> Any:
    def write(leaf, part):
        return lax.dynamic_update_index_in_dim(leaf, part, index, 0, **_FROM_ZERO)

    return jax.tree.map(write, tree, entry)


def slice_of(tree: Any, start: Array, size: int) -> Any:
    def part(leaf):
        return lax.dynamic_slice_in_dim(leaf, start, size, **_FROM_ZERO)

    return jax.tree.map(part, tree)


def write_slice(tree: Any, part: Any, start: Array) -> Any:
    def write(leaf, part):
        return lax.dynamic_update_slice_in_dim(leaf, part, start, 0, **_FROM_ZERO)

    return jax.tree.map(write, tree, part)


def buffer(shapes: Any, length: int) -> Any:
    """Zeros ``(length, ...)`` for entries of these shapes."""
    return jax.tree.map(lambda s: jnp.zeros((length, *s.shape), s.dtype), shapes)


def only(kept: Any, made: Any) -> Any:
    """What is made for the buffers that there are."""
    return jax.tree.map(
        lambda buffer, made: None if buffer is None else made,
        kept,
        made,
        is_leaf=lambda buffer: buffer is None,
    )
