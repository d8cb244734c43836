"""Sequences as arrays: symbols, padded batches, windows, standardised series.

All of it is NumPy, on the host, before anything is traced.

>>> vocabulary = make_vocabulary("hello", unknown="?")
>>> encode(vocabulary, "hole!").tolist()
[3, 4, 1, 2, 0]
>>> "".join(decode(vocabulary, [3, 2, 1, 1, 4]))
'hello'
"""

import collections
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_size

__all__ = [
    "Batch",
    "Statistics",
    "Vocabulary",
    "bucketed_batches",
    "decode",
    "encode",
    "make_vocabulary",
    "pad",
    "random_windows",
    "restore",
    "split_words",
    "standardize",
    "statistics",
    "vocabulary_from_json",
    "vocabulary_to_json",
    "windows",
]

# Symbols


class Vocabulary(NamedTuple):
    """Symbols and their numbers: those of their places."""

    symbols: tuple[str, ...]
    unknown: str | None  # one of them, that stands for all others; None: none does


def split_words(text: str) -> list[str]:
    """Words and marks: runs of letters, digits and apostrophes; else each by itself.

    Args:
        text: any; white space separates and is left out.

    Returns:
        The words, for :func:`make_vocabulary` and :func:`encode`.

    >>> split_words("The cat's mat, 2 m.")
    ['The', "cat's", 'mat', ',', '2', 'm', '.']
    """
    return re.findall(r"[^\W_]+(?:['\u2019][^\W_]+)*|[^\w\s]|_", text)


def make_vocabulary(
    tokens: Iterable[str],
    *,
    size: int | None = None,
    special: Sequence[str] = (),
    unknown: str | None = None,
) -> Vocabulary:
    """The symbols of a text, the most frequent first.

    Args:
        tokens: a text, whose characters are then the symbols, or symbols: words, say.
        size: keep this many at most, the others included; None: all.
        special: symbols that come first, in this order, whether they occur or not: for
            padding, for the beginning and the end.
        unknown: a symbol for what is not in the vocabulary; it comes before them all.
            None: such a symbol is an error.

    Returns:
        A :class:`Vocabulary`; symbols that are as frequent are in alphabetical order.

    Raises:
        ValueError: there are no symbols; or ``size`` is too small for the special ones.
        TypeError: ``size`` is not an int.
    """
    first = list(dict.fromkeys([*([] if unknown is None else [unknown]), *special]))
    counts = collections.Counter(tokens)
    found = sorted(counts.keys() - set(first), key=lambda each: (-counts[each], each))
    if not first and not found:
        raise ValueError("tokens must have at least one symbol, got none")
    symbols = [*first, *found]
    if size is not None:
        symbols = symbols[: check_size("size", size, least=max(len(first), 1))]
    return Vocabulary(tuple(symbols), unknown)


def encode(vocabulary: Vocabulary, tokens: Iterable[str]) -> NDArray[np.int32]:
    """The numbers of symbols, int32 ``(T,)``.

    Args:
        vocabulary: from :func:`make_vocabulary`.
        tokens: a text, for a vocabulary of characters, or symbols.

    Raises:
        ValueError: a symbol is not in the vocabulary, which has none for unknown ones.
    """
    numbers = {symbol: number for number, symbol in enumerate(vocabulary.symbols)}
    symbols = list(tokens)
    if vocabulary.unknown is None:
        others = sorted(set(symbols) - numbers.keys())
        if others:
            raise ValueError(
                f"tokens must be in the vocabulary of {len(numbers)} symbols, which "
                f"has none for others, got {', '.join(map(repr, others[:10]))}"
            )
        return np.array([numbers[symbol] for symbol in symbols], np.int32)
    other = numbers[vocabulary.unknown]
    return np.array([numbers.get(symbol, other) for symbol in symbols], np.int32)


def decode(vocabulary: Vocabulary, numbers: ArrayLike) -> list[str]:
    """The symbols of numbers: the inverse of :func:`encode`.

    Args:
        vocabulary: from :func:`make_vocabulary`.
        numbers: integers ``(T,)``.

    Returns:
        A list of T strings.

    Raises:
        ValueError: a number is outside the vocabulary, or they have more than one axis.
    """
    array = np.asarray(numbers)
    size = len(vocabulary.symbols)
    if array.ndim != 1:
        raise ValueError(f"numbers must have shape (T,), got {array.shape}")
    if array.size and (array.min() < 0 or array.max() >= size):
        raise ValueError(
            f"numbers must be at least 0 and below {size}, the size of the vocabulary, "
            f"got {array.min()} to {array.max()}"
        )
    return [vocabulary.symbols[number] for number in array.tolist()]


def vocabulary_to_json(vocabulary: Vocabulary) -> str:
    """A string for a file, or for the ``metadata`` of ``checkpoint.save_params``.

    Args:
        vocabulary: from :func:`make_vocabulary`.

    Returns:
        JSON.
    """
    return json.dumps(vocabulary._asdict(), ensure_ascii=False)


def vocabulary_from_json(text: str) -> Vocabulary:
    """What :func:`vocabulary_to_json` wrote.

    Args:
        text: JSON.

    Returns:
        A :class:`Vocabulary`.

    Raises:
        ValueError: it did not write this.
    """
    try:
        fields = json.loads(text)
        vocabulary = Vocabulary(tuple(fields["symbols"]), fields["unknown"])
        sound = all(isinstance(symbol, str) for symbol in vocabulary.symbols)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"text must be of vocabulary_to_json, got {error}") from error
    known = vocabulary.unknown is None or vocabulary.unknown in vocabulary.symbols
    if not (sound and known and fields.keys() == {"symbols", "unknown"}):
        raise ValueError(f"text must be of vocabulary_to_json, got {text[:80]!r}")
    return vocabulary


# Batches


class Batch(NamedTuple):
    """Sequences side by side, padded at their ends."""

    xs: NDArray[Any]  # (T, B, ...), zero where masked
    mask: NDArray[np.bool_]  # (T, B)
    rows: NDArray[np.int64]  # (B,), which sequences they are; -1: none, all masked


def pad(
    sequences: Sequence[ArrayLike], num_steps: int | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Sequences of several lengths as one array, and its mask.

    Args:
        sequences: at least one, each ``(T_i, ...)``; a length may be 0.
        num_steps: T; None takes the longest.

    Returns:
        ``(xs, mask)`` of shapes ``(T, B, ...)``, zero where masked, and ``(T, B)``.

    Raises:
        ValueError: there are no sequences; one is longer than ``num_steps``; or they
            differ in more than their lengths.

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
    arrays = [np.asarray(each) for each in sequences]
    if not arrays:
        raise ValueError("sequences must have at least one sequence, got none")
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
    """All sequences once, those of like lengths together.

    The lengths are cut into buckets of about as many sequences, and every batch of a
    bucket has the length of its longest: so little is padding, and there are at most
    ``num_buckets`` shapes to compile for. The last batch of a bucket is filled up with
    rows that are masked.

    Args:
        sequences: at least one, each ``(T_i, ...)``.
        batch_size: B, rows of a batch.
        num_buckets: how many lengths there may be, at most.
        seed: shuffle by it, within buckets and the batches of all; the same seed gives
            the same order: take another for each epoch. None: in order of length.

    Returns:
        An iterator over :class:`Batch`. Targets are found by ``rows``.

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
        yield Batch(xs, mask, np.concatenate([rows, np.full(empty, -1)]))


# Series


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
