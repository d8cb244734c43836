"""From PyTorch: ``torch.nn`` modules and state dicts.

torch stores transposed weights, ``weight_ih (G H, I)``, and two biases for each gate.
Gates of an LSTM are in the order i, f, g, o, those of a GRU in the order r, z, n, as
here. A cell of jaxrnn with one bias has the sum of both; on the way back, the second
one is zero.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from . import _make
from ._arrays import check_shape, need, to_numpy
from ._parts import Dropout, refuse

GATES = {"rnn": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
MODULES = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")
MODULES += ("Linear", "Embedding", "LayerNorm")
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
NAME = re.compile(rf"({'|'.join(NAMES)})(?:_l(\d+)(_reverse)?)?")


def from_torch(module: Any) -> tuple[Layer, Any]:
    """Convert a module of PyTorch.

    Args:
        module: ``torch.nn.RNN``, ``LSTM`` or ``GRU``, with any number of layers and
            in one direction or both; ``RNNCell``, ``LSTMCell`` or ``GRUCell``;
            ``Linear``, ``Embedding``, ``LayerNorm``; ``Dropout``, but not alone; or a
            ``Sequential`` of these. ``batch_first`` changes nothing: in jaxrnn time
            always leads.

    Returns:
        ``(layer, params)``. Several recurrent layers and a ``Sequential`` are a
        :func:`jaxrnn.stack`.

    Raises:
        TypeError: the module is of another class, a subclass included, as that may
            compute something else; or it has weights in float64 and JAX does not.
        ValueError: it has an option that jaxrnn does not have.

    Differs from torch in what ``apply`` returns: the state of each layer comes by
    itself, not in one tensor for all layers.

    >>> import torch
    >>> from jaxrnn import convert
    >>> module = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> layer, params = convert.from_torch(module)
    >>> layer.apply(params, torch.ones(7, 4, 3).numpy())[1].shape
    (7, 4, 10)
    """
    torch = need("torch", "torch")
    return _make.whole(_from_torch(torch.nn, module))


def _from_torch(nn: Any, module: Any) -> Any:
    kind = type(module)
    if kind is nn.Sequential:
        return _make.layers([_from_torch(nn, each) for each in module])
    if kind is nn.Dropout:
        return Dropout(module.p, variational=False)
    if kind not in [getattr(nn, name) for name in MODULES]:
        raise TypeError(
            f"module must be torch.nn.{', '.join(MODULES)}, Dropout or Sequential, and "
            f"no subclass, got {kind.__module__}.{kind.__qualname__}"
        )
    weights = {n: to_numpy(n, w) for n, w in module.state_dict().items()}
    if kind is nn.Linear:
        return _dense(weights)
    if kind is nn.Embedding:
        if module.max_norm is not None:
            refuse(module, "jaxrnn does not bound the norm of embeddings")
        return _embedding(weights)
    if kind is nn.LayerNorm:
        return _layer_norm(module, weights)
    if kind in (nn.RNN, nn.RNNCell):
        relu = module.nonlinearity == "relu"
        return _recurrent(weights, "rnn_relu" if relu else "rnn", _rate(module))
    if kind in (nn.LSTM, nn.LSTMCell):
        return _recurrent(weights, "lstm", _rate(module))
    return _recurrent(weights, "gru", _rate(module))


def _rate(module: Any) -> float:
    return getattr(module, "dropout", 0.0)


def _dense(weights: Mapping[str, np.ndarray]) -> tuple[Layer, Any]:
    w = weights["weight"].T
    b = weights.get("bias", np.zeros(w.shape[1], w.dtype))
    return _make.dense(w, b)


def _embedding(weights: Mapping[str, np.ndarray]) -> tuple[Layer, Any]:
    table = weights["weight"]
    return _make.embedding(table)


def _layer_norm(module: Any, weights: Mapping[str, np.ndarray]) -> tuple[Layer, Any]:
    if len(module.normalized_shape) != 1:
        refuse(module, "jaxrnn normalises the last axis alone")
    (size,) = module.normalized_shape
    scale = weights.get("weight", np.ones(size, np.float32))
    b = weights.get("bias", np.zeros(size, scale.dtype))
    return _make.layer_norm(scale, b, module.eps)


def from_torch_state_dict(
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    kind: str = "lstm",
    *,
    prefix: str | None = None,
) -> tuple[Layer, Any]:
    """Convert the weights of a recurrent module of PyTorch, without PyTorch.

    Args:
        state_dict: names and arrays, as ``module.state_dict()`` has them, in any
            framework's arrays; or the path of a safetensors file.
        kind: ``"lstm"``, ``"gru"``, ``"rnn"`` (tanh) or ``"rnn_relu"``. Sizes, layers,
            directions and ``proj_size`` follow from the weights.
        prefix: what stands before the names of this module in the state dict of a
            larger one, such as ``"encoder.rnn."``; other names are then left alone.
            None finds the prefix if all names have the same one.

    Returns:
        ``(layer, params)``, as :func:`from_torch`. Dropout is not in a state dict, so
        the layer has none.

    Raises:
        ValueError: ``kind`` is none of these, names are missing or left over, or
            shapes do not fit together or do not fit ``kind``.
        TypeError: an array is not floating, or dtypes differ.

    >>> import numpy as np
    >>> from jaxrnn import convert
    >>> weights = {
    ...     "weight_ih_l0": np.ones((15, 3), np.float32),
    ...     "weight_hh_l0": np.ones((15, 5), np.float32),
    ... }
    >>> layer, params = convert.from_torch_state_dict(weights, kind="gru")
    >>> layer
    jaxrnn.layer(jaxrnn.gru(5))
    """
    if kind not in GATES:
        raise ValueError(f"kind must be one of {', '.join(GATES)}, got {kind!r}")
    if isinstance(state_dict, str | os.PathLike):
        state_dict = _read_file(state_dict)
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "state_dict must be a mapping of names to arrays, or the path of a "
            f"safetensors file, got {type(state_dict).__name__}"
        )
    if not isinstance(prefix, str | None):
        raise TypeError(f"prefix must be a string or None, got {prefix!r}")
    if prefix is None:
        prefix = _find_prefix(state_dict)
        extra = [name for name in state_dict if not name.startswith(prefix)]
        if extra:
            raise ValueError(
                f"prefix must be given, such as {prefix!r}, if state_dict has names of "
                f"other modules, got {_some(extra)}"
            )
    weights = {
        name.removeprefix(prefix): to_numpy(name, value)
        for name, value in state_dict.items()
        if name.startswith(prefix)
    }
    if not weights:
        raise ValueError(
            f"prefix must begin some names of state_dict, got {prefix!r}; names are "
            f"{_some(state_dict)}"
        )
    return _recurrent(weights, kind, 0.0)


def _read_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    if not os.fspath(path).endswith(".safetensors"):
        raise ValueError(
            "state_dict must be a safetensors file: reading another one, such as a .pt "
            "file, can run code that is hidden in it; write it with "
            f"safetensors.torch.save_file, got {os.fspath(path)!r}"
        )
    error_type = need("safetensors", "safetensors").SafetensorError
    try:
        return need("safetensors.flax", "safetensors").load_file(os.fspath(path))
    except error_type as error:
        raise ValueError(
            f"state_dict must be a whole safetensors file, got {os.fspath(path)!r}: "
            f"{error}"
        ) from error


def _find_prefix(state_dict: Mapping[str, Any]) -> str:
    ends = re.compile(r"(.*?)weight_ih(_l0)?")
    found = [match[1] for name in state_dict if (match := ends.fullmatch(name))]
    if len(set(found)) == 1:
        return found[0]
    if found:
        raise ValueError(
            "prefix must be given if state_dict has several recurrent modules: one of "
            f"{', '.join(map(repr, found))}"
        )
    raise ValueError(
        "state_dict must have the name weight_ih_l0, or weight_ih of a cell, with or "
        f"without a prefix, got {_some(state_dict)}"
    )


def _some(names: Any) -> str:
    names = list(names)
    return ", ".join(map(str, names[:6])) + (", ..." if len(names) > 6 else "")


def _recurrent(
    weights: Mapping[str, np.ndarray], kind: str, rate: float
) -> tuple[Layer, Any]:
    """Make a layer, or a stack of them, of the weights of one module."""
    groups: dict[tuple[int, bool], dict[str, np.ndarray]] = {}
    for name, array in weights.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ValueError(
                f"state_dict has a name that no recurrent module has: {name!r}; if it "
                "is of a larger model, give the prefix of the recurrent module"
            )
        index = int(match[2] or 0), match[3] is not None
        group = groups.setdefault(index, {})
        if match[1] in group:
            raise ValueError(f"state_dict must not have both {name!r} and its like")
        group[match[1]] = array
    num_layers = 1 + max(index for index, _ in groups)
    both = any(backward for _, backward in groups)
    entries: list[Any] = []
    expected: int | None = None
    for index in range(num_layers):
        cells = []
        for backward in (False, True)[: 1 + both]:
            suffix = f"_l{index}" + "_reverse" * backward
            group = groups.get((index, backward), {})
            cells.append(_cell(group, kind, suffix, expected))
        layer, params = _make.recurrent(cells)
        if entries and rate:
            entries.append(Dropout(rate, variational=False))
        entries.append((layer, params))
        expected = layer.output_size
    return entries[0] if num_layers == 1 else _make.layers(entries)


def _cell(
    group: Mapping[str, np.ndarray], kind: str, suffix: str, input_size: int | None
) -> tuple[Cell, Any]:
    """Make a cell of the weights of one layer and direction."""
    for name in ("weight_ih", "weight_hh"):
        if name not in group:
            raise ValueError(f"state_dict must have the name {name + suffix!r}")
    if ("bias_ih" in group) != ("bias_hh" in group):
        missing = "bias_hh" if "bias_ih" in group else "bias_ih"
        raise ValueError(f"state_dict must have the name {missing + suffix!r}")
    w_x, w_h = group["weight_ih"], group["weight_hh"]
    if w_x.ndim != 2 or w_h.ndim != 2:
        raise ValueError(
            f"{'weight_ih' + suffix} and {'weight_hh' + suffix} must have two axes, "
            f"got {w_x.shape} and {w_h.shape}"
        )
    size = group["weight_hr"].shape[-1] if "weight_hr" in group else w_h.shape[1]
    count, rows = GATES[kind], len(w_h)
    if rows != count * size:
        fits = [other for other, gates in GATES.items() if rows == gates * size]
        advice = f": this fits kind {fits[0]!r}" if fits else ""
        raise ValueError(
            f"{'weight_hh' + suffix} must have {count} H = {count * size} rows for "
            f"kind {kind!r}, got shape {w_h.shape}{advice}"
        )
    fan_in = w_x.shape[1] if input_size is None else input_size
    check_shape("weight_ih" + suffix, w_x, (rows, fan_in))
    zero = np.zeros(rows, w_x.dtype)
    b, b_h = (
        check_shape(name + suffix, group.get(name, zero), (rows,))
        for name in ("bias_ih", "bias_hh")
    )
    if kind != "lstm" and "weight_hr" in group:
        raise ValueError(
            f"state_dict must not have {'weight_hr' + suffix!r} for kind {kind!r}"
        )
    if kind == "gru":
        return _make.gru(w_x.T, w_h.T, b, b_h)
    if kind == "lstm" and "weight_hr" in group:
        w_r = check_shape(
            "weight_hr" + suffix, group["weight_hr"], (w_h.shape[1], size)
        )
        return _make.projected_lstm(w_x.T, w_h.T, b + b_h, w_r.T)
    if kind == "lstm":
        return _make.lstm(w_x.T, w_h.T, b + b_h)
    activation = jax.nn.relu if kind == "rnn_relu" else jnp.tanh
    return _make.elman(w_x.T, w_h.T, b + b_h, activation)
