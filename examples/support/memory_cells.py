"""The cells that long_memory.py compares, initialised to remember."""

import jax
import jax.numpy as jnp

import jaxrnn


def identity(key, shape, dtype):
    """Identity initialisation (Le, Jaitly and Hinton, 2015)."""
    return jnp.eye(*shape, dtype=dtype)


def keeping(gru, bias):
    """Initialise the update gate z of a GRU like the forget gate of the LSTM."""

    def init(*args):
        params = gru.init(*args)
        z = slice(gru.output_size, 2 * gru.output_size)
        return params._replace(b=params.b.at[z].set(bias))

    return gru._replace(init=init)


def make(size, bias):
    """Make the cells by name; ``bias`` is for the gates that keep the state."""
    relu = {"activation": jax.nn.relu, "w_h_init": identity}
    return {
        "tanh": jaxrnn.elman(size),
        "ReLU": jaxrnn.elman(size, **relu),
        "LSTM": jaxrnn.lstm(size, forget_bias=bias),
        "GRU": keeping(jaxrnn.gru(size), bias),
    }
