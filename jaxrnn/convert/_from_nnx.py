"""From Flax NNX: gates in the order i, f, g, o, or r, z, n, as here.

Its GRU lacks the bias that the reset gate multiplies.
"""

from typing import Any

import numpy as np

from .._base import Cell, Layer
from . import _make
from ._arrays import join, need, note_dtype, to_numpy
from ._from_flax import check_activations, check_axes
from ._parts import Dropout, refuse


def from_nnx(module: Any) -> tuple[Layer, Any]:
    """Convert a module of Flax NNX.

    Args:
        module: ``nnx.RNN`` of a cell, ``nnx.Bidirectional`` of two, or a cell alone:
            ``SimpleCell``, ``LSTMCell``, ``OptimizedLSTMCell`` or ``GRUCell``;
            ``Linear``, ``Embed``, ``LayerNorm``; ``Dropout``, but not alone; or a
            ``Sequential`` of these.

    Returns:
        ``(layer, params)``, as :func:`from_flax`.

    Raises:
        TypeError: the module is of another class, a subclass included.
        ValueError: it computes something that jaxrnn does not have.

    >>> from flax import nnx
    >>> from jaxrnn import convert
    >>> convert.from_nnx(nnx.RNN(nnx.LSTMCell(3, 5, rngs=nnx.Rngs(0))))[0]
    jaxrnn.layer(jaxrnn.lstm(5))
    """
    nnx = need("flax.nnx", "flax")
    return _make.whole(_from_nnx(nnx, module))


def _from_nnx(nnx: Any, module: Any) -> Any:
    kind = type(module)
    if kind is nnx.Sequential:
        return _make.layers([_from_nnx(nnx, each) for each in module.layers])
    if kind is nnx.Dropout:
        if tuple(module.broadcast_dims):
            refuse(module, "broadcast_dims are not those of jaxrnn.dropout")
        return Dropout(module.rate, variational=False)
    if kind is nnx.Linear:
        w = _leaf(module, "kernel")
        b = _leaf(module, "bias", np.zeros(w.shape[1], w.dtype))
        return _make.dense(w, b)
    if kind is nnx.Embed:
        table = _leaf(module, "embedding")
        return _make.embedding(table)
    if kind is nnx.LayerNorm:
        check_axes(module)
        size = module.num_features
        dtype = np.dtype(module.param_dtype)
        scale = _leaf(module, "scale", np.ones(size, dtype))
        b = _leaf(module, "bias", np.zeros(size, dtype))
        return _make.layer_norm(scale, b, module.epsilon)
    if kind is nnx.Bidirectional:
        rnns = module.forward_rnn, module.backward_rnn
        cells = [_cell(nnx, rnn.cell) for rnn in rnns]
        options = {}
        if module.merge_fn is not nnx.Bidirectional.merge_fn:
            options["merge"] = module.merge_fn
        return _make.recurrent(cells, **options)
    if kind is not nnx.RNN:
        return _make.recurrent([_cell(nnx, module)])
    cell = _cell(nnx, module.cell)
    if not module.reverse:
        return _make.recurrent([cell])
    if not module.keep_order:
        refuse(module, "without keep_order its outputs are in reversed order")
    return _make.recurrent([cell], reverse=True)


def _leaf(module: Any, name: str, missing: np.ndarray | None = None) -> np.ndarray:
    param = getattr(module, name, None)
    value = None if param is None else param.get_value()
    if value is None and missing is not None:
        return missing
    return to_numpy(name, value)


def _cell(nnx: Any, module: Any) -> tuple[Cell, Any]:
    cell, own = _converted(nnx, module)
    note_dtype(module, module.dtype, own.b.dtype)
    return cell, own


def _converted(nnx: Any, module: Any) -> tuple[Cell, Any]:
    kind = type(module)
    if kind is nnx.SimpleCell:
        if module.residual:
            refuse(module, "jaxrnn.elman has no residual connection")
        w_x, w_h = _leaf(module.dense_i, "kernel"), _leaf(module.dense_h, "kernel")
        b = _leaf(module.dense_i, "bias")
        return _make.elman(w_x, w_h, b, module.activation_fn)
    if kind is nnx.LSTMCell:
        check_activations(module)
        inputs = [getattr(module, name) for name in ("ii", "if_", "ig", "io")]
        states = [getattr(module, name) for name in ("hi", "hf", "hg", "ho")]
        w_x = join(_leaf(each, "kernel") for each in inputs)
        w_h = join(_leaf(each, "kernel") for each in states)
        b = join(_leaf(each, "bias") for each in states)
        return _make.lstm(w_x, w_h, b)
    if kind is nnx.OptimizedLSTMCell:
        check_activations(module)
        w_x, w_h = _leaf(module.dense_i, "kernel"), _leaf(module.dense_h, "kernel")
        b = _leaf(module.dense_h, "bias")
        return _make.lstm(w_x, w_h, b)
    if kind is nnx.GRUCell:
        check_activations(module)
        w_x, w_h = _leaf(module.dense_i, "kernel"), _leaf(module.dense_h, "kernel")
        b = _leaf(module.dense_i, "bias")
        return _make.gru(w_x, w_h, b)
    raise TypeError(
        "module must be RNN, Bidirectional, SimpleCell, LSTMCell, OptimizedLSTMCell, "
        "GRUCell, Linear, Embed, LayerNorm, Dropout or Sequential of flax.nnx, and no "
        f"subclass, got {kind.__module__}.{kind.__qualname__}"
    )
