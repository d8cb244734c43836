"""Attention over an encoded sequence, the memory."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._descriptions.spec import Described, Spec, described_in
from .._numerics.precision import accumulation_dtype, add_bias, dot
from .._options import check_size
from .._typing import Array, ArrayLike, DTypeLike, Key, Params
from ..initializers import glorot_uniform

InitAttention: TypeAlias = Callable[[Key, int, int, DTypeLike | None], Params]


class _AttentionFields(NamedTuple):
    init: InitAttention  # (key, query_size, value_size, dtype) -> params
    keys: Callable[[Params, Array], Array]  # (params, values (*B, S, F)) -> (*B, S, A)
    score: Callable[[Params, Array, Array], Array]  # (params, query, keys) -> (*B, S)
    spec: Spec | None = None


class Attention(Described, _AttentionFields):
    """Scores of the steps of a memory for a query: three pure functions."""

    __slots__ = ()


class AdditiveParams(NamedTuple):
    """Parameters of :func:`additive`."""

    w_q: Array  # (Q, A)
    w_v: Array  # (F, A)
    b: Array  # (A,)
    v: Array  # (A, 1)


@described_in("seq2seq")
def additive(size: int) -> Attention:
    """Additive attention: the score is ``v . tanh(q W_q + x W_v + b)``.

    Args:
        size: A, number of units.

    Returns:
        An :class:`Attention` with parameters :class:`AdditiveParams`.

    Raises:
        ValueError: ``size`` is below 1.
        TypeError: ``size`` is not an int.

    References:
        Bahdanau, Cho and Bengio, Neural machine translation by jointly learning to
        align and translate, 2015.
    """
    size = check_size("size", size)

    def init(key, query_size, value_size, dtype):
        keys = jax.random.split(key, 3)
        float_dtype = jnp.zeros((), dtype).dtype
        return AdditiveParams(
            w_q=glorot_uniform(keys[0], (query_size, size), float_dtype),
            w_v=glorot_uniform(keys[1], (value_size, size), float_dtype),
            b=jnp.zeros((size,), float_dtype),
            v=glorot_uniform(keys[2], (size, 1), float_dtype),
        )

    def keys(params, values):
        return add_bias(dot(values, params.w_v), params.b)

    def score(params, query, keys):
        units = jnp.tanh(keys + dot(query, params.w_q)[..., None, :])
        return dot(units, params.v)[..., 0]

    return Attention(init, keys, score)


class DotProductParams(NamedTuple):
    """Parameters of :func:`dot_product`."""

    w: Array  # (F, Q)


@described_in("seq2seq")
def dot_product() -> Attention:
    """Dot-product attention: the score is ``q . (x W) / sqrt(Q)``.

    Returns:
        An :class:`Attention` with parameters :class:`DotProductParams`.

    References:
        Luong, Pham and Manning, Effective approaches to attention-based neural machine
        translation, 2015 (*general*); the scale is that of Vaswani et al., Attention is
        all you need, 2017.
    """

    def init(key, query_size, value_size, dtype):
        float_dtype = jnp.zeros((), dtype).dtype
        return DotProductParams(
            glorot_uniform(key, (value_size, query_size), float_dtype)
        )

    def keys(params, values):
        return dot(values, params.w)

    def score(params, query, keys):
        products = (keys * query[..., None, :].astype(keys.dtype)).sum(-1)
        return products / query.shape[-1] ** 0.5

    return Attention(init, keys, score)


class Memory(NamedTuple):
    """Encoded sequence to attend to; batch dimensions lead, as in a state."""

    values: Array  # (*B, S, F)
    keys: Array  # (*B, S, A)
    mask: Array  # bool (*B, S)


def attend(
    attention: Attention, params: Params, query: ArrayLike, memory: Memory
) -> tuple[Array, Array]:
    """Average the values of a memory, weighted by their attention for a query.

    Args:
        attention: :func:`additive`, :func:`dot_product`, or an :class:`Attention` of
            your own.
        params: parameters of the attention.
        query: ``(*B, Q)``.
        memory: memory of S steps; S may be 0.

    Returns:
        ``(context, weights)`` of shapes ``(*B, F)`` and ``(*B, S)``. The weights sum to
        1, or are zero for a batch entry whose steps are all masked.
    """
    query = jnp.asarray(query)
    scores = attention.score(params, query, memory.keys)
    scores = scores.astype(accumulation_dtype(scores.dtype))
    lowest = jnp.finfo(scores.dtype).min
    scores = jnp.where(memory.mask, scores, lowest)
    largest = jax.lax.stop_gradient(scores.max(-1, keepdims=True, initial=lowest))
    powers = jnp.where(memory.mask, jnp.exp(scores - largest), 0)
    total = powers.sum(-1, keepdims=True)
    weights = powers / jnp.where(total > 0, total, 1)
    context = (weights[..., None] * memory.values.astype(weights.dtype)).sum(-2)
    return context.astype(memory.values.dtype), weights
