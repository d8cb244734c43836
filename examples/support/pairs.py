"""What the encoder-decoder examples share: the model, batches of pairs, training."""

import collections
import functools
import itertools
import json
import sys
from typing import NamedTuple

import jax
import numpy as np
import optax

import jaxrnn
from jaxrnn import checkpoint, data, losses, seq2seq, train

BEGIN, END, UNKNOWN = "<begin>", "<end>", "<unknown>"


class Translator(NamedTuple):
    """A model, what its numbers stand for, and the length of its longest target."""

    model: seq2seq.EncoderDecoder
    source: data.Vocabulary
    target: data.Vocabulary
    num_steps: int


class Settings(NamedTuple):
    """How to train."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    num_buckets: int = 2  # each is compiled for
    sampling_rate: float = 0.0  # of scheduled sampling, at the end of training


def vocabularies(pairs, *, unknown=None, size=None):
    """Those of the sources and of the targets, in training."""

    def found(place, special):
        symbols = (symbol for pair in pairs for symbol in pair[place])
        return data.make_vocabulary(
            symbols, size=size, special=special, unknown=unknown
        )

    return found(0, ()), found(1, (BEGIN, END))


def build(
    source,
    target,
    num_steps,
    *,
    embedding_size,
    hidden_size,
    encoder_size=None,
    embedding_scale=1.0,
    look_at_words=False,
    dropout=0.0,
):
    """An encoder that reads in both directions, and a decoder that looks at it.

    What it looks at are the encoder's outputs, and the vectors of the source symbols
    themselves beside these, if it should.
    """
    cell = jaxrnn.gru(encoder_size or hidden_size)

    def embedded(vocabulary):
        table = jaxrnn.embedding(
            len(vocabulary.symbols),
            embedding_size,
            table_init=jax.nn.initializers.normal(embedding_scale),
        )
        return jaxrnn.dropout(table, dropout)

    both = jaxrnn.dropout(jaxrnn.bidirectional(cell, cell), dropout)
    combine = jaxrnn.skip_stack if look_at_words else jaxrnn.stack
    model = seq2seq.encoder_decoder(
        combine(embedded(source), both),
        jaxrnn.gru(hidden_size),
        inputs=embedded(target),
        readout=jaxrnn.dropout(jaxrnn.dense(len(target.symbols)), input_rate=dropout),
        attention=seq2seq.additive(hidden_size),
    )
    return Translator(model, source, target, num_steps)


def initial_params(translator, seed):
    sizes = len(translator.source.symbols), len(translator.target.symbols)
    return translator.model.init(jax.random.key(seed), *sizes)


def encode(translator, pairs):
    """Numbers of ``(source, target)`` symbols; each target is closed by the end."""
    sources = numbers(translator.source, [source for source, _ in pairs])
    targets = numbers(translator.target, [[*target, END] for _, target in pairs])
    return sources, targets


def numbers(vocabulary, sequences):
    """The numbers of many sequences, found in one go, which is faster by far."""
    ends = np.cumsum([len(sequence) for sequence in sequences])
    joined = itertools.chain.from_iterable(sequences)
    return np.split(data.encode(vocabulary, joined), ends[:-1])


def batch_of(translator, sources, source_mask, targets, num_steps=None):
    """Targets beside padded sources; the decoder is fed what stands before each."""
    targets, target_mask = data.pad(targets, num_steps)
    begin = np.full_like(targets[:1], translator.target.symbols.index(BEGIN))
    return {
        "sources": sources,
        "source_mask": source_mask,
        "fed": np.concatenate([begin, targets[:-1]]),
        "targets": targets,
        "target_mask": target_mask,
        "sampling_rate": np.float32(0),
    }


def batches(translator, pairs, settings):
    """Batches without end. Sources of like lengths are together, so shapes are few."""
    sources, targets = encode(translator, pairs)
    bucketed = functools.partial(
        data.bucketed_batches, sources, num_buckets=settings.num_buckets
    )
    longest = collections.Counter()  # target of each length of a bucket
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
            whole = batch_of(translator, batch.xs, batch.mask, chosen, steps)
            rate = settings.sampling_rate * min(taken / settings.steps, 1)
            yield {**whole, "sampling_rate": np.float32(rate)}
            taken += 1


def make_loss(model, scheduled=False):
    """Cross-entropy of each symbol, given those before it, or some of the model's own.

    With scheduled sampling the decoder is stepped, and stepping has no dropout.
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
    """Train; the parameters kept are those of the lowest loss in validation."""
    sources, targets = encode(translator, validation)
    held_out = batch_of(translator, *data.pad(sources), targets)
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


def save(path, translator, params, settings, task):
    """Parameters, and all that makes the model again; ``settings`` are of ``build``."""
    fields = {
        "task": task,
        "settings": settings,
        "num_steps": translator.num_steps,
        "source": data.vocabulary_to_json(translator.source),
        "target": data.vocabulary_to_json(translator.target),
    }
    checkpoint.save_params(path, params, {"pairs": json.dumps(fields)})


def load(path, task):
    """The translator and the parameters that ``save`` wrote."""
    try:
        fields = json.loads(checkpoint.load_metadata(path)["pairs"])
        if fields["task"] != task:
            sys.exit(f"{path} must be a model of the task {task}, got {fields['task']}")
        known = [
            data.vocabulary_from_json(fields[side]) for side in ("source", "target")
        ]
        translator = build(*known, fields["num_steps"], **fields["settings"])
        like = jax.eval_shape(lambda: initial_params(translator, 0))
        return translator, checkpoint.load_params(path, like)
    except KeyError:
        sys.exit(f"{path} must be a model of this script, got one without its settings")
    except (OSError, ValueError) as error:
        sys.exit(f"no model to write with: {error}")
