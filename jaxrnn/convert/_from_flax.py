"""From Flax Linen: one dense layer for each gate, named by input or state and gate.

``ConvLSTMCell`` has its gates in the order i, g, f, o, and adds 1 to the forget gate at
run time, which here is in the bias.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._typing import Shape
from . import _make
from ._arrays import join, need, note_dtype, to_numpy
from ._layouts import conv_lstm_of
from ._parts import Dropout, refuse


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
    return _make.whole(_from_flax(nn, module, variables, spatial_shape))


def _from_flax(nn: Any, module: Any, params: Any, space: Shape | None) -> Any:
    kind = type(module)
    if kind is nn.Sequential:
        return _make.layers(
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
        return _make.dense(w, b)
    if kind is nn.Embed:
        table = _leaf(params, "embedding")
        return _make.embedding(table)
    if kind is nn.LayerNorm:
        return _layer_norm(module, params)
    if kind is nn.RNN:
        return _rnn(nn, module, params, space)
    if kind is nn.Bidirectional:
        return _bidirectional(nn, module, params, space)
    return _make.recurrent([_cell(nn, module, params, space)])


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
    return _make.layer_norm(scale, b, module.epsilon)


def _rnn(nn: Any, module: Any, params: Any, space: Shape | None) -> tuple[Layer, Any]:
    cell = _cell(nn, module.cell, _inner(params, "cell"), space)
    if not module.reverse:
        return _make.recurrent([cell])
    if not module.keep_order:
        refuse(module, "without keep_order its outputs are in reversed order")
    return _make.recurrent([cell], reverse=True)


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
    return _make.recurrent(cells, **options)


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
        return _make.elman(w_x, w_h, _leaf(params, "i", "bias"), module.activation_fn)
    if kind in (nn.LSTMCell, nn.OptimizedLSTMCell):
        check_activations(module)
        w_x = join(_leaf(params, f"i{gate}", "kernel") for gate in "ifgo")
        w_h = join(_leaf(params, f"h{gate}", "kernel") for gate in "ifgo")
        b = join(_leaf(params, f"h{gate}", "bias") for gate in "ifgo")
        return _make.lstm(w_x, w_h, b)
    if kind is nn.GRUCell:
        check_activations(module)
        w_x = join(_leaf(params, f"i{gate}", "kernel") for gate in "rzn")
        w_h = join(_leaf(params, f"h{gate}", "kernel") for gate in "rzn")
        b = join(_leaf(params, f"i{gate}", "bias") for gate in "rzn")
        b_n = _leaf(params, "hn", "bias")
        b_h = np.concatenate([np.zeros(2 * len(b_n), b_n.dtype), b_n])
        return _make.gru(w_x, w_h, b, b_h)
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
