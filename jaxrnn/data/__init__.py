"""Sequences as arrays: vocabularies, padded batches, windows, standardised series.

All of it is NumPy, on the host, before anything is traced.

>>> vocabulary = make_vocabulary("hello", unknown="?")
>>> encode(vocabulary, "hole!").tolist()
[3, 4, 1, 2, 0]
>>> "".join(decode(vocabulary, [3, 2, 1, 1, 4]))
'hello'
"""

from ._batches import Batch, bucketed_batches, pad
from ._standardization import Statistics, restore, standardize, statistics
from ._vocabulary import (
    Vocabulary,
    decode,
    encode,
    make_vocabulary,
    split_words,
    vocabulary_from_json,
    vocabulary_to_json,
)
from ._windows import Windows, random_windows, windows, windows_of_many

__all__ = [
    "Batch",
    "Statistics",
    "Vocabulary",
    "Windows",
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
    "windows_of_many",
]
