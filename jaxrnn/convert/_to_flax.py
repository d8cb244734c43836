"""To Flax Linen: modules and variables; ``_from_flax`` says how these are laid out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Layer
from . import _parts
from ._arrays import gates, need
from ._layouts import conv_lstm_weights, input_bias
from ._parts import activation_name, cell_of, read, refuse, without_dropout


def to_flax(layer: Layer, params: Any) -> tuple[Any, Any]:
    """Convert a layer to a module of Flax Linen.

    Args:
        layer: a layer of ``elman``, ``lstm``, ``gru`` or ``conv_lstm``, in one
            direction or both; ``dense``, ``embedding``, ``layer_norm``; or a stack of
            these.
        params: its parameters.

    Returns:
        ``(module, variables)``. Recurrent modules have time first, as here. Of the two
        biases of the gates r and z of a GRU, which Flax has once, the sum is stored.

    Raises:
        ValueError: Flax has no such module; the message says what and why.
        TypeError: see :func:`to_torch`.

    Warns:
        UserWarning: dropout is left out: Flax's needs an argument at each call.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.lstm(5))
    >>> params = layer.init(jax.random.key(0), 3)
    >>> module, variables = convert.to_flax(layer, params)
    >>> module.apply(variables, jax.numpy.ones((7, 4, 3))).shape
    (7, 4, 5)
    """
    nn = need("flax.linen", "flax")
    module, weights = _to_flax(nn, read(layer, params))
    return module, {"params": jax.tree.map(jnp.asarray, weights)}


def _to_flax(nn: Any, part: Any) -> tuple[Any, Any]:
    match part:
        case _parts.Stack(parts):
            made = [_to_flax(nn, each) for each in without_dropout(parts, "Flax")]
            if len(made) == 1:
                return made[0]
            modules = nn.Sequential([module for module, _ in made])
            return modules, {f"layers_{i}": own for i, (_, own) in enumerate(made)}
        case _parts.Dense(own, activation):
            if activation_name(activation) != "linear":
                refuse("jaxrnn.dense with an activation", "flax.linen.Dense has none")
            module = nn.Dense(own.w.shape[1], param_dtype=own.w.dtype)
            return module, {"kernel": own.w, "bias": own.b}
        case _parts.Embedding(own):
            module = nn.Embed(*own.table.shape, param_dtype=own.table.dtype)
            return module, {"embedding": own.table}
        case _parts.LayerNorm(own, epsilon):
            module = nn.LayerNorm(epsilon=epsilon, param_dtype=own.b.dtype)
            return module, {"scale": own.scale, "bias": own.b}
    cells = [_flax_cell(nn, own) for own in part.directions]
    if len(cells) == 1:
        options = {"reverse": True, "keep_order": True} if part.reverse else {}
        ((cell, own),) = cells
        return nn.RNN(cell, time_major=True, **options), {"cell": own}
    options = {} if part.merge is _parts.CONCATENATE else {"merge_fn": part.merge}
    rnns = [nn.RNN(cell) for cell, _ in cells]
    module = nn.Bidirectional(*rnns, time_major=True, **options)
    names = "forward_rnn", "backward_rnn"
    return module, {
        name: {"cell": own} for name, (_, own) in zip(names, cells, strict=True)
    }


def _flax_cell(nn: Any, part: Any) -> tuple[Any, Any]:
    kind = cell_of(part, "Flax", ("elman", "lstm", "gru", "conv_lstm"))
    p, size = part.params, part.hidden_size
    dtype = {"param_dtype": p.b.dtype}
    if kind == "elman":
        cell = nn.SimpleCell(size, activation_fn=part.options["activation"], **dtype)
        return cell, {"i": {"kernel": p.w_x, "bias": p.b}, "h": {"kernel": p.w_h}}
    if kind == "conv_lstm":
        w_x, w_h, b = conv_lstm_weights(p)
        cell = nn.ConvLSTMCell(size, part.options["kernel_shape"], **dtype)
        return cell, {
            "ih": {"kernel": w_x, "bias": b},
            "hh": {"kernel": w_h, "bias": np.zeros_like(b)},
        }
    if kind == "lstm":
        w_x, w_h, b = (dict(zip("ifgo", gates(each, 4), strict=True)) for each in p)
        weights = {f"i{gate}": {"kernel": w_x[gate]} for gate in "ifgo"}
        weights |= {
            f"h{gate}": {"kernel": w_h[gate], "bias": b[gate]} for gate in "ifgo"
        }
        return nn.OptimizedLSTMCell(size, **dtype), weights
    w_x, w_h = (dict(zip("rzn", gates(each, 3), strict=True)) for each in p[:2])
    b = dict(zip("rzn", gates(input_bias(p), 3), strict=True))
    weights = {f"i{gate}": {"kernel": w_x[gate], "bias": b[gate]} for gate in "rzn"}
    weights |= {f"h{gate}": {"kernel": w_h[gate]} for gate in "rzn"}
    weights["hn"]["bias"] = gates(p.b_h, 3)[2]
    return nn.GRUCell(size, **dtype), weights
