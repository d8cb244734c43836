"""Symbols and their numbers."""

import collections
import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_size


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
