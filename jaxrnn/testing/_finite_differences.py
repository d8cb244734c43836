"""Directional derivatives by central differences, as exact as they get."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from .._gradients.rows import flat
from .._typing import Array

# Halved from where the truncation error rules to where the rounding error does.
STEP_SIZES = 0.125 * 0.5 ** np.arange(15)


def richardson(differences: np.ndarray) -> np.ndarray:
    """Extrapolate central differences to a step size of zero.

    Args:
        differences: ``(..., K)``, one for each step size, each half of the one before.

    Returns:
        ``(...)``: of all entries of the extrapolation table the one that differs least
        from its two neighbours, so that the error is near the floor of the method and
        a kink within the larger steps does no harm.

    References:
        Ridders, Accurate computation of F'(x) and F'(x) F''(x), 1982.
    """
    best = differences[..., 0]
    least = np.full(best.shape, np.inf)
    column = differences
    for order in range(1, differences.shape[-1]):
        # The error of a central difference has even powers of the step size only.
        factor = 4.0**order
        finer = (factor * column[..., 1:] - column[..., :-1]) / (factor - 1)
        spread = np.maximum(abs(finer - column[..., 1:]), abs(finer - column[..., :-1]))
        spread = np.where(np.isnan(spread), np.inf, spread)
        index = spread.argmin(-1, keepdims=True)
        smaller = np.take_along_axis(spread, index, -1)[..., 0]
        candidate = np.take_along_axis(finer, index, -1)[..., 0]
        best = np.where(smaller < least, candidate, best)
        least = np.minimum(least, smaller)
        column = finer
    return best


def directional_derivatives(
    fn: Callable[[Any], Array], point: Any, directions: Sequence[Any]
) -> np.ndarray:
    """Compute directional derivatives of a real function by finite differences.

    Args:
        fn: maps a pytree to a number; called one point at a time.
        point: pytree of arrays in float64.
        directions: D pytrees like ``point``.

    Returns:
        ``(D,)``, in float64.
    """

    @jax.jit
    def values_around(point, directions):
        vector, unravel = ravel_pytree(point)
        along = jnp.stack([flat(direction) for direction in directions])
        sizes = jnp.asarray(STEP_SIZES, vector.dtype)
        steps = jnp.stack([sizes, -sizes])[None, ..., None] * along[:, None, None]
        points = (vector[None, None, None] + steps).reshape(-1, vector.size)
        return lax.map(lambda p: fn(unravel(p)), points)

    values = np.asarray(values_around(point, directions), np.float64)
    values = values.reshape(len(directions), 2, -1)
    return richardson((values[:, 0] - values[:, 1]) / (2 * STEP_SIZES))
