"""Inputs of a program, and sizes that are numbers or symbols."""

from typing import Any

import jax.numpy as jnp

from .._checks import as_array, check_integers
from .._typing import Array, ArrayLike


def check_inputs(
    name: str, values: ArrayLike, axes: tuple[str, ...], like: Any
) -> Array:
    """Return inputs as an array of the shape and dtype that a program takes."""
    array = as_array(name, values)
    tokens = jnp.issubdtype(like.dtype, jnp.integer)
    if tokens:
        array = _narrow(check_integers(name, array))
    fits = len(array.shape) == len(like.shape) and all(
        fixed(wanted) in (None, size)
        for size, wanted in zip(array.shape, like.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must have shape {written(axes, like.shape)}, got shape "
            f"{array.shape}"
        )
    if 0 in array.shape:
        raise ValueError(
            f"{name} must have at least one step and one batch entry, got shape "
            f"{array.shape}"
        )
    if array.dtype != like.dtype:
        raise TypeError(
            f"{name} must have dtype {like.dtype.name}, as the parameters have, got "
            f"{array.dtype.name}: cast with {name}.astype({like.dtype.name!r})"
        )
    return array


def _narrow(tokens: Array) -> Array:
    """Return integers as int32; those too large stay out of the vocabulary."""
    largest = jnp.iinfo(jnp.int32).max
    if jnp.issubdtype(tokens.dtype, jnp.unsignedinteger):
        tokens = jnp.minimum(tokens, largest)
    elif tokens.dtype.itemsize > 4:
        tokens = jnp.clip(tokens, -1, largest)
    return tokens.astype(jnp.int32)


def fixed(size: Any) -> int | None:
    """Return a size that is a number; None for a symbol."""
    return size if isinstance(size, int) else None


def written(axes: tuple[str, ...], shape: Any) -> str:
    """Write a shape, with the name of each axis that may have any size."""
    names = [*axes, *[""] * len(shape)]
    pairs = zip(names, map(fixed, shape), strict=False)
    words = [name if size is None else str(size) for name, size in pairs]
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"
