"""Weights of 8 bits, for inference with less memory.

A layer takes quantised parameters in place of its own: ``layer.apply(quantize(params),
xs)``. The guide has sizes, errors and times.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ._checks import as_array
from ._descriptions.types import data_types
from ._numerics.int8 import Int8 as Int8
from ._numerics.int8 import dequantized, has_int8, is_int8, to_int8
from ._typing import Params

__all__ = ["Int8", "dequantize", "quantize"]


def quantize(params: Params) -> Params:
    """Round weight matrices to int8, symmetrically, with one scale for each output.

    ``w = values * scale`` with integers from -127 to 127. An entry changes by at most
    half of its scale, 1/254 of the largest entry of its column. Layers and unrolls take
    the result in place of the parameters, for inference: int8 weights have no
    gradient, and ``jax.grad`` raises TypeError for them. Gradients of inputs and states
    are those of the rounded weights.

    Args:
        params: parameters of a layer, a cell or a model of this library, floating. Each
            matrix in a field ``w`` or ``w_...`` gets one scale for each column, and
            each ``table`` of an embedding one for each row. Biases, normalisation,
            other vectors, and parts that are not parameters of this library stay as
            they are; so do matrices that would not become smaller. A column with NaN or
            infinity becomes NaN.

    Returns:
        A pytree like ``params``, in which each of these matrices is an :class:`Int8`.

    Raises:
        TypeError: a matrix is not floating, or is quantised already.
        ValueError: no part of ``params`` has such a matrix.

    Differs from torch's dynamic quantisation in that inputs and states are not rounded.

    References:
        Wu et al., Integer quantization for deep learning inference: principles and
        empirical evaluation, 2020.

    >>> import jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(64)), jaxrnn.dense(8))
    >>> params = model.init(jax.random.key(0), 32, jnp.float32)
    >>> small = quantize(params)
    >>> small[0].w_h.values.dtype, small[0].w_h.scale.shape
    (dtype('int8'), (1, 256))
    >>> xs = jnp.ones((7, 3, 32), jnp.float32)
    >>> difference = model.apply(small, xs)[1] - model.apply(params, xs)[1]
    >>> bool(abs(difference).max() < 0.02)
    True
    """
    types = set(data_types().values())
    if has_int8(params):
        raise TypeError(
            "params must have floating weights, got int8 weights: they are quantised "
            "already"
        )

    def is_ours(node: Any) -> bool:
        return type(node) in types and type(node).__name__.endswith("Params")

    def convert(where: str, node: Any) -> Any:
        if not is_ours(node):
            return node
        fields = {}
        for name, value in node._asdict().items():
            path = f"{where}.{name}"
            if _is_matrix(name, value):
                fields[name] = _to_int8(path, value, -1 if name == "table" else -2)
            else:
                fields[name] = inside(path, value)
        return type(node)(**fields)

    def inside(where: str, tree: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, node: convert(where + jax.tree_util.keystr(path), node),
            tree,
            is_leaf=is_ours,
        )

    converted = inside("params", params)
    if not has_int8(converted):
        raise ValueError(
            "params must have a weight matrix in parameters of this library, such as "
            f"LSTMParams or DenseParams, got {type(params).__name__} without one that "
            "int8 makes smaller"
        )
    return converted


def dequantize(params: Params) -> Params:
    """Replace int8 weights by the floating matrices that they stand for.

    Use it to train further, or where a function refuses int8 weights.

    Args:
        params: what :func:`quantize` returned, or any other pytree.

    Returns:
        A pytree with the structure and dtypes that the parameters had before.

    >>> import jaxrnn
    >>> params = jaxrnn.dense(2).init(jax.random.key(0), 64)
    >>> restored = dequantize(quantize(params))
    >>> bool(abs(restored.w - params.w).max() <= abs(params.w).max() / 253)
    True
    """
    return dequantized(params)


def _is_matrix(name: str, value: Any) -> bool:
    named = name in ("w", "table") or name.startswith("w_")
    return named and not is_int8(value) and len(getattr(value, "shape", ())) >= 2


def _to_int8(name: str, value: Any, axis: int) -> Any:
    """Convert a matrix, unless its scales take what its values save."""
    w = as_array(name, value)
    if not jnp.issubdtype(w.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {w.dtype.name}")
    saved = (w.dtype.itemsize - 1) * w.shape[axis]
    return to_int8(w, axis) if saved > w.dtype.itemsize else value
