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
from jaxrnn import data

LINES = (pathlib.Path(__file__).parent / "wrong_calls.txt").read_text().splitlines()
NAMES = {
    **vars(jaxrnn),
    "jaxrnn": jaxrnn,
    "jax": jax,
    "jnp": jnp,
    "np": np,
    "key": jax.random.key(0),
    "params": {"w": jnp.zeros(3)},
    "words": data.make_vocabulary(["the", "cat", "sat"], unknown="?"),
    "sgd": optax.sgd(0.1),
    "cell": jaxrnn.gru(5),
    "nothing": np.zeros((0, 3, 2)),
}


@pytest.mark.parametrize(
    ("call", "message"), list(zip(LINES[::2], LINES[1::2], strict=True))
)
def test_a_wrong_call_says_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        eval(call, NAMES)
    assert f"{type(caught.value).__name__}: {caught.value}".startswith(message)
