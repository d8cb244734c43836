"""Wrong calls and what they say: the argument, what was expected, what came.

``wrong_calls.txt`` has a call on one line, and how its message begins on the next.
"""

import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxrnn
from jaxrnn import checkpoint, data, train

LINES = (pathlib.Path(__file__).parent / "wrong_calls.txt").read_text().splitlines()
KEY = jax.random.key(0)
FOLDER = tempfile.TemporaryDirectory()
STATE_FILE, DAMAGED_FILE = f"{FOLDER.name}/state", f"{FOLDER.name}/damaged"
checkpoint.save_state(STATE_FILE, {"w": jnp.zeros(3)})
pathlib.Path(DAMAGED_FILE).write_bytes(b"\x08" + bytes(7) + b"{damaged")


def loss_fn(params, batch, key):
    return (params["w"] ** 2).sum()


UPDATE = train.make_update(loss_fn, optax.sgd(0.1))
USED = train.init({"w": jnp.zeros(3)}, optax.sgd(0.1), KEY)
UPDATE(USED, None)
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
    "state_file": STATE_FILE,
    "damaged_file": DAMAGED_FILE,
    "loss_fn": loss_fn,
    "update": UPDATE,
    "used": USED,
}


@pytest.mark.parametrize(
    ("call", "message"), list(zip(LINES[::2], LINES[1::2], strict=True))
)
def test_a_wrong_call_says_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        eval(call, NAMES)
    said = f"{type(caught.value).__name__}: {caught.value}"
    for name, folder in (("FOLDER", FOLDER.name), ("HERE", str(NAMES["folder"]))):
        said = said.replace(folder, name)
    assert said.startswith(message)
