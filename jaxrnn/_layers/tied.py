"""An embedding whose table is also the readout."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Layer
from .._checks import check_layer, check_place_flags
from .._descriptions.known import known
from .._descriptions.spec import described
from .._masks import zero_where_masked
from .._numerics.precision import add_bias, dot_transposed
from .._options import check_size, check_type
from .._typing import Array, Params, Shape
from ..initializers import Initializer
from .time_distributed import EmbeddingParams, embedding


class TiedParams(NamedTuple):
    """Parameters of :func:`tied`."""

    table: Array  # (V, O), embedding and readout
    layer: Params
    b: Array  # (V,), of the readout


@known
def _scaled_normal(key, shape, dtype) -> Array:
    scale = jnp.asarray(shape[-1] ** -0.5, dtype)
    return scale * jax.random.normal(key, shape, dtype)


@described
def tied(
    layer: Layer, vocab_size: int, *, table_init: Initializer = _scaled_normal
) -> Layer:
    """Make a language model that shares one table between embedding and readout.

    ``logits = layer(table[xs]) table^T + b``. Two tables would have ``V O`` parameters
    more.

    Args:
        layer: layer that maps vectors of size O to vectors of size O.
        vocab_size: V, number of tokens in the vocabulary.
        table_init: initialiser of the table ``(V, O)``: by default normal with standard
            deviation ``O ** -0.5``, which suits the readout.

    Returns:
        A :class:`Layer` with parameters :class:`TiedParams`, the state of ``layer``,
        integer inputs ``(T, *B)`` and outputs ``(T, *B, V)``, logits. The
        ``input_size`` of its ``init`` is not used: V stands in its place.

    Raises:
        TypeError: ``layer`` is not a :class:`Layer`, ``vocab_size`` is not an int, or,
            when applied, the inputs are not integers.
        ValueError: ``vocab_size`` is below 1.

    References:
        Press and Wolf, Using the output embedding to improve language models, 2017.
        Inan, Khosravi and Socher, Tying word vectors and word classifiers, 2017.

    >>> import jaxrnn
    >>> model = tied(jaxrnn.layer(jaxrnn.lstm(8)), 10)
    >>> params = model.init(jax.random.key(0), 10)
    >>> model.apply(params, jnp.zeros((7, 3), int))[1].shape
    (7, 3, 10)
    """
    check_layer("layer", layer)
    vocab_size = check_size("vocab_size", vocab_size)
    size = layer.output_size
    lookup = embedding(vocab_size, size, table_init=table_init)

    def init(key, input_size, dtype=None):
        key_table, key_layer = jax.random.split(key)
        embedded = lookup.init(key_table, vocab_size, dtype)
        return TiedParams(
            table=embedded.table,
            layer=layer.init(key_layer, size, dtype),
            b=jnp.zeros((vocab_size,), embedded.table.dtype),
        )

    def initial_state(params: TiedParams, batch_shape: Shape = ()):
        check_type("params", params, TiedParams)
        return layer.initial_state(params.layer, batch_shape)

    def readout(params, ys):
        logits = add_bias(dot_transposed(ys, params.table), params.b)
        return logits.astype(params.table.dtype)

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        check_type("params", params, TiedParams)
        _, vectors = lookup.apply(EmbeddingParams(params.table), xs, mask=mask)
        state, ys = layer.apply(
            params.layer, vectors, state, mask=mask, resets=resets, key=key
        )
        logits = readout(params, ys)
        valid = check_place_flags("mask", mask, logits.shape[:-1])
        return state, zero_where_masked(logits, valid)

    def step(params, state, x):
        _, vector = lookup.step(EmbeddingParams(params.table), (), x)
        state, y = layer.step(params.layer, state, vector)
        return state, readout(params, y)

    return Layer(init, initial_state, apply, step, vocab_size)
