"""Notation of shapes in the whole package, and its type aliases.

Shapes in docstrings use these letters::

    T     number of time steps; time is always the leading axis of a sequence
    *B    any number of batch dimensions, none included
    F, I  features of an input, the input size of a cell or layer
    H     hidden size
    A     size of the pre-activation, A = G * H for a cell with G gates
    O     output size
    V     number of classes or of symbols in a vocabulary

Names follow them: ``x`` and ``y`` are one step, ``xs`` and ``ys`` sequences;
``a_x`` is the input's part of the pre-activation; ``dh`` is the cotangent of
``h``, that is dL/dh.
"""

from typing import Any, TypeAlias

import jax
from jax.typing import ArrayLike as ArrayLike
from jax.typing import DTypeLike as DTypeLike

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
"""A key of ``jax.random``, new-style or raw."""

Shape: TypeAlias = tuple[int, ...]

Params: TypeAlias = Any
"""A pytree of parameter arrays."""

State: TypeAlias = Any
"""A pytree of arrays of shape ``(*B, ...)``: what one step hands to the next."""

Residual: TypeAlias = Any
"""A pytree of arrays: what the backward pass of a step needs of its forward."""

Cotangents: TypeAlias = tuple[Any, ...]
"""``(da_x, ...)``: the cotangents that the backward pass of a step leaves for
``accumulate``, that of the pre-activation first."""
