"""Windows of one long series, and its statistics."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_size


def windows(
    series: ArrayLike, num_steps: int, *, horizon: int = 1, stride: int = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every stretch of a series, and what comes next.

    Args:
        series: ``(N, ...)``.
        num_steps: T, steps of a stretch.
        horizon: steps that come next.
        stride: steps from one stretch to the next.

    Returns:
        ``(xs, targets)`` of shapes ``(T, W, ...)`` and ``(horizon, W, ...)``: W
        stretches side by side, views of the series.

    Raises:
        ValueError: the series is too short for one, or a size is below 1.
        TypeError: a size is not an int.

    >>> xs, targets = windows(np.arange(5), 3)
    >>> xs.T.tolist(), targets.T.tolist()
    ([[0, 1, 2], [1, 2, 3]], [[3], [4]])
    """
    values = np.asarray(series)
    num_steps = check_size("num_steps", num_steps)
    horizon, stride = check_size("horizon", horizon), check_size("stride", stride)
    length = num_steps + horizon
    if values.ndim < 1 or len(values) < length:
        raise ValueError(
            f"series must have at least num_steps + horizon = {length} steps, got "
            f"shape {values.shape}"
        )
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[::stride]
    together = np.moveaxis(views, -1, 0)
    return together[:num_steps], together[num_steps:]


def random_windows(
    series: ArrayLike, num_steps: int, *, batch_size: int, seed: int
) -> Iterator[NDArray[Any]]:
    """Batches of stretches that begin anywhere, without end.

    Args:
        series: ``(N, ...)``: tokens of a text, say.
        num_steps: T.
        batch_size: B.
        seed: the same seed gives the same batches.

    Returns:
        An iterator over arrays ``(T, B, ...)``.

    Raises:
        ValueError: the series is too short for one, or a size is below 1.
        TypeError: a size is not an int.
    """
    values = np.asarray(series)
    num_steps = check_size("num_steps", num_steps)
    batch_size = check_size("batch_size", batch_size)
    if values.ndim < 1 or len(values) < num_steps:
        raise ValueError(
            f"series must have at least num_steps = {num_steps} steps, got shape "
            f"{values.shape}"
        )
    return _random_windows(values, num_steps, batch_size, seed)


def _random_windows(values, num_steps, batch_size, seed) -> Iterator[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    steps = np.arange(num_steps)[:, None]
    while True:
        starts = rng.integers(len(values) - num_steps + 1, size=batch_size)
        yield values[steps + starts]


class Statistics(NamedTuple):
    """What :func:`standardize` needs, of each feature."""

    mean: NDArray[Any]  # (F,)
    deviation: NDArray[Any]  # (F,), the standard deviation; 1 where that is 0


def statistics(xs: ArrayLike, mask: ArrayLike | None = None) -> Statistics:
    """Mean and standard deviation of each feature: of the training data alone.

    Args:
        xs: ``(..., F)``.
        mask: bool ``(...)``; what is False does not count.

    Returns:
        A :class:`Statistics`, a pytree: ``checkpoint.save_state`` keeps it beside the
        parameters.

    Raises:
        ValueError: nothing counts; something that counts is not finite; or ``mask``
            has another shape.

    >>> learned = statistics([[1.0], [3.0]])
    >>> standardize(learned, [[1.0], [3.0], [5.0]]).tolist()
    [[-1.0], [1.0], [3.0]]
    """
    values = np.asarray(xs)
    if values.ndim < 1:
        raise ValueError(f"xs must have shape (..., F), got {values.shape}")
    rows = values.reshape(-1, values.shape[-1])
    if mask is not None:
        valid = np.asarray(mask)
        if valid.shape != values.shape[:-1] or valid.dtype != np.bool_:
            raise ValueError(
                f"mask must be boolean and have shape {values.shape[:-1]}, got "
                f"{valid.dtype.name} and {valid.shape}"
            )
        rows = rows[valid.reshape(-1)]
    if not len(rows):
        raise ValueError("xs must have at least one step that counts, got none")
    if not np.isfinite(rows).all():
        step, feature = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"xs must be finite, got {rows[step, feature]} at step {step} of those "
            f"that count, feature {feature}: fill gaps, or mask them"
        )
    deviation = rows.std(axis=0)
    return Statistics(rows.mean(axis=0), np.where(deviation > 0, deviation, 1))


def standardize(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    """``(xs - mean) / deviation``.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``.

    Returns:
        ``(..., F)``.
    """
    return (np.asarray(xs) - learned.mean) / learned.deviation


def restore(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    """The inverse of :func:`standardize`.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``, predictions say.

    Returns:
        ``(..., F)``, in the unit of the data.
    """
    return np.asarray(xs) * learned.deviation + learned.mean
