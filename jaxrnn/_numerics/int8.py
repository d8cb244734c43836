"""Weights of 8 bits, and the products with them.

A weight stands for ``values * scale``, with one scale for each output. The scale is
common to the products of an output, so it multiplies their sum: ``(x values) scale``.

To multiply integers of 8 bits is faster than to make floats of them first. An input has
three digits of 8 bits, which are as many bits as float32 has::

    x / max|x| = (d_1 + d_2 / 254 + d_3 / 254^2) / 127,    d_i from -127 to 127

The products of the digits with the values are exact, in 32-bit integers. So, unlike in
the usual dynamic quantisation, which has one digit, no precision of the input is lost.
"""

import math
import sys
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from .._typing import Array, DTypeLike, Shape
from .placement import is_placed

LARGEST = 127  # not -128, so that -w has the values of w with the other sign

# On a CPU, XLA writes the whole matrix of floats to memory before a product with them,
# which takes up to ten times as long as the product. Digits take 0.2 to 2 times as long
# as a float32 matrix does (docs/guides/quantization.md). That needs the fast products
# of XLA for Linux (YNNPACK); without them digits take about five times as long.
DIGITS, FEW_ROWS = 3, 32
MOST_INPUTS = 2**17  # 127^2 times as many still fit into 32 bits


class Int8(NamedTuple):
    """A weight matrix as 8-bit integers, which stands for ``values * scale``."""

    values: Array  # (..., I, A), int8 from -127 to 127
    scale: Array  # (..., 1, A), or (V, 1) for a table; in the dtype of the matrix

    @property
    def shape(self) -> Shape:
        """The shape of the matrix."""
        return self.values.shape

    @property
    def dtype(self) -> Any:
        """The floating dtype of the matrix."""
        return self.scale.dtype


Weight: TypeAlias = Array | Int8
WeightT = TypeVar("WeightT", bound=Weight)


def is_int8(node: Any) -> bool:
    """Test whether a node of a pytree is a weight of 8 bits."""
    return isinstance(node, Int8)


def has_int8(tree: Any) -> bool:
    """Test whether a pytree has a weight of 8 bits."""
    return any(map(is_int8, jax.tree.leaves(tree, is_leaf=is_int8)))


def to_int8(w: Array, axis: int) -> Int8:
    """Round a matrix to 8 bits, with one scale for all entries along ``axis``."""
    wide = w.astype(_sum_dtype(w.dtype))
    scale = (jnp.abs(wide).max(axis, keepdims=True) / LARGEST).astype(w.dtype)
    scale = jnp.where(scale == 0, jnp.ones_like(scale), scale)
    # No int8 stands for NaN, and on a CPU a maximum may leave NaN out.
    finite = jnp.isfinite(wide).all(axis, keepdims=True)
    scale = jnp.where(finite, scale, jnp.nan)  # an array of NaN stops jax_debug_nans
    # The division is by the scale as it was rounded to 16 bits, perhaps downwards.
    values = jnp.round(wide / scale.astype(wide.dtype)).clip(-LARGEST, LARGEST)
    return Int8(values=values.astype(jnp.int8), scale=scale)


def dequantized(tree: Any) -> Any:
    """Replace weights of 8 bits by the matrices that they stand for."""

    def matrix(node):
        if not is_int8(node):
            return node
        wide = _sum_dtype(node.dtype)
        return (node.values.astype(wide) * node.scale.astype(wide)).astype(node.dtype)

    return jax.tree.map(matrix, tree, is_leaf=is_int8)


def split_columns(w: WeightT, first: int) -> tuple[WeightT, WeightT]:
    """Split a matrix into its first columns and the others, in 8 bits as it is."""
    return (
        jax.tree.map(lambda leaf: leaf[..., :first], w),
        jax.tree.map(lambda leaf: leaf[..., first:], w),
    )


def dot_int8(x: Array, w: Int8) -> Array:
    """Compute ``x (..., I) @ w (I, A)``, if x has few rows without ``w`` in floats."""
    if w.scale.shape[0] != 1:  # it is not common to the products of an output
        return _product(x, dequantized(w))
    x = x.astype(w.dtype)
    rows = math.prod(x.shape[:-1])
    few = isinstance(rows, int) and rows <= FEW_ROWS  # a symbol is not an int
    narrow = w.dtype.itemsize <= 4 and w.shape[0] <= MOST_INPUTS
    if few and narrow and sys.platform == "linux" and not is_placed((x, w)):
        # By platform where the program is lowered, as an exported one is for several.
        sums = lax.platform_dependent(x, w.values, cpu=_by_digits, default=_at_once)
    else:
        sums = _at_once(x, w.values)
    return sums * w.scale[0].astype(sums.dtype).reshape((1,) * (sums.ndim - 1) + (-1,))


def _at_once(x: Array, values: Array) -> Array:
    return _product(x, values.astype(x.dtype))


@jax.custom_jvp
def _by_digits(x: Array, values: Array) -> Array:
    base = 2 * LARGEST
    x = x.astype(jnp.float32)
    size = jnp.abs(x).max(-1, keepdims=True)
    size = jnp.where(size == 0, jnp.ones_like(size), size)
    digits, rest = [], x / size * LARGEST
    for _ in range(DIGITS):
        digit = jnp.round(rest)
        digits.append(digit.astype(jnp.int8))
        rest = (rest - digit) * base
    sums = _product(jnp.stack(digits), values).astype(jnp.float32)
    total = sums[-1]
    for index in reversed(range(DIGITS - 1)):
        total = sums[index] + total / base
    # No digit stands for NaN, and on a CPU a maximum may leave NaN out.
    unusual = (x * 0).sum(-1, keepdims=True)
    return total * (size / LARGEST + unusual)


@_by_digits.defjvp
def _by_digits_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Any]) -> Any:
    """Differentiate the product as if there were no rounding, whose derivative is 0."""
    x, values = primals
    return _by_digits(x, values), _at_once(tangents[0], values)


def _product(x: Array, w: Array) -> Array:
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(
        x.astype(w.dtype), w, contract, preferred_element_type=_sum_dtype(w.dtype)
    )


def _sum_dtype(dtype: DTypeLike) -> Any:
    """Return the dtype of sums: int32 for int8, and at least float32 for floats."""
    dtype = jnp.dtype(dtype)
    if dtype == jnp.int8:
        return jnp.dtype(jnp.int32)
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype
