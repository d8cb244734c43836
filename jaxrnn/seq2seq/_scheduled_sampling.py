"""Scheduled sampling: train a decoder on some of its own outputs."""

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Layer
from .._checks import check_flags, check_integers, check_layer
from .._eager import compiled
from .._masks import zero_where_masked
from .._options import check_key, check_number, check_rate
from .._tree import select
from .._typing import Array, ArrayLike, Key, Params, State
from ..decode._choices import Choose, sampling


def scheduled_sampling(
    layer: Layer,
    params: Params,
    xs: ArrayLike,
    state: State,
    *,
    rate: float | Array,
    key: Key,
    choose: Choose | None = None,
    mask: ArrayLike | None = None,
) -> tuple[State, Array]:
    """Run a decoder that reads its own outputs at random steps, for training.

    At each step except the first, with probability ``rate``, a batch entry reads the
    token that it would generate after the step before, instead of its input. No
    gradient flows through that choice.

    Args:
        layer: decoder of tokens that can be stepped.
        params: parameters of the layer.
        xs: token ids ``(T, *B)``.
        state: state before the first step, for instance from ``encode``.
        rate: probability from 0 to 1; 0 reads only ``xs``, as ``layer.apply`` does.
            Pass an array if a schedule raises it, so that it compiles once.
        key: a ``jax.random`` key.
        choose: function of key and logits to tokens; None uses ``decode.sampling()``.
        mask: bool ``(T, *B)``; where False the state is held and the output is zero.

    Returns:
        ``(state, ys)``, as ``layer.apply``.

    Raises:
        TypeError: ``xs`` does not hold integers, or ``mask`` is not boolean.
        ValueError: a number ``rate`` is below 0 or above 1, there is no step, or the
            layer cannot be stepped.

    References:
        Bengio et al., Scheduled sampling for sequence prediction with recurrent neural
        networks, 2015.

    >>> import jaxrnn
    >>> model = jaxrnn.stack(
    ...     jaxrnn.embedding(7, 4), jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(7)
    ... )
    >>> params = model.init(jax.random.key(0), 7)
    >>> state, key = model.initial_state(params, (3,)), jax.random.key(1)
    >>> _, logits = scheduled_sampling(
    ...     model, params, jnp.zeros((6, 3), int), state, rate=0.5, key=key
    ... )
    >>> logits.shape
    (6, 3, 7)
    """
    check_layer("layer", layer)
    tokens = check_integers("xs", xs)
    if not isinstance(rate, jax.Array) and check_number("rate", rate) != 1:
        check_rate("rate", rate)
    check_key("key", key)
    if tokens.ndim < 1 or not len(tokens):
        raise ValueError(f"xs must have at least one step, got shape {tokens.shape}")
    valid = check_flags("mask", mask, tokens.shape)
    valid = jnp.ones(tokens.shape, bool) if valid is None else valid
    tokens = jnp.where(valid, tokens, 0)
    choose = sampling() if choose is None else choose
    rate = jnp.asarray(rate, float)
    return _sampled(layer, choose, params, tokens, valid, state, rate, key)


@compiled(num_static=2)
def _sampled(
    layer: Layer,
    choose: Choose,
    params: Params,
    tokens: Array,
    valid: Array,
    state: State,
    rate: Array,
    key: Key,
) -> tuple[State, Array]:
    key_own, key_drawn = jax.random.split(key)
    own = jax.random.bernoulli(key_own, rate, tokens.shape)
    own = own.at[0].set(False)

    def take(state, x, valid):
        def hold(new, old):
            # A part of the state that never changes, a memory, must stay a constant of
            # the loop.
            return new if new is old else select(valid, new, old)

        new, y = layer.step(params, state, x)
        return jax.tree.map(hold, new, state), zero_where_masked(y, valid)

    def body(carry, step):
        state, y = carry
        x, read_own, valid, key = step
        drawn = choose(key, lax.stop_gradient(y)).astype(x.dtype)
        state, y = take(state, jnp.where(read_own, drawn, x), valid)
        return (state, y), y

    state, first = take(state, tokens[0], valid[0])
    keys = jax.random.split(key_drawn, len(tokens) - 1)
    steps = (tokens[1:], own[1:], valid[1:], keys)
    (state, _), ys = lax.scan(body, (state, first), steps)
    return state, jnp.concatenate([first[None], ys])
