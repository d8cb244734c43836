"""From Equinox: torch's layout, but one bias for each gate, and two for a GRU's n."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from . import _make
from ._arrays import need, to_numpy
from ._parts import Dropout, refuse


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
    return _make.whole(_from_equinox(nn, module))


def _from_equinox(nn: Any, module: Any) -> Any:
    kind = type(module)
    if kind is list:
        return _make.layers([_from_equinox(nn, each) for each in module])
    if kind is tuple and len(module) == 2:
        return _make.recurrent([_cell(nn, each) for each in module])
    if kind is nn.Dropout:
        return Dropout(float(module.p), variational=False)
    if kind is nn.Linear:
        w = to_numpy("weight", module.weight).T
        if w.ndim != 2:
            refuse(module, "a scalar size has no axis of features")
        b = np.zeros(w.shape[1], w.dtype)
        if module.bias is not None:
            b = to_numpy("bias", module.bias)
        return _make.dense(w, b)
    if kind is nn.Embedding:
        table = to_numpy("weight", module.weight)
        return _make.embedding(table)
    if kind is nn.LayerNorm:
        if len(module.shape) != 1:
            refuse(module, "jaxrnn normalises the last axis alone")
        ones = np.ones(module.shape, jnp.zeros(()).dtype)
        scale = ones if module.weight is None else to_numpy("weight", module.weight)
        b = np.zeros_like(scale)
        if module.bias is not None:
            b = to_numpy("bias", module.bias)
        return _make.layer_norm(scale, b, float(module.eps))
    return _make.recurrent([_cell(nn, module)])


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
        return _make.lstm(w_x, w_h, b)
    b_h = np.zeros_like(b)
    if module.use_bias:
        b_h[-len(w_h) :] = to_numpy("bias_n", module.bias_n)
    return _make.gru(w_x, w_h, b, b_h)
