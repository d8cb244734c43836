"""A cell that looks, at every step, at all of another sequence."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from .._base import Cell, Layer
from .._checks import (
    check_array,
    check_cell,
    check_features,
    check_flags,
    check_sequence,
)
from .._descriptions.spec import Described, Spec, described_in
from .._eager import compiled
from .._numerics.precision import accumulation_dtype, add_bias, dot
from .._options import check_size, check_type
from .._tree import select, zeros_like
from .._typing import Array, ArrayLike, DTypeLike, Key, Params, Shape, State
from .._unrolls.arguments import draw_noise
from .._unrolls.unroll import unroll
from ..initializers import glorot_uniform

InitAttention: TypeAlias = Callable[[Key, int, int, DTypeLike | None], Params]


class _AttentionFields(NamedTuple):
    init: InitAttention  # (key, query_size, value_size, dtype) -> params
    keys: Callable[[Params, Array], Array]  # (params, values (*B, S, F)) -> (*B, S, A)
    score: Callable[[Params, Array, Array], Array]  # (params, query, keys) -> (*B, S)
    spec: Spec | None = None


class Attention(Described, _AttentionFields):
    """How well each step of a sequence fits a query: three pure functions."""

    __slots__ = ()


class AdditiveParams(NamedTuple):
    """Parameters of :func:`additive`."""

    w_q: Array  # (Q, A)
    w_v: Array  # (F, A)
    b: Array  # (A,)
    v: Array  # (A, 1)


@described_in("seq2seq")
def additive(size: int) -> Attention:
    """A layer of units that sees query and value: ``v . tanh(q W_q + x W_v + b)``.

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
    """Products of the query with projected values: ``q . (x W) / sqrt(Q)``.

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
    """What is looked at; batch dimensions lead, so that it can be part of a state."""

    values: Array  # (*B, S, F)
    keys: Array  # (*B, S, A)
    mask: Array  # bool (*B, S)


def attend(
    attention: Attention, params: Params, query: ArrayLike, memory: Memory
) -> tuple[Array, Array]:
    """Average what is looked at, each step by how well it fits a query.

    Args:
        attention: :func:`additive`, :func:`dot_product`, or your own.
        params: its parameters.
        query: ``(*B, Q)``.
        memory: S steps, S may be 0.

    Returns:
        ``(context, weights)`` of shapes ``(*B, F)`` and ``(*B, S)``. The weights sum to
        1, or are zero for rows without a valid step.
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


class AttendingParams(NamedTuple):
    """Parameters of :func:`attending`."""

    cell: Params
    attention: Params


class AttendingState(NamedTuple):
    """State of :func:`attending`."""

    cell: State
    y: Array  # (*B, O), the cell's last output, which is the next query
    weights: Array  # (*B, S), of the last step
    memory: Memory  # as :func:`remember` gives it


@described_in("seq2seq")
def attending(cell: Cell, memory_size: int, attention: Attention) -> Layer:
    """A layer whose cell sees, beside each input, what it attends to.

    The query is the cell's last output; the context that it finds stands behind the
    input, and behind the output. What is looked at is part of the state: see
    :func:`remember`. Resets renew the state of the cell and leave that.

    Args:
        cell: what runs, from inputs and context ``(*B, I + F)``.
        memory_size: F, the number of features of what is looked at.
        attention: :func:`additive`, :func:`dot_product`, or your own.

    Returns:
        A :class:`Layer` with parameters :class:`AttendingParams`, state
        :class:`AttendingState`, at first with nothing to look at, and outputs
        ``(T, *B, O + F)``.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, ``memory_size`` not an int, or
            ``attention`` no :class:`Attention`.
        ValueError: ``memory_size`` is below 1.

    References:
        Bahdanau, Cho and Bengio, 2015; see :func:`additive`.

    >>> import jaxrnn
    >>> attention = dot_product()
    >>> layer = attending(jaxrnn.gru(5), 3, attention)
    >>> params = layer.init(jax.random.key(0), 2)
    >>> memory = remember(attention, params.attention, jnp.ones((7, 4, 3)))
    >>> state = layer.initial_state(params, (4,))._replace(memory=memory)
    >>> layer.apply(params, jnp.ones((6, 4, 2)), state)[1].shape
    (6, 4, 8)
    """
    check_cell("cell", cell)
    memory_size = check_size("memory_size", memory_size)
    if not isinstance(attention, Attention):
        hint = ": call it, as in additive(64)" if callable(attention) else ""
        raise TypeError(
            f"attention must be an Attention, got {type(attention).__name__}{hint}"
        )

    def init(key, input_size, dtype=None):
        key_cell, key_attention = jax.random.split(key)
        size = check_size("input_size", input_size) + memory_size
        return AttendingParams(
            cell=cell.init(key_cell, size, dtype),
            attention=attention.init(
                key_attention, cell.output_size, memory_size, dtype
            ),
        )

    def initial_state(params, batch_shape=()):
        check_type("params", params, AttendingParams)
        dtype = jax.tree.leaves(params.attention)[0].dtype
        nothing = jnp.zeros((*batch_shape, 0, memory_size), dtype)
        return AttendingState(
            cell=cell.initial_state(params.cell, batch_shape),
            y=jnp.zeros((*batch_shape, cell.output_size), dtype),
            weights=jnp.zeros((*batch_shape, 0), accumulation_dtype(dtype)),
            memory=_memory(attention, params.attention, nothing, None),
        )

    def advance(run, memory, size, params, state, x):
        """One step of the cell ``run``; behind ``size`` inputs there may be noise."""
        state, query, _ = state
        context, weights = attend(attention, params.attention, query, memory)
        seen = [x[..., :size], context.astype(x.dtype), x[..., size:]]
        a_x = run.project(params.cell, jnp.concatenate(seen, axis=-1))
        state, y = run.step(params.cell, state, a_x)
        check_array("outputs of cell", y)
        together = jnp.concatenate([y, context.astype(y.dtype)], axis=-1)
        return (state, y, weights), together

    def with_memory(carried, memory):
        state, y, weights = carried
        return AttendingState(state, y, weights, memory)

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        xs = check_sequence("xs", xs)
        mask = check_flags("mask", mask, xs.shape[:-1])
        resets = check_flags("resets", resets, xs.shape[:-1])
        return run_all(params, xs, state, mask, resets, key)

    @compiled(num_static=0)
    def run_all(params, xs, state, mask, resets, key):
        size, batch = xs.shape[-1], xs.shape[1:-1]
        fresh = initial_state(params, batch)
        state = fresh if state is None else state
        memory = _checked(state.memory, batch, memory_size)
        weights = zeros_like(memory.keys[..., 0]).astype(fresh.weights.dtype)
        run, inputs = draw_noise(cell, params.cell, xs, key)

        def begin(params: Params, batch_shape: Shape = ()) -> State:
            return fresh.cell, fresh.y, weights

        # The memory is not carried by the loop, which would keep it once for each step.
        around = Cell(
            init=init,
            initial_state=begin,
            project=lambda params, xs: xs,
            step=functools.partial(advance, run, memory, size),
            output_size=cell.output_size + memory_size,
        )
        carried = (state.cell, state.y, weights)
        carried, ys = unroll(around, params, inputs, carried, mask=mask, resets=resets)
        return with_memory(carried, memory), ys

    def step(params, state, x):
        x = jnp.asarray(x)
        memory = _checked(state.memory, x.shape[:-1], memory_size)
        carried = (state.cell, state.y, state.weights)
        carried, y = advance(cell, memory, x.shape[-1], params, carried, x)
        return with_memory(carried, memory), y

    return Layer(init, initial_state, apply, step, cell.output_size + memory_size)


def _memory(
    attention: Attention, params: Params, values: Array, mask: Array | None
) -> Memory:
    valid = jnp.ones(values.shape[:-1], bool) if mask is None else mask
    values = select(valid, values, zeros_like(values))
    return Memory(values, attention.keys(params, values), valid)


def remember(
    attention: Attention,
    params: Params,
    ys: ArrayLike,
    mask: ArrayLike | None = None,
) -> Memory:
    """What a layer of :func:`attending` looks at, from the outputs of another.

    Args:
        attention: that of the layer.
        params: of the attention: ``params.attention`` of the layer's.
        ys: ``(S, *B, F)``, time first.
        mask: bool ``(S, *B)``; what is False gets no weight, NaN included.

    Returns:
        A :class:`Memory`, for :class:`AttendingState`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean.
    """
    outputs = check_sequence("ys", ys)
    valid = check_flags("mask", mask, outputs.shape[:-1], "(S, *B)")
    return _memory(
        attention,
        params,
        jnp.moveaxis(outputs, 0, -2),
        None if valid is None else jnp.moveaxis(valid, 0, -1),
    )


def _checked(memory: Any, batch: tuple[int, ...], size: int) -> Memory:
    if not isinstance(memory, Memory):
        raise TypeError(
            f"state.memory must be a Memory, got {type(memory).__name__}: make one "
            "with remember"
        )
    check_features("state.memory.values", memory.values, size, memory.values.dtype)
    if memory.values.shape[:-2] != batch:
        raise ValueError(
            f"state.memory must have the batch dimensions {batch} of the inputs, got "
            f"{memory.values.shape[:-2]}"
        )
    return memory
