"""Layers without state, which apply the same function at every step."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import InitFn, Layer
from .._checks import (
    check_activation,
    check_features,
    check_floating,
    check_integers,
    check_like,
    check_place_flags,
    check_sequence,
)
from .._descriptions.known import known
from .._descriptions.spec import described
from .._masks import zero_where_masked
from .._numerics.int8 import dequantized
from .._numerics.normalized import normalized
from .._numerics.placement import placement_of
from .._numerics.precision import accumulation_dtype, add_bias, dot, scaled, widen
from .._options import check_positive, check_size
from .._params import check_params, template_of
from .._typing import Array, ArrayLike, Key, Params, Shape
from ..initializers import Initializer, drawn, glorot_uniform


def _time_distributed(
    init: InitFn,
    transform: Callable[[Params, Array], Array],
    check: Callable[[ArrayLike], tuple[Array, Shape]],
    output_size: int,
    *,
    owner: str,
    sizes: tuple[int, int] = (1, 2),
) -> Layer:
    """Make a layer without state of a function ``transform(params, xs)`` of each step.

    ``check(xs)`` returns the inputs as an array, and the shape ``(T, *B)`` of steps.
    ``owner`` names the layer in messages; ``sizes`` are two sizes of inputs, for
    :func:`template_of`.
    """

    @functools.cache
    def template():
        return template_of(init, sizes)

    def initial_state(params, batch_shape=()):
        return ()

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        check_params(owner, template(), params)
        inputs, steps = check(xs)
        mask = check_place_flags("mask", mask, steps)
        check_place_flags("resets", resets, steps)
        if state is not None:
            check_like("state", state, ())
        if mask is None:
            return (), transform(params, inputs)
        ys = transform(params, zero_where_masked(inputs, mask))
        return (), zero_where_masked(ys, mask)

    def step(params, state, x):
        check_params(owner, template(), params)
        check_like("state", state, ())
        return (), transform(params, jnp.asarray(x))

    return Layer(init, initial_state, apply, step, output_size)


class DenseParams(NamedTuple):
    """Parameters of :func:`dense`."""

    w: Array  # (I, O)
    b: Array  # (O,)


@known
def _identity(x: Array) -> Array:
    return x


@described
def dense(
    size: int,
    *,
    activation: Callable[[Array], Array] = _identity,
    w_init: Initializer = glorot_uniform,
) -> Layer:
    """Dense layer at every step: ``y = activation(x W + b)``.

    Args:
        size: O, the output size.
        activation: function of arrays, for instance ``jax.nn.sigmoid``; the identity by
            default. Use the default before a loss of :mod:`jaxrnn.losses`, which takes
            logits. Its derivative must be finite at ``b``, its input at masked steps.
        w_init: initialiser of ``w (I, O)``; the bias is zero.

    Returns:
        A :class:`Layer` without state, with parameters :class:`DenseParams`.

    Raises:
        ValueError: ``size`` is below 1.
        TypeError: ``size`` is not an int, or ``activation`` is not callable.

    >>> model = dense(2, activation=jax.nn.softmax)
    >>> params = model.init(jax.random.key(0), 3)
    >>> model.apply(params, jnp.ones((7, 4, 3)))[1].sum(-1).shape
    (7, 4)
    """
    size = check_size("size", size)
    check_activation("activation", activation)

    def init(key, input_size, dtype=None):
        input_size = check_size("input_size", input_size)
        float_dtype = check_floating("dtype", dtype)
        w = drawn("w_init", w_init, key, (input_size, size), float_dtype)
        return DenseParams(w=w, b=jnp.zeros((size,), float_dtype))

    def transform(params, xs):
        check_features("xs", xs, params.w.shape[0], params.w.dtype)
        ys = activation(add_bias(dot(xs, params.w), params.b))
        return ys.astype(params.w.dtype)

    def check(xs):
        inputs = check_sequence("xs", xs)
        return inputs, inputs.shape[:-1]

    owner = f"jaxrnn.dense({size})"
    return _time_distributed(init, transform, check, size, owner=owner)


class LayerNormParams(NamedTuple):
    """Parameters of :func:`layer_norm`."""

    scale: Array  # (I,)
    b: Array  # (I,)


@described
def layer_norm(size: int, *, epsilon: float = 1e-5) -> Layer:
    """Layer normalisation of the features of each step.

    ``y = scale * (x - mean) / sqrt(variance + epsilon) + b``, with mean and variance
    over the features of one step of one batch entry. No other step is needed, so
    streaming gives the same result.

    Args:
        size: I, the number of features, which is also the output size.
        epsilon: number above 0 that is added to the variance.

    Returns:
        A :class:`Layer` without state, with parameters :class:`LayerNormParams`, which
        are ones and zeros at first.

    Raises:
        ValueError: ``size`` is below 1, or is not the input size.
        TypeError: ``size`` is not an int.

    References:
        Ba, Kiros and Hinton, Layer normalization, 2016.

    >>> import jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.gru(5)), layer_norm(5), dense(2))
    >>> params = model.init(jax.random.key(0), 3)
    >>> model.apply(params, jnp.ones((7, 4, 3)))[1].shape
    (7, 4, 2)
    """
    size = check_size("size", size)
    epsilon = check_positive("epsilon", epsilon)

    def init(key, input_size, dtype=None):
        if check_size("input_size", input_size) != size:
            raise ValueError(
                f"input_size must be size, the number of features, {size}, got "
                f"{input_size}"
            )
        float_dtype = check_floating("dtype", dtype)
        return LayerNormParams(
            scale=jnp.ones((size,), float_dtype), b=jnp.zeros((size,), float_dtype)
        )

    def transform(params, xs):
        check_features("xs", xs, params.scale.shape[0], params.scale.dtype)
        normal, _ = normalized(xs.astype(accumulation_dtype(xs.dtype)), epsilon)
        ys = add_bias(scaled(normal, params.scale), params.b)
        return ys.astype(params.scale.dtype)

    def check(xs):
        inputs = check_sequence("xs", xs)
        return inputs, inputs.shape[:-1]

    owner = f"jaxrnn.layer_norm({size})"
    sizes = (size, size)
    return _time_distributed(init, transform, check, size, owner=owner, sizes=sizes)


class EmbeddingParams(NamedTuple):
    """Parameters of :func:`embedding`."""

    table: Array  # (V, O)


@known
def _normal(key: Key, shape, dtype) -> Array:
    return jax.random.normal(key, shape, dtype)


@described
def embedding(
    vocab_size: int, size: int, *, table_init: Initializer = _normal
) -> Layer:
    """Look up a learned vector for each token id.

    Inputs are integers ``(T, *B)``, with no feature axis; outputs ``(T, *B, O)``.
    A token id outside ``[0, V)`` gives NaN instead of another token's vector.

    Args:
        vocab_size: V, number of tokens in the vocabulary.
        size: O, length of the vectors.
        table_init: initialiser of the table ``(V, O)``, standard normal by default.

    Returns:
        A :class:`Layer` without state, with parameters :class:`EmbeddingParams`. The
        ``input_size`` of its ``init`` is not used; V takes its place.

    Raises:
        ValueError: a size is below 1.
        TypeError: a size is not an int, or, when applied, the inputs are not integers.

    >>> import jaxrnn
    >>> recurrent = jaxrnn.layer(jaxrnn.gru(5))
    >>> model = jaxrnn.stack(embedding(10, 4), recurrent, dense(10))
    >>> params = model.init(jax.random.key(0), 10)
    >>> model.apply(params, jnp.zeros((7, 3), int))[1].shape
    (7, 3, 10)
    """
    vocab_size = check_size("vocab_size", vocab_size)
    size = check_size("size", size)

    def init(key, input_size, dtype=None):
        float_dtype = check_floating("dtype", dtype)
        shape = (vocab_size, size)
        return EmbeddingParams(drawn("table_init", table_init, key, shape, float_dtype))

    def transform(params, tokens):
        tokens = check_integers("xs", tokens)
        known = (tokens >= 0) & (tokens < vocab_size)
        index = jnp.where(known, tokens, 0)
        sharding = placement_of(tokens, 1)
        vectors = dequantized(
            jax.tree.map(  # a table of 8 bits has two arrays with a row for each token
                lambda leaf: leaf.at[index].get(out_sharding=sharding),
                widen(params).table,
            )
        )
        # An array of NaN, made to choose from, would stop jax_debug_nans.
        vectors = jnp.where(known[..., None], vectors, jnp.nan)
        return vectors.astype(params.table.dtype)

    def check(tokens):
        tokens = check_integers("xs", tokens)
        if tokens.ndim < 1:
            raise ValueError(f"xs must have shape (T, *B), got shape {tokens.shape}")
        return tokens, tokens.shape

    owner = f"jaxrnn.embedding({vocab_size}, {size})"
    return _time_distributed(init, transform, check, size, owner=owner)
