"""Sliding windows of series: one series, many, or windows drawn at random."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._options import check_size


def windows(
    series: ArrayLike, num_steps: int, *, horizon: int = 1, stride: int = 1
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut all sliding windows of a series, and the steps that follow each.

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


class Windows(NamedTuple):
    """Sliding windows of several series, and the steps that follow each."""

    xs: NDArray[Any]  # (T, W, ...)
    targets: NDArray[Any]  # (horizon, W, ...)
    series: NDArray[Any]  # (W,), which of the series a stretch is of
    starts: NDArray[Any]  # (W,), the step at which it begins


def windows_of_many(
    all_series: Sequence[ArrayLike],
    num_steps: int,
    *,
    horizon: int = 1,
    stride: int = 1,
    valid: Sequence[ArrayLike] | None = None,
) -> Windows:
    """Cut all sliding windows of several series that have no gap.

    Args:
        all_series: each ``(N_i, ...)``; those too short for a stretch have none.
        num_steps: T, steps of a stretch.
        horizon: steps that come next.
        stride: steps from one stretch of a series to the next.
        valid: for each series bool ``(N_i,)``, False where it has a gap: no stretch and
            no target lies over one. None: where a floating series has a NaN.

    Returns:
        :class:`Windows`.

    Raises:
        ValueError: no series has a stretch, series or flags differ in more than their
            lengths, or a size is below 1.
        TypeError: a size is not an int, or ``valid`` not boolean.

    >>> found = windows_of_many([[1.0, 2.0, np.nan, 3.0, 4.0, 5.0], [6.0, 7.0]], 1)
    >>> found.xs.tolist(), found.targets.tolist()
    ([[1.0, 3.0, 4.0, 6.0]], [[2.0, 4.0, 5.0, 7.0]])
    >>> found.series.tolist(), found.starts.tolist()
    ([0, 0, 0, 1], [0, 3, 4, 0])
    """
    num_steps = check_size("num_steps", num_steps)
    horizon, stride = check_size("horizon", horizon), check_size("stride", stride)
    length = num_steps + horizon
    arrays = [np.asarray(series) for series in all_series]
    if valid is None:
        flags = [_has_no_gap(array) for array in arrays]
    else:
        flags = [np.asarray(flag) for flag in valid]
    if len(flags) != len(arrays):
        raise ValueError(
            f"valid must have flags for each of the {len(arrays)} series, got "
            f"{len(flags)}"
        )
    pieces, rows, starts = [], [], []
    for row, (array, flag) in enumerate(zip(arrays, flags, strict=True)):
        if array.ndim < 1 or array.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"all_series[{row}] must have shape (N, {arrays[0].shape[1:]}) as the "
                f"first, got {array.shape}"
            )
        if flag.dtype != np.bool_:
            raise TypeError(f"valid[{row}] must be boolean, got {flag.dtype.name}")
        if flag.shape != array.shape[:1]:
            raise ValueError(
                f"valid[{row}] must have shape {array.shape[:1]}, got {flag.shape}"
            )
        if len(array) < length:
            continue
        views = np.lib.stride_tricks.sliding_window_view(flag, length)
        whole = np.asarray(views.all(axis=-1))
        chosen = np.flatnonzero(whole[::stride]) * stride
        pieces.append(array[chosen[:, None] + np.arange(length)])
        rows.append(np.full(len(chosen), row))
        starts.append(chosen)
    if not any(map(len, pieces)):
        raise ValueError(
            f"all_series must have num_steps + horizon = {length} steps without a gap "
            "somewhere, got none"
        )
    together = np.moveaxis(np.concatenate(pieces), 1, 0)
    return Windows(
        xs=together[:num_steps],
        targets=together[num_steps:],
        series=np.concatenate(rows),
        starts=np.concatenate(starts),
    )


def _has_no_gap(array: NDArray[Any]) -> NDArray[Any]:
    if not np.issubdtype(array.dtype, np.floating):
        return np.ones(array.shape[:1], bool)
    return np.asarray(~np.isnan(array).any(axis=tuple(range(1, array.ndim))))


def random_windows(
    series: ArrayLike, num_steps: int, *, batch_size: int, seed: int
) -> Iterator[NDArray[Any]]:
    """Draw batches of windows that start at random, endlessly.

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
