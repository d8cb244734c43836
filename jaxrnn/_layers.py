"""Layers: maps from sequences to sequences, and the ways to combine them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._base import Cell, Layer, LayerStepFn, UnrollFn
from ._checks import (
    check_features,
    check_flags,
    check_floating,
    check_integers,
    check_like,
    check_sequence,
    check_size,
)
from ._precision import add_bias, dot, widen
from ._scan import select, zeros_like
from ._typing import Array, Key, Params, State
from ._unroll import unroll
from .initializers import Initializer, glorot_uniform


def layer(cell: Cell, *, reverse: bool = False, unroll_fn: UnrollFn = unroll) -> Layer:
    """A cell, run over the whole sequence.

    Args:
        cell: what to run. Parameters and state of the layer are the cell's.
        reverse: run from the last step to the first; such a layer cannot be stepped.
        unroll_fn: how to run it: :func:`unroll`, :func:`unroll_bptt` or any
            function of that signature.

    Returns:
        A :class:`Layer`.

    >>> import jaxrnn
    >>> model = layer(jaxrnn.gru(5), unroll_fn=jaxrnn.unroll_bptt)
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)))[1].shape
    (7, 3, 5)
    """

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        return unroll_fn(
            cell, params, xs, state, mask=mask, resets=resets, reverse=reverse
        )

    def step(params, state, x):
        x = jnp.asarray(x)
        fresh = cell.initial_state(params, x.shape[:-1])
        a_x = cell.project(params, x)
        return cell.step(params, check_like("state", state, fresh), a_x)

    return Layer(
        init=cell.init,
        initial_state=cell.initial_state,
        apply=apply,
        step=_refuse_step("a reversed layer") if reverse else step,
        output_size=cell.output_size,
    )


def _refuse_step(what: str) -> LayerStepFn:
    def step(params, state, x):
        raise ValueError(
            f"layer must be causal to be stepped, got {what}: its output at a step "
            "depends on later inputs; call apply with the whole sequence"
        )

    return step


def stack(*layers: Layer) -> Layer:
    """Layers one after another, of any kinds and widths.

    Parameters and state are tuples with one entry a layer. Mask and resets go to
    every layer. If all layers can be stepped, so can the stack.

    Args:
        *layers: at least one layer; the input size of each is the output size of the
            one before it.

    Returns:
        A :class:`Layer`.

    Raises:
        ValueError: no layers.
        TypeError: an argument is not a :class:`Layer`, for instance a cell.

    >>> import jaxrnn
    >>> model = stack(layer(jaxrnn.lstm(5)), layer(jaxrnn.gru(4)), dense(2))
    >>> params = model.init(jax.random.key(0), 3)
    >>> state, ys = model.apply(params, jnp.ones((7, 3)))
    >>> ys.shape
    (7, 2)
    """
    if not layers:
        raise ValueError("stack must have at least one layer, got none")
    for index, each in enumerate(layers):
        if not isinstance(each, Layer):
            hint = ": wrap it in jaxrnn.layer" if isinstance(each, Cell) else ""
            raise TypeError(
                f"layers[{index}] must be a Layer, got {type(each).__name__}{hint}"
            )

    def init(key, input_size, dtype=None):
        params = []
        keys = jax.random.split(key, len(layers))
        for each, layer_key in zip(layers, keys, strict=True):
            params.append(each.init(layer_key, input_size, dtype))
            input_size = each.output_size
        return tuple(params)

    def initial_state(params, batch_shape=()):
        return tuple(
            each.initial_state(p, batch_shape)
            for each, p in zip(layers, params, strict=True)
        )

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        keys = (
            [None] * len(layers) if key is None else jax.random.split(key, len(layers))
        )
        states = _entries(state, len(layers))
        new_states = []
        for each, p, s, k in zip(layers, params, states, keys, strict=True):
            new_state, xs = each.apply(p, xs, s, mask=mask, resets=resets, key=k)
            new_states.append(new_state)
        return tuple(new_states), xs

    def step(params, state, x):
        new_states = []
        states = _entries(state, len(layers))
        for each, p, s in zip(layers, params, states, strict=True):
            new_state, x = each.step(p, s, x)
            new_states.append(new_state)
        return tuple(new_states), x

    return Layer(init, initial_state, apply, step, layers[-1].output_size)


def _entries(state: State | None, count: int) -> tuple[State | None, ...]:
    """The states of ``count`` layers: those of a tuple, or None for each."""
    if state is None:
        return (None,) * count
    if isinstance(state, tuple) and len(state) == count:
        return state
    raise ValueError(
        f"state must be a tuple with {count} entries, one for each layer, got "
        f"{jax.tree.structure(state)}"
    )


class BidirectionalParams(NamedTuple):
    """Parameters of :func:`bidirectional`, one entry for each direction."""

    forward: Params
    backward: Params


class BidirectionalState(NamedTuple):
    """State of :func:`bidirectional`, one entry for each direction."""

    forward: State
    backward: State


def bidirectional(
    forward: Cell, backward: Cell, *, unroll_fn: UnrollFn = unroll
) -> Layer:
    """Two cells, one in each direction of time; outputs are concatenated.

    Padding needs no reversal: with a mask, the reversed direction waits through it.

    Args:
        forward: cell that runs from the first step to the last.
        backward: cell that runs from the last step to the first.
        unroll_fn: how to run them, see :func:`layer`.

    Returns:
        A :class:`Layer` with outputs ``(T, *B, O_forward + O_backward)``, each at its
        own time. Its ``step`` raises ValueError: it would need the future.

    References:
        Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    >>> import jaxrnn
    >>> model = bidirectional(jaxrnn.gru(5), jaxrnn.gru(4))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)))[1].shape
    (7, 3, 9)
    """
    directions = (
        layer(forward, unroll_fn=unroll_fn),
        layer(backward, reverse=True, unroll_fn=unroll_fn),
    )

    def init(key, input_size, dtype=None):
        keys = jax.random.split(key)
        return BidirectionalParams(
            *(
                each.init(k, input_size, dtype)
                for each, k in zip(directions, keys, strict=True)
            )
        )

    def initial_state(params, batch_shape=()):
        return BidirectionalState(
            *(
                each.initial_state(p, batch_shape)
                for each, p in zip(directions, params, strict=True)
            )
        )

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        states = _entries(state, 2)
        results = [
            each.apply(p, xs, s, mask=mask, resets=resets)
            for each, p, s in zip(directions, params, states, strict=True)
        ]
        new_states, ys = zip(*results, strict=True)
        return BidirectionalState(*new_states), jnp.concatenate(ys, axis=-1)

    return Layer(
        init=init,
        initial_state=initial_state,
        apply=apply,
        step=_refuse_step("a bidirectional layer"),
        output_size=forward.output_size + backward.output_size,
    )


def _time_distributed(init, transform, check, output_size: int) -> Layer:
    """A layer without state: ``transform(params, xs)`` acts on each step alone.

    ``check(params, xs)`` returns the inputs as an array, and the shape of its steps.
    """

    def initial_state(params, batch_shape=()):
        return ()

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        xs, steps = check(params, xs)
        mask = check_flags("mask", mask, steps)
        check_flags("resets", resets, steps)
        if state is not None:
            check_like("state", state, ())
        if mask is None:
            return (), transform(params, xs)
        ys = transform(params, select(mask, xs, zeros_like(xs)))
        return (), select(mask, ys, zeros_like(ys))

    def step(params, state, x):
        check_like("state", state, ())
        return (), transform(params, jnp.asarray(x))

    return Layer(init, initial_state, apply, step, output_size)


class DenseParams(NamedTuple):
    """Parameters of :func:`dense`."""

    w: Array  # (I, O)
    b: Array  # (O,)


def _identity(x: Array) -> Array:
    return x


def dense(
    size: int,
    *,
    activation: Callable[[Array], Array] = _identity,
    w_init: Initializer = glorot_uniform,
) -> Layer:
    """The same affine map and activation at every step: ``y = activation(x W + b)``.

    Args:
        size: O, the output size.
        activation: for instance ``jax.nn.softmax`` or ``jax.nn.sigmoid``. Leave it
            out before a loss of :mod:`jaxrnn.losses`, which take logits.
        w_init: initialiser of ``w (I, O)``; the bias is zero.

    Returns:
        A :class:`Layer` without state, with parameters :class:`DenseParams`.

    Raises:
        ValueError: ``size`` is below 1.
        TypeError: ``size`` is not an int.

    >>> model = dense(2, activation=jax.nn.softmax)
    >>> params = model.init(jax.random.key(0), 3)
    >>> model.apply(params, jnp.ones((7, 4, 3)))[1].sum(-1).shape
    (7, 4)
    """
    size = check_size("size", size)

    def init(key, input_size, dtype=None):
        input_size = check_size("input_size", input_size)
        float_dtype = check_floating("dtype", dtype)
        w = w_init(key, (input_size, size), float_dtype)
        return DenseParams(w=w, b=jnp.zeros((size,), float_dtype))

    def transform(params, xs):
        check_features("xs", xs, params.w.shape[0], params.w.dtype)
        ys = activation(add_bias(dot(xs, params.w), params.b))
        return ys.astype(params.w.dtype)

    def check(params, xs):
        xs = check_sequence("xs", xs)
        return xs, xs.shape[:-1]

    return _time_distributed(init, transform, check, size)


class EmbeddingParams(NamedTuple):
    """Parameters of :func:`embedding`."""

    table: Array  # (V, O)


def _normal(key: Key, shape, dtype) -> Array:
    return jax.random.normal(key, shape, dtype)


def embedding(
    vocab_size: int, size: int, *, table_init: Initializer = _normal
) -> Layer:
    """A learned vector for each symbol.

    Inputs are integers ``(T, *B)``, with no feature axis; outputs ``(T, *B, O)``.
    A symbol that is not in ``[0, V)`` gives NaN, not a neighbour's vector.

    Args:
        vocab_size: V, number of symbols.
        size: O, length of the vectors.
        table_init: initialiser of the table ``(V, O)``, standard normal by default.

    Returns:
        A :class:`Layer` without state, with parameters :class:`EmbeddingParams`. The
        ``input_size`` of its ``init`` is not used: V stands in its place.

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int; when applied, the inputs are not integers.

    >>> import jaxrnn
    >>> model = stack(embedding(10, 4), layer(jaxrnn.gru(5)), dense(10))
    >>> params = model.init(jax.random.key(0), 10)
    >>> model.apply(params, jnp.zeros((7, 3), int))[1].shape
    (7, 3, 10)
    """
    vocab_size = check_size("vocab_size", vocab_size)
    size = check_size("size", size)

    def init(key, input_size, dtype=None):
        shape = (vocab_size, size)
        return EmbeddingParams(table_init(key, shape, check_floating("dtype", dtype)))

    def transform(params, tokens):
        tokens = check_integers("xs", tokens)
        known = (tokens >= 0) & (tokens < vocab_size)
        vectors = widen(params).table[jnp.where(known, tokens, 0)]
        vectors = select(known, vectors, jnp.full_like(vectors, jnp.nan))
        return vectors.astype(params.table.dtype)

    def check(params, tokens):
        tokens = check_integers("xs", tokens)
        if tokens.ndim < 1:
            raise ValueError(f"xs must have shape (T, *B), got shape {tokens.shape}")
        return tokens, tokens.shape

    return _time_distributed(init, transform, check, size)
