"""What a mask means, and what is done with one.

A mask is a bool array ``(T, *B)``, True at the steps that count. At a step where it is
False, recurrent layers hold their state, every layer returns zero, and losses, metrics
and pooling leave the step out. The input of such a step has no effect on any result or
gradient, even if it is NaN. So masking is a selection (``jnp.where``): a product with
the mask would keep NaN. ``None`` means that all steps count.

Maps of each step, losses and metrics also take a mask ``(T, *B, *S)`` with spatial
axes, such as the valid pixels of an image.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from ._checks import check_integers, check_place_flags, check_sequence
from ._numerics.precision import accumulation_dtype
from ._options import check_size
from ._tree import select, zeros_like
from ._typing import Array, ArrayLike


def lengths_to_mask(lengths: ArrayLike, num_steps: int) -> Array:
    """Make the mask of right-padded sequences from their lengths.

    Args:
        lengths: int ``(*B)``, number of steps that count, from 0 (all masked) to T.
            Under ``jax.jit``, where values cannot be checked, they are clipped to that
            range.
        num_steps: T, the padded length.

    Returns:
        bool ``(T, *B)``, True at the first ``lengths`` steps.

    Raises:
        TypeError: ``lengths`` are not integers, or ``num_steps`` is not an int.
        ValueError: ``num_steps`` is below 0, or a length below 0 or above it.

    >>> lengths_to_mask(jnp.array([2, 0, 3]), 3).astype(int).T.tolist()
    [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    """
    lengths = check_integers("lengths", lengths)
    num_steps = check_size("num_steps", num_steps, least=0)
    if not isinstance(lengths, jax.core.Tracer) and lengths.size:
        least, most = int(lengths.min()), int(lengths.max())
        if least < 0 or most > num_steps:
            raise ValueError(
                f"lengths must be from 0 to num_steps = {num_steps}, got {least} to "
                f"{most}"
            )
    steps = jnp.arange(num_steps)
    steps = steps.reshape((-1,) + (1,) * lengths.ndim)
    return steps < lengths[None].astype(steps.dtype)


Reduction: TypeAlias = Callable[[Array, Array | None], Array]


def per_step(values: Array, mask: Array | None) -> Array:
    """Return ``values (T, *B)`` unreduced, and zero where ``mask`` is False."""
    return zero_where_masked(values, check_place_flags("mask", mask, values.shape))


def masked_sum(values: Array, mask: Array | None) -> Array:
    """Sum ``values (T, *B)`` over the steps where ``mask`` is True."""
    return per_step(values, mask).sum(dtype=accumulation_dtype(values.dtype))


def masked_mean(values: Array, mask: Array | None) -> Array:
    """Average ``values (T, *B)`` where ``mask`` is True; 0 if it is True nowhere.

    Each valid step counts the same, whatever the length of its sequence.

    >>> values, mask = jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])
    >>> float(masked_mean(values, mask))
    2.0
    """
    # At least 1, so that a batch without unmasked steps gives 0 instead of NaN.
    total = masked_sum(values, mask)
    count = values.size if mask is None else jnp.sum(mask)
    return total / jnp.maximum(count, 1).astype(total.dtype)


def zero_where_masked(values: Any, mask: Array | None) -> Any:
    """Replace masked entries of arrays ``(T, *B, ...)`` by zero."""
    return values if mask is None else select(mask, values, zeros_like(values))


def checked_and_masked(
    name: str, values: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array | None]:
    """Check a sequence ``(T, *B, F)`` and its mask; zero the sequence where masked."""
    sequence = check_sequence(name, values)
    valid = check_place_flags("mask", mask, sequence.shape[:-1])
    return zero_where_masked(sequence, valid), valid
