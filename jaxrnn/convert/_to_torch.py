"""To PyTorch: state dicts; ``_from_torch`` says how they are laid out."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from .._base import Layer
from . import _parts
from ._parts import Dropout, activation_name, cell_of, read, refuse


def to_torch(layer: Layer, params: Any, *, bias: bool = True) -> dict[str, np.ndarray]:
    """Convert a layer to a state dict of PyTorch.

    Args:
        layer: a layer of ``elman`` with tanh or ReLU, ``lstm``, ``projected_lstm`` or
            ``gru``, in one direction or both; ``dense``, ``embedding``,
            ``layer_norm``; or a stack of these, with :func:`jaxrnn.dropout` or without.
        params: its parameters.
        bias: False leaves out the biases of recurrent and dense layers, for modules
            that were made with ``bias=False``. They must be zero.

    Returns:
        Names and arrays of NumPy: what ``module.load_state_dict`` takes, after
        ``torch.from_numpy`` of each; bfloat16 is widened to float32, which NumPy has.
        Recurrent layers of one kind and one size in a
        stack are one module with ``num_layers``; any other stack is a ``Sequential``,
        where dropout is a module of its own. Of two biases, the second is zero.

    Raises:
        ValueError: torch has no such module; the message says what and why.
        TypeError: ``layer`` is not a :class:`jaxrnn.Layer`, or ``params`` are not of
            its type.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.gru(5))
    >>> weights = convert.to_torch(layer, layer.init(jax.random.key(0), 3))
    >>> for name, array in weights.items():
    ...     print(name, array.shape)
    weight_ih_l0 (15, 3)
    weight_hh_l0 (15, 5)
    bias_ih_l0 (15,)
    bias_hh_l0 (15,)
    """
    named: dict[str, np.ndarray] = {}
    _write(read(layer, params), "", bias, named)
    return {name: _writable(array) for name, array in named.items()}


def _writable(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32 if array.dtype == jnp.bfloat16 else array.dtype)


def _write(part: Any, prefix: str, bias: bool, named: dict[str, np.ndarray]) -> None:
    match part:
        case _parts.Recurrent():
            named |= _named(part, 0, prefix, bias)
        case _parts.Dense(params, activation):
            if activation_name(activation) != "linear":
                refuse("jaxrnn.dense with an activation", "torch.nn.Linear has none")
            named[prefix + "weight"] = np.ascontiguousarray(params.w.T)
            if bias or _is_zero("dense", params.b):
                named |= {prefix + "bias": params.b} if bias else {}
        case _parts.Embedding(params):
            named[prefix + "weight"] = params.table
        case _parts.LayerNorm(params):
            named |= {prefix + "weight": params.scale, prefix + "bias": params.b}
        case _parts.Dropout(_, variational):
            if variational:
                refuse("variational dropout", "torch draws at each step")
        case _parts.Stack(parts):
            layers = [each for each in parts if not isinstance(each, Dropout)]
            if _is_one_module(layers):
                for index, each in enumerate(layers):
                    named |= _named(each, index, prefix, bias)
                return
            for index, each in enumerate(parts):
                _write(each, f"{prefix}{index}.", bias, named)


def _is_one_module(layers: list[Any]) -> bool:
    """Whether layers are those of one torch module with ``num_layers``."""
    if not all(isinstance(each, _parts.Recurrent) for each in layers):
        return False
    alike = {
        (each.reverse, len(each.directions), *own.form)
        for each in layers
        for own in each.directions
    }
    return len(alike) == 1


def _named(part: Any, index: int, prefix: str, bias: bool) -> dict[str, np.ndarray]:
    """The weights of one recurrent layer."""
    if part.reverse:
        refuse("a reversed layer", "torch has only both directions together")
    if part.merge is not None and part.merge is not _parts.CONCATENATE:
        refuse(f"merge={part.merge!r}", "torch concatenates both directions")
    named: dict[str, np.ndarray] = {}
    if len({own.form for own in part.directions}) > 1:
        refuse("two directions with different cells", "torch has one cell for both")
    for own, suffix in zip(part.directions, ("", "_reverse"), strict=False):
        kind = cell_of(own, "torch", ("elman", "lstm", "gru", "projected_lstm"))
        if kind == "elman" and activation_name(own.options["activation"]) not in (
            "tanh",
            "relu",
        ):
            refuse(repr(own.cell), "torch.nn.RNN has tanh and ReLU alone")
        p, end = own.params, f"_l{index}{suffix}"
        named[f"{prefix}weight_ih{end}"] = np.ascontiguousarray(p.w_x.T)
        named[f"{prefix}weight_hh{end}"] = np.ascontiguousarray(p.w_h.T)
        b_h = p.b_h if kind == "gru" else np.zeros_like(p.b)
        if bias:
            named[f"{prefix}bias_ih{end}"] = p.b
            named[f"{prefix}bias_hh{end}"] = b_h
        else:
            _is_zero(kind, p.b), _is_zero(kind, b_h)
        if kind == "projected_lstm":
            named[f"{prefix}weight_hr{end}"] = np.ascontiguousarray(p.w_r.T)
    return named


def _is_zero(what: str, bias: np.ndarray) -> bool:
    if np.any(bias):
        raise ValueError(f"bias must be True for {what} with biases other than zero")
    return True
