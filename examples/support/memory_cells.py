"""The cells that long_memory.py compares, each begun so that it may remember."""

import jax
import jax.numpy as jnp

import jaxrnn


def identity(key, shape, dtype):
    """Le, Jaitly and Hinton, A simple way to initialize recurrent networks, 2015."""
    return jnp.eye(*shape, dtype=dtype)


def keeping(gru, bias):
    """A GRU whose update gate z begins as the forget gate of the LSTM does."""

    def init(*args):
        params = gru.init(*args)
        z = slice(gru.output_size, 2 * gru.output_size)
        return params._replace(b=params.b.at[z].set(bias))

    return gru._replace(init=init)


def make(size, bias):
    """By name; ``bias`` is that of the gates which keep the state."""
    relu = {"activation": jax.nn.relu, "w_h_init": identity}
    return {
        "tanh": jaxrnn.elman(size),
        "ReLU": jaxrnn.elman(size, **relu),
        "LSTM": jaxrnn.lstm(size, forget_bias=bias),
        "GRU": keeping(jaxrnn.gru(size), bias),
    }
