"""Training of the encoder-decoder examples: endless batches, loss, and loop."""

import collections
import functools
import itertools
from typing import NamedTuple

import jax
import numpy as np
import optax

from jaxrnn import data, losses, seq2seq, train

from . import pairs


class Settings(NamedTuple):
    """Training settings."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    num_buckets: int = 2  # one compilation for each
    sampling_rate: float = 0.0  # for scheduled sampling, at the end of training


def batches(translator, training, settings):
    """Yield endless batches; similar source lengths together give few shapes."""
    sources, targets = pairs.encode(translator, training)
    bucketed = functools.partial(
        data.bucketed_batches, sources, num_buckets=settings.num_buckets
    )
    longest = collections.Counter()  # target length of each bucket
    for batch in bucketed(batch_size=settings.batch_size):
        steps = max(len(targets[row]) for row in batch.rows[batch.counts])
        longest[len(batch.xs)] = max(longest[len(batch.xs)], steps)
    taken = 0
    for epoch in itertools.count():
        seed = settings.seed * 1000 + epoch
        for batch in bucketed(batch_size=settings.batch_size, seed=seed):
            chosen = [
                targets[row] if counts else []
                for row, counts in zip(batch.rows, batch.counts, strict=True)
            ]
            steps = longest[len(batch.xs)]
            whole = pairs.batch_of(translator, batch.xs, batch.mask, chosen, steps)
            rate = settings.sampling_rate * min(taken / settings.steps, 1)
            yield {**whole, "sampling_rate": np.float32(rate)}
            taken += 1


def make_loss(model, scheduled=False):
    """Make the cross-entropy of each token, given earlier targets or own outputs.

    Scheduled sampling runs the decoder step by step, which has no dropout.
    """

    def loss_fn(params, batch, key=None):
        masks = {
            "source_mask": batch["source_mask"],
            "target_mask": batch["target_mask"],
        }
        if scheduled and key is not None:
            keys = jax.random.split(key)
            state = model.encode(
                params, batch["sources"], mask=batch["source_mask"], key=keys[0]
            )
            _, logits = seq2seq.scheduled_sampling(
                model.decoder,
                params.decoder,
                batch["fed"],
                state,
                rate=batch["sampling_rate"],
                key=keys[1],
                mask=batch["target_mask"],
            )
        else:
            _, logits = model.apply(
                params, batch["sources"], batch["fed"], **masks, key=key
            )
        return losses.softmax_cross_entropy(
            logits, batch["targets"], mask=batch["target_mask"]
        )

    return loss_fn


def fit(translator, params, training, validation, settings):
    """Train, and return the parameters with the lowest validation loss."""
    sources, targets = pairs.encode(translator, validation)
    held_out = pairs.batch_of(translator, *data.pad(sources), targets)
    validation_loss = jax.jit(make_loss(translator.model))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.learning_rate, max(settings.steps // 20, 1), settings.steps + 1
    )
    optimizer = train.default_optimizer(schedule)
    loss_fn = make_loss(translator.model, scheduled=settings.sampling_rate > 0)
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(settings.seed + 1)),
        batches(translator, training, settings),
        num_steps=settings.steps,
        validate=lambda params: {"loss": validation_loss(params, held_out)},
        validate_every=max(settings.steps // 10, 1),
    )
