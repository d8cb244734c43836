"""The table of layers that tests of every layer run on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from cases import I

import jaxrnn

VOCAB = 11


@dataclasses.dataclass(frozen=True)
class LayerCase:
    make: object  # unroll_fn -> Layer
    causal: bool = True
    tokens: bool = False


def _stack(unroll_fn):
    layer = functools.partial(jaxrnn.layer, unroll_fn=unroll_fn)
    return jaxrnn.stack(
        layer(jaxrnn.lstm(5)), layer(jaxrnn.gru(4)), layer(jaxrnn.elman(3))
    )


def _model(unroll_fn):
    cell = jaxrnn.lstm(5)
    return jaxrnn.stack(
        jaxrnn.embedding(VOCAB, 4),
        jaxrnn.layer(cell, unroll_fn=unroll_fn),
        jaxrnn.layer(cell, unroll_fn=unroll_fn),
        jaxrnn.dense(VOCAB),
    )


def _tagger(unroll_fn):
    return jaxrnn.stack(
        jaxrnn.bidirectional(jaxrnn.gru(5), jaxrnn.lstm(4), unroll_fn=unroll_fn),
        jaxrnn.dense(3, activation=jax.nn.softmax),
    )


# Which tests of values and gradients run on by default: the others are made of these.
QUICK = ("reversed", "bidirectional-merged", "highway", "recurrent-noise", "model")
QUICK += ("skip-stack", "tied")

LAYERS = {
    "layer": LayerCase(lambda f: jaxrnn.layer(jaxrnn.gru(5), unroll_fn=f)),
    "reversed": LayerCase(
        lambda f: jaxrnn.layer(jaxrnn.gru(5), reverse=True, unroll_fn=f), causal=False
    ),
    "stack": LayerCase(_stack),
    "nested-stack": LayerCase(
        lambda f: jaxrnn.stack(_stack(f), jaxrnn.dense(2), _stack(f))
    ),
    "bidirectional": LayerCase(
        lambda f: jaxrnn.bidirectional(jaxrnn.lstm(5), jaxrnn.lstm(5), unroll_fn=f),
        causal=False,
    ),
    "bidirectional-merged": LayerCase(
        lambda f: jaxrnn.bidirectional(
            jaxrnn.gru(5), jaxrnn.lstm(5), merge=jnp.logaddexp, unroll_fn=f
        ),
        causal=False,
    ),
    "tagger": LayerCase(_tagger, causal=False),
    "residual": LayerCase(
        lambda f: jaxrnn.residual(jaxrnn.layer(jaxrnn.gru(I), unroll_fn=f))
    ),
    "highway": LayerCase(
        lambda f: jaxrnn.highway(jaxrnn.layer(jaxrnn.lstm(I), unroll_fn=f))
    ),
    "dropout": LayerCase(
        lambda f: jaxrnn.dropout(jaxrnn.layer(jaxrnn.gru(5), unroll_fn=f), 0.5)
    ),
    "weight-drop": LayerCase(
        lambda f: jaxrnn.weight_drop(jaxrnn.layer(jaxrnn.lstm(5), unroll_fn=f), 0.5)
    ),
    "recurrent-noise": LayerCase(
        lambda f: jaxrnn.layer(
            jaxrnn.zoneout(jaxrnn.recurrent_dropout(jaxrnn.gru(5), 0.5), 0.2),
            unroll_fn=f,
        )
    ),
    "skip-stack": LayerCase(
        lambda f: jaxrnn.skip_stack(
            jaxrnn.layer(jaxrnn.gru(5), unroll_fn=f),
            jaxrnn.layer_norm(5),
            jaxrnn.layer(jaxrnn.lstm(4), unroll_fn=f),
        )
    ),
    "layer-norm": LayerCase(lambda f: jaxrnn.layer_norm(I)),
    "tied": LayerCase(
        lambda f: jaxrnn.tied(jaxrnn.layer(jaxrnn.lstm(4), unroll_fn=f), VOCAB),
        tokens=True,
    ),
    "dense": LayerCase(lambda f: jaxrnn.dense(3, activation=jnp.tanh)),
    "embedding": LayerCase(lambda f: jaxrnn.embedding(VOCAB, 4), tokens=True),
    "model": LayerCase(_model, tokens=True),
}
