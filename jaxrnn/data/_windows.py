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
        num_steps: T, length of a window.
        horizon: number of steps after a window that are its targets.
        stride: steps from the start of one window to the start of the next.

    Returns:
        ``(xs, targets)`` of shapes ``(T, W, ...)`` and ``(horizon, W, ...)`` for W
        windows. Both are views of the series.

    Raises:
        ValueError: the series is too short for one window, or a size is below 1.
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
    series: NDArray[Any]  # (W,), index of the series that a window is cut from
    starts: NDArray[Any]  # (W,), the step of the series at which a window starts


def windows_of_many(
    all_series: Sequence[ArrayLike],
    num_steps: int,
    *,
    horizon: int = 1,
    stride: int = 1,
    valid: Sequence[ArrayLike] | None = None,
) -> Windows:
    """Cut all sliding windows without a gap from several series.

    Args:
        all_series: list of arrays ``(N_i, ...)``. A series that is too short for a
            window is left out.
        num_steps: T, length of a window.
        horizon: number of steps after a window that are its targets.
        stride: steps from the start of one window to the start of the next.
        valid: for each series bool ``(N_i,)``, False at gaps: no window and no target
            contains one. None takes NaN in a floating series as a gap.

    Returns:
        A :class:`Windows`.

    Raises:
        ValueError: no series has a window, the series differ in more than their
            lengths, ``valid`` does not match the series, or a size is below 1.
        TypeError: a size is not an int, or ``valid`` is not boolean.

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
            f"all_series must have num_steps + horizon = {length} steps in a row "
            "without a gap in at least one series, got no such steps"
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
        series: ``(N, ...)``, for instance the token ids of a text.
        num_steps: T, length of a window.
        batch_size: B, windows of a batch.
        seed: seed of the random starts.

    Returns:
        An iterator over arrays ``(T, B, ...)``.

    Raises:
        ValueError: the series is too short for one window, or a size is below 1.
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
