"""Metrics of forecasts, over the unmasked steps."""

import jax.numpy as jnp

from .._checks import as_array, check_place_flags
from .._masks import masked_mean, zero_where_masked
from .._numerics.precision import accumulation_dtype
from .._options import check_size
from .._typing import Array, ArrayLike


def root_mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """Root mean squared error, in the unit of the targets.

    Args:
        predictions: ``(T, *B, F)``.
        targets: ``(T, *B, F)``.
        mask: bool ``(T, *B)`` or None.

    Returns:
        A scalar.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean.

    >>> float(root_mean_squared_error(jnp.array([[3.0], [3.0]]), jnp.ones((2, 1))))
    2.0
    """
    errors, valid = _errors(predictions, targets, mask)
    return jnp.sqrt(masked_mean((errors * errors).mean(-1), valid))


def mean_absolute_error(
    predictions: ArrayLike, targets: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """Mean absolute error, in the unit of the targets.

    Args:
        predictions: ``(T, *B, F)``.
        targets: ``(T, *B, F)``.
        mask: bool ``(T, *B)`` or None.

    Returns:
        A scalar.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean.

    >>> float(mean_absolute_error(jnp.array([[3.0], [1.0]]), jnp.ones((2, 1))))
    1.0
    """
    errors, valid = _errors(predictions, targets, mask)
    return masked_mean(jnp.abs(errors).mean(-1), valid)


def persistence(xs: ArrayLike, horizon: int = 1) -> Array:
    """Persistence (naive) forecast: repeat the last observation.

    Args:
        xs: observations ``(T, *B, F)``.
        horizon: number of steps to forecast.

    Returns:
        The last step of ``xs``, repeated: ``(horizon, *B, F)``.

    Raises:
        ValueError: there is no step, or ``horizon`` is below 1.
        TypeError: ``horizon`` is not an int.

    >>> persistence(jnp.array([[1.0], [2.0]]), 3).tolist()
    [[2.0], [2.0], [2.0]]
    """
    values = as_array("xs", xs)
    horizon = check_size("horizon", horizon)
    if values.ndim < 1 or not len(values):
        raise ValueError(f"xs must have at least one step, got shape {values.shape}")
    return jnp.broadcast_to(values[-1], (horizon, *values.shape[1:]))


def _errors(
    predictions: ArrayLike, targets: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array | None]:
    """Return the errors, in at least float32 and zero where masked, and the mask."""
    first = as_array("predictions", predictions)
    second = as_array("targets", targets)
    if first.shape != second.shape or first.ndim < 1:
        raise ValueError(
            f"targets must have the shape of predictions, {first.shape}, with features "
            f"last, got {second.shape}"
        )
    wide = accumulation_dtype(first.dtype)
    errors = first.astype(wide) - second.astype(wide)
    valid = check_place_flags("mask", mask, errors.shape[:-1])
    return zero_where_masked(errors, valid), valid
