"""Three long-memory problems for long_memory.py, drawn anew for every batch.

Each ``draw_...`` returns inputs ``(T, B, F)``, targets, and a mask ``(T, B)`` or None.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import data, losses


class Problem(NamedTuple):
    """A problem for a network to learn."""

    draw: Callable  # (key, rows) -> (xs, targets, mask)
    loss: Callable  # (ys, targets) -> scalar
    output_size: int


LANGUAGES = {
    "France": "French",
    "Italy": "Italian",
    "Spain": "Spanish",
    "Germany": "German",
    "Greece": "Greek",
    "Poland": "Polish",
    "Sweden": "Swedish",
    "Turkey": "Turkish",
    "Japan": "Japanese",
    "China": "Chinese",
}
BEGINNING, END = ["I", "grew", "up", "in", "France", "."], ["I", "speak", "fluent"]
# Sentences between; France is replaced by a country other than the right one.
FILLERS = [
    "My father worked in a bank .",
    "We had a garden and hens .",
    "School was a long walk away .",
    "I liked sums more than sport .",
    "In summer we swam every day .",
    "My aunt sent letters from France .",
    "Our neighbours had moved from France .",
    "The winters were cold and dark .",
    "I read all books we had .",
    "Once we took trains to France .",
    "My sister played the violin well .",
    "Later I studied law and music .",
]
FILLER_LENGTH = len(FILLERS[0].split())

VOCABULARY = data.make_vocabulary(
    [word for text in FILLERS for word in text.split()] + BEGINNING + END,
    special=list(LANGUAGES),  # countries get the first token ids
)
TABLE = np.stack([data.encode(VOCABULARY, text.split()) for text in FILLERS])

SYMBOLS, COPIED = 8, 10  # for the copy problem
BLANK, RECALL = SYMBOLS, SYMBOLS + 1


def distance(fillers):
    """Count the words from the country to the blank, given the number of fillers."""
    return len(BEGINNING) - 4 + FILLER_LENGTH * fillers + len(END)


def draw_sentences(key, rows, counts, most):
    """Draw ``I grew up in <country> . ... I speak fluent``; the target is the language.

    Args:
        key: key of ``jax.random``.
        rows: batch size B.
        counts: possible numbers of sentences between, integers up to ``most``.
        most: maximum number of sentences; unused steps are masked.
    """
    keys = jax.random.split(key, 4)
    country = jax.random.randint(keys[0], (rows,), 0, len(LANGUAGES))
    count = jax.random.choice(keys[1], jnp.asarray(counts), (rows,))
    chosen = jnp.asarray(TABLE)[
        jax.random.randint(keys[2], (rows, most), 0, len(FILLERS))
    ]
    ahead = jax.random.randint(keys[3], (rows, most, 1), 1, len(LANGUAGES))
    other = (country[:, None, None] + ahead) % len(LANGUAGES)
    between = jnp.where(chosen == 0, other, chosen).reshape(rows, -1)
    first, last = (
        jnp.tile(data.encode(VOCABULARY, words), (rows, 1))
        for words in (BEGINNING, END)
    )
    first = jnp.where(first == 0, country[:, None], first)
    words = jnp.concatenate([first, between, last], axis=1).T
    here = jnp.repeat(jnp.arange(most) < count[:, None], FILLER_LENGTH, axis=1)
    mask = jnp.concatenate([first >= 0, here, last >= 0], axis=1).T
    return jax.nn.one_hot(words, len(VOCABULARY.symbols)), country, mask


def write(text, row):
    """Convert one of these texts to a string."""
    xs, _, mask = text
    words = np.asarray(xs[:, row].argmax(-1))[np.asarray(mask[:, row])]
    return " ".join(data.decode(VOCABULARY, words))


def naive_accuracy(text):
    """Compute how often the country named last is the right one."""
    xs, country, mask = text
    words = np.where(mask, np.asarray(xs).argmax(-1), len(LANGUAGES))
    named = words < len(LANGUAGES)
    steps = len(words) - 1 - named[::-1].argmax(axis=0)
    return float(np.mean(words[steps, np.arange(words.shape[1])] == country))


def draw_adding(key, rows, length):
    """Draw numbers from 0 to 1, two of them marked; the target is their sum.

    Hochreiter and Schmidhuber, Long short-term memory, 1997, in the form of Le, Jaitly
    and Hinton, 2015: one mark in each half.
    """
    keys = jax.random.split(key, 3)
    numbers = jax.random.uniform(keys[0], (length, rows))
    half = length // 2
    places = jnp.stack(
        [
            jax.random.randint(keys[1], (rows,), 0, half),
            jax.random.randint(keys[2], (rows,), half, length),
        ]
    )
    marks = jax.nn.one_hot(places, length).sum(0).T
    sums = (numbers * marks).sum(0)[:, None]
    return jnp.stack([numbers, marks], -1), sums, None


def draw_copy(key, rows, length):
    """Draw ten symbols, blanks, and a recall signal; ``length + 20`` steps.

    Hochreiter and Schmidhuber, 1997, as in Arjovsky, Shah and Bengio, Unitary evolution
    recurrent neural networks, 2016.
    """
    symbols = jax.random.randint(key, (COPIED, rows), 0, SYMBOLS)
    blanks = jnp.full((length + COPIED, rows), BLANK)
    inputs = jnp.concatenate([symbols, blanks.at[length - 1].set(RECALL)])
    targets = jnp.concatenate([blanks, symbols])
    return jax.nn.one_hot(inputs, SYMBOLS + 2), targets, None


def make(name, length):
    """Make a problem by name; ``length`` counts sentences, numbers or blanks."""
    if name == "sentences":
        draw = functools.partial(
            draw_sentences, counts=np.arange(1, length + 1), most=length
        )
        return Problem(draw, at_end(losses.softmax_cross_entropy), len(LANGUAGES))
    if name == "adding":
        draw = functools.partial(draw_adding, length=length)
        return Problem(draw, at_end(losses.mean_squared_error), 1)
    draw = functools.partial(draw_copy, length=length)
    return Problem(draw, losses.softmax_cross_entropy, SYMBOLS + 1)


def tested(most):
    """Return numbers of sentences for the test, up to three times the longest trained.

    Training covers all numbers in its range. Otherwise a network may fail only at the
    missing ones, and accuracy no longer shows how far back it remembers. From three
    sentences on, hardly any test text occurs in training.
    """
    return np.arange(3, 3 * most + 1, 3)


def at_end(loss):
    """Restrict a loss to the last step."""
    return lambda ys, targets: loss(ys[-1], targets)
