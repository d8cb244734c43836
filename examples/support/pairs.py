"""Shared parts of the encoder-decoder examples: model, token ids, file format."""

import itertools
import json
import sys
from typing import NamedTuple

import jax
import numpy as np

import jaxrnn
from jaxrnn import checkpoint, data, seq2seq

BEGIN, END, UNKNOWN = "<begin>", "<end>", "<unknown>"


class Translator(NamedTuple):
    """A model, its vocabularies, and the length of its longest target."""

    model: seq2seq.EncoderDecoder
    source: data.Vocabulary
    target: data.Vocabulary
    num_steps: int


def vocabularies(pairs, *, unknown=None, size=None):
    """Build the vocabularies of training sources and targets."""

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
    """Build a bidirectional encoder, and a decoder with attention over its outputs.

    Optionally the attention memory also contains the embeddings of the source tokens.
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
    """Encode ``(source, target)`` tokens as ids; append the end token to targets."""
    sources = numbers(translator.source, [source for source, _ in pairs])
    targets = numbers(translator.target, [[*target, END] for _, target in pairs])
    return sources, targets


def numbers(vocabulary, sequences):
    """Look up the token ids of many sequences at once, which is much faster."""
    ends = np.cumsum([len(sequence) for sequence in sequences])
    joined = itertools.chain.from_iterable(sequences)
    return np.split(data.encode(vocabulary, joined), ends[:-1])


def batch_of(translator, sources, source_mask, targets, num_steps=None):
    """Pair targets with padded sources; the decoder inputs are shifted targets."""
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


def save(path, translator, params, settings, task):
    """Save parameters and the model's description; ``settings`` go to ``build``."""
    fields = {
        "task": task,
        "settings": settings,
        "num_steps": translator.num_steps,
        "source": data.vocabulary_to_json(translator.source),
        "target": data.vocabulary_to_json(translator.target),
    }
    checkpoint.save_params(path, params, {"pairs": json.dumps(fields)})


def load(path, task):
    """Load the translator and the parameters that ``save`` wrote."""
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
