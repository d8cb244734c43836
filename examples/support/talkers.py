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
    """A model, and how text becomes its tokens."""

    advance: Any  # (state, token, count) -> (state, bits of each token, next one)
    initial: Any
    split: Any  # from a line to symbols
    symbols: tuple[str, ...]
    unknown: str | None  # the symbol for others
    gap: str  # the symbol between turns


class Place(NamedTuple):
    """Where a conversation is."""

    state: Any
    bits: np.ndarray  # how surprising each token would be
    drawn: int  # the token that the model would write
    count: int  # of tokens so far
    last: str  # symbol


def load(path, choose, seed):
    """A talker from a file that char_lm.py or next_word.py left.

    It reads the symbol for unknown words, but never writes it.
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
    """Where a conversation begins; ``count`` goes on, or the same would be drawn."""
    nothing = Place(talker.initial, np.zeros(len(talker.symbols)), 0, count, "")
    return read(talker, nothing, talker.gap)[0]


def read(talker, place, symbol):
    """The place after one more symbol, and how many bits that was worth."""
    token = talker.symbols.index(symbol)
    after = talker.advance(place.state, token, place.count)
    return Place(*after, place.count + 1, symbol), float(place.bits[token])


def afresh(talker, symbols):
    """The bits of symbols that begin a conversation."""
    place, found = start(talker), []
    for symbol in symbols:
        place, bits = read(talker, place, symbol)
        found.append(bits)
    return found


def split(talker, line):
    """The symbols of a line, and what to say of those that the model does not know."""
    symbols = talker.split(line)
    others = sorted(set(symbols) - set(talker.symbols))
    message = ""
    if others:
        what = f"read as {talker.unknown}" if talker.unknown else "left out"
        message = f"(the model does not know, {what}: {', '.join(map(repr, others))})"
    taken = [s if s in talker.symbols else talker.unknown for s in symbols]
    return [symbol for symbol in taken if symbol is not None], message
