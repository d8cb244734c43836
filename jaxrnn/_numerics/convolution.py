"""Convolutions over the spatial axes, as the products of a cell."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._typing import Array
from .placement import sharded_first
from .precision import accumulation_dtype

SPACE = "xyz"


def _numbers(num_axes: int) -> tuple[str, str, str]:
    space = SPACE[:num_axes]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def convolve(x: Array, w: Array) -> Array:
    """Convolve ``x (..., *S, C)`` with ``w (*K, C, O)``, padded with zeros to ``S``.

    ``x`` is cast to the dtype of ``w``; sums are in at least float32.
    """
    space = w.ndim - 2
    leading = x.ndim - space - 1
    # On a mesh with explicit axes JAX merges axes only if the sharded one is first.
    order = sharded_first(x, leading)
    moved = x.astype(w.dtype).transpose(*order, *range(leading, x.ndim))
    rows = moved.reshape(-1, *x.shape[leading:])
    convolved = lax.conv_general_dilated(
        rows,
        w,
        (1,) * space,
        "SAME",
        dimension_numbers=_numbers(space),
        preferred_element_type=accumulation_dtype(w.dtype),
    )
    convolved = convolved.reshape(*moved.shape[:-1], w.shape[-1])
    return convolved.transpose(*np.argsort(order), *range(leading, x.ndim))


def convolve_transposed(da: Array, w: Array) -> Array:
    """Pull a cotangent ``(..., *S, O)`` back through :func:`convolve`.

    It is the convolution with the flipped kernel, whose channel axes are swapped.
    """
    axes = tuple(range(w.ndim - 2))
    return convolve(da, jnp.flip(w, axes).swapaxes(-1, -2))


def kernel_sum(xs: Array, das: Array, like: Array) -> Array:
    """Sum the gradient of a kernel ``like`` over all leading axes and positions."""
    wide = like.astype(accumulation_dtype(like.dtype))
    # A convolution is linear in its kernel, so its transpose needs no values of one.
    xs, das = xs.astype(wide.dtype), das.astype(wide.dtype)
    transposed = jax.linear_transpose(lambda w: convolve(xs, w), wide)
    return transposed(das)[0].astype(like.dtype)
