"""Dropout of the inputs, outputs or recurrent weights of a layer.

Both draw when ``apply`` gets a ``key``; without one, and while streaming, they
evaluate. All is drawn before the loop over time, so that any cell and any unroll goes
with it.
"""

import jax
import jax.numpy as jnp

from .._base import Layer
from .._checks import check_array, check_layer, leaf_name
from .._descriptions.spec import described
from .._options import check_bool, check_names, check_rate, split_key
from .._typing import Array, Key, Params


def _drop(key: Key, values: Array, rate: float, axis: int | None = None) -> Array:
    """Zero a fraction of the entries and scale the others up.

    Along ``axis`` all entries share one draw.
    """
    if not rate:
        return values
    shape = list(values.shape)
    if axis is not None:
        shape[axis] = 1
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    scaled = values * jnp.asarray(1 / (1 - rate), values.dtype)
    return jnp.where(keep, scaled, jnp.zeros_like(values))


@described
def dropout(
    layer: Layer,
    rate: float = 0.0,
    *,
    input_rate: float = 0.0,
    variational: bool = False,
) -> Layer:
    """Drop random entries of the outputs, or inputs, of a layer in training.

    Kept entries are scaled by ``1 / (1 - rate)``, so that expectations stay the same.
    With ``variational=True`` all steps of a sequence share one mask. A run in chunks
    draws a mask for each chunk, unless the chunks get the same key.

    Args:
        layer: layer to wrap. Parameters and state stay the same.
        rate: probability that an entry of the outputs becomes zero.
        input_rate: probability that an entry of the inputs becomes zero; the inputs
            must then be floating.
        variational: if True, all steps of a sequence share one mask.

    Returns:
        A :class:`Layer`. Its ``apply`` drops entries if it gets a ``key``, and
        evaluates without a key; its ``step`` always evaluates. The inner layer draws
        from the same key.

    Raises:
        TypeError: ``layer`` is not a :class:`Layer`, a rate is not a number, or, when
            applied, inputs to be dropped are integers.
        ValueError: a rate is not in [0, 1).

    Differs from torch, whose stacked LSTM drops only between its layers: here the
    outputs of the last layer are dropped too, if it is wrapped.

    References:
        Srivastava et al., Dropout, 2014. Variational: Gal and Ghahramani, A
        theoretically grounded application of dropout in recurrent neural networks,
        2016.

    >>> import jaxrnn
    >>> model = dropout(jaxrnn.layer(jaxrnn.gru(5)), 0.5)
    >>> params = model.init(jax.random.key(0), 2)
    >>> _, ys = model.apply(params, jnp.ones((7, 3, 2)), key=jax.random.key(1))
    >>> _, evaluated = model.apply(params, jnp.ones((7, 3, 2)))
    >>> bool((ys == 0).any()), bool((evaluated == 0).any())
    (True, False)
    """
    check_layer("layer", layer)
    rate = check_rate("rate", rate)
    input_rate = check_rate("input_rate", input_rate)
    time = 0 if check_bool("variational", variational) else None

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        if key is None:
            return layer.apply(params, xs, state, mask=mask, resets=resets)
        key_in, key_layer, key_out = split_key(key, 3)
        if input_rate:
            xs = jnp.asarray(xs)
            if not jnp.issubdtype(xs.dtype, jnp.floating):
                raise TypeError(
                    f"xs must be floating for input_rate, got dtype {xs.dtype.name}: "
                    "to drop features of tokens, wrap the embedding with rate"
                )
            xs = _drop(key_in, xs, input_rate, time)
        state, ys = layer.apply(
            params, xs, state, mask=mask, resets=resets, key=key_layer
        )
        return state, _drop(key_out, check_array("outputs of layer", ys), rate, time)

    return layer._replace(apply=apply)


@described
def weight_drop(
    layer: Layer, rate: float, *, names: str | tuple[str, ...] = "w_h"
) -> Layer:
    """Drop random recurrent weights of a layer in training (DropConnect).

    Each call of ``apply`` draws once, so all steps and batch entries see the same
    weights. Kept weights are scaled by ``1 / (1 - rate)``. The parameters are dropped,
    which for a :func:`jaxrnn.reparametrized` cell are those before the transformation.

    Args:
        layer: layer to wrap. Parameters and state stay the same.
        rate: probability that a weight becomes zero.
        names: field name, or names, of the parameters to drop.

    Returns:
        A :class:`Layer`. Its ``apply`` drops weights if it gets a ``key``, and
        evaluates without a key; its ``step`` always evaluates.

    Raises:
        TypeError: ``layer`` is not a :class:`Layer`, or ``rate`` is not a number.
        ValueError: ``rate`` is not in [0, 1), or, when applied, no parameter has one of
            the names.

    References:
        Wan et al., Regularization of neural networks using DropConnect, 2013. Merity,
        Keskar and Socher, Regularizing and optimizing LSTM language models, 2018.

    >>> import jaxrnn
    >>> model = weight_drop(jaxrnn.layer(jaxrnn.lstm(5)), 0.5)
    >>> params = model.init(jax.random.key(0), 2)
    >>> _, ys = model.apply(params, jnp.ones((7, 3, 2)), key=jax.random.key(1))
    >>> ys.shape
    (7, 3, 5)
    """
    check_layer("layer", layer)
    rate = check_rate("rate", rate)
    fields = check_names("names", names)

    def dropped(params: Params, key: Key) -> Params:
        leaves, structure = jax.tree_util.tree_flatten_with_path(params)
        chosen = [leaf_name(path) in fields for path, _ in leaves]
        if not any(chosen):
            raise ValueError(
                "names must be names of parameters of the layer, which has "
                f"{sorted({str(leaf_name(path)) for path, _ in leaves})}, got {fields}"
            )
        keys = jax.random.split(key, len(leaves))
        return structure.unflatten(
            _drop(k, leaf, rate) if drop else leaf
            for (_, leaf), drop, k in zip(leaves, chosen, keys, strict=True)
        )

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        if key is None:
            return layer.apply(params, xs, state, mask=mask, resets=resets)
        key_weights, key_layer = split_key(key, 2)
        params = dropped(params, key_weights)
        return layer.apply(params, xs, state, mask=mask, resets=resets, key=key_layer)

    return layer._replace(apply=apply)
