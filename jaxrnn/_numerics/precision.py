"""Matrix products that keep 16-bit operands and accumulate in float32.

The dtype of the parameters is the dtype of every matrix product's operands. Sums,
states and pre-activations live in the *accumulation dtype*: float32 for float16
and bfloat16, otherwise the dtype itself (Micikevicius et al., Mixed precision
training, 2018).
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import check_floating
from .._typing import Array, DTypeLike, Params
from .int8 import Int8, Weight, dot_int8
from .tuning import TRANSPOSED, columns_to_add

Product: TypeAlias = Callable[[Array, Array], Array]


def accumulation_dtype(dtype: DTypeLike) -> Any:
    """Return float32 for floats of fewer than 32 bits, otherwise ``dtype``."""
    dtype = jnp.dtype(dtype)
    narrow_float = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.dtype(jnp.float32) if narrow_float else dtype


def dot(x: Array, w: Weight) -> Array:
    """Compute ``x (..., I) @ w (I, A)`` in w's dtype, with sums in at least float32."""
    if isinstance(w, Int8):
        return dot_int8(x, w)
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(
        x.astype(w.dtype),
        w,
        contract,
        preferred_element_type=accumulation_dtype(w.dtype),
    )


def dot_in_loop(x: Array, w: Array) -> Array:
    """Compute :func:`dot`; on a CPU with a padded copy of a large ``w``."""
    extra = columns_to_add(math.prod(x.shape[:-1]), w)
    if not extra:
        return dot(x, w)
    wide = lax.optimization_barrier(jnp.pad(w, ((0, 0), (0, extra))))
    return dot(x, wide)[..., : w.shape[-1]]


def dot_transposed(da: Array, w: Weight) -> Array:
    """Multiply ``da (..., A) @ w.T``: pull a cotangent back through :func:`dot`."""
    if isinstance(w, Int8):
        return dot_int8(da, Int8(values=w.values.T, scale=w.scale.T))
    w_t = w.T
    if w.size <= TRANSPOSED:
        # In a loop, XLA then transposes once, before it, instead of in every product.
        w_t = lax.optimization_barrier(w_t)
    return dot(da, w_t)


def outer_sum(xs: Array, das: Array, like: Array) -> Array:
    """Sum ``x^T da`` over all leading axes: the gradient of a weight ``like``."""
    axes = tuple(range(xs.ndim - 1))
    total = lax.dot_general(
        xs.astype(like.dtype),
        das.astype(like.dtype),
        ((axes, axes), ((), ())),
        preferred_element_type=accumulation_dtype(like.dtype),
    )
    return total.astype(like.dtype)


def leading_sum(das: Array, like: Array) -> Array:
    """Sum ``da`` over all leading axes: the gradient of a bias ``like``."""
    return das.sum(axis=tuple(range(das.ndim - 1))).astype(like.dtype)


def of_rank(rank: int, x: Array) -> Array:
    """Put axes of size 1 in front of ``x`` up to a rank.

    JAX would add them by itself, unless ``jax_numpy_rank_promotion`` forbids it.
    """
    return lax.expand_dims(x, range(rank - x.ndim))


def add_bias(a: Array, b: Array) -> Array:
    """Add ``a + b`` in the dtype of ``a``."""
    return a + of_rank(a.ndim, b.astype(a.dtype))


def scaled(x: Array, scale: Array | None) -> Array:
    """Multiply ``x * scale``; return ``x`` if the scale is None."""
    return x if scale is None else x * of_rank(x.ndim, scale.astype(x.dtype))


def cast(tree: Any, dtype: DTypeLike) -> Any:
    """Cast the floating leaves of a pytree to another dtype.

    For mixed precision (Micikevicius et al., Mixed precision training, 2018): keep the
    parameters in float32 and cast them, and the inputs, in the loss. Products then have
    16-bit operands; gradients and the optimiser's state stay float32.

    Args:
        tree: pytree of arrays.
        dtype: a floating dtype.

    Returns:
        A pytree of the same structure.

    Raises:
        TypeError: ``dtype`` is not floating.

    >>> cast({"w": jnp.ones(2), "tokens": jnp.arange(2)}, jnp.bfloat16)["w"].dtype
    dtype(bfloat16)
    """
    narrow_dtype = check_floating("dtype", dtype)

    def narrowed(leaf):
        leaf = jnp.asarray(leaf)
        return (
            leaf.astype(narrow_dtype)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        )

    return jax.tree.map(narrowed, tree)


def widen(params: Params) -> Params:
    """Cast parameters to their accumulation dtypes, so that cotangents sum in those."""
    return jax.tree.map(lambda p: p.astype(accumulation_dtype(p.dtype)), params)


def narrow(wide: Params, params: Params) -> Params:
    """Cast ``wide`` back to the dtypes of ``params``: the inverse of :func:`widen`."""
    return jax.tree.map(lambda w, p: w.astype(p.dtype), wide, params)
