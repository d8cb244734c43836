"""Vocabularies: tokens and their ids."""

import collections
import functools
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._options import check_size, check_type


class Vocabulary(NamedTuple):
    """Tokens; the id of a token is its index."""

    symbols: tuple[str, ...]
    unknown: str | None  # out-of-vocabulary token, one of `symbols`; None: an error


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation marks.

    A letter keeps its combining marks, such as vowel signs and separate accents.

    Args:
        text: any string. White space separates words and is left out.

    Returns:
        A list of tokens, for :func:`make_vocabulary` and :func:`encode`.

    Raises:
        TypeError: ``text`` is not a string.

    >>> split_words("The cat's mat, 2 m.")
    ['The', "cat's", 'mat', ',', '2', 'm', '.']
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    return _words().findall(text)


@functools.cache
def _words() -> re.Pattern[str]:
    """Return the pattern of a word or a mark, with combining marks."""
    marks = "".join(char for char in map(chr, range(sys.maxunicode)) if _combines(char))
    word = rf"[^\W_](?:[^\W_]|[{re.escape(marks)}])*"
    return re.compile(rf"{word}(?:['\u2019]{word})*|[^\w\s]|_")


def _combines(char: str) -> bool:
    """Test for combining marks, and for the joiners that some scripts use."""
    return unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"


def _strings(name: str, tokens: Any) -> list[str]:
    """Return tokens as a list, checked to be strings."""
    if not isinstance(tokens, Iterable):
        raise TypeError(
            f"{name} must be a text or a list of tokens, got {tokens!r:.80}"
        )
    symbols = list(tokens)
    for index, symbol in enumerate(symbols):
        if not isinstance(symbol, str):
            raise TypeError(f"{name}[{index}] must be a string, got {symbol!r:.80}")
    return symbols


def make_vocabulary(
    tokens: Iterable[str],
    *,
    size: int | None = None,
    special: Sequence[str] = (),
    unknown: str | None = None,
) -> Vocabulary:
    """Make the vocabulary of a text, the most frequent token first.

    Args:
        tokens: a text, whose characters become the tokens, or a list of tokens, such as
            words.
        size: largest number of tokens to keep, special ones included; None keeps all.
        special: tokens that come first, in this order, whether they occur or not, for
            instance for padding, beginning and end.
        unknown: the out-of-vocabulary token, which gets id 0. With None, encoding an
            unknown token is an error.

    Returns:
        A :class:`Vocabulary`. Tokens of equal frequency are in alphabetical order.

    Raises:
        ValueError: there are no tokens, or ``size`` is smaller than the number of
            special tokens.
        TypeError: ``size`` is not an int, or a token is not a string.
    """
    tokens = _strings("tokens", tokens)
    _strings("special", [*special, *([] if unknown is None else [unknown])])
    first = list(dict.fromkeys([*([] if unknown is None else [unknown]), *special]))
    counts = collections.Counter(tokens)
    found = sorted(counts.keys() - set(first), key=lambda each: (-counts[each], each))
    if not first and not found:
        raise ValueError("tokens must have at least one token, got an empty sequence")
    symbols = [*first, *found]
    if size is not None:
        symbols = symbols[: check_size("size", size, least=max(len(first), 1))]
    return Vocabulary(tuple(symbols), unknown)


def encode(vocabulary: Vocabulary, tokens: Iterable[str]) -> NDArray[np.int32]:
    """Encode tokens as ids, int32 ``(T,)``.

    Args:
        vocabulary: from :func:`make_vocabulary`.
        tokens: a text, for a vocabulary of characters, or a list of tokens.

    Returns:
        Token ids, int32 ``(T,)``.

    Raises:
        ValueError: a token is out of vocabulary and the vocabulary has no token for
            that, or a text is given to a vocabulary of words.
        TypeError: a token is not a string.
    """
    check_type("vocabulary", vocabulary, Vocabulary)
    numbers = {symbol: number for number, symbol in enumerate(vocabulary.symbols)}
    special = {vocabulary.unknown}
    words = [
        each for each in vocabulary.symbols if each not in special and len(each) > 1
    ]
    if isinstance(tokens, str) and len(words) > len(numbers) // 2:
        raise ValueError(
            "tokens must be tokens of this vocabulary, words such as "
            f"{words[0]!r}, got the text {tokens[:40]!r}: split it first, as "
            "split_words does"
        )
    symbols = _strings("tokens", tokens)
    if vocabulary.unknown is None:
        others = sorted(set(symbols) - numbers.keys())
        if others:
            raise ValueError(
                f"tokens must be in the vocabulary of {len(numbers)} tokens, which has "
                f"no unknown token, got {', '.join(map(repr, others[:10]))}"
            )
        return np.array([numbers[symbol] for symbol in symbols], np.int32)
    other = numbers[vocabulary.unknown]
    return np.array([numbers.get(symbol, other) for symbol in symbols], np.int32)


def decode(vocabulary: Vocabulary, numbers: ArrayLike) -> list[str]:
    """Decode ids to tokens: the inverse of :func:`encode`.

    Args:
        vocabulary: from :func:`make_vocabulary`.
        numbers: token ids, integers ``(T,)``.

    Returns:
        A list of T tokens.

    Raises:
        ValueError: an id is outside the vocabulary, or there is not exactly one axis.
        TypeError: the ids are not integers.
    """
    check_type("vocabulary", vocabulary, Vocabulary)
    array = np.asarray(numbers)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"numbers must be integers, got dtype {array.dtype.name}")
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
    """Write a vocabulary as a string, for a file or the metadata of a checkpoint.

    Args:
        vocabulary: from :func:`make_vocabulary`.

    Returns:
        JSON.
    """
    check_type("vocabulary", vocabulary, Vocabulary)
    return json.dumps(vocabulary._asdict(), ensure_ascii=False)


def vocabulary_from_json(text: str) -> Vocabulary:
    """Read a vocabulary that :func:`vocabulary_to_json` wrote.

    Args:
        text: JSON.

    Returns:
        A :class:`Vocabulary`.

    Raises:
        ValueError: ``text`` is not the output of :func:`vocabulary_to_json`.
    """
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.keys() != {"symbols", "unknown"}:
            raise ValueError(f"{text[:80]!r}")
        vocabulary = Vocabulary(tuple(fields["symbols"]), fields["unknown"])
        sound = all(isinstance(symbol, str) for symbol in vocabulary.symbols)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"text must be the output of vocabulary_to_json, got {error}"
        ) from error
    known = vocabulary.unknown is None or vocabulary.unknown in vocabulary.symbols
    if not (sound and known):
        raise ValueError(
            f"text must be the output of vocabulary_to_json, got {text[:80]!r}"
        )
    return vocabulary
