"""To Flax NNX: modules; ``_from_nnx`` says how their weights are laid out."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._base import Layer
from . import _parts
from ._arrays import gates, need
from ._layouts import input_bias
from ._parts import activation_name, cell_of, read, refuse


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
