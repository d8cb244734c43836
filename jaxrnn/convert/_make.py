"""Layers and parameters of jaxrnn, made of the weights of another framework."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._cells import conv_lstm as _conv_lstm
from .._cells import elman as _elman
from .._cells import gru as _gru
from .._cells import lstm as _lstm
from .._cells import peephole_lstm as _peephole_lstm
from .._cells import projected_lstm as _projected_lstm
from .._layers import time_distributed as _simple
from .._layers.dropout import dropout
from .._layers.recurrent import BidirectionalParams, bidirectional
from .._layers.recurrent import layer as layer_of
from .._layers.stack import stack
from .._typing import Shape
from ._parts import ACTIVATIONS, Dropout, refuse

P = TypeVar("P")


def _params(kind: Callable[..., P], *weights: Any) -> P:
    """Return parameters of a type, as arrays of JAX in the dtype that they have."""
    params = kind(*weights)
    dtypes = {str(leaf.dtype) for leaf in weights}
    if len(dtypes) > 1:
        raise TypeError(f"weights must have one dtype, got {', '.join(sorted(dtypes))}")
    if dtypes == {"float64"} and not jax.config.read("jax_enable_x64"):
        raise TypeError(
            "weights must be float32, as float64 is off in JAX, got float64: convert "
            'them, or call jax.config.update("jax_enable_x64", True)'
        )
    return jax.tree.map(jnp.asarray, params)


# Simple layers, with their parameters


def dense(
    w: np.ndarray, b: Any = None, activation: Callable[..., Any] = ACTIVATIONS["linear"]
) -> tuple[Layer, Any]:
    """Make a dense layer of weights ``(I, O)``; without ``b`` its bias is zero."""
    size = w.shape[-1]
    b = np.zeros(size, w.dtype) if b is None else b
    plain = activation is ACTIVATIONS["linear"]
    made = _simple.dense(size, **({} if plain else {"activation": activation}))
    return made, _params(_simple.DenseParams, w, b)


def embedding(table: np.ndarray) -> tuple[Layer, Any]:
    """Make an embedding of a table ``(V, O)``."""
    return _simple.embedding(*table.shape), _params(_simple.EmbeddingParams, table)


def layer_norm(scale: np.ndarray, b: np.ndarray, epsilon: float) -> tuple[Layer, Any]:
    """Make a layer normalisation of ``(I,)`` features."""
    made = _simple.layer_norm(len(scale), epsilon=epsilon)
    return made, _params(_simple.LayerNormParams, scale, b)


# Cells, with their parameters; the arrays are in the layouts of jaxrnn


def elman(
    w_x: np.ndarray, w_h: np.ndarray, b: np.ndarray, activation: Callable[..., Any]
) -> tuple[Cell, Any]:
    """Make an Elman cell."""
    cell = _elman.elman(len(w_h), activation=activation)
    return cell, _params(_elman.ElmanParams, w_x, w_h, b)


def lstm(w_x: np.ndarray, w_h: np.ndarray, b: np.ndarray) -> tuple[Cell, Any]:
    """Make an LSTM."""
    return _lstm.lstm(len(w_h)), _params(_lstm.LSTMParams, w_x, w_h, b)


def projected_lstm(
    w_x: np.ndarray, w_h: np.ndarray, b: np.ndarray, w_r: np.ndarray
) -> tuple[Cell, Any]:
    """Make an LSTM with a projection ``w_r (H, P)``."""
    cell = _projected_lstm.projected_lstm(*w_r.shape)
    return cell, _params(_projected_lstm.ProjectedLSTMParams, w_x, w_h, b, w_r)


def peephole_lstm(
    w_x: np.ndarray, w_h: np.ndarray, b: np.ndarray, *peepholes: np.ndarray
) -> tuple[Cell, Any]:
    """Make an LSTM with peepholes of the gates i, f, o."""
    cell = _peephole_lstm.peephole_lstm(len(w_h))
    return cell, _params(_peephole_lstm.PeepholeLSTMParams, w_x, w_h, b, *peepholes)


def conv_lstm(
    w_x: np.ndarray, w_h: np.ndarray, b: np.ndarray, spatial_shape: Shape
) -> tuple[Cell, Any]:
    """Make a convolutional LSTM for images of a shape."""
    cell = _conv_lstm.conv_lstm(w_h.shape[-2], w_h.shape[:-2], spatial_shape)
    return cell, _params(_lstm.LSTMParams, w_x, w_h, b)


def gru(
    w_x: np.ndarray,
    w_h: np.ndarray,
    b: np.ndarray,
    b_h: Any = None,
    *,
    reset_after: bool = True,
) -> tuple[Cell, Any]:
    """Make a GRU; without ``b_h`` that bias is zero."""
    b_h = np.zeros_like(b) if b_h is None else b_h
    cell = _gru.gru(len(w_h), reset_after=reset_after)
    return cell, _params(_gru.GRUParams, w_x, w_h, b, b_h)


# Layers of these


def layers(entries: Sequence[Any]) -> tuple[Layer, Any]:
    """Make a stack of pairs ``(layer, params)``, with ``Dropout`` between them.

    Dropout becomes a wrapper of the layer before it, or of the one after it if it
    comes first.
    """
    made: list[Layer] = []
    params: list[Any] = []
    pending: Dropout | None = None
    for entry in entries:
        if not isinstance(entry, Dropout):
            layer, own = entry
            if pending is not None:
                layer = dropout(
                    layer, input_rate=pending.rate, variational=pending.variational
                )
                pending = None
            made.append(layer)
            params.append(own)
        elif made:
            made[-1] = dropout(made[-1], entry.rate, variational=entry.variational)
        else:
            pending = entry
    if not made:
        refuse("a module without layers", "there is nothing to compute")
    return stack(*made), tuple(params)


def recurrent(cells: Sequence[tuple[Cell, Any]], **options: Any) -> tuple[Layer, Any]:
    """Make a layer of one cell, or of one for each direction."""
    if len(cells) == 1:
        return layer_of(cells[0][0], **options), cells[0][1]
    (forward, own), (backward, other) = cells
    return bidirectional(forward, backward, **options), BidirectionalParams(own, other)


def whole(entry: Any) -> tuple[Layer, Any]:
    """Return what a module was converted to, unless it is dropout alone."""
    if isinstance(entry, Dropout):
        refuse("Dropout alone", "there is no layer whose inputs or outputs it drops")
    return entry
