"""Arrays whose type says how they are sharded over a mesh of devices.

So it is inside ``jax.shard_map``, and on meshes with explicit axes. There the types of
what a loop takes and of what it gives must agree: zeros made inside of a function are
placed nowhere until they meet the data.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array


def is_placed(tree: Any) -> bool:
    """Test whether the type of an array in ``tree`` says how it is sharded."""
    for leaf in jax.tree.leaves(tree):
        sharding = jax.typeof(leaf).sharding
        if any(axis is not None for axis in sharding.spec):
            return True
        if jax.sharding.AxisType.Manual in (sharding.mesh.axis_types or ()):
            return True
    return False


def placement_of(array: Array, more_axes: int) -> jax.sharding.NamedSharding | None:
    """Return the sharding for an array with more axes; None if not explicit."""
    sharding = jax.typeof(array).sharding
    if not any(axis is not None for axis in sharding.spec):
        return None
    spec = jax.sharding.PartitionSpec(*sharding.spec, *(None,) * more_axes)
    return jax.sharding.NamedSharding(sharding.mesh, spec)


def sharded_first(array: Array, num_axes: int) -> list[int]:
    """Order the first ``num_axes`` axes of an array: explicitly sharded ones first."""
    spec = jax.typeof(array).sharding.spec
    return sorted(range(num_axes), key=lambda axis: spec[axis] is None)


def placed_like(tree: Any, sequences: Any, num_batch_axes: int) -> Any:
    """Give leaves ``(*B, ...)`` the sharding of sequences ``(T, *B, ...)``.

    Args:
        tree: a state.
        sequences: pytree with leaves ``(T, *B, ...)``.
        num_batch_axes: how many there are in ``*B``.
    """
    if not is_placed(sequences):
        return tree

    def present(leaf: Array) -> Array:
        """Reduce a leaf to a bool ``(*B)`` that has its sharding."""
        return leaf.astype(bool).any((0, *range(1 + num_batch_axes, leaf.ndim)))

    placed = [present(leaf) for leaf in jax.tree.leaves(sequences)]
    rows = functools.reduce(operator.or_, placed)

    def place(leaf: Array) -> Array:
        # A choice between equals, which XLA drops, has the type of both.
        condition = rows.reshape(rows.shape + (1,) * (leaf.ndim - num_batch_axes))
        return jnp.where(condition, leaf, leaf)

    return jax.tree.map(place, tree)
