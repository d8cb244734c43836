"""Pooling of a sequence of outputs to one vector: last, mean, maximum, attention.

Each takes outputs ``(T, *B, F)`` and a mask, and looks at valid steps only: what stands
elsewhere, NaN included, reaches neither result nor gradient. A row without a valid
step gives zeros.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._checks import check_features, check_floating
from ._masks import checked_and_masked, zero_where_masked
from ._numerics.precision import accumulation_dtype, add_bias, dot
from ._options import check_size, check_type
from ._tree import select
from ._typing import Array, ArrayLike, DTypeLike, Key
from .initializers import Initializer, glorot_uniform

__all__ = [
    "AttentionParams",
    "attention",
    "attention_init",
    "last",
    "maximum",
    "mean",
]


def _valid(ys: ArrayLike, mask: ArrayLike | None) -> tuple[Array, Array]:
    """Check outputs and mask; return both, zero where masked."""
    outputs, valid = checked_and_masked("ys", ys, mask)
    check_floating("ys", outputs.dtype)
    return outputs, jnp.ones(outputs.shape[:-1], bool) if valid is None else valid


def last(ys: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Take the outputs at the last unmasked step of each batch entry.

    A reversed layer takes the first step in time last: use ``ys[0]`` or the state that
    ``apply`` returns.

    Args:
        ys: outputs ``(T, *B, F)``.
        mask: bool ``(T, *B)``; None means that all steps count.

    Returns:
        ``(*B, F)``, zero for a batch entry whose steps are all masked.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``ys`` is not floating, or ``mask`` is not boolean.

    >>> ys = jnp.array([[1.0], [2.0], [3.0]])
    >>> last(ys, jnp.array([True, True, False])).tolist()
    [2.0]
    """
    outputs, valid = _valid(ys, mask)
    steps = jnp.arange(len(outputs)).reshape(-1, *(1,) * (valid.ndim - 1))
    latest = jnp.max(jnp.where(valid, steps, -1), axis=0, initial=-1)
    return zero_where_masked(outputs, valid & (steps == latest[None])).sum(0)


def mean(ys: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Average the outputs over the unmasked steps of each batch entry.

    Sums are taken in float32 for 16-bit outputs.

    Args:
        ys: outputs ``(T, *B, F)``.
        mask: bool ``(T, *B)``; None means that all steps count.

    Returns:
        ``(*B, F)``, zero for a batch entry whose steps are all masked.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``ys`` is not floating, or ``mask`` is not boolean.

    >>> ys = jnp.array([[1.0], [2.0], [9.0]])
    >>> mean(ys, jnp.array([True, True, False])).tolist()
    [1.5]
    """
    outputs, valid = _valid(ys, mask)
    dtype = accumulation_dtype(outputs.dtype)
    count = jnp.maximum(valid.sum(0), 1).astype(dtype)
    return (outputs.sum(0, dtype=dtype) / count[..., None]).astype(outputs.dtype)


def maximum(ys: ArrayLike, mask: ArrayLike | None = None) -> Array:
    """Take the maximum of each feature over the unmasked steps of each batch entry.

    Args:
        ys: outputs ``(T, *B, F)``.
        mask: bool ``(T, *B)``; None means that all steps count.

    Returns:
        ``(*B, F)``, zero for a batch entry whose steps are all masked.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``ys`` is not floating, or ``mask`` is not boolean.

    >>> ys = jnp.array([[1.0], [2.0], [9.0]])
    >>> maximum(ys, jnp.array([True, True, False])).tolist()
    [2.0]
    """
    outputs, valid = _valid(ys, mask)
    lowest = jnp.full_like(outputs, -jnp.inf)
    largest = jnp.max(select(valid, outputs, lowest), axis=0, initial=-jnp.inf)
    return zero_where_masked(largest, valid.any(0))


class AttentionParams(NamedTuple):
    """Parameters of :func:`attention`."""

    w: Array  # (F, D)
    b: Array  # (D,)
    v: Array  # (D, 1)


def attention_init(
    key: Key,
    input_size: int,
    size: int,
    dtype: DTypeLike | None = None,
    *,
    w_init: Initializer = glorot_uniform,
) -> AttentionParams:
    """Draw the parameters of :func:`attention`.

    Args:
        key: a ``jax.random`` key.
        input_size: F, features of the outputs to pool.
        size: D, size of the hidden layer that scores a step.
        dtype: floating dtype of the parameters; None is the default of JAX.
        w_init: initialiser of ``w`` and ``v``; the bias is zero.

    Returns:
        :class:`AttentionParams`.

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int, or ``dtype`` is not floating.
    """
    input_size = check_size("input_size", input_size)
    size = check_size("size", size)
    float_dtype = check_floating("dtype", dtype)
    key_w, key_v = jax.random.split(key)
    return AttentionParams(
        w=w_init(key_w, (input_size, size), float_dtype),
        b=jnp.zeros((size,), float_dtype),
        v=w_init(key_v, (size, 1), float_dtype),
    )


def attention(
    params: AttentionParams, ys: ArrayLike, mask: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Average the unmasked steps, weighted by a learned score of each (attention).

    The weights are ``softmax_t(tanh(y_t W + b) v)``.

    Args:
        params: from :func:`attention_init`.
        ys: outputs ``(T, *B, F)``.
        mask: bool ``(T, *B)``; None means that all steps count.

    Returns:
        ``(pooled, weights)``: ``(*B, F)`` and ``(T, *B)``. Weights sum to 1 over the
        valid steps; both are zero for rows without any.

    Raises:
        ValueError: a shape does not fit.
        TypeError: a dtype does not fit.

    References:
        Yang et al., Hierarchical attention networks for document classification, 2016.

    >>> params = attention_init(jax.random.key(0), 2, 4)
    >>> pooled, weights = attention(params, jnp.ones((7, 3, 2)))
    >>> pooled.shape, weights.shape
    ((3, 2), (7, 3))
    """
    check_type("params", params, AttentionParams)
    outputs, valid = _valid(ys, mask)
    check_features("ys", outputs, params.w.shape[0], params.w.dtype)
    hidden = jnp.tanh(add_bias(dot(outputs, params.w), params.b))
    scores = dot(hidden, params.v)[..., 0]
    some = valid.any(0)
    # A row without a valid step takes all of them, and is zeroed behind.
    weights = jax.nn.softmax(scores, axis=0, where=valid | ~some[None])
    weights = jnp.where(valid, weights, jnp.zeros_like(weights))
    pooled = (weights[..., None] * outputs.astype(weights.dtype)).sum(0)
    return pooled.astype(outputs.dtype), weights.astype(outputs.dtype)
