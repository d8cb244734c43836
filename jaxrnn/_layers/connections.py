"""Connections around a layer: residual and highway."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Layer
from .._checks import (
    check_array,
    check_features,
    check_floating,
    check_layer,
)
from .._descriptions.spec import described
from .._masks import checked_and_masked
from .._numerics.precision import add_bias, dot
from .._options import check_size, check_type
from .._typing import Array, Params, Shape
from ..initializers import Initializer, drawn, glorot_uniform


def _check_input_size(input_size: int, layer: Layer) -> int:
    size = check_size("input_size", input_size)
    if size != layer.output_size:
        raise ValueError(
            f"input_size must be the output size {layer.output_size} of the layer, as "
            f"inputs and outputs are combined, got {size}"
        )
    return size


@described
def residual(layer: Layer) -> Layer:
    """Add the inputs of a layer to its outputs: ``y = x + layer(x)``.

    Args:
        layer: layer to wrap, of equal input and output sizes. Parameters and state stay
            the same.

    Returns:
        A :class:`Layer`.

    Raises:
        TypeError: ``layer`` is not a :class:`Layer`.
        ValueError: from ``init`` or ``apply``, if the sizes differ.

    References:
        He et al., Deep residual learning for image recognition, 2016. In recurrent
        stacks: Wu et al., Google's neural machine translation system, 2016.

    >>> import jaxrnn
    >>> model = residual(jaxrnn.layer(jaxrnn.gru(5)))
    >>> params = model.init(jax.random.key(0), 5)
    >>> model.apply(params, jnp.ones((7, 3, 5)))[1].shape
    (7, 3, 5)
    """
    check_layer("layer", layer)

    def init(key, input_size, dtype=None):
        return layer.init(key, _check_input_size(input_size, layer), dtype)

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        inputs = checked_and_masked("xs", xs, mask)[0]
        state, ys = layer.apply(
            params, inputs, state, mask=mask, resets=resets, key=key
        )
        ys = check_array("outputs of layer", ys)
        check_features("xs", inputs, layer.output_size, ys.dtype)
        return state, inputs + ys

    def step(params, state, x):
        x = jnp.asarray(x)
        state, y = layer.step(params, state, x)
        y = check_array("outputs of layer", y)
        check_features("x", x, layer.output_size, y.dtype)
        return state, x + y

    return Layer(init, layer.initial_state, apply, step, layer.output_size)


class HighwayParams(NamedTuple):
    """Parameters of :func:`highway`."""

    layer: Params
    w: Array  # (O, O), of the transform gate
    b: Array  # (O,)


@described
def highway(
    layer: Layer, *, gate_bias: float = -1.0, w_init: Initializer = glorot_uniform
) -> Layer:
    """Mix the inputs and the outputs of a layer by a learned gate.

    ``y = t layer(x) + (1 - t) x`` with ``t = sigmoid(x W + b)``.

    Args:
        layer: layer to wrap, of equal input and output sizes. The state stays the same.
        gate_bias: initial ``b``; a negative value favours the inputs at first.
        w_init: initialiser of ``W (O, O)``.

    Returns:
        A :class:`Layer` with parameters :class:`HighwayParams`.

    Raises:
        TypeError: ``layer`` is not a :class:`Layer`.
        ValueError: from ``init`` or ``apply``, if the sizes differ.

    References:
        Srivastava, Greff and Schmidhuber, Training very deep networks, 2015.

    >>> import jaxrnn
    >>> model = highway(jaxrnn.layer(jaxrnn.gru(5)))
    >>> params = model.init(jax.random.key(0), 5)
    >>> model.apply(params, jnp.ones((7, 3, 5)))[1].shape
    (7, 3, 5)
    """
    check_layer("layer", layer)

    def init(key, input_size, dtype=None):
        size = _check_input_size(input_size, layer)
        key_layer, key_gate = jax.random.split(key)
        params = layer.init(key_layer, size, dtype)
        w = drawn(
            "w_init", w_init, key_gate, (size, size), check_floating("dtype", dtype)
        )
        return HighwayParams(params, w, jnp.full((size,), gate_bias, w.dtype))

    def initial_state(params: HighwayParams, batch_shape: Shape = ()):
        check_type("params", params, HighwayParams)
        return layer.initial_state(params.layer, batch_shape)

    def mix(params, x, y):
        check_array("outputs of layer", y)
        check_features("xs", x, params.w.shape[0], params.w.dtype)
        gate = jax.nn.sigmoid(add_bias(dot(x, params.w), params.b)).astype(y.dtype)
        return gate * y + (1 - gate) * x

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        check_type("params", params, HighwayParams)
        inputs = checked_and_masked("xs", xs, mask)[0]
        state, ys = layer.apply(
            params.layer, inputs, state, mask=mask, resets=resets, key=key
        )
        return state, mix(params, inputs, ys)

    def step(params, state, x):
        x = jnp.asarray(x)
        state, y = layer.step(params.layer, state, x)
        return state, mix(params, x, y)

    return Layer(init, initial_state, apply, step, layer.output_size)
