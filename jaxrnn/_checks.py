"""Checks of static facts: shapes, dtypes and structures, never values.

Each raises while tracing and names the argument, what was expected and what came.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from ._base import Adjoint, Cell, Layer
from ._options import check_size
from ._typing import Array, ArrayLike, Cotangents, DTypeLike, Shape, State


def leaf_name(path: tuple[Any, ...]) -> str | None:
    """Return the name of the field or key that holds the leaf at ``path``."""
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


def as_array(name: str, values: Any, of: str = "numbers") -> Array:
    """Return ``values`` as an array of JAX; ``of`` names what it must hold.

    Raises:
        TypeError: they are not an array, nor numbers of equal length in lists.
    """
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError) as error:
        if isinstance(values, jax.core.Tracer) or hasattr(values, "dtype"):
            raise
        got = f"{values!r:.80}"
        if isinstance(values, list | tuple):
            got = "a list of entries that are no numbers, or differ in length"
        elif not isinstance(values, str | None):
            got = type(values).__name__
        raise TypeError(f"{name} must be an array of {of}, got {got}") from error


def check_integers(name: str, values: ArrayLike) -> Array:
    """Return ``values`` as an array of integers, of at least 32 bits.

    In a narrower dtype a size or a number of steps to compare with may not fit.
    """
    array = as_array(name, values)
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
            f"{name} must have the spatial axes {spatial_shape} before its channels, "
            f"got shape {x.shape}"
        )


def check_kernel(kernel_shape: Any, spatial_shape: Any) -> tuple[Shape, Shape]:
    """Return the kernel sizes and the spatial sizes, one for each spatial axis."""
    kernel = _check_sizes("kernel_shape", kernel_shape)
    space = _check_sizes("spatial_shape", spatial_shape)
    if len(kernel) != len(space):
        raise ValueError(
            "kernel_shape must have one size for each axis of spatial_shape = "
            f"{space}, got {kernel}"
        )
    if any(size % 2 == 0 for size in kernel):
        raise ValueError(
            f"kernel_shape must be odd, so that a kernel has a centre, got {kernel}"
        )
    return kernel, space


def _check_sizes(name: str, values: Any) -> Shape:
    """Return ``values`` as one to three sizes."""
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= 3:
        raise ValueError(
            f"{name} must be a tuple of one to three sizes, such as (3, 3), got "
            f"{values!r}"
        )
    return tuple(check_size(f"{name}[{i}]", size) for i, size in enumerate(values))


def check_array(name: str, value: Any) -> Any:
    """Return ``value`` if it is one array; outputs of ``all_states`` are several."""
    if not jax.tree_util.all_leaves([value]):
        raise TypeError(
            f"{name} must be one array here, got {type(value).__name__}: the outputs "
            "of a layer of jaxrnn.all_states cannot be the input of another layer"
        )
    return value


def check_sequence(name: str, values: ArrayLike, spatial_shape: Shape = ()) -> Array:
    """Return ``values`` as an array of shape ``(T, *B, *S, F)``."""
    if isinstance(values, tuple) or hasattr(values, "_fields"):
        check_array(name, values)
    xs = as_array(name, values)
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
    flags = as_array(name, values, "booleans")
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
    """Return flags ``(T, *B, *S)``, spread over the spatial axes if they have none.

    With spatial axes, ``places`` is ``(T, *B, *S)``. Flags ``(T, *B)`` then hold for
    all positions of their step.
    """
    if values is not None:
        flags = as_array(name, values, "booleans")
        of_steps = 2 <= flags.ndim < len(places)
        if of_steps and flags.shape == places[: flags.ndim]:
            spread = flags.reshape(flags.shape + (1,) * (len(places) - flags.ndim))
            values = jnp.broadcast_to(spread, places)
    return check_flags(name, values, places)


def kind_of_tree(structure: Any) -> str:
    """Say in a few words what a pytree of this structure is."""
    node = structure.node_data()
    if node is None:
        return "None" if structure.num_leaves == 0 else "one array"
    kind = node[0]
    if kind in (tuple, list, dict):
        return f"a {kind.__name__} of {len(structure.children())}"
    return "None" if kind is type(None) else kind.__name__


def check_like(name: str, tree: State, expected: State) -> State:
    """Return ``tree`` as arrays, with the structure, shapes and dtypes expected."""
    want, got = jax.tree.structure(expected), jax.tree.structure(tree)
    if want != got:
        wanted, found = kind_of_tree(want), kind_of_tree(got)
        if wanted == found:  # what differs is further inside
            wanted, found = str(want), str(got)
        raise ValueError(f"{name} must be {wanted}, got {found}")
    tree = jax.tree.map(lambda leaf: as_array(name, leaf), tree)
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


@contextlib.contextmanager
def naming_forward_mode() -> Iterator[None]:
    """Replace JAX's error about forward mode by one that says what to do instead."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "unroll_fn must allow forward-mode differentiation (jvp) here, got one "
            "with a backward pass derived by hand: pass unroll_fn=jaxrnn.unroll to the "
            "layer, or call jaxrnn.unroll"
        ) from error


def check_cotangents(result: Any) -> tuple[State, Cotangents]:
    """Check the result of an adjoint's ``backward``."""
    is_pair = isinstance(result, tuple) and len(result) == 2
    if not is_pair or not isinstance(result[1], tuple) or not result[1]:
        raise TypeError(
            "cell.adjoint.backward must return (dstate_prev, (da_x, ...)), a state and "
            f"a tuple of arrays, got shapes {jax.tree.map(jnp.shape, result)}"
        )
    return result


def adjoint_of(cell: Cell) -> Adjoint:
    """Return the adjoint of a cell; raise ValueError if it has none."""
    check_cell("cell", cell)
    if cell.adjoint is None:
        raise ValueError(
            "cell must have an adjoint for the hand-derived backward pass, got "
            "cell.adjoint = None: use jaxrnn.unroll, which jax.grad differentiates"
        )
    return cell.adjoint
