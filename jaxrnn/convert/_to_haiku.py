"""To Haiku: parameters by module; ``_from_haiku`` says how they are laid out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Layer
from . import _parts
from ._arrays import gates, join, reorder
from ._layouts import I_G_F_O, conv_lstm_weights
from ._parts import activation_name, cell_of, read, refuse, without_dropout


def to_haiku(layer: Layer, params: Any) -> dict[str, dict[str, Any]]:
    """Convert parameters to those of Haiku modules with their default names.

    Args:
        layer: a layer of ``elman`` with ReLU, ``lstm``, ``gru(..., reset_after=False)``
            or ``conv_lstm``; ``dense``, ``embedding``, ``layer_norm``; or a stack of
            these.
        params: its parameters.

    Returns:
        Parameters by module: ``"lstm/linear"``, and in a stack ``"lstm_1/linear"`` for
        the second LSTM, as ``hk.DeepRNN`` makes them inside ``hk.transform``.

    Raises:
        ValueError: Haiku has no such module; the message says what and why.
        TypeError: see :func:`to_torch`.

    Warns:
        UserWarning: dropout is left out, which in Haiku is a function.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.lstm(5))
    >>> weights = convert.to_haiku(layer, layer.init(jax.random.key(0), 3))
    >>> weights["lstm/linear"]["w"].shape
    (8, 20)
    """
    named: dict[str, dict[str, Any]] = {}
    _write(read(layer, params), named, {})
    return jax.tree.map(jnp.asarray, named)


def _write(part: Any, named: dict[str, Any], counts: dict[str, int]) -> None:
    def name(kind: str) -> str:
        counts[kind] = counts.get(kind, -1) + 1
        return kind if counts[kind] == 0 else f"{kind}_{counts[kind]}"

    match part:
        case _parts.Stack(parts):
            for each in without_dropout(parts, "Haiku"):
                _write(each, named, counts)
            return
        case _parts.Dense(own, activation):
            if activation_name(activation) != "linear":
                refuse("jaxrnn.dense with an activation", "hk.Linear has none")
            named[name("linear")] = {"w": own.w, "b": own.b}
            return
        case _parts.Embedding(own):
            named[name("embed")] = {"embeddings": own.table}
            return
        case _parts.LayerNorm(own, epsilon):
            if epsilon != 1e-5:
                refuse(
                    f"epsilon={epsilon}", "it is not in Haiku's parameters, but 1e-5 is"
                )
            named[name("layer_norm")] = {"scale": own.scale, "offset": own.b}
            return
    if len(part.directions) == 2:
        refuse("a bidirectional layer", "Haiku has none; convert each direction")
    if part.reverse:
        refuse("a reversed layer", "in Haiku that is an argument of hk.dynamic_unroll")
    (own,) = part.directions
    kind = cell_of(own, "Haiku", ("elman", "lstm", "gru_before", "conv_lstm"))
    p = own.params
    if kind == "elman":
        if activation_name(own.options["activation"]) != "relu":
            refuse(repr(own.cell), "hk.VanillaRNN has ReLU alone")
        base = name("vanilla_rnn")
        named[f"{base}/linear"] = {"w": p.w_x, "b": p.b}
        named[f"{base}/linear_1"] = {"w": p.w_h, "b": np.zeros_like(p.b)}
    elif kind == "lstm":
        i, f, g, o = gates(p.b, 4)
        w = reorder(np.concatenate([p.w_x, p.w_h]), I_G_F_O)
        b = join([i, g, f - np.ones_like(f), o])
        named[f"{name('lstm')}/linear"] = {"w": w, "b": b}
    elif kind == "gru_before":
        w_x, w_h, b = (_z_r_n(each) for each in (p.w_x, p.w_h, p.b + p.b_h))
        named[name("gru")] = {"w_i": w_x, "w_h": w_h, "b": b}
    else:
        w_x, w_h, b = conv_lstm_weights(p)
        base = name(f"conv{w_x.ndim - 2}_dlstm")
        named[f"{base}/input_to_hidden"] = {"w": w_x, "b": b}
        named[f"{base}/hidden_to_hidden"] = {"w": w_h, "b": np.zeros_like(b)}


def _z_r_n(array: np.ndarray) -> np.ndarray:
    r, z, n = gates(array, 3)
    return join([-z, r, n])
