"""Standardise each feature of a series, and undo it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Statistics(NamedTuple):
    """Mean and deviation of each feature, for :func:`standardize`, in float64."""

    mean: NDArray[Any]  # (F,)
    deviation: NDArray[Any]  # (F,), standard deviation; 1 for a constant feature


def statistics(xs: ArrayLike, mask: ArrayLike | None = None) -> Statistics:
    """Compute mean and standard deviation of each feature of the training data.

    Args:
        xs: ``(..., F)``; a series ``(N,)`` has one feature.
        mask: bool ``(...)``, or of the shape of ``xs`` if single features are missing.
            Entries where it is False do not count.

    Returns:
        A :class:`Statistics`, a pytree, so ``checkpoint.save_state`` can keep it beside
        the parameters. Sums are in float64 for every dtype of ``xs``. A feature that is
        constant, up to rounding, has deviation 1.

    Raises:
        ValueError: a feature has no entry that counts, an entry that counts is not
            finite, or ``mask`` has another shape.
        TypeError: ``xs`` does not hold real numbers, or ``mask`` is not boolean.

    Differs from scikit-learn's ``StandardScaler`` in taking leading axes and masks.

    >>> learned = statistics([[1.0], [3.0]])
    >>> standardize(learned, [[1.0], [3.0], [5.0]]).tolist()
    [[-1.0], [1.0], [3.0]]
    """
    values = _real("xs", xs)
    if values.ndim == 0:
        raise ValueError("xs must have shape (..., F) or (N,), got a number")
    if values.ndim == 1:
        values = values[:, None]
    rows = values.reshape(-1, values.shape[-1]).astype(np.float64)
    counted = _counted(mask, np.shape(xs), values.shape).reshape(rows.shape)
    if not np.isfinite(rows[counted]).all():
        step, feature = np.argwhere(counted & ~np.isfinite(rows))[0]
        raise ValueError(
            f"xs must be finite, got {rows[step, feature]} at step {step} of all, "
            f"feature {feature}: fill gaps, or mask them"
        )
    count = counted.sum(axis=0)
    if not count.all():
        raise ValueError(
            "xs must have at least one step that counts for each feature, got none "
            f"for feature {int(count.argmin())}"
        )
    mean = np.where(counted, rows, 0).sum(axis=0) / count
    errors = np.where(counted, rows - mean, 0)
    deviation = np.sqrt((errors**2).sum(axis=0) / count)
    largest = np.where(counted, abs(rows), 0).max(axis=0)
    rounding = 16 * np.finfo(np.float64).eps * largest
    return Statistics(mean, np.where(deviation > rounding, deviation, 1.0))


def _counted(mask: Any, given: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return which entries count; ``given`` is the shape that the user gave."""
    if mask is None:
        return np.ones(shape, bool)
    valid = np.asarray(mask)
    if valid.dtype != np.bool_:
        raise TypeError(f"mask must be boolean, got dtype {valid.dtype.name}")
    if valid.shape == given:
        return valid.reshape(shape)
    if valid.shape == given[:-1]:
        return np.broadcast_to(valid[..., None], shape)
    steps = f"{given[:-1]} or " if len(given) > 1 else ""
    raise ValueError(f"mask must have shape {steps}{given}, got {valid.shape}")


def _real(name: str, xs: ArrayLike) -> NDArray[Any]:
    values = np.asarray(xs)
    if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16":
        raise TypeError(f"{name} must have real numbers, got dtype {values.dtype.name}")
    return values


def standardize(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    """Standardise a series: ``(xs - mean) / deviation``.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``; also ``(N,)`` if F is 1.

    Returns:
        Values of the shape and dtype of ``xs``, computed in float64; float64 if ``xs``
        holds integers.

    Raises:
        ValueError: ``xs`` has another number of features.
        TypeError: ``xs`` does not hold real numbers, or ``learned`` is not a
            :class:`Statistics`.
    """
    values = _features(learned, xs)
    return _like(values, (values.astype(np.float64) - learned.mean) / learned.deviation)


def restore(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    """Undo :func:`standardize`.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``, for instance predictions; also ``(N,)`` if F is 1.

    Returns:
        Values of the shape of ``xs`` in the unit of the data, in the dtype that
        :func:`standardize` would return.

    Raises:
        ValueError: ``xs`` has another number of features.
        TypeError: ``xs`` does not hold real numbers, or ``learned`` is not a
            :class:`Statistics`.
    """
    values = _features(learned, xs)
    return _like(values, values.astype(np.float64) * learned.deviation + learned.mean)


def _features(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    if not isinstance(learned, Statistics):
        raise TypeError(
            f"learned must be the result of statistics, got {type(learned).__name__}"
        )
    values, count = _real("xs", xs), np.size(learned.mean)
    if values.shape[-1:] != (count,) and not (count == 1 and values.ndim <= 1):
        raise ValueError(
            f"xs must have the {count} features of learned on the last axis, got "
            f"shape {values.shape}"
        )
    return values


def _like(values: NDArray[Any], result: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind in "biu":
        return result
    return result.astype(values.dtype)
