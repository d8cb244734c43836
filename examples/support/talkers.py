"""A language model that reads and writes one token at a time, for chat.py."""

import sys
from typing import Any, NamedTuple

import char_lm
import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import checkpoint, data, metrics

from . import word_lm


class Talker(NamedTuple):
    """A model, and its conversion of text to tokens."""

    advance: Any  # (state, token, count) -> (state, bits of each token, next one)
    initial: Any
    split: Any  # splits a line into tokens
    symbols: tuple[str, ...]
    unknown: str | None  # the token for unknown words
    gap: str  # the token between turns


class Place(NamedTuple):
    """State of a conversation."""

    state: Any
    bits: np.ndarray  # how surprising each token would be
    drawn: int  # the token that the model would write next
    count: int  # number of tokens so far
    last: str  # last token


def load(path, choose, seed):
    """Load a talker from a file written by char_lm.py or next_word.py.

    It reads the token for unknown words, but never writes it.
    """
    try:
        kind = checkpoint.load_metadata(path).keys()
        if not kind & {"char_lm", "next_word"}:
            raise ValueError(f"{path} is another model")
    except (OSError, ValueError) as error:
        sys.exit(
            f"--model must be a file that char_lm.py or next_word.py left: {error}; "
            "python examples/char_lm.py trains a model"
        )
    if "char_lm" in kind:
        model, params, symbols = char_lm.load(path)
        split, unknown, gap = list, None, " "
    else:
        model, params, (symbols, unknown) = word_lm.load(path)
        split, gap = (lambda line: data.split_words(line.lower())), "."
    gap = gap if gap in symbols else symbols[0]
    written = np.array([symbol != unknown for symbol in symbols])

    @jax.jit
    def advance(params, state, token, count):
        state, logits = model.step(params, state, token)
        key = jax.random.fold_in(jax.random.key(seed), count)
        drawn = choose(key, jnp.where(written, logits, -jnp.inf))
        return state, metrics.nats_to_bits(-jax.nn.log_softmax(logits)), drawn

    def step(*place):
        state, bits, drawn = advance(params, *place)
        return state, np.asarray(bits), int(drawn)

    initial = model.initial_state(params)
    return Talker(step, initial, split, tuple(symbols), unknown, gap)


def start(talker, count=0):
    """Start a conversation; ``count`` continues, to avoid repeating random draws."""
    nothing = Place(talker.initial, np.zeros(len(talker.symbols)), 0, count, "")
    return read(talker, nothing, talker.gap)[0]


def read(talker, place, symbol):
    """Read one more token; return the new state and the token's bits."""
    token = talker.symbols.index(symbol)
    after = talker.advance(place.state, token, place.count)
    return Place(*after, place.count + 1, symbol), float(place.bits[token])


def afresh(talker, symbols):
    """Compute the bits of tokens that begin a conversation."""
    place, found = start(talker), []
    for symbol in symbols:
        place, bits = read(talker, place, symbol)
        found.append(bits)
    return found


def split(talker, line):
    """Split a line into tokens, and describe the ones unknown to the model."""
    symbols = talker.split(line)
    others = sorted(set(symbols) - set(talker.symbols))
    message = ""
    if others:
        what = f"read as {talker.unknown}" if talker.unknown else "left out"
        message = f"(the model does not know, {what}: {', '.join(map(repr, others))})"
    taken = [s if s in talker.symbols else talker.unknown for s in symbols]
    return [symbol for symbol in taken if symbol is not None], message
