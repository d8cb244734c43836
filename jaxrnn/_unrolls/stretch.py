"""A stretch of consecutive steps: how its arrays are read and written.

There are two ways to take the steps, with the same result: :func:`in_place` and
:class:`Scanned`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .._typing import Array

Carry = TypeVar("Carry")

# No index here is negative. Saying so saves a comparison in each step.
_FROM_ZERO = {"allow_negative_indices": False}


class Part(NamedTuple):
    """Steps within arrays that may hold more of them: leaves ``(N, *B, ...)``."""

    arrays: Any
    start: Array | None  # index of the first step; None: the arrays hold no others

    def at(self, position: Array) -> Array:
        """Return the index in the arrays of a position in the stretch."""
        return position if self.start is None else self.start + position


class Stretch(NamedTuple):
    """Consecutive steps, and whether a loop takes them forward or in reverse."""

    size: int  # number of steps
    reverse: bool  # take the last of them first
    reads: Any  # pytree of parts: what a step gets
    writes: Part  # where results go; results for which it holds None are dropped

    def position(self, index: Array) -> Array:
        """Return the position in the stretch of the step taken as number ``index``."""
        return self.size - 1 - index if self.reverse else index


def in_place(
    step: Callable[[Carry, Any], tuple[Carry, Any]], carry: Carry, stretch: Stretch
) -> tuple[Carry, Any]:
    """Take the steps of a stretch, and write the results of each step in place.

    Args:
        step: ``(carry, entries) -> (carry, results)``, a body for ``lax.scan``.
        carry: what the first step taken gets.
        stretch: the steps.

    Returns:
        The carry after the last step taken, and the arrays of ``stretch.writes``.
    """

    def take(index, loop):
        carry, arrays = loop
        at = stretch.position(index)
        entries = _map_parts(
            lambda part: entry(part.arrays, part.at(at)), stretch.reads
        )
        carry, results = step(carry, entries)
        results = _only_wanted(arrays, results)
        return carry, write_entry(arrays, results, stretch.writes.at(at))

    return lax.fori_loop(0, stretch.size, take, (carry, stretch.writes.arrays))


@dataclasses.dataclass(frozen=True)
class Scanned:
    """Like :func:`in_place`, by a ``lax.scan`` with several steps in an iteration."""

    steps_at_once: int

    def __call__(
        self,
        step: Callable[[Carry, Any], tuple[Carry, Any]],
        carry: Carry,
        stretch: Stretch,
    ) -> tuple[Carry, Any]:
        reads = _map_parts(lambda part: cut(part, stretch.size), stretch.reads)
        carry, results = lax.scan(
            step, carry, reads, reverse=stretch.reverse, unroll=self.steps_at_once
        )
        results = _only_wanted(stretch.writes.arrays, results)
        return carry, write(stretch.writes, results)


def _map_parts(fn: Callable[[Part], Any], parts: Any) -> Any:
    return jax.tree.map(fn, parts, is_leaf=lambda part: isinstance(part, Part))


def _only_wanted(arrays: Any, results: Any) -> Any:
    """Replace results by None where ``arrays`` is None: nothing stores them."""
    return jax.tree.map(
        lambda array, result: None if array is None else result,
        arrays,
        results,
        is_leaf=lambda array: array is None,
    )


def entry(arrays: Any, index: Array) -> Any:
    """Read the entries at ``index`` on the first axis."""

    def read(array):
        return lax.dynamic_index_in_dim(array, index, keepdims=False, **_FROM_ZERO)

    return jax.tree.map(read, arrays)


def write_entry(arrays: Any, results: Any, index: Array) -> Any:
    """Return the arrays with ``results`` at ``index`` on the first axis."""

    def put(array, result):
        return lax.dynamic_update_index_in_dim(array, result, index, 0, **_FROM_ZERO)

    return jax.tree.map(put, arrays, results)


def cut(part: Part, size: int) -> Any:
    """Copy the first ``size`` steps of a part out of its arrays."""
    if part.start is None:
        return part.arrays

    def read(array):
        return lax.dynamic_slice_in_dim(array, part.start, size, **_FROM_ZERO)

    return jax.tree.map(read, part.arrays)


def write(part: Part, results: Any) -> Any:
    """Write the results of consecutive steps to a part; return its arrays."""
    if part.start is None:
        return results

    def put(array, result):
        return lax.dynamic_update_slice_in_dim(
            array, result, part.start, 0, **_FROM_ZERO
        )

    return jax.tree.map(put, part.arrays, results)


def empty(shapes: Any, size: int) -> Any:
    """Make zeros ``(size, ...)`` to write entries of these shapes to."""
    return jax.tree.map(lambda s: jnp.zeros((size, *s.shape), s.dtype), shapes)
