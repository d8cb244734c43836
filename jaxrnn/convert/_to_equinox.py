"""To Equinox: modules; ``_from_equinox`` says how their weights are laid out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Layer
from . import _parts
from ._arrays import gates, need
from ._layouts import input_bias
from ._parts import activation_name, cell_of, read, refuse


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
