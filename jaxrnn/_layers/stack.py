"""Layers one after another."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .._base import Layer
from .._checks import check_array, check_layer
from .._descriptions.spec import described
from .._options import split_key
from .._typing import Array


@described
def stack(*layers: Layer) -> Layer:
    """Compose layers in sequence: the outputs of each are the inputs of the next.

    Parameters and state are tuples with one entry for each layer. Every layer gets mask
    and resets. If all layers can be stepped, the stack can be stepped too.

    Args:
        *layers: at least one layer; the input size of each is the output size of the
            one before it.

    Returns:
        A :class:`Layer`.

    Raises:
        ValueError: there are no layers.
        TypeError: an argument is not a :class:`Layer`, for instance a cell.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> recurrent = jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.layer(jaxrnn.gru(4))
    >>> model = stack(*recurrent, jaxrnn.dense(2))
    >>> params = model.init(jax.random.key(0), 3)
    >>> state, ys = model.apply(params, jnp.ones((7, 3)))
    >>> ys.shape
    (7, 2)
    """
    return _stack(layers, lambda outputs: outputs[-1], layers[-1:])


@described
def skip_stack(*layers: Layer) -> Layer:
    """Compose layers in sequence, and concatenate the outputs of all of them.

    A readout behind it therefore has a direct connection to every layer.

    Args:
        *layers: see :func:`stack`.

    Returns:
        A :class:`Layer` with outputs ``(T, *B, O_1 + O_2 + ...)``.

    Raises:
        ValueError: there are no layers.
        TypeError: an argument is not a :class:`Layer`, for instance a cell.

    References:
        Graves, Generating sequences with recurrent neural networks, 2013.

    >>> import jax, jax.numpy as jnp, jaxrnn
    >>> hidden = skip_stack(*[jaxrnn.layer(jaxrnn.lstm(size)) for size in (5, 4)])
    >>> model = stack(hidden, jaxrnn.dense(2))
    >>> params = model.init(jax.random.key(0), 3)
    >>> params[1].w.shape
    (9, 2)
    """

    def side_by_side(outputs):
        for index, ys in enumerate(outputs):
            check_array(f"outputs of layers[{index}]", ys)
        return jnp.concatenate(outputs, axis=-1)

    return _stack(layers, side_by_side, layers)


def _stack(
    layers: tuple[Layer, ...],
    outputs: Callable[[list[Array]], Array],
    seen: tuple[Layer, ...],
) -> Layer:
    """Compose layers in sequence; ``outputs`` combines the outputs of all layers."""
    if not layers:
        raise ValueError("stack must have at least one layer, got no layers")
    for index, each in enumerate(layers):
        check_layer(f"layers[{index}]", each)

    def init(key, input_size, dtype=None):
        params = []
        keys = split_key(key, len(layers))
        for each, layer_key in zip(layers, keys, strict=True):
            params.append(each.init(layer_key, input_size, dtype))
            input_size = each.output_size
        return tuple(params)

    def initial_state(params, batch_shape=()):
        params = entries("params", params, len(layers))
        return tuple(
            each.initial_state(p, batch_shape)
            for each, p in zip(layers, params, strict=True)
        )

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        keys = [None] * len(layers) if key is None else split_key(key, len(layers))
        states = entries("state", state, len(layers), optional=True)
        params = entries("params", params, len(layers))
        new_states, ys = [], []
        for each, p, s, k in zip(layers, params, states, keys, strict=True):
            new_state, xs = each.apply(p, xs, s, mask=mask, resets=resets, key=k)
            new_states.append(new_state)
            ys.append(xs)
        return tuple(new_states), outputs(ys)

    def step(params, state, x):
        new_states, ys = [], []
        states = entries("state", state, len(layers))
        params = entries("params", params, len(layers))
        for each, p, s in zip(layers, params, states, strict=True):
            new_state, x = each.step(p, s, x)
            new_states.append(new_state)
            ys.append(x)
        return tuple(new_states), outputs(ys)

    output_size = sum(each.output_size for each in seen)
    return Layer(init, initial_state, apply, step, output_size)


def entries(
    name: str, values: Any, count: int, *, optional: bool = False, part: str = "layer"
) -> tuple[Any, ...]:
    """Return ``count`` entries, one for each layer; None means None for each."""
    if optional and values is None:
        return (None,) * count
    if isinstance(values, tuple) and len(values) == count:
        return values
    got = type(values).__name__
    if type(values) in (tuple, list):
        got = f"a {got} with {len(values)}"
    elif hasattr(values, "shape"):
        got = "one array"
    raise ValueError(
        f"{name} must be a tuple with {count} {'entry' if count == 1 else 'entries'}, "
        f"one for each {part}, got {got}"
    )
