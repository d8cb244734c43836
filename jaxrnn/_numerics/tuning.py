"""Measures that make matrix products in a loop faster on CPUs."""

import jax
import jax.numpy as jnp

from .._typing import Array

# Up to this many entries a matrix is transposed before the loop that multiplies by its
# transpose; beyond, that costs the product more than it gains.
TRANSPOSED = 2**17


# From this many entries on, a matrix whose rows lie a multiple of 4 KiB apart is given
# some more columns before the loop that multiplies up to so many rows by it: else they
# fall into the same few lines of the caches. One row alone makes it no product.
PADDED, PADDED_ROWS = 2**20, 64


def columns_to_add(rows: int, matrix: Array) -> int:
    """Return how many columns of padding make products by a large matrix faster."""
    apart = matrix.shape[-1] * matrix.dtype.itemsize
    aligned = apart % 4096 == 0 and matrix.dtype == jnp.float32
    if not aligned or matrix.size < PADDED or not 1 < rows <= PADDED_ROWS:
        return 0
    return 16 if on_cpu() else 0


def on_cpu() -> bool:
    """Test whether the default backend of JAX is a CPU."""
    return jax.default_backend() == "cpu"
