"""Faster matrix products in loops on CPUs: padded and transposed copies of weights."""

import jax
import jax.numpy as jnp

from .._typing import Array

# A matrix of up to this many entries is transposed once before the loop that
# multiplies by its transpose. For a larger one the product by the transposed copy is
# slower by more than is gained (docs/performance.md, "What was tried", *transpose*).
TRANSPOSED = 2**17


# A matrix of at least PADDED entries, whose rows are a multiple of 4 KiB apart, is
# padded with a few columns before the loop that multiplies at most PADDED_ROWS rows by
# it: rows so far apart map to the same cache sets (docs/performance.md, "What was
# tried", *columns*). For a single row XLA computes no matrix product: no padding then.
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
