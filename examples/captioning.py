"""Two digits in a picture, put into words: one input, many outputs.

    python examples/captioning.py [--beam-size 5] [--out runs/captioning]

Two images of handwritten digits (scikit-learn, 8 x 8 pixels) stand side by side, and
the network writes the number in words (num2words): "forty-two", and "seven" for 07. A
dense layer is applied to both halves of the picture, like a convolution. A second dense
layer computes the decoder's initial state, and the decoder writes word by word. The
images are split into training, validation and test. Captions of 20 numbers never occur
in training: the model has to combine words in a new way. Prints the share of fully
correct captions by greedy and beam search, and for two classifiers; the one that knows
how digits combine stays slightly ahead. Saves a picture of images and their captions.
"""

import functools
import itertools

from support import command_line, digit_pairs, results
from support.digit_pairs import CAPTIONS

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxrnn
from jaxrnn import data, decode, losses, train

FEATURES = 128  # units for each half of the picture
EMBEDDING_SIZE = 16
# A small state, noise and soft targets: otherwise the decoder memorises the word pairs
# of the training captions, and writes no others.
HIDDEN_SIZE = 48
PIXEL_DROPOUT, FEATURE_DROPOUT = 0.15, 0.3
STATE_DROPOUT, OUTPUT_DROPOUT = 0.25, 0.3
SMOOTHING = 0.3
BATCH_SIZE = 128
STEPS = 5000  # --full takes four times as many
LEARNING_RATE = 4e-3  # decays to zero over the run
HELD_OUT = 20  # numbers whose captions never occur in training
PER_NUMBER = 20  # pictures of each number in validation and test

BEGIN, END = "<begin>", "<end>"
WORDS = [[*data.split_words(caption), END] for caption in CAPTIONS]
VOCABULARY = data.make_vocabulary(itertools.chain(*WORDS), special=[BEGIN, END])
SIZE = len(VOCABULARY.symbols)
TARGETS, MASK = data.pad([data.encode(VOCABULARY, words) for words in WORDS])


def main():
    parser = command_line.make_parser(__doc__, "captioning")
    add = functools.partial(parser.add_argument, type=command_line.positive)
    add("--steps", default=STEPS)
    add("--beam-size", default=5)
    add("--limit", default=1797, help="maximum number of digit images")
    parser.add_argument("--full", action="store_true", help="train for 4 x the steps")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    digits, labels = (each[: options.limit] for each in load_digits(return_X_y=True))
    try:
        parts = digit_pairs.split(digits / 16, labels, rng)
    except ValueError as error:
        parser.error(f"--limit must leave more images: {error}")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "captions.png")

    # Of names of two words: who never read "twelve" cannot know that it exists.
    composed = np.flatnonzero(np.char.find(CAPTIONS, "-") > 0)
    unheard = np.sort(rng.choice(composed, HELD_OUT, replace=False))
    known = np.setdiff1d(np.arange(100), unheard)
    print("never captioned in training:", ", ".join(CAPTIONS[unheard]))
    model = make_model()
    shown = np.repeat(known, PER_NUMBER)
    held_out = digit_pairs.glue(*parts[1], shown, rng), shown
    steps = options.steps * (4 if options.full else 1)
    result = learn(model, parts[0], known, held_out, steps, options.seed)
    if result.stopped:
        print(f"stopped early: {result.stopped}")

    numbers = np.repeat(np.arange(100), PER_NUMBER)
    halves = digit_pairs.glue(*parts[2], numbers, rng)
    write = jax.jit(functools.partial(caption, model, beam_size=options.beam_size))
    greedy, beam = map(read, write(result.best_params, halves))
    each, whole = digit_pairs.classify(*parts[:2], known, halves, rng)
    is_new = np.isin(numbers, unheard)
    digit_pairs.draw(path, halves, numbers, beam, is_new, rng)
    print(f"picture: {path}")
    said = {
        f"jaxrnn, beam search of {options.beam_size}": beam,
        "jaxrnn, greedy": greedy,
        "logistic regression of each digit, composed": each,
        "nearest picture of a known number": whole,
    }
    for title, rows in {"known": ~is_new, "never captioned": is_new}.items():
        right = {k: (v == CAPTIONS[numbers])[rows].mean() for k, v in said.items()}
        results.print_table(f"exact captions, new images of numbers {title}", right)


def make_model():
    """Build the layer for halves, the layer for the initial state, and the decoder."""
    features = jaxrnn.dense(FEATURES, activation=jax.nn.relu)
    cell = jaxrnn.recurrent_dropout(jaxrnn.gru(HIDDEN_SIZE), STATE_DROPOUT)
    decoder = jaxrnn.stack(
        jaxrnn.embedding(SIZE, EMBEDDING_SIZE),
        jaxrnn.dropout(jaxrnn.layer(cell), OUTPUT_DROPOUT),
        jaxrnn.dense(SIZE),
    )
    return (
        jaxrnn.dropout(features, FEATURE_DROPOUT, input_rate=PIXEL_DROPOUT),
        jaxrnn.dense(HIDDEN_SIZE, activation=jnp.tanh),
        decoder,
    )


def first_state(model, params, halves, key=None):
    """Compute the decoder's initial state from the halves ``(2, B, 64)``."""
    _, (left, right) = model[0].apply(params[0], halves, key=key)
    _, state = model[1].apply(params[1], jnp.concatenate([left, right], axis=-1))
    return ((), state, ())


def learn(model, training, known, held_out, steps, seed):
    """Train on pictures that are composed anew for each step."""

    def loss_fn(params, batch, key=None):
        halves, numbers = batch
        keys = (None, None) if key is None else jax.random.split(key)
        state = first_state(model, params, halves, keys[0])
        targets, mask = jnp.asarray(TARGETS)[:, numbers], jnp.asarray(MASK)[:, numbers]
        fed = jnp.concatenate([jnp.zeros_like(targets[:1]), targets[:-1]])
        _, logits = model[2].apply(params[2], fed, state, mask=mask, key=keys[1])
        soft = optax.smooth_labels(jax.nn.one_hot(targets, SIZE), SMOOTHING)
        return losses.softmax_cross_entropy(logits, soft, mask=mask)

    def batches():
        rng = np.random.default_rng(seed)
        while True:
            numbers = rng.choice(known, BATCH_SIZE)
            yield digit_pairs.glue(*training, numbers, rng), numbers

    *keys, key = jax.random.split(jax.random.key(seed), 4)
    sizes = 64, 2 * FEATURES, SIZE
    params = [m.init(k, size) for m, k, size in zip(model, keys, sizes, strict=True)]
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    optimizer = train.default_optimizer(schedule)
    held_out_loss = jax.jit(loss_fn)
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, key),
        batches(),
        num_steps=steps,
        validate=lambda params: {"loss": held_out_loss(params, held_out)},
        validate_every=max(steps // 10, 1),
    )


def caption(model, params, halves, beam_size):
    """Return tokens ``(T, B)`` by greedy search, and the best of a beam search."""
    begin = jnp.zeros((1, halves.shape[1]), int)
    writer = (model[2], params[2], begin, len(TARGETS))
    options = {"state": first_state(model, params, halves), "end": 1}
    _, greedy = decode.generate(*writer, key=jax.random.key(0), **options)
    found = decode.beam_search(*writer, beam_size=beam_size, **options)
    return greedy, found.tokens[..., 0]


def read(tokens):
    """Convert tokens ``(T, B)`` to B strings, up to the end token."""
    columns = np.asarray(tokens).T
    texts = ["".join(data.decode(VOCABULARY, column)) for column in columns]
    return np.array([text.split(END)[0] for text in texts])


if __name__ == "__main__":
    main()
