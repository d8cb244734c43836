"""Flax Linen: one dense layer for each gate, named by input or state and gate.

``ConvLSTMCell`` has its gates in the order i, g, f, o, and adds 1 to the forget gate at
run time, which here is in the bias.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._cells.conv_lstm import conv_lstm
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
from .._typing import Shape
from . import _parts
from ._arrays import gates, join, need, note_dtype, reorder, to_jax, to_numpy
from ._parts import Dropout, activation_name, assemble, cell_of, read, refuse

I_G_F_O = (0, 2, 1, 3)  # to i, f, g, o, and back


def from_flax(
    module: Any, variables: Any, *, spatial_shape: Shape | None = None
) -> tuple[Layer, Any]:
    """Convert a module of Flax Linen.

    Args:
        module: ``nn.RNN`` of a cell, ``nn.Bidirectional`` of two, or a cell alone:
            ``SimpleCell``, ``LSTMCell``, ``OptimizedLSTMCell``, ``GRUCell`` or
            ``ConvLSTMCell``; ``Dense``, ``Embed``, ``LayerNorm``; ``Dropout``, but not
            alone; or a ``Sequential`` of these. ``time_major`` changes nothing: in
            jaxrnn time always leads.
        variables: its variables, ``{"params": ...}``, or these parameters.
        spatial_shape: sizes of the images of a ``ConvLSTMCell``, which Flax reads off
            the inputs.

    Returns:
        ``(layer, params)``; ``apply`` returns the final state and all outputs. The
        state of an LSTM is ``(h, c)``, not ``(c, h)``.

    Raises:
        TypeError: the module is of another class, a subclass included.
        ValueError: it computes something that jaxrnn does not have, such as
            ``MGUCell``, whose gate keeps the old state, or parameters are missing.

    >>> import jax, flax.linen as nn
    >>> from jaxrnn import convert
    >>> module = nn.RNN(nn.GRUCell(5))
    >>> xs = jax.numpy.ones((4, 7, 3), "float32")
    >>> variables = module.init(jax.random.key(0), xs)
    >>> convert.from_flax(module, variables)[0]
    jaxrnn.layer(jaxrnn.gru(5))
    """
    nn = need("flax.linen", "flax")
    if not isinstance(variables, Mapping):
        raise TypeError(
            "variables must be a mapping with the parameters of the module, got "
            f"{type(variables).__name__}"
        )
    if "params" in variables:
        variables = variables["params"]
    entry = _from_flax(nn, module, variables, spatial_shape)
    if isinstance(entry, Dropout):
        refuse("Dropout alone", "there is no layer whose inputs or outputs it drops")
    return entry


def _from_flax(nn: Any, module: Any, params: Any, space: Shape | None) -> Any:
    kind = type(module)
    if kind is nn.Sequential:
        return assemble(
            [
                _from_flax(nn, each, params.get(f"layers_{index}", {}), space)
                for index, each in enumerate(module.layers)
            ]
        )
    if kind is nn.Dropout:
        if tuple(module.broadcast_dims):
            refuse(module, "broadcast_dims are not those of jaxrnn.dropout")
        return Dropout(module.rate, variational=False)
    if kind is nn.Dense:
        w = _leaf(params, "kernel")
        b = _leaf(params, "bias") if module.use_bias else np.zeros(w.shape[1], w.dtype)
        return dense(w.shape[1]), to_jax(DenseParams, w, b)
    if kind is nn.Embed:
        table = _leaf(params, "embedding")
        return embedding(*table.shape), to_jax(EmbeddingParams, table)
    if kind is nn.LayerNorm:
        return _layer_norm(module, params)
    if kind is nn.RNN:
        return _rnn(nn, module, params, space)
    if kind is nn.Bidirectional:
        return _bidirectional(nn, module, params, space)
    return _parts.recurrent([_cell(nn, module, params, space)])


def _leaf(params: Any, *path: str) -> np.ndarray:
    for name in path:
        if not isinstance(params, Mapping) or name not in params:
            raise ValueError(f"variables must have the parameter {'/'.join(path)!r}")
        params = params[name]
    return to_numpy("/".join(path), params)


def _inner(params: Any, name: str) -> Any:
    if name not in params:
        raise ValueError(f"variables must have the parameters {name!r}")
    return params[name]


def check_axes(module: Any) -> None:
    """Refuse a normalisation of other axes, of Linen or of NNX."""
    for name in ("reduction_axes", "feature_axes"):
        if getattr(module, name) not in (-1, (-1,), [-1]):
            refuse(module, "jaxrnn normalises the last axis alone")


def _layer_norm(module: Any, params: Any) -> tuple[Layer, Any]:
    check_axes(module)
    names = [
        name
        for name, used in (("scale", module.use_scale), ("bias", module.use_bias))
        if used
    ]
    if not names:
        refuse(module, "it has neither scale nor bias, from which its size follows")
    like = _leaf(params, names[0])
    scale = _leaf(params, "scale") if module.use_scale else np.ones_like(like)
    b = _leaf(params, "bias") if module.use_bias else np.zeros_like(like)
    made = layer_norm(len(like), epsilon=module.epsilon)
    return made, to_jax(LayerNormParams, scale, b)


def _rnn(nn: Any, module: Any, params: Any, space: Shape | None) -> tuple[Layer, Any]:
    cell = _cell(nn, module.cell, _inner(params, "cell"), space)
    if not module.reverse:
        return _parts.recurrent([cell])
    if not module.keep_order:
        refuse(module, "without keep_order its outputs are in reversed order")
    return _parts.recurrent([cell], reverse=True)


def _bidirectional(
    nn: Any, module: Any, params: Any, space: Shape | None
) -> tuple[Layer, Any]:
    cells = [
        _cell(nn, rnn.cell, _inner(_inner(params, name), "cell"), space)
        for name, rnn in (
            ("forward_rnn", module.forward_rnn),
            ("backward_rnn", module.backward_rnn),
        )
    ]
    options = {}
    if module.merge_fn is not nn.Bidirectional.merge_fn:
        options["merge"] = module.merge_fn
    return _parts.recurrent(cells, **options)


SAME = {
    "tanh": (jnp.tanh, jax.nn.tanh, jax.lax.tanh),
    "sigmoid": (jax.nn.sigmoid, jax.lax.logistic),
}


def check_activations(module: Any) -> None:
    """Refuse gates of an LSTM or GRU that are not sigmoid, and candidates but tanh."""
    for option, name in (("gate_fn", "sigmoid"), ("activation_fn", "tanh")):
        if getattr(module, option) not in SAME[name]:
            refuse(module, f"{option} must be {name}")


def _cell(nn: Any, module: Any, params: Any, space: Shape | None) -> tuple[Cell, Any]:
    cell, own = _converted(nn, module, params, space)
    size = own.w_h.shape[-2]
    if module.features != size:
        raise ValueError(
            f"variables must be those of the module, with {module.features} features, "
            f"got {size}"
        )
    note_dtype(module, module.dtype, own.b.dtype)
    return cell, own


def _converted(
    nn: Any, module: Any, params: Any, space: Shape | None
) -> tuple[Cell, Any]:
    kind = type(module)
    if kind is nn.SimpleCell:
        if module.residual:
            refuse(module, "jaxrnn.elman has no residual connection")
        w_x, w_h = _leaf(params, "i", "kernel"), _leaf(params, "h", "kernel")
        cell = elman(len(w_h), activation=module.activation_fn)
        return cell, to_jax(ElmanParams, w_x, w_h, _leaf(params, "i", "bias"))
    if kind in (nn.LSTMCell, nn.OptimizedLSTMCell):
        check_activations(module)
        w_x = join(_leaf(params, f"i{gate}", "kernel") for gate in "ifgo")
        w_h = join(_leaf(params, f"h{gate}", "kernel") for gate in "ifgo")
        b = join(_leaf(params, f"h{gate}", "bias") for gate in "ifgo")
        return lstm(len(w_h)), to_jax(LSTMParams, w_x, w_h, b)
    if kind is nn.GRUCell:
        check_activations(module)
        w_x = join(_leaf(params, f"i{gate}", "kernel") for gate in "rzn")
        w_h = join(_leaf(params, f"h{gate}", "kernel") for gate in "rzn")
        b = join(_leaf(params, f"i{gate}", "bias") for gate in "rzn")
        b_n = _leaf(params, "hn", "bias")
        b_h = np.concatenate([np.zeros(2 * len(b_n), b_n.dtype), b_n])
        return gru(len(w_h)), to_jax(GRUParams, w_x, w_h, b, b_h)
    if kind is nn.ConvLSTMCell:
        return _conv_lstm(module, params, space)
    if kind is nn.MGUCell:
        refuse(module, "its gate keeps the old state and resets after the product")
    raise TypeError(
        "module must be RNN, Bidirectional, SimpleCell, LSTMCell, OptimizedLSTMCell, "
        "GRUCell, ConvLSTMCell, Dense, Embed, LayerNorm, Dropout or Sequential of "
        f"flax.linen, and no subclass, got {kind.__module__}.{kind.__qualname__}"
    )


def _conv_lstm(module: Any, params: Any, space: Shape | None) -> tuple[Cell, Any]:
    if module.padding != "SAME" or set(module.strides or (1,)) != {1}:
        refuse(module, "jaxrnn pads images, as padding='SAME' does, without strides")
    kernels = [_leaf(params, part, "kernel") for part in ("ih", "hh")]
    b = np.zeros(kernels[0].shape[-1], kernels[0].dtype)
    if module.use_bias:
        b = _leaf(params, "ih", "bias") + _leaf(params, "hh", "bias")
    return conv_lstm_of(kernels, b, space)


def conv_lstm_of(
    kernels: list[np.ndarray], b: np.ndarray, space: Shape | None
) -> tuple[Cell, Any]:
    """Make a cell of gates in the order i, g, f, o, with 1 to add to f."""
    if space is None:
        raise ValueError(
            "spatial_shape must be given for a convolutional LSTM: the sizes of its "
            "images are not in the weights"
        )
    i, g, f, o = gates(b, 4)
    w_x, w_h = (reorder(kernel, I_G_F_O) for kernel in kernels)
    b = join([i, f + np.ones_like(f), g, o])
    cell = conv_lstm(w_h.shape[-2], w_h.shape[:-2], space)
    return cell, to_jax(LSTMParams, w_x, w_h, b)


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


def without_dropout(parts: tuple[Any, ...], framework: str) -> list[Any]:
    """Leave dropout out, and warn if there is any."""
    kept = [part for part in parts if not isinstance(part, Dropout)]
    if len(kept) < len(parts):
        warnings.warn(
            f"dropout is left out: that of {framework} needs an argument at each call",
            stacklevel=4,
        )
    return kept


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


def conv_lstm_weights(p: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return kernels and bias in the order i, g, f, o, with f less 1."""
    i, f, g, o = gates(p.b, 4)
    b = join([i, g, f - np.ones_like(f), o])
    return reorder(p.w_x, I_G_F_O), reorder(p.w_h, I_G_F_O), b


def input_bias(p: Any) -> np.ndarray:
    """Return the biases of a GRU that add to the input: all but that of n's state."""
    r, z, n = gates(p.b_h, 3)
    return p.b + join([r, z, np.zeros_like(n)])
