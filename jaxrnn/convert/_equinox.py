"""Equinox: torch's layout, with one bias for each gate, and one more for a GRU's n."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._cells.gru import GRUParams, gru
from .._cells.lstm import LSTMParams, lstm
from .._layers.time_distributed import (
    DenseParams,
    EmbeddingParams,
    LayerNormParams,
    dense,
    embedding,
    layer_norm,
)
from . import _parts
from ._arrays import gates, need, to_jax, to_numpy
from ._linen import input_bias
from ._parts import Dropout, activation_name, assemble, cell_of, read, refuse


def from_equinox(module: Any) -> tuple[Layer, Any]:
    """Convert a module of Equinox.

    Args:
        module: ``eqx.nn.LSTMCell`` or ``GRUCell``, which become layers over time;
            ``Linear``, ``Embedding``, ``LayerNorm``; a pair (tuple) of cells, for two
            directions; or a list of these, with ``Dropout`` or without, for a stack.

    Returns:
        ``(layer, params)``.

    Raises:
        TypeError: the module is of another class, a subclass included.
        ValueError: it computes something that jaxrnn does not have.

    >>> import equinox as eqx, jax
    >>> from jaxrnn import convert
    >>> convert.from_equinox(eqx.nn.GRUCell(3, 5, key=jax.random.key(0)))[0]
    jaxrnn.layer(jaxrnn.gru(5))
    """
    nn = need("equinox.nn", "equinox")
    entry = _from_equinox(nn, module)
    if isinstance(entry, Dropout):
        refuse("Dropout alone", "there is no layer whose inputs or outputs it drops")
    return entry


def _from_equinox(nn: Any, module: Any) -> Any:
    kind = type(module)
    if kind is list:
        return assemble([_from_equinox(nn, each) for each in module])
    if kind is tuple and len(module) == 2:
        return _parts.recurrent([_cell(nn, each) for each in module])
    if kind is nn.Dropout:
        return Dropout(float(module.p), variational=False)
    if kind is nn.Linear:
        w = to_numpy("weight", module.weight).T
        if w.ndim != 2:
            refuse(module, "a scalar size has no axis of features")
        b = np.zeros(w.shape[1], w.dtype)
        if module.bias is not None:
            b = to_numpy("bias", module.bias)
        return dense(w.shape[1]), to_jax(DenseParams, w, b)
    if kind is nn.Embedding:
        table = to_numpy("weight", module.weight)
        return embedding(*table.shape), to_jax(EmbeddingParams, table)
    if kind is nn.LayerNorm:
        if len(module.shape) != 1:
            refuse(module, "jaxrnn normalises the last axis alone")
        ones = np.ones(module.shape, jnp.zeros(()).dtype)
        scale = ones if module.weight is None else to_numpy("weight", module.weight)
        b = np.zeros_like(scale)
        if module.bias is not None:
            b = to_numpy("bias", module.bias)
        made = layer_norm(len(scale), epsilon=float(module.eps))
        return made, to_jax(LayerNormParams, scale, b)
    return _parts.recurrent([_cell(nn, module)])


def _cell(nn: Any, module: Any) -> tuple[Cell, Any]:
    kind = type(module)
    if kind not in (nn.LSTMCell, nn.GRUCell):
        raise TypeError(
            "module must be LSTMCell, GRUCell, Linear, Embedding, LayerNorm or Dropout "
            "of equinox.nn, and no subclass, a pair of cells, or a list of these, got "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    w_x = to_numpy("weight_ih", module.weight_ih).T
    w_h = to_numpy("weight_hh", module.weight_hh).T
    b = np.zeros(w_x.shape[1], w_x.dtype)
    if module.use_bias:
        b = to_numpy("bias", module.bias)
    if kind is nn.LSTMCell:
        return lstm(len(w_h)), to_jax(LSTMParams, w_x, w_h, b)
    b_h = np.zeros_like(b)
    if module.use_bias:
        b_h[-len(w_h) :] = to_numpy("bias_n", module.bias_n)
    return gru(len(w_h)), to_jax(GRUParams, w_x, w_h, b, b_h)


def to_equinox(layer: Layer, params: Any) -> Any:
    """Convert a layer to modules of Equinox, which has cells but no layers over time.

    Args:
        layer: a layer of ``lstm`` or ``gru``; ``dense``, ``embedding``, ``layer_norm``;
            or a stack of these, with :func:`jaxrnn.dropout` or without.
        params: its parameters.

    Returns:
        A module; a pair of cells for two directions; a list for a stack. Of the two
        biases of the gates r and z of a GRU the sum is stored.

    Raises:
        ValueError: Equinox has no such module; the message says what and why.
        TypeError: see :func:`to_torch`.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.lstm(5))
    >>> cell = convert.to_equinox(layer, layer.init(jax.random.key(0), 3))
    >>> cell.weight_ih.shape
    (20, 3)
    """
    nn = need("equinox.nn", "equinox")
    return _to_equinox(nn, read(layer, params))


def _to_equinox(nn: Any, part: Any) -> Any:
    key = jax.random.key(0)
    match part:
        case _parts.Stack(parts):
            return [_to_equinox(nn, each) for each in parts]
        case _parts.Dropout(rate, variational):
            if variational:
                refuse("variational dropout", "equinox.nn.Dropout draws at each step")
            return nn.Dropout(rate)
        case _parts.Dense(own, activation):
            if activation_name(activation) != "linear":
                refuse("jaxrnn.dense with an activation", "equinox.nn.Linear has none")
            module = nn.Linear(*own.w.shape, key=key)
            return _filled(module, weight=own.w.T, bias=own.b)
        case _parts.Embedding(own):
            return _filled(nn.Embedding(*own.table.shape, key=key), weight=own.table)
        case _parts.LayerNorm(own, epsilon):
            module = nn.LayerNorm(len(own.b), eps=epsilon)
            return _filled(module, weight=own.scale, bias=own.b)
    if part.reverse:
        refuse("a reversed layer", "in Equinox that is an argument of jax.lax.scan")
    if part.merge not in (None, _parts.CONCATENATE):
        refuse(f"merge={part.merge!r}", "Equinox has no bidirectional layer to merge")
    cells = tuple(_equinox_cell(nn, own, key) for own in part.directions)
    return cells[0] if len(cells) == 1 else cells


def _equinox_cell(nn: Any, part: Any, key: Any) -> Any:
    kind = cell_of(part, "Equinox", ("lstm", "gru"))
    p, sizes = part.params, (part.input_size, part.hidden_size)
    weights = {"weight_ih": p.w_x.T, "weight_hh": p.w_h.T}
    if kind == "lstm":
        return _filled(nn.LSTMCell(*sizes, key=key), **weights, bias=p.b)
    biases = {"bias": input_bias(p), "bias_n": gates(p.b_h, 3)[2]}
    return _filled(nn.GRUCell(*sizes, key=key), **weights, **biases)


def _filled(module: Any, **weights: np.ndarray) -> Any:
    equinox = need("equinox", "equinox")

    def leaves(module: Any) -> list[Any]:
        return [getattr(module, name) for name in weights]

    return equinox.tree_at(leaves, module, [jnp.asarray(w) for w in weights.values()])
