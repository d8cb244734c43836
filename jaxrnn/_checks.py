"""Checks of static facts: shapes, dtypes, structures. None looks at a value.

Each raises while tracing and names the argument, what was expected and what came.
"""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._base import Cell, Layer
from ._typing import Array, ArrayLike, DTypeLike, Shape, State


def check_size(name: str, value: Any, *, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}")
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an int, got {value!r} of type {type(value).__name__}"
        ) from None
    if size < least:
        raise ValueError(f"{name} must be at least {least}, got {size}")
    return size


def check_function(name: str, value: Any) -> Any:
    """Return ``value`` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r:.80}")
    return value


def check_number(name: str, value: Any) -> float:
    """Return ``value`` as a float."""
    try:
        return float(operator.truediv(value, 1))
    except TypeError:
        raise TypeError(f"{name} must be a number, got {value!r}") from None


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r:.80}")
    return bool(value)


def check_finite(name: str, value: Any) -> float:
    """Return ``value`` as a finite number."""
    number = check_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def check_rate(name: str, value: Any) -> float:
    """Return ``value`` as a probability that is not 1."""
    rate = check_number(name, value)
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return rate


def check_positive(name: str, value: Any) -> float:
    """Return ``value`` as a finite number above 0."""
    number = check_number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number


def leaf_name(path: tuple[Any, ...]) -> str | None:
    """The field, or the key, that holds the leaf at ``path`` of a pytree."""
    last = path[-1] if path else None
    return getattr(last, "name", getattr(last, "key", None))


def check_cell(name: str, value: Any) -> Cell:
    """Return ``value`` if it is a cell."""
    if not isinstance(value, Cell):
        hint = ""
        if isinstance(value, Layer):
            hint = ": a layer is run by its own apply"
        elif callable(value):
            hint = ": call the factory, as in jaxrnn.lstm(64)"
        raise TypeError(f"{name} must be a Cell, got {type(value).__name__}{hint}")
    return value


def check_layer(name: str, value: Any) -> Layer:
    """Return ``value`` if it is a layer."""
    if not isinstance(value, Layer):
        hint = ""
        if isinstance(value, Cell):
            hint = ": wrap it in jaxrnn.layer"
        elif isinstance(value, list | tuple):
            hint = ": unpack it, as in jaxrnn.stack(*layers)"
        raise TypeError(f"{name} must be a Layer, got {type(value).__name__}{hint}")
    return value


def check_key(name: str, value: Any) -> Any:
    """Return ``value`` if it is a key of ``jax.random``, of either kind."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key)
        or (dtype == jnp.uint32 and jnp.ndim(value) == 1)
    ):
        return value
    raise TypeError(
        f"{name} must be a key, as jax.random.key(0) makes, got {value!r:.80}"
    )


def check_activation(name: str, value: Any) -> None:
    """Check that ``value`` is a function."""
    if not callable(value):
        raise TypeError(f"{name} must be a function of arrays, got {value!r}")


def check_floating(name: str, dtype: DTypeLike | None) -> Any:
    """Return a floating dtype; None gives JAX's default."""
    try:
        resolved = jnp.zeros((), dtype).dtype
    except TypeError:
        raise TypeError(f"{name} must be a floating dtype, got {dtype!r}") from None
    if not jnp.issubdtype(resolved, jnp.floating):
        raise TypeError(f"{name} must be a floating dtype, got {resolved.name}")
    return resolved


def check_integers(name: str, values: ArrayLike) -> Array:
    """Return ``values`` as an array of integers, of at least 32 bits.

    In a narrower dtype a size or a number of steps to compare with may not fit.
    """
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name} must be integers, got dtype {array.dtype.name}")
    return array.astype(jnp.int32) if array.dtype.itemsize < 4 else array


def check_class(name: str, value: Any, count: int, of: str = "classes") -> int:
    """Return ``value`` as an int from 0 to ``count - 1``; ``of`` is their name."""
    index = check_size(name, value, least=0)
    if index >= count:
        raise ValueError(f"{name} must be one of the {count} {of}, got {index}")
    return index


def check_features(name: str, x: Array, size: int, dtype: Any) -> None:
    """Check that ``x`` is ``(..., size)`` in the dtype of the parameters."""
    if x.ndim < 1 or x.shape[-1] != size:
        raise ValueError(
            f"{name} must have {size} features on its last axis, as the parameters "
            f"have, got shape {x.shape}"
        )
    if x.dtype != dtype:
        hint = (
            "integer tokens need jaxrnn.embedding or jax.nn.one_hot first"
            if jnp.issubdtype(x.dtype, jnp.integer)
            else f"cast with {name}.astype({jnp.dtype(dtype).name!r})"
        )
        raise TypeError(
            f"{name} must have dtype {jnp.dtype(dtype).name}, as the parameters have, "
            f"got {x.dtype.name}: {hint}"
        )


def check_images(
    name: str, x: Array, spatial_shape: Shape, size: int, dtype: Any
) -> None:
    """Check that ``x`` is ``(..., *S, size)`` in the dtype of the parameters."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(
            f"{name} must have dtype {jnp.dtype(dtype).name}, as the parameters have, "
            f"got {x.dtype.name}: cast, and scale, its values"
        )
    check_features(name, x, size, dtype)
    space = x.shape[-1 - len(spatial_shape) : -1]
    if space != spatial_shape:
        raise ValueError(
            f"{name} must have the axes of space {spatial_shape} before its channels, "
            f"got shape {x.shape}"
        )


def check_kernel(kernel_shape: Any, spatial_shape: Any) -> tuple[Shape, Shape]:
    """Return the sizes of a kernel and of space, one for each axis of space."""
    kernel = _check_sizes("kernel_shape", kernel_shape)
    space = _check_sizes("spatial_shape", spatial_shape)
    if len(kernel) != len(space):
        raise ValueError(
            "kernel_shape must have one size for each axis of spatial_shape = "
            f"{space}, got {kernel}"
        )
    if any(size % 2 == 0 for size in kernel):
        raise ValueError(
            f"kernel_shape must be odd, so that a kernel has a middle, got {kernel}"
        )
    return kernel, space


def _check_sizes(name: str, values: Any) -> Shape:
    """Return ``values`` as one to three sizes."""
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= 3:
        raise ValueError(
            f"{name} must be a tuple of one to three sizes, as (3, 3), got {values!r}"
        )
    return tuple(check_size(f"{name}[{i}]", size) for i, size in enumerate(values))


def check_array(name: str, value: Any) -> Any:
    """Return ``value`` if it is one array, as outputs are but for ``all_states``."""
    if not jax.tree_util.all_leaves([value]):
        raise TypeError(
            f"{name} must be one array here, got {type(value).__name__}: what a layer "
            "of jaxrnn.all_states gives can go into no other"
        )
    return value


def check_sequence(name: str, values: ArrayLike, spatial_shape: Shape = ()) -> Array:
    """Return ``values`` as an array of shape ``(T, *B, *S, F)``."""
    xs = jnp.asarray(values if isinstance(values, list) else check_array(name, values))
    if spatial_shape and (
        xs.ndim < 2 + len(spatial_shape)
        or xs.shape[-1 - len(spatial_shape) : -1] != spatial_shape
    ):
        raise ValueError(
            f"{name} must have shape (T, *B, *S, F) with S = {spatial_shape}, time "
            f"first and channels last, got shape {xs.shape}"
        )
    if xs.ndim < 2:
        raise ValueError(
            f"{name} must have shape (T, *B, F), time first and features last, so at "
            f"least 2 axes, got shape {xs.shape}"
        )
    return xs


def check_flags(
    name: str, values: ArrayLike | None, shape: Shape, axes: str = "(T, *B)"
) -> Array | None:
    """Return ``values`` (a mask or resets) as a bool array of ``shape``."""
    if values is None:
        return None
    flags = jnp.asarray(values)
    if flags.dtype != jnp.bool_:
        raise TypeError(f"{name} must be boolean, got dtype {flags.dtype.name}")
    if flags.shape != shape:
        raise ValueError(
            f"{name} must have shape {axes} = {shape}, got shape {flags.shape}"
        )
    return flags


def check_place_flags(
    name: str, values: ArrayLike | None, places: Shape
) -> Array | None:
    """Return flags of what is the same at every step, and at every place of it.

    Where there are axes of space, ``places`` is ``(T, *B, *S)``; flags of the steps
    alone, ``(T, *B)``, are then those of all places.
    """
    if values is not None:
        flags = jnp.asarray(values)
        of_steps = 2 <= flags.ndim < len(places)
        if of_steps and flags.shape == places[: flags.ndim]:
            spread = flags.reshape(flags.shape + (1,) * (len(places) - flags.ndim))
            values = jnp.broadcast_to(spread, places)
    return check_flags(name, values, places)


def check_like(name: str, tree: State, expected: State) -> State:
    """Return ``tree`` as arrays, with the structure, shapes and dtypes expected."""
    want, got = jax.tree.structure(expected), jax.tree.structure(tree)
    if want != got:
        raise ValueError(f"{name} must have the structure {want}, got {got}")
    tree = jax.tree.map(jnp.asarray, tree)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for (path, leaf), like in zip(leaves, jax.tree.leaves(expected), strict=True):
        where = name + jax.tree_util.keystr(path)
        if leaf.shape != like.shape:
            raise ValueError(
                f"{where} must have shape {like.shape}, got shape {leaf.shape}"
            )
        if leaf.dtype != like.dtype:
            raise TypeError(
                f"{where} must have dtype {like.dtype.name}, got {leaf.dtype.name}"
            )
    return tree
