"""Batches of sequences of several lengths, padded at the end."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._options import check_size


class Batch(NamedTuple):
    """A batch of padded sequences, with its mask."""

    xs: NDArray[Any]  # (T, B, ...), zero where masked
    mask: NDArray[np.bool_]  # (T, B)
    rows: NDArray[np.int64]  # (B,), index of each sequence; N where it is a filler
    counts: NDArray[np.bool_]  # (B,), False where an entry only fills up the batch

    def of_rows(self, values: ArrayLike) -> NDArray[Any]:
        """Pick the entries ``(B, ...)`` of ``values (N, ...)``, such as labels.

        A batch entry that only fills up the batch gets the first of the values. Leave
        it out of the loss: with one label for each sequence, by ``mask=batch.counts``.
        """
        return np.asarray(values)[np.where(self.counts, self.rows, 0)]


def pad(
    sequences: Sequence[ArrayLike], num_steps: int | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pad sequences of several lengths to one array; return it with its mask.

    Args:
        sequences: list of at least one array ``(T_i, ...)``; a length may be 0.
        num_steps: T, the padded length; None takes the largest length.

    Returns:
        ``(xs, mask)`` of shapes ``(T, B, ...)``, zero where masked, and ``(T, B)``.

    Raises:
        ValueError: the list is empty, a sequence is longer than ``num_steps``, or the
            sequences differ in more than their lengths.

    >>> xs, mask = pad([[1, 2, 3], [4]])
    >>> xs.T.tolist(), mask.sum(0).tolist()
    ([[1, 2, 3], [4, 0, 0]], [3, 1])
    """
    arrays = _arrays(sequences)
    longest = max(len(array) for array in arrays)
    steps = longest if num_steps is None else check_size("num_steps", num_steps)
    if longest > steps:
        raise ValueError(
            f"num_steps must be at least the longest length, {longest}, got {steps}"
        )
    lengths = np.array([len(array) for array in arrays])
    mask = np.arange(steps)[:, None] < lengths
    xs = np.zeros((steps, len(arrays), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in enumerate(arrays):
        xs[: len(array), row] = array
    return xs, mask


def _arrays(sequences: Sequence[ArrayLike]) -> list[NDArray[Any]]:
    if isinstance(sequences, str) or not isinstance(sequences, Iterable):
        raise TypeError(
            f"sequences must be a list of arrays (T_i, ...), got {sequences!r:.80}"
        )
    arrays = [np.asarray(each) for each in sequences]
    if not arrays:
        raise ValueError("sequences must have at least one sequence, got an empty list")
    # An empty list has no dtype of its own.
    full = [array for array in arrays if array.size] or arrays
    dtype = np.result_type(*full)
    for index, array in enumerate(arrays):
        if array.ndim < 1 or (array.size and array.shape[1:] != full[0].shape[1:]):
            raise ValueError(
                f"sequences[{index}] must have shape (T, {full[0].shape[1:]}) as the "
                f"others, got {array.shape}"
            )
    features = full[0].shape[1:]
    return [
        array.astype(dtype) if array.size else np.zeros((0, *features), dtype)
        for array in arrays
    ]


def bucketed_batches(
    sequences: Sequence[ArrayLike],
    *,
    batch_size: int,
    num_buckets: int = 4,
    seed: int | None = None,
) -> Iterator[Batch]:
    """Batch every sequence once, grouped by length (bucketing).

    Sequences are sorted by length and cut into buckets of about equal size. Every batch
    of a bucket is padded to the longest sequence of that bucket. This keeps padding
    small, and there are at most ``num_buckets`` shapes to compile for. The last batch
    of a bucket is filled up with masked entries, which do not count.

    Args:
        sequences: list of at least one array ``(T_i, ...)``.
        batch_size: B, entries of a batch.
        num_buckets: largest number of different padded lengths.
        seed: seed of a shuffle of the sequences in each bucket and of all batches. The
            same seed gives the same order, so use another one for each epoch. None
            keeps the order of lengths.

    Returns:
        An iterator over :class:`Batch`. :meth:`Batch.of_rows` picks the targets.

    Raises:
        ValueError: there are no sequences, or they differ in more than their lengths,
            or a size is below 1.
        TypeError: a size is not an int.

    >>> batches = list(bucketed_batches(
    ...     [[1], [2, 2], [3], [4] * 9], batch_size=2, num_buckets=2
    ... ))
    >>> [batch.xs.shape for batch in batches]
    [(1, 2), (9, 2)]
    """
    batch_size = check_size("batch_size", batch_size)
    num_buckets = check_size("num_buckets", num_buckets)
    return _batches(_arrays(sequences), batch_size, num_buckets, seed)


def _batches(
    arrays: list[NDArray[Any]], batch_size: int, num_buckets: int, seed: int | None
) -> Iterator[Batch]:
    lengths = np.array([len(array) for array in arrays])
    order = np.argsort(lengths, kind="stable")
    edges = np.linspace(0, len(order), num_buckets + 1).round().astype(int)
    longest = np.unique([max(lengths[order[end - 1]], 1) for end in edges[1:] if end])
    bucket = np.searchsorted(longest, lengths)
    rng = None if seed is None else np.random.default_rng(seed)
    chosen = []
    for index in range(len(longest)):
        rows = order[bucket[order] == index]
        if rng is not None:
            rows = rng.permutation(rows)
        for start in range(0, len(rows), batch_size):
            chosen.append((longest[index], rows[start : start + batch_size]))
    if rng is not None:
        rng.shuffle(chosen)
    for num_steps, rows in chosen:
        empty = batch_size - len(rows)
        nothing = [arrays[0][:0]] * empty
        xs, mask = pad([*(arrays[row] for row in rows), *nothing], int(num_steps))
        # No sequence has this number, so that it cannot be taken for one.
        numbers = np.concatenate([rows, np.full(empty, len(arrays))])
        yield Batch(xs, mask, numbers, np.arange(batch_size) < len(rows))
