"""Windows of one long series, and its statistics."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._options import check_size


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


class Windows(NamedTuple):
    """Stretches of several series side by side, and the steps that follow each."""

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
    """Every stretch without a gap, of several series, and the steps that follow it.

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
    """What :func:`standardize` needs, of each feature, in float64."""

    mean: NDArray[Any]  # (F,)
    deviation: NDArray[Any]  # (F,), the standard deviation; 1 of what is constant


def statistics(xs: ArrayLike, mask: ArrayLike | None = None) -> Statistics:
    """Mean and standard deviation of each feature: of the training data alone.

    Args:
        xs: ``(..., F)``; a series ``(N,)`` is one feature.
        mask: bool ``(...)``, or of the shape of ``xs`` where single features are
            missing; what is False does not count.

    Returns:
        A :class:`Statistics`, a pytree: ``checkpoint.save_state`` keeps it beside the
        parameters. Sums are in float64, whatever the dtype of ``xs``. A feature that is
        constant, up to rounding, has the deviation 1.

    Raises:
        ValueError: of some feature nothing counts; something that counts is not finite;
            or ``mask`` has another shape.
        TypeError: ``xs`` are no real numbers, or ``mask`` is not boolean.

    Differs from scikit-learn's StandardScaler: leading axes and masks are welcome.

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
            "xs must have at least one step that counts of each feature, got none of "
            f"feature {int(count.argmin())}"
        )
    mean = np.where(counted, rows, 0).sum(axis=0) / count
    errors = np.where(counted, rows - mean, 0)
    deviation = np.sqrt((errors**2).sum(axis=0) / count)
    largest = np.where(counted, abs(rows), 0).max(axis=0)
    rounding = 16 * np.finfo(np.float64).eps * largest
    return Statistics(mean, np.where(deviation > rounding, deviation, 1.0))


def _counted(mask: Any, given: tuple[int, ...], shape: tuple[int, ...]) -> NDArray[Any]:
    """Which entries of an array ``shape`` count; ``given`` is how the user had it."""
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
    """``(xs - mean) / deviation``.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``; also ``(N,)`` if F is 1.

    Returns:
        Of the shape of ``xs``, computed in float64 and returned in the dtype of ``xs``;
        in float64 if those are integers.

    Raises:
        ValueError: ``xs`` have another number of features.
        TypeError: ``xs`` are no real numbers, or ``learned`` is no :class:`Statistics`.
    """
    values = _features(learned, xs)
    return _like(values, (values.astype(np.float64) - learned.mean) / learned.deviation)


def restore(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    """The inverse of :func:`standardize`.

    Args:
        learned: from :func:`statistics`.
        xs: ``(..., F)``, predictions say; also ``(N,)`` if F is 1.

    Returns:
        Of the shape of ``xs``, in the unit of the data; dtypes as of ``standardize``.

    Raises:
        ValueError: ``xs`` have another number of features.
        TypeError: ``xs`` are no real numbers, or ``learned`` is no :class:`Statistics`.
    """
    values = _features(learned, xs)
    return _like(values, values.astype(np.float64) * learned.deviation + learned.mean)


def _features(learned: Statistics, xs: ArrayLike) -> NDArray[Any]:
    if not isinstance(learned, Statistics):
        raise TypeError(
            f"learned must be what statistics returns, got {type(learned).__name__}"
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
