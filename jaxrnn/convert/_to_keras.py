"""To Keras 3: built layers; ``_from_keras`` says how their weights are laid out."""

from typing import Any

import numpy as np

from .._base import Layer
from . import _parts
from ._arrays import need, reorder
from ._from_keras import MERGES, OTHER_ACTIVATIONS, R_Z_N
from ._parts import (
    activation_name,
    cell_of,
    read,
    refuse,
)


def to_keras(layer: Layer, params: Any) -> Any:
    """Convert a layer to one of Keras 3.

    Args:
        layer: a layer of ``elman``, ``lstm``, ``gru`` (both forms) or ``conv_lstm``, in
            one direction or both; ``dense``, ``embedding``, ``layer_norm``; or a stack
            of these, with :func:`jaxrnn.dropout` or without.
        params: its parameters.

    Returns:
        A built layer of Keras with these weights, in their dtype, that returns the
        outputs of all steps; a ``Sequential`` for a stack. ``get_weights()`` has the
        arrays.

    Raises:
        ValueError: Keras has no such layer; the message says what and why.
        TypeError: see :func:`to_torch`.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.lstm(5))
    >>> module = convert.to_keras(layer, layer.init(jax.random.key(0), 3))
    >>> [tuple(weight.shape) for weight in module.weights]
    [(3, 20), (5, 20), (20,)]
    """
    keras = need("keras", "keras")
    made = _to_keras(keras, read(layer, params))
    if len(made) == 1:
        return made[0]
    model = keras.Sequential(made)
    built = next(each for each in made if each.weights)
    model.build(built.get_build_config()["input_shape"])
    return model


def _to_keras(keras: Any, part: Any) -> list[Any]:
    layers = keras.layers
    match part:
        case _parts.Stack(parts):
            return [each for inner in parts for each in _to_keras(keras, inner)]
        case _parts.Dropout(rate, variational):
            shape = (None, 1, None) if variational else None
            return [layers.Dropout(rate, noise_shape=shape)]
        case _parts.Dense(own, activation):
            name = _keras_name(activation)
            if name is None:
                refuse(f"activation={activation!r}", "Keras has none that is the same")
            made = layers.Dense(own.w.shape[1], activation=name, dtype=_dtype(own.w))
            return [_built(made, (None, None, own.w.shape[0]), list(own))]
        case _parts.Embedding(own):
            made = layers.Embedding(*own.table.shape, dtype=_dtype(own.table))
            return [_built(made, (None, None), list(own))]
        case _parts.LayerNorm(own, epsilon):
            made = layers.LayerNormalization(epsilon=epsilon, dtype=_dtype(own.b))
            return [_built(made, (None, None, len(own.b)), list(own))]
    return [_recurrent_layer(layers, part)]


def _dtype(array: np.ndarray) -> str:
    return str(array.dtype)


def _built(layer: Any, shape: tuple[int | None, ...], weights: list[np.ndarray]) -> Any:
    layer.build(shape)
    layer.set_weights(weights)
    return layer


def _recurrent_layer(layers: Any, part: Any) -> Any:
    if part.reverse:
        refuse("a reversed layer", "Keras returns its outputs in reversed order")
    if len({own.form for own in part.directions}) > 1:
        refuse("two directions with different cells", "Keras has one cell for both")
    first = part.directions[0]
    kind = cell_of(first, "Keras", ("elman", "lstm", "gru", "gru_before", "conv_lstm"))
    options = {"return_sequences": True, "dtype": _dtype(first.params.b)}
    space: tuple[int, ...] = ()
    if kind == "conv_lstm":
        kernel, space = first.options["kernel_shape"], first.options["spatial_shape"]
        make = getattr(layers, f"ConvLSTM{len(space)}D")
        options |= {"kernel_size": kernel, "padding": "same"}
    elif kind == "elman":
        name = _keras_name(first.options["activation"])
        if name is None:
            refuse(repr(first.cell), "Keras has no activation that is the same")
        make, options["activation"] = layers.SimpleRNN, name
    elif kind == "lstm":
        make = layers.LSTM
    else:
        make, options["reset_after"] = layers.GRU, kind == "gru"
    made = make(first.hidden_size, **options)
    if len(part.directions) == 2:
        names = [name for name, merge in MERGES.items() if merge is part.merge]
        if not names:
            refuse(f"merge={part.merge!r}", "Keras has no merge_mode for it")
        made = layers.Bidirectional(made, merge_mode=names[0], dtype=options["dtype"])
    weights = [array for own in part.directions for array in _weights(own)]
    return _built(made, (None, None, *space, first.input_size), weights)


def _weights(part: Any) -> list[np.ndarray]:
    p = part.params
    if part.kind not in ("gru", "gru_before"):
        return list(p)
    w_x, w_h, b, b_h = (reorder(each, R_Z_N) for each in p)
    return [w_x, w_h, np.stack([b, b_h]) if part.kind == "gru" else b + b_h]


def _keras_name(activation: Any) -> str | None:
    """Return the name of the activation of Keras that computes the same, or None."""
    name = activation_name(activation)
    return None if name in OTHER_ACTIVATIONS else name
