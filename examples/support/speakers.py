"""Speaker recognition, many to one: the first part of speech.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.model_selection import StratifiedKFold

import jaxrnn
from jaxrnn import data, losses, pooling, train

from . import fitting

FOLDS = 5
BATCH_SIZE = 24
DROPOUT = 0.4
NOISE = 0.8  # added to standardised coefficients in training
SMOOTHING = 0.1  # label smoothing
LEARNING_RATE = 3e-3


def folds(speakers, seed):
    """Return training and validation indices, balanced over speakers."""
    cut = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return list(cut.split(speakers, speakers))


def make_recogniser(size, num_speakers):
    """Return ``init(key, input_size)`` and ``logits(params, xs, mask, key=None)``."""
    encoder = jaxrnn.dropout(
        jaxrnn.bidirectional(jaxrnn.gru(size), jaxrnn.gru(size)),
        DROPOUT,
        variational=True,
    )
    head = jaxrnn.dense(num_speakers)

    def init(key, input_size):
        keys = jax.random.split(key)
        pooled_size = 2 * encoder.output_size
        return encoder.init(keys[0], input_size), head.init(keys[1], pooled_size)

    def logits(params, xs, mask, key=None):
        _, ys = encoder.apply(params[0], xs, mask=mask, key=key)
        pooled = [pooling.mean(ys, mask), pooling.maximum(ys, mask)]
        return head.apply(params[1], jnp.concatenate(pooled, axis=-1))[1]

    return init, logits


def recognise(known, speakers, unseen, size, num_steps, seed):
    """Compute speaker probabilities ``(N, S)`` for ``unseen``, averaged over networks.

    Each network uses another fold of ``known`` for validation.
    """
    init, logits_of = make_recogniser(size, speakers.max() + 1)

    def loss_fn(params, batch, key):
        xs, mask, targets, counts = batch
        key, noise_key = jax.random.split(key)
        noise = NOISE * jax.random.normal(noise_key, xs.shape, xs.dtype)
        logits = logits_of(params, xs + noise, mask, key)
        targets = jax.nn.one_hot(targets, logits.shape[-1])
        targets = optax.smooth_labels(targets, SMOOTHING)
        return losses.softmax_cross_entropy(logits, targets, mask=counts)

    def batches(xs, kept):
        """Yield batches of equal shapes: all folds, with weight zero for one."""
        for epoch in itertools.count(seed):
            for batch in data.bucketed_batches(
                xs, batch_size=BATCH_SIZE, num_buckets=3, seed=epoch
            ):
                counts = np.isin(batch.rows, kept)
                yield batch.xs, batch.mask, batch.of_rows(speakers), counts

    evaluate = jax.jit(logits_of)
    optimizer = fitting.optimizer(LEARNING_RATE, num_steps, weight_decay=1e-3)
    update = train.make_update(loss_fn, optimizer)
    longest = max(map(len, known))
    chances = []
    for fold, (kept, held) in enumerate(folds(speakers, seed)):
        learned = data.statistics(np.concatenate([known[row] for row in kept]))
        xs = [data.standardize(learned, each) for each in known]
        validation = data.pad([xs[row] for row in held], longest)

        def validate(params, validation=validation, held=held):
            logits = evaluate(params, *validation)
            return {"loss": losses.softmax_cross_entropy(logits, speakers[held])}

        state = fitting.start(init, optimizer, seed + fold, xs[0].shape[1])
        params = fitting.best(update, state, batches(xs, kept), num_steps, validate)
        tests = data.pad([data.standardize(learned, each) for each in unseen])
        chances.append(jax.nn.softmax(evaluate(params, *tests)))
    return np.mean(chances, axis=0)
