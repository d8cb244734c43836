"""From Keras 3: layers with the gates of a GRU in the order z, r, n, otherwise as here.

Keras has one bias for most cells, and two, stacked, for a GRU that resets after the
product. Its convolutional LSTMs have the layout of :func:`jaxrnn.conv_lstm`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from . import _make, _parts
from ._arrays import need, note_dtype, reorder, to_numpy
from ._parts import (
    ACTIVATIONS,
    AVERAGE,
    Dropout,
    refuse,
)

CONVOLUTIONS = {"ConvLSTM1D": 1, "ConvLSTM2D": 2, "ConvLSTM3D": 3}
R_Z_N = (1, 0, 2)  # from z, r, n, and back
# Keras's gelu is exact, where JAX's is the approximation by tanh; the slope of Keras's
# leaky ReLU is 0.2, where JAX's is 0.01.
OTHER_ACTIVATIONS = ("gelu", "leaky_relu")


MERGES = {
    "concat": _parts.CONCATENATE,
    "sum": jnp.add,
    "mul": jnp.multiply,
    "ave": AVERAGE,
}


def from_keras(layer: Any) -> tuple[Layer, Any]:
    """Convert a layer of Keras 3.

    Args:
        layer: a built ``SimpleRNN``, ``LSTM``, ``GRU`` (both forms), ``RNN`` of such
            cells, ``Bidirectional``, ``ConvLSTM1D`` to ``3D`` with fixed spatial
            sizes, ``Dense``, ``Embedding``, ``LayerNormalization``, ``Dropout``, but
            not alone, or a ``Sequential`` of these.

    Returns:
        ``(layer, params)``. All outputs are returned, whatever ``return_sequences`` is.
        Inputs have time first. ``dropout`` of a recurrent layer becomes
        :func:`jaxrnn.dropout` of its inputs, with one mask for all steps.

    Raises:
        TypeError: the layer is of another class, a subclass included.
        ValueError: the layer is not built, or has an option that jaxrnn does not have,
            such as ``go_backwards``, whose outputs are in reversed order.

    Warns:
        UserWarning: ``recurrent_dropout`` is left out. It has no effect on a trained
        model; :func:`jaxrnn.recurrent_dropout` wraps the cell to train on. Or
        ``mask_zero`` of an ``Embedding`` is left out: pass ``mask=tokens != 0``.

    >>> import os
    >>> os.environ["KERAS_BACKEND"] = "jax"
    >>> import keras
    >>> from jaxrnn import convert
    >>> module = keras.layers.GRU(5)
    >>> module.build((None, None, 3))
    >>> convert.from_keras(module)[0]
    jaxrnn.layer(jaxrnn.gru(5))
    """
    keras = need("keras", "keras")
    return _make.whole(_from_keras(keras, layer))


def _from_keras(keras: Any, layer: Any) -> Any:
    own = keras.layers
    name = type(layer).__name__
    if type(layer) is keras.Sequential:
        return _make.layers([_from_keras(keras, each) for each in layer.layers])
    if not _is_of(own, layer):
        raise TypeError(
            "layer must be a layer of Keras itself, and no subclass, got "
            f"{type(layer).__module__}.{type(layer).__qualname__}"
        )
    if not layer.built:
        raise ValueError(f"layer must be built, so that it has weights, got {layer}")
    match name:
        case "Dropout":
            if layer.noise_shape not in (None, (None, 1, None)):
                refuse(layer, "noise_shape must be that of all steps, or None")
            return Dropout(layer.rate, variational=layer.noise_shape is not None)
        case "Dense":
            return _dense(layer)
        case "Embedding":
            if layer.mask_zero:
                warnings.warn(
                    "mask_zero is left out: pass mask=tokens != 0 to apply",
                    stacklevel=4,
                )
            table = to_numpy("embeddings", layer.embeddings)
            return _make.embedding(table)
        case "LayerNormalization":
            return _layer_norm(layer)
        case "Bidirectional":
            return _bidirectional(layer)
        case "RNN":
            cells = getattr(layer.cell, "cells", [layer.cell])
            entries = [_recurrent(layer, [cell]) for cell in cells]
            return entries[0] if len(entries) == 1 else _make.layers(entries)
        case "SimpleRNN" | "LSTM" | "GRU":
            return _recurrent(layer, [layer.cell])
        case _ if name in CONVOLUTIONS:
            return _recurrent(layer, [layer.cell], _spatial_shape(layer))
    raise TypeError(
        "layer must be a SimpleRNN, LSTM, GRU, RNN, Bidirectional, ConvLSTM, Dense, "
        f"Embedding, LayerNormalization, Dropout or Sequential of Keras, got {name}"
    )


def _is_of(layers: Any, module: Any) -> bool:
    """Test that a layer is of a class of Keras, and of no subclass."""
    kind = type(module)
    return kind is getattr(layers, kind.__name__, None)


def _dense(layer: Any) -> tuple[Layer, Any]:
    w = to_numpy("kernel", layer.kernel)
    b = np.zeros(w.shape[-1], w.dtype)
    if layer.use_bias:
        b = to_numpy("bias", layer.bias)
    return _make.dense(w, b, _activation(layer, layer.activation))


def _layer_norm(layer: Any) -> tuple[Layer, Any]:
    if getattr(layer, "rms_scaling", False):
        refuse(layer, "jaxrnn has no scaling by the root mean square")
    last = len(layer.get_build_config()["input_shape"]) - 1
    if np.atleast_1d(layer.axis).tolist() not in ([-1], [last]):
        refuse(layer, "jaxrnn normalises the last axis alone")
    given = layer.gamma if layer.gamma is not None else layer.beta
    if given is None:
        refuse(layer, "it has neither scale nor centre, from which its size follows")
    like = to_numpy("weights", given)
    scale = np.ones_like(like) if layer.gamma is None else to_numpy("g", layer.gamma)
    b = np.zeros_like(like) if layer.beta is None else to_numpy("beta", layer.beta)
    return _make.layer_norm(scale, b, layer.epsilon)


def _bidirectional(layer: Any) -> tuple[Layer, Any]:
    if layer.merge_mode not in MERGES:
        refuse(layer, "merge_mode=None returns two outputs")
    both = layer.forward_layer, layer.backward_layer
    (forward, own), (backward, other) = (
        _cell(each.cell, _space_or_none(each)) for each in both
    )
    options = {}
    if layer.merge_mode != "concat":
        options["merge"] = MERGES[layer.merge_mode]
    entry = _make.recurrent([(forward, own), (backward, other)], **options)
    return _with_dropout(entry, layer.forward_layer.cell)


def _space_or_none(layer: Any) -> tuple[int, ...] | None:
    return _spatial_shape(layer) if type(layer).__name__ in CONVOLUTIONS else None


def _recurrent(
    layer: Any, cells: Sequence[Any], spatial_shape: tuple[int, ...] | None = None
) -> tuple[Layer, Any]:
    if layer.go_backwards:
        refuse(
            layer,
            "go_backwards returns outputs in reversed order; convert the layer without "
            "it, and use jaxrnn.layer(cell, reverse=True), which keeps the order",
        )
    entry = _make.recurrent([_cell(cell, spatial_shape) for cell in cells])
    return _with_dropout(entry, cells[0])


def _with_dropout(entry: tuple[Layer, Any], cell: Any) -> tuple[Layer, Any]:
    if getattr(cell, "recurrent_dropout", 0):
        warnings.warn(
            "recurrent_dropout is left out: it has no effect without training. To "
            "train on, wrap the cell by jaxrnn.recurrent_dropout",
            stacklevel=4,
        )
    rate = getattr(cell, "dropout", 0)
    if not rate:
        return entry
    (layer,), (params,) = _stack_entries(
        _make.layers([Dropout(rate, variational=True), entry])
    )
    return layer, params


def _stack_entries(entry: tuple[Layer, Any]) -> tuple[Any, Any]:
    layer, params = entry
    assert layer.spec is not None
    return dict(layer.spec.arguments)["layers"], params


def _spatial_shape(layer: Any) -> tuple[int, ...]:
    name = type(layer).__name__
    if layer.data_format != "channels_last":
        refuse(layer, "in jaxrnn channels are last")
    if layer.padding != "same":
        refuse(layer, "jaxrnn pads images, as padding='same' does")
    if set(layer.strides) != {1} or set(layer.dilation_rate) != {1}:
        refuse(layer, "jaxrnn has no strides and no dilation")
    if any(size % 2 == 0 for size in layer.kernel_size):
        refuse(layer, "kernels of an even size have no centre")
    shape = layer.get_build_config()["input_shape"][2 : 2 + CONVOLUTIONS[name]]
    if None in shape:
        refuse(layer, "it was built without fixed spatial sizes")
    return tuple(shape)


def _activation(what: Any, function: Any) -> Any:
    name = getattr(function, "__name__", str(function))
    if name not in ACTIVATIONS or name in OTHER_ACTIVATIONS:
        refuse(what, f"jaxrnn has no activation {name!r} that is known to be the same")
    if not _is_activation(function, name):
        refuse(what, f"its activation {name!r} is not that of Keras")
    return ACTIVATIONS[name]


def _is_activation(function: Any, name: str) -> bool:
    """Test that a function is the activation of Keras with this name."""
    return function is getattr(need("keras", "keras").activations, name)


def _cell(cell: Any, spatial_shape: tuple[int, ...] | None) -> tuple[Cell, Any]:
    keras = need("keras", "keras")
    name = type(cell).__name__
    if spatial_shape is None and not _is_of(keras.layers, cell):
        raise TypeError(f"cells must be those of Keras, and no subclass, got {cell}")
    note_dtype(cell, cell.compute_dtype, cell.variable_dtype)
    w_x = to_numpy("kernel", cell.kernel)
    w_h = to_numpy("recurrent_kernel", cell.recurrent_kernel)
    after = getattr(cell, "reset_after", False)
    zero = np.zeros((2, w_x.shape[-1]) if after else w_x.shape[-1], w_x.dtype)
    b = to_numpy("bias", cell.bias) if cell.use_bias else zero
    if name == "SimpleRNNCell":
        activation = _activation(cell, cell.activation)
        return _make.elman(w_x, w_h, b, activation)
    for option, expected in (
        ("activation", "tanh"),
        ("recurrent_activation", "sigmoid"),
    ):
        if not _is_activation(getattr(cell, option), expected):
            refuse(cell, f"{option} must be {expected}")
    if spatial_shape is not None:
        return _make.conv_lstm(w_x, w_h, b, spatial_shape)
    if name == "LSTMCell":
        return _make.lstm(w_x, w_h, b)
    if name != "GRUCell":
        raise TypeError(f"cells must be SimpleRNN, LSTM or GRU cells, got {name}")
    w_x, w_h, b = (reorder(each, R_Z_N) for each in (w_x, w_h, b))
    b, b_h = b if after else (b, np.zeros_like(b))
    return _make.gru(w_x, w_h, b, b_h, reset_after=after)
