"""From Haiku: gates of an LSTM in the order i, g, f, o, with 1 added to f at run time.

Its LSTM has one matrix for the input and the state, the input's rows first. Its GRU has
the order z, r, n, resets before the product, and its z lets the new state in: negated
weights of z give the same.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._base import Cell, Layer
from .._typing import Shape
from . import _make
from ._arrays import gates, join, reorder, to_numpy
from ._layouts import I_G_F_O, conv_lstm_of

KINDS = {
    "vanilla_rnn": ("linear", "linear_1"),
    "lstm": ("linear",),
    "gru": ("",),
    "conv1_dlstm": ("input_to_hidden", "hidden_to_hidden"),
    "conv2_dlstm": ("input_to_hidden", "hidden_to_hidden"),
    "conv3_dlstm": ("input_to_hidden", "hidden_to_hidden"),
    "linear": ("",),
    "embed": ("",),
    "layer_norm": ("",),
}
NAME = re.compile(rf"(?:.*/)?({'|'.join(KINDS)})(?:_\d+)?")


def from_haiku(
    params: Mapping[str, Mapping[str, Any]],
    modules: Mapping[str, str] | Sequence[str] | None = None,
    *,
    spatial_shape: Shape | None = None,
    epsilon: float = 1e-5,
) -> tuple[Layer, Any]:
    """Convert parameters of Haiku.

    Args:
        params: parameters by module, as ``hk.transform(...).init`` returns them, of
            ``hk.VanillaRNN``, ``hk.LSTM``, ``hk.GRU``, ``hk.Conv1DLSTM`` to
            ``Conv3DLSTM``, ``hk.Linear``, ``hk.Embed`` or ``hk.LayerNorm``.
        modules: the modules to convert, in the order in which they are applied, such as
            ``["net/embed", "net/lstm", "net/linear"]``; several become a stack. For
            modules with names of their own it is a mapping from name to kind,
            ``{"net/core": "lstm"}``, where the kinds are Haiku's default names. None
            takes all of ``params``: one module, or several recurrent ones of one kind.
        spatial_shape: sizes of the images of a convolutional LSTM.
        epsilon: of ``hk.LayerNorm``, which is not in the parameters.

    Returns:
        ``(layer, params)``. Haiku adds 1 to the forget gate at run time; here it is in
        the bias, so that bias may differ by one rounding after a way there and back.

    Raises:
        ValueError: a module has another name, its order is not known, or parameters
            are missing.
        TypeError: an array is not floating, or dtypes differ.

    >>> import haiku as hk, jax
    >>> from jaxrnn import convert
    >>> def run(xs):
    ...     core = hk.GRU(5)
    ...     return hk.dynamic_unroll(core, xs, core.initial_state(4))
    >>> xs = jax.numpy.ones((7, 4, 3))
    >>> params = hk.transform(run).init(jax.random.key(0), xs)
    >>> convert.from_haiku(params)[0]
    jaxrnn.layer(jaxrnn.gru(5, reset_after=False))
    """
    if not isinstance(params, Mapping) or not params:
        raise TypeError(
            "params must be a mapping of modules to their parameters, got "
            f"{type(params).__name__}"
        )
    if modules is None:
        modules = _all_modules(params)
    elif not isinstance(modules, Mapping):
        modules = {name: _kind(name) for name in modules}
    for name, kind in modules.items():
        if kind not in KINDS:
            raise ValueError(
                f"modules must have kinds of {', '.join(KINDS)}, got {kind!r} for "
                f"{name!r}"
            )
    entries = [
        _entry(kind, name, params, spatial_shape, epsilon)
        for name, kind in modules.items()
    ]
    return entries[0] if len(entries) == 1 else _make.layers(entries)


def _kind(name: str) -> str:
    match = NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"modules must have default names of Haiku, got {name!r}: pass a mapping "
            "from name to kind"
        )
    return match[1]


def _all_modules(params: Mapping[str, Any]) -> dict[str, str]:
    """Find the modules of one kind, ordered by their numbers."""
    modules = {}
    for name in params:
        parent, _, last = name.rpartition("/")
        match = NAME.fullmatch(parent)
        if match is None or last not in KINDS[match[1]]:
            parent = name
        modules[parent] = _kind(parent)
    kinds = set(modules.values())
    if len(modules) > 1 and (
        len(kinds) > 1 or kinds & {"linear", "embed", "layer_norm"}
    ):
        raise ValueError(
            "modules must be given in their order, as the order of params is not that "
            "of the calls, and what is computed between them is not in params, got "
            f"{', '.join(modules)}"
        )

    def number(name: str) -> tuple[str, int]:
        match = re.fullmatch(r"(.*?)(?:_([0-9]+))?", name)
        assert match is not None
        return match[1], int(match[2] or 0)

    return {name: modules[name] for name in sorted(modules, key=number)}


def _leaf(params: Mapping[str, Any], base: str, part: str, name: str) -> np.ndarray:
    path = "/".join(filter(None, (base, part)))
    if path not in params or name not in params[path]:
        raise ValueError(f"params must have the parameter {name!r} of {path!r}")
    return to_numpy(f"{path}: {name}", params[path][name])


def _entry(
    kind: str, base: str, params: Mapping[str, Any], space: Shape | None, epsilon: float
) -> tuple[Layer, Any]:
    def leaf(part: str, name: str) -> np.ndarray:
        return _leaf(params, base, part, name)

    if kind == "linear":
        w = leaf("", "w")
        b = np.zeros(w.shape[1], w.dtype) if "b" not in params[base] else leaf("", "b")
        return _make.dense(w, b)
    if kind == "embed":
        table = leaf("", "embeddings")
        return _make.embedding(table)
    if kind == "layer_norm":
        scale, b = leaf("", "scale"), leaf("", "offset")
        return _make.layer_norm(scale, b, epsilon)
    return _make.recurrent([_cell(kind, leaf, space)])


def _cell(kind: str, leaf: Any, space: Shape | None) -> tuple[Cell, Any]:
    if kind == "vanilla_rnn":
        b = leaf("linear", "b")
        with contextlib.suppress(ValueError):  # which double_bias=False leaves out
            b = b + leaf("linear_1", "b")
        w_x, w_h = leaf("linear", "w"), leaf("linear_1", "w")
        return _make.elman(w_x, w_h, b, jax.nn.relu)
    if kind == "lstm":
        w, b = reorder(leaf("linear", "w"), I_G_F_O), leaf("linear", "b")
        i, g, f, o = gates(b, 4)
        w_x, w_h = np.split(w, [len(w) - len(i)])
        b = join([i, f + np.ones_like(f), g, o])
        return _make.lstm(w_x, w_h, b)
    if kind == "gru":
        w_x, w_h, b = (_r_z_n(leaf("", name)) for name in ("w_i", "w_h", "b"))
        return _make.gru(w_x, w_h, b, reset_after=False)
    parts = "input_to_hidden", "hidden_to_hidden"
    kernels = [leaf(part, "w") for part in parts]
    b = leaf(parts[0], "b") + leaf(parts[1], "b")
    return conv_lstm_of(kernels, b, space)


def _r_z_n(array: np.ndarray) -> np.ndarray:
    z, r, n = gates(array, 3)
    return join([r, -z, n])
