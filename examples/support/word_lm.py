"""A language model of words, shared by several examples."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import checkpoint, data, losses, train, truncated

UNKNOWN = "<unknown>"
DROPOUT = 0.1
LEARNING_RATE = (
    5e-3  # after warm-up over WARM_UP steps or a quarter of all; decays to zero
)
WARM_UP = 50
BATCH_SIZE = 32
WINDOW = 35  # words per training sequence
ROWS = 10  # batch size for reading held-out text


def build(settings):
    """Build an LSTM between an embedding and a readout with tied weights."""
    size = len(data.vocabulary_from_json(settings["vocabulary"]).symbols)
    cell = jaxrnn.layer(jaxrnn.lstm(settings["hidden"]))
    narrow = jaxrnn.dense(settings["embedding"])
    return jaxrnn.tied(jaxrnn.stack(jaxrnn.dropout(cell, DROPOUT), narrow), size)


def join(vocabulary, texts, end):
    """Join texts, each with ``end``, into one token stream; also return the starts."""
    words = [word for each in texts for word in [*each, end]]
    starts = np.zeros(len(words), bool)
    starts[np.cumsum([0, *(len(each) + 1 for each in texts[:-1])])] = True
    return data.encode(vocabulary, words), starts


def windows(stream, targets, rows=ROWS, starts=None):
    """Cut a stream into windows; targets are the next words' targets."""
    starts = None if starts is None else starts[:-1]
    return truncated.contiguous_windows(
        stream[:-1], targets[1:], batch_size=rows, k1=WINDOW, resets=starts
    )


def scored(stream, values):
    """Select the values of the words that :func:`reader` scores."""
    return np.stack([window.targets for window in windows(stream, values)])


def perplexity(chances):
    return float(np.exp(-np.log(chances).mean()))


def reader(model):
    """Make a function that computes each word's probability, read in order."""

    @jax.jit
    def read(params, state, window):
        state, logits = model.apply(params, window.xs, state, resets=window.resets)
        loss = losses.softmax_cross_entropy(
            logits, window.targets, reduction=losses.per_step
        )
        return state, jnp.exp(-loss)

    def probable(params, stream, starts=None):
        state, found = model.initial_state(params, (ROWS,)), []
        for window in windows(stream, stream, starts=starts):
            state, chances = read(params, state, window)
            found.append(chances)
        return np.stack(found)

    return probable


def learn(model, params, validate, stream, steps, seed, starts=None):
    """Train on a stream repeatedly; the state carries over between windows.

    ``starts`` says where the state is reset; ``validate(params)`` returns the word
    probabilities of another stream.
    """

    def loss_fn(logits, window):
        return losses.softmax_cross_entropy(logits, window.targets)

    def measures(params):
        figure = perplexity(validate(params))
        return {"loss": np.log(figure), "perplexity": figure}

    def batches():
        while True:
            yield from windows(stream, stream, BATCH_SIZE, starts)

    warm_up = min(WARM_UP, steps // 4)
    schedule = optax.warmup_cosine_decay_schedule(0, LEARNING_RATE, warm_up, steps)
    optimizer = train.default_optimizer(schedule)
    key = jax.random.key(seed + 1)
    return train.fit(
        truncated.make_update(model, loss_fn, optimizer),
        truncated.init(model, params, optimizer, key, next(batches())),
        batches(),
        num_steps=steps,
        validate=measures,
        validate_every=max(steps // 8, 1),
    )


def load(path):
    """Load a model that next_word.py saved, its parameters and its vocabulary."""
    try:
        settings = json.loads(checkpoint.load_metadata(path)["next_word"])
        vocabulary = data.vocabulary_from_json(settings["vocabulary"])
        model = build(settings)
        size = model.output_size
        like = jax.eval_shape(lambda key: model.init(key, size), jax.random.key(0))
        return model, checkpoint.load_params(path, like), vocabulary
    except KeyError:
        sys.exit(
            f"{path} must be a model of next_word.py, got one without its settings"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"no model to predict by: {error}")
