"""Recognition of digits row by row: the first part of handwriting.py."""

import gzip
import itertools
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

import jaxrnn
from jaxrnn import losses, metrics, train

from . import fitting

SIDE, CLASSES = 28, 10
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
DROPOUT = 0.3
SHIFT = 2  # maximum shift of a training digit, in pixels
EARLY = 0.3  # loss weight of the answers before the last row
BATCH_SIZE = 64
LEARNING_RATE = 4e-3


def read(path):
    """Load distinct pictures ``(N, 28, 28)`` from 0 to 1, and their labels."""
    try:
        with gzip.open(path) as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        sys.exit(f"{path} must be a table of digits, got a damaged file: {error}")
    if table.shape[1] != SIDE * SIDE + 1 or not np.isfinite(table).all():
        sys.exit(
            f"{path} must have {SIDE * SIDE} pixels and a label in each row, all "
            f"finite, got {table.shape[1]} columns"
        )
    table = np.unique(table, axis=0)
    labels = table[:, -1].astype(int)
    found = np.unique(labels).tolist()
    if len(found) < 2 or found[0] < 0 or found[-1] >= CLASSES:
        sys.exit(f"{path} must have two labels or more from 0 to 9, got {found}")
    return table[:, :-1].reshape(-1, SIDE, SIDE) / 255, labels


def split(count, seed, limit=None):
    """Return indices of pictures for test, validation and training."""
    order = np.random.default_rng(seed).permutation(count)[:limit]
    shares = np.cumsum([TEST_SHARE, VALIDATION_SHARE]) * len(order)
    return np.split(order, shares.round().astype(int))


def train_reader(pictures, labels, held, kept, size, num_steps, seed):
    """Return a function from pictures to class probabilities after each row.

    ``held`` and ``kept`` are indices of pictures for validation and training. The loss
    is for the answer after the last row, plus a small weight for all earlier answers.
    """
    model = jaxrnn.stack(
        jaxrnn.dropout(jaxrnn.layer(jaxrnn.lstm(size)), DROPOUT),
        jaxrnn.dense(CLASSES),
    )

    def loss_fn(params, batch, key):
        xs, targets = batch
        key, shift_key = jax.random.split(key)
        shifts = jax.random.randint(shift_key, (len(targets), 2), -SHIFT, SHIFT + 1)
        xs = jax.vmap(lambda x, by: jnp.roll(x, by, (0, 1)))(xs, shifts)
        _, logits = model.apply(params, jnp.moveaxis(xs, 1, 0), key=key)
        values = losses.softmax_cross_entropy(
            logits,
            jnp.broadcast_to(targets, logits.shape[:-1]),
            reduction=losses.per_step,
        )
        return values[-1].mean() + EARLY * values.mean()

    @jax.jit
    def answers(params, xs):
        return model.apply(params, jnp.moveaxis(xs, 1, 0))[1]  # pixel rows are the time

    def validate(params):
        logits = answers(params, pictures[held])[-1]
        return {"loss": losses.softmax_cross_entropy(logits, labels[held])}

    rng = np.random.default_rng(seed)
    chosen = (rng.choice(kept, BATCH_SIZE) for _ in itertools.count())
    batches = ((pictures[rows], labels[rows]) for rows in chosen)
    optimizer = fitting.optimizer(LEARNING_RATE, num_steps)
    state = fitting.start(model.init, optimizer, seed, SIDE)
    update = train.make_update(loss_fn, optimizer)
    params = fitting.best(update, state, batches, num_steps, validate)
    return lambda xs: np.asarray(jax.nn.softmax(answers(params, xs)))


def evaluate(reader, pictures, labels, test, known):
    """Compute accuracies on ``test``, also of classical models fitted to ``known``."""
    chances = reader(pictures[test])
    figures = {"jaxrnn, LSTM over rows": metrics.accuracy(chances[-1], labels[test])}
    flat = pictures.reshape(len(pictures), -1)
    for name, classical in [
        ("logistic regression on pixels", LogisticRegression(C=0.01, max_iter=1000)),
        ("nearest neighbour in pixels", KNeighborsClassifier(1)),
    ]:
        classical.fit(flat[known], labels[known])
        figures[name] = classical.score(flat[test], labels[test])
    return figures, chances
