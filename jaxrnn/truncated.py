"""Truncated backpropagation through time over a long stream.

A stream is cut into windows of k1 steps. Each update minimises the loss of one window,
and its gradient flows back k2 steps from the end of it, k2 - k1 of them before the
window begins; there it is cut. The state is carried on, across windows and batches,
until a reset renews it. (Williams and Peng, An efficient gradient-based algorithm for
on-line training of recurrent network trajectories, 1990; Sutskever, Training recurrent
neural networks, 2013.)

>>> import jax, jax.numpy as jnp, jaxrnn, optax
>>> tokens = jnp.arange(1000) % 7
>>> model = jaxrnn.stack(
...     jaxrnn.embedding(7, 4), jaxrnn.layer(jaxrnn.gru(8)), jaxrnn.dense(7)
... )
>>> def loss_fn(logits, window):
...     return jaxrnn.losses.softmax_cross_entropy(logits, window.targets)
>>> windows = list(contiguous_windows(tokens[:-1], tokens[1:], batch_size=4, k1=10))
>>> optimizer = optax.sgd(0.1)
>>> params = model.init(jax.random.key(0), 7)
>>> state = init(model, params, optimizer, jax.random.key(1), windows[0], k2=15)
>>> update = make_update(model, loss_fn, optimizer)
>>> result = jaxrnn.train.fit(update, state, windows)
>>> int(result.state.step)
24
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ._base import Layer
from ._checks import check_flags, check_layer
from ._options import check_size, check_type
from ._typing import Array, ArrayLike, Key, Params, State
from .train import _update
from .train._update import Metrics, check_optimizer, loss_and_metrics, update_by

__all__ = [
    "Carried",
    "TruncatedState",
    "Window",
    "contiguous_windows",
    "init",
    "make_update",
]


class Window(NamedTuple):
    """Window of k1 consecutive steps of every row of a stream."""

    xs: Array  # (k1, *B, I), or (k1, *B) for tokens
    targets: Any  # whatever the loss takes
    resets: Array  # bool (k1, *B)
    mask: Array | None = None  # bool (k1, *B)


class Carried(NamedTuple):
    """State and past steps that one window passes to the next."""

    state: State  # before the earliest step that a gradient reaches
    xs: Array  # (k2 - k1, *B, I), the inputs of the steps from there to the window
    resets: Array  # bool (k2 - k1, *B)
    mask: Array  # bool (k2 - k1, *B), False before the stream begins


class TruncatedState(NamedTuple):
    """State of a truncated training run: everything that an update changes."""

    params: Params
    opt_state: optax.OptState
    step: Array  # int32, number of updates made
    key: Key  # renewed by every update
    carried: Carried


def init(
    layer: Layer,
    params: Params,
    optimizer: optax.GradientTransformation,
    key: Key,
    window: Window,
    *,
    k2: int | None = None,
) -> TruncatedState:
    """Make the state before the first update.

    Args:
        layer: layer to train; it must be causal.
        params: initial parameters of the layer. They are copied.
        optimizer: any Optax transformation.
        key: a ``jax.random`` key; every update gets a key derived from it.
        window: the first window, or one of its shape; its values are not used.
        k2: number of steps that a gradient flows back from the end of a window; None
            uses k1, the steps of the window.

    Returns:
        A :class:`TruncatedState` at step 0, with the layer's initial state.

    Raises:
        TypeError: ``layer`` is not a :class:`~jaxrnn.Layer`, or ``k2`` is not an int.
        ValueError: ``k2`` is below k1, or the layer depends on later inputs.
    """
    check_layer("layer", layer)
    check_optimizer(optimizer)
    check_type("window", window, Window)
    k1, *batch = window.resets.shape
    k2 = check_size("k2", k1 if k2 is None else k2)
    if k2 < k1:
        raise ValueError(
            f"k2 must be at least k1 = {k1}, the steps of a window, got {k2}: "
            "gradients must reach all steps of the window"
        )
    before = k2 - k1
    initial = layer.initial_state(params, tuple(batch))
    jax.eval_shape(layer.step, params, initial, window.xs[0])  # it must be causal
    carried = Carried(
        state=initial,
        xs=jnp.zeros((before, *window.xs.shape[1:]), jnp.asarray(window.xs).dtype),
        resets=jnp.zeros((before, *batch), bool),
        mask=jnp.zeros((before, *batch), bool),
    )
    state = _update.init(params, optimizer, key)
    return TruncatedState(*state, carried=_update.copy(carried))


def make_update(
    layer: Layer,
    loss_fn: Callable[[Array, Window], Array | tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
) -> Callable[[TruncatedState, Window], tuple[TruncatedState, Metrics]]:
    """Make the jitted function of one training step on a window.

    Use it with :func:`jaxrnn.train.fit`, or in a loop of your own; it donates its
    state. As with :func:`jaxrnn.train.make_update`, a step whose loss or gradient is
    not finite changes nothing, including the carried state.

    Args:
        layer: layer to train; it must be causal.
        loss_fn: function ``(ys, window) -> loss`` or ``-> (loss, metrics)`` of the
            outputs ``ys`` at the steps of the window.
        optimizer: any Optax transformation.

    Returns:
        ``update(state, window) -> (state, metrics)``.

    Raises:
        TypeError: ``layer`` is not a :class:`~jaxrnn.Layer`, or, while tracing,
            ``loss_fn`` does not return a scalar.
        ValueError: while tracing, a window does not fit the state.
    """
    check_layer("layer", layer)

    def evaluate(params, state, batch, key):
        window, carried = batch, state.carried
        k1, keys = len(window.resets), jax.random.split(key)
        xs, resets, mask = _with_overlap(carried, window)

        def run(state, steps, key):
            valid = None if mask is None else mask[steps]
            return layer.apply(
                params, xs[steps], state, mask=valid, resets=resets[steps], key=key
            )

        middle, ys = run(carried.state, slice(None, k1), keys[0])
        if len(resets) > k1:
            _, later = run(middle, slice(k1, None), keys[1])
            ys = jax.tree.map(lambda *parts: jnp.concatenate(parts)[-k1:], ys, later)
        loss, metrics = loss_and_metrics(loss_fn(ys, window))
        new = Carried(
            state=middle,
            xs=xs[k1:],
            resets=resets[k1:],
            mask=carried.mask if mask is None else mask[k1:],
        )
        return loss, (metrics, {"carried": jax.lax.stop_gradient(new)})

    return update_by(evaluate, optimizer)


def _with_overlap(
    carried: Carried, window: Window
) -> tuple[Array, Array, Array | None]:
    """Join a window with the past steps that its gradient reaches."""
    shape = (len(window.xs), *carried.resets.shape[1:])
    check_flags("window.resets", window.resets, shape, "(k1, *B)")
    mask = check_flags("window.mask", window.mask, shape, "(k1, *B)")
    if window.xs.shape[1:] != carried.xs.shape[1:]:
        raise ValueError(
            f"window.xs must have shape (k1, *{carried.xs.shape[1:]}), like the window "
            f"given to init, got shape {window.xs.shape}"
        )
    xs = jnp.concatenate([carried.xs, window.xs])
    if len(carried.mask):
        own = jnp.ones(shape, bool) if mask is None else mask
        mask = jnp.concatenate([carried.mask, own])
    return xs, jnp.concatenate([carried.resets, window.resets]), mask


def contiguous_windows(
    xs: ArrayLike,
    targets: Any,
    *,
    batch_size: int,
    k1: int,
    resets: ArrayLike | None = None,
) -> Iterator[Window]:
    """Cut one long stream into parallel rows, and yield them window by window.

    Each row holds one contiguous part of the stream, and consecutive windows continue
    it: the final state of a window is the initial state of the next.

    Args:
        xs: the stream ``(N, ...)``: token ids ``(N,)`` or features ``(N, I)``.
        targets: pytree of arrays ``(N, ...)``; in language modelling, the stream one
            step later.
        batch_size: B, number of rows.
        k1: number of steps of a window.
        resets: bool ``(N,)``, True at the first step of each document. None means that
            the stream is one document. The start of a row is always a reset.

    Returns:
        An iterator over :class:`Window` with arrays ``(k1, B, ...)``. Steps at the end
        that do not fill a row (fewer than B) or a window (fewer than k1 of each row)
        are left out.

    Raises:
        ValueError: the stream is too short for one window, or lengths differ.
        TypeError: a size is not an int, or ``resets`` is not boolean.

    >>> first, second = contiguous_windows(
    ...     np.arange(12), np.arange(1, 13), batch_size=2, k1=3
    ... )
    >>> first.xs.T.tolist(), second.xs.T.tolist()
    ([[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]])
    """
    batch_size, k1 = check_size("batch_size", batch_size), check_size("k1", k1)
    stream = np.asarray(xs)
    starts = check_flags("resets", resets, stream.shape[:1], "(N,)")
    starts = np.zeros(stream.shape[:1], bool) if starts is None else np.array(starts)
    for leaf in jax.tree.leaves(targets):
        if np.shape(leaf)[:1] != stream.shape[:1]:
            raise ValueError(
                f"targets must have {len(stream)} steps, as xs has, got shape "
                f"{np.shape(leaf)}"
            )
    length = len(stream) // batch_size
    if length < k1:
        raise ValueError(
            f"xs must have at least batch_size * k1 = {batch_size * k1} steps, got "
            f"{len(stream)}"
        )

    def side_by_side(leaf: ArrayLike) -> np.ndarray:
        leaf = np.asarray(leaf)[: batch_size * length]
        return leaf.reshape(batch_size, length, *leaf.shape[1:]).swapaxes(0, 1)

    rows = jax.tree.map(side_by_side, (stream, targets, starts))
    rows[2][0] = True
    return _windows(rows, k1)


def _windows(rows: Any, k1: int) -> Iterator[Window]:
    for start in range(0, len(rows[0]) - k1 + 1, k1):
        steps = slice(start, start + k1)
        yield Window(*jax.tree.map(operator.itemgetter(steps), rows))
