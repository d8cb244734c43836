"""Flax NNX: gates in the order i, f, g, o, or r, z, n, as here.

Its GRU lacks the bias that the reset gate multiplies.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._cells.elman import ElmanParams, elman
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
from ._arrays import gates, join, need, note_dtype, to_jax, to_numpy
from ._linen import check_activations, check_axes, input_bias
from ._parts import Dropout, activation_name, assemble, cell_of, read, refuse


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
    entry = _from_nnx(nnx, module)
    if isinstance(entry, Dropout):
        refuse("Dropout alone", "there is no layer whose inputs or outputs it drops")
    return entry


def _from_nnx(nnx: Any, module: Any) -> Any:
    kind = type(module)
    if kind is nnx.Sequential:
        return assemble([_from_nnx(nnx, each) for each in module.layers])
    if kind is nnx.Dropout:
        if tuple(module.broadcast_dims):
            refuse(module, "broadcast_dims are not those of jaxrnn.dropout")
        return Dropout(module.rate, variational=False)
    if kind is nnx.Linear:
        w = _leaf(module, "kernel")
        b = _leaf(module, "bias", np.zeros(w.shape[1], w.dtype))
        return dense(w.shape[1]), to_jax(DenseParams, w, b)
    if kind is nnx.Embed:
        table = _leaf(module, "embedding")
        return embedding(*table.shape), to_jax(EmbeddingParams, table)
    if kind is nnx.LayerNorm:
        check_axes(module)
        size = module.num_features
        dtype = np.dtype(module.param_dtype)
        scale = _leaf(module, "scale", np.ones(size, dtype))
        b = _leaf(module, "bias", np.zeros(size, dtype))
        made = layer_norm(size, epsilon=module.epsilon)
        return made, to_jax(LayerNormParams, scale, b)
    if kind is nnx.Bidirectional:
        rnns = module.forward_rnn, module.backward_rnn
        cells = [_cell(nnx, rnn.cell) for rnn in rnns]
        options = {}
        if module.merge_fn is not nnx.Bidirectional.merge_fn:
            options["merge"] = module.merge_fn
        return _parts.recurrent(cells, **options)
    if kind is not nnx.RNN:
        return _parts.recurrent([_cell(nnx, module)])
    cell = _cell(nnx, module.cell)
    if not module.reverse:
        return _parts.recurrent([cell])
    if not module.keep_order:
        refuse(module, "without keep_order its outputs are in reversed order")
    return _parts.recurrent([cell], reverse=True)


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
        cell = elman(len(w_h), activation=module.activation_fn)
        return cell, to_jax(ElmanParams, w_x, w_h, _leaf(module.dense_i, "bias"))
    if kind is nnx.LSTMCell:
        check_activations(module)
        inputs = [getattr(module, name) for name in ("ii", "if_", "ig", "io")]
        states = [getattr(module, name) for name in ("hi", "hf", "hg", "ho")]
        w_x = join(_leaf(each, "kernel") for each in inputs)
        w_h = join(_leaf(each, "kernel") for each in states)
        b = join(_leaf(each, "bias") for each in states)
        return lstm(len(w_h)), to_jax(LSTMParams, w_x, w_h, b)
    if kind is nnx.OptimizedLSTMCell:
        check_activations(module)
        w_x, w_h = _leaf(module.dense_i, "kernel"), _leaf(module.dense_h, "kernel")
        b = _leaf(module.dense_h, "bias")
        return lstm(len(w_h)), to_jax(LSTMParams, w_x, w_h, b)
    if kind is nnx.GRUCell:
        check_activations(module)
        w_x, w_h = _leaf(module.dense_i, "kernel"), _leaf(module.dense_h, "kernel")
        b = _leaf(module.dense_i, "bias")
        return gru(len(w_h)), to_jax(GRUParams, w_x, w_h, b, np.zeros_like(b))
    raise TypeError(
        "module must be RNN, Bidirectional, SimpleCell, LSTMCell, OptimizedLSTMCell, "
        "GRUCell, Linear, Embed, LayerNorm, Dropout or Sequential of flax.nnx, and no "
        f"subclass, got {kind.__module__}.{kind.__qualname__}"
    )


def to_nnx(layer: Layer, params: Any) -> Any:
    """Convert a layer to a module of Flax NNX.

    Args:
        layer: a layer of ``elman``, ``lstm``, or of ``gru`` if its biases ``b_h`` of
            the candidate are zero, in one direction or both; ``dense``, ``embedding``,
            ``layer_norm``; or a stack of these, with :func:`jaxrnn.dropout` or without.
        params: its parameters.

    Returns:
        A module with these weights. Recurrent modules have time first, as here.

    Raises:
        ValueError: NNX has no such module; the message says what and why.
        TypeError: see :func:`to_torch`.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.lstm(5))
    >>> module = convert.to_nnx(layer, layer.init(jax.random.key(0), 3))
    >>> module(jax.numpy.ones((7, 4, 3))).shape
    (7, 4, 5)
    """
    nnx = need("flax.nnx", "flax")
    return _to_nnx(nnx, read(layer, params))


def _to_nnx(nnx: Any, part: Any) -> Any:
    rngs = nnx.Rngs(0)
    match part:
        case _parts.Stack(parts):
            return nnx.Sequential(*(_to_nnx(nnx, each) for each in parts))
        case _parts.Dropout(rate, variational):
            if variational:
                refuse("variational dropout", "nnx.Dropout draws at each step")
            return nnx.Dropout(rate, rngs=rngs)
        case _parts.Dense(own, activation):
            if activation_name(activation) != "linear":
                refuse("jaxrnn.dense with an activation", "nnx.Linear has none")
            module = nnx.Linear(*own.w.shape, param_dtype=own.w.dtype, rngs=rngs)
            return _filled(module, kernel=own.w, bias=own.b)
        case _parts.Embedding(own):
            module = nnx.Embed(*own.table.shape, param_dtype=own.table.dtype, rngs=rngs)
            return _filled(module, embedding=own.table)
        case _parts.LayerNorm(own, epsilon):
            module = nnx.LayerNorm(
                len(own.b), epsilon=epsilon, param_dtype=own.b.dtype, rngs=rngs
            )
            return _filled(module, scale=own.scale, bias=own.b)
    cells = [_nnx_cell(nnx, own, rngs) for own in part.directions]
    if len(cells) == 1:
        options = {"reverse": True, "keep_order": True} if part.reverse else {}
        return nnx.RNN(cells[0], time_major=True, **options)
    options = {} if part.merge is _parts.CONCATENATE else {"merge_fn": part.merge}
    rnns = [nnx.RNN(cell) for cell in cells]
    return nnx.Bidirectional(*rnns, time_major=True, **options)


def _filled(module: Any, **weights: np.ndarray) -> Any:
    for name, array in weights.items():
        getattr(module, name).set_value(jnp.asarray(array))
    return module


def _nnx_cell(nnx: Any, part: Any, rngs: Any) -> Any:
    kind = cell_of(part, "NNX", ("elman", "lstm", "gru"))
    p, sizes = part.params, (part.input_size, part.hidden_size)
    dtypes = {"dtype": p.b.dtype, "param_dtype": p.b.dtype, "rngs": rngs}
    if kind == "elman":
        activation = part.options["activation"]
        cell = nnx.SimpleCell(*sizes, activation_fn=activation, **dtypes)
        _filled(cell.dense_i, kernel=p.w_x, bias=p.b)
    elif kind == "lstm":
        cell = nnx.OptimizedLSTMCell(*sizes, **dtypes)
        _filled(cell.dense_i, kernel=p.w_x)
        _filled(cell.dense_h, bias=p.b)
    else:
        if np.any(gates(p.b_h, 3)[2]):
            refuse(
                "a GRU with a bias in the candidate's recurrent part, b_h",
                "nnx.GRUCell has none there",
            )
        cell = nnx.GRUCell(*sizes, **dtypes)
        _filled(cell.dense_i, kernel=p.w_x, bias=input_bias(p))
    _filled(cell.dense_h, kernel=p.w_h)
    return cell
