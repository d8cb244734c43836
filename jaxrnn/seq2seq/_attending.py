"""A layer whose cell attends to an encoded sequence at every step."""

import functools
from typing import Any, NamedTuple

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
from .._descriptions.spec import described_in
from .._eager import compiled
from .._masks import zero_where_masked
from .._numerics.precision import accumulation_dtype
from .._options import check_size, check_type
from .._tree import zeros_like
from .._typing import Array, ArrayLike, Params, Shape, State
from .._unrolls.arguments import draw_noise
from .._unrolls.unroll import unroll
from ._attention import Attention, Memory, attend


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
    """Make a layer whose cell reads, beside each input, an attention over a memory.

    The query is the last output of the cell. The context that it finds is concatenated
    to the input and to the output of the cell. The memory is part of the state; see
    :func:`remember`. A reset renews the state of the cell and keeps the memory.

    Args:
        cell: cell to run, which reads input and context, ``(*B, I + F)``.
        memory_size: F, number of features of the memory.
        attention: :func:`additive`, :func:`dot_product`, or an :class:`Attention` of
            your own.

    Returns:
        A :class:`Layer` with parameters :class:`AttendingParams`, state
        :class:`AttendingState`, whose memory is empty at first, and outputs
        ``(T, *B, O + F)``.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, ``memory_size`` is not an int, or
            ``attention`` is not an :class:`Attention`.
        ValueError: ``memory_size`` is below 1.

    References:
        Bahdanau, Cho and Bengio, 2015; see :func:`additive`.

    >>> import jaxrnn
    >>> attention = jaxrnn.seq2seq.dot_product()
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
        """Take one step of the cell ``run``; noise may follow the ``size`` inputs."""
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

        # The memory stays out of the loop, which would keep a copy of it for each step.
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
    values = zero_where_masked(values, valid)
    return Memory(values, attention.keys(params, values), valid)


def remember(
    attention: Attention,
    params: Params,
    ys: ArrayLike,
    mask: ArrayLike | None = None,
) -> Memory:
    """Make the memory of a layer of :func:`attending` from the outputs of an encoder.

    Args:
        attention: the attention of the layer.
        params: parameters of the attention, ``params.attention`` of the layer.
        ys: outputs of the encoder ``(S, *B, F)``, time first.
        mask: bool ``(S, *B)``; masked steps get no weight, even if they hold NaN.

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
