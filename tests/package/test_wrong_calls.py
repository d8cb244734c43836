"""Wrong calls and what they say: the argument, what was expected, what came.

``wrong_calls.txt`` has a call on one line, and how its message begins on the next.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import checkpoint, data

LINES = (pathlib.Path(__file__).parent / "wrong_calls.txt").read_text().splitlines()
KEY = jax.random.key(0)
GRU, LSTM = jaxrnn.gru(5), jaxrnn.lstm(5)
MODEL = jaxrnn.stack(jaxrnn.embedding(6, 3), jaxrnn.layer(GRU), jaxrnn.dense(6))
NAMES = {
    **vars(jaxrnn),
    "checkpoint": checkpoint,
    "jaxrnn": jaxrnn,
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "key": KEY,
    "params": {"w": jnp.zeros(3)},
    "words": data.make_vocabulary(["the", "cat", "sat"], unknown="?"),
    "sgd": optax.sgd(0.1),
    "cell": GRU,
    "gru": GRU,
    "lstm": LSTM,
    "pg": GRU.init(KEY, 2),
    "pl": LSTM.init(KEY, 2),
    "layer_": jaxrnn.layer(GRU),
    "both": jaxrnn.bidirectional(GRU, LSTM),
    "model": MODEL,
    "mp": MODEL.init(KEY, 6),
    "norm": jaxrnn.normalization.batch_norm_init(2),
    "xs": np.ones((7, 3, 2)),
    "ys": np.ones((7, 3, 5)),
    "logits": np.zeros((7, 3, 4)),
    "tokens": np.ones((7, 3), int),
    "nothing": np.zeros((0, 3, 2)),
    "folder": pathlib.Path(__file__).parent,
    "text_file": __file__,
}


@pytest.mark.parametrize(
    ("call", "message"), list(zip(LINES[::2], LINES[1::2], strict=True))
)
def test_a_wrong_call_says_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        eval(call, NAMES)
    assert f"{type(caught.value).__name__}: {caught.value}".startswith(message)
