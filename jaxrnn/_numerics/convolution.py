"""Convolutions over the spatial axes, as the products of a cell."""

import jax
import jax.numpy as jnp
from jax import lax

from .._typing import Array
from .precision import accumulation_dtype

SPACE = "xyz"


def _numbers(num_axes: int) -> tuple[str, str, str]:
    space = SPACE[:num_axes]
    return f"N{space}C", f"{space}IO", f"N{space}C"


def convolve(x: Array, w: Array) -> Array:
    """Convolve ``x (..., *S, C)`` with ``w (*K, C, O)``, padded with zeros to ``S``.

    Operands in the dtype of ``w``, sums in the wider one.
    """
    space = w.ndim - 2
    rows = x.astype(w.dtype).reshape(-1, *x.shape[-space - 1 :])
    made = lax.conv_general_dilated(
        rows,
        w,
        (1,) * space,
        "SAME",
        dimension_numbers=_numbers(space),
        preferred_element_type=accumulation_dtype(w.dtype),
    )
    return made.reshape(*x.shape[:-1], w.shape[-1])


def convolve_transposed(da: Array, w: Array) -> Array:
    """Pull a cotangent ``(..., *S, O)`` back through :func:`convolve`.

    The convolution with the kernel turned around, and its channels exchanged.
    """
    axes = tuple(range(w.ndim - 2))
    return convolve(da, jnp.flip(w, axes).swapaxes(-1, -2))


def kernel_sum(xs: Array, das: Array, like: Array) -> Array:
    """Sum the gradient of a kernel ``like`` over all leading axes and positions."""
    wide = like.astype(accumulation_dtype(like.dtype))
    # A convolution is linear in its kernel: nothing of the values is used here.
    xs, das = xs.astype(wide.dtype), das.astype(wide.dtype)
    transposed = jax.linear_transpose(lambda w: convolve(xs, w), wide)
    return transposed(das)[0].astype(like.dtype)
