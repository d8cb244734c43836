"""Generation: a layer's output, fed back as its next input."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from ._base import Layer
from ._checks import check_integers, check_size
from ._precision import accumulation_dtype
from ._typing import Array, ArrayLike, Key, Params, State

__all__ = ["Choose", "generate", "greedy", "sampling"]

Choose: TypeAlias = Callable[[Key, Array], Array]
"""``(key, y (*B, O)) -> x (*B, ...)``: the next input, given an output."""


def greedy(key: Key, logits: Array) -> Array:
    """The most probable symbol.

    Args:
        key: not used.
        logits: ``(*B, V)``.

    Returns:
        Integers ``(*B)``.
    """
    return jnp.argmax(logits, axis=-1)


def sampling(*, temperature: float = 1.0, top_k: int | None = None) -> Choose:
    """Draw a symbol with probability ``softmax(logits / temperature)``.

    Args:
        temperature: above 0; towards 0 sampling becomes :func:`greedy`.
        top_k: draw among the k most probable symbols only; None among all.

    Returns:
        A function for ``choose`` of :func:`generate`.

    Raises:
        ValueError: ``temperature`` is not above 0, ``top_k`` is below 1, or, while
            tracing, above the number of symbols.
        TypeError: ``top_k`` is not an int.

    >>> choose = sampling(temperature=0.7, top_k=2)
    >>> int(choose(jax.random.key(0), jnp.array([9.0, -9.0, 9.0]))) in (0, 2)
    True
    """
    if not temperature > 0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}: for the "
            "most probable symbol use jaxrnn.decode.greedy"
        )
    if top_k is not None:
        top_k = check_size("top_k", top_k)

    def draw(key, logits):
        # In 16 bits the noise is too coarse for rare symbols; the largest logit is
        # moved to 0 so that a low temperature cannot overflow it.
        logits = logits.astype(accumulation_dtype(logits.dtype))
        logits = (logits - logits.max(axis=-1, keepdims=True)) / temperature
        return jax.random.categorical(key, logits)

    def choose(key, logits):
        if top_k is None:
            return draw(key, logits)
        if top_k > logits.shape[-1]:
            raise ValueError(
                f"top_k must be at most the number of symbols {logits.shape[-1]}, "
                f"got {top_k}"
            )
        best, symbols = lax.top_k(logits, top_k)
        drawn = draw(key, best)
        return jnp.take_along_axis(symbols, drawn[..., None], axis=-1)[..., 0]

    return choose


def generate(
    layer: Layer,
    params: Params,
    prompt: ArrayLike,
    num_steps: int,
    *,
    key: Key,
    choose: Choose = greedy,
    state: State | None = None,
    mask: ArrayLike | None = None,
) -> tuple[State, Array]:
    """Continue a prompt: each output, through ``choose``, is the next input.

    The prompt is consumed at once by ``layer.apply``; generation is one scan over
    ``layer.step``. Jit it with the layer and ``num_steps`` closed over.

    Args:
        layer: anything that can be stepped, from symbols to logits for the choices of
            this module, or from values to values with a ``choose`` of your own.
        params: its parameters.
        prompt: inputs ``(T, *B)`` or ``(T, *B, I)``, at least one step.
        num_steps: number of steps to generate, at least 1.
        key: a ``jax.random`` key; :func:`greedy` does not use it.
        choose: ``(key, y) -> x``, for instance :func:`greedy` or
            ``sampling(temperature=0.8, top_k=10)``.
        state: state before the prompt, for instance the one returned earlier.
        mask: bool ``(T, *B)`` for prompts of several lengths, padded on either side;
            each must have at least one step.

    Returns:
        ``(state, xs)``: the inputs generated ``(num_steps, *B, ...)``, and the state
        after all of them but the last, which was not consumed yet: pass it on as
        ``state``, with ``xs[-1:]`` as the prompt, to continue.

    Raises:
        ValueError: the layer cannot be stepped, the prompt is empty, or ``num_steps``
            is below 1.
        TypeError: ``choose`` returns integers for a floating prompt or the reverse.

    >>> import jaxrnn
    >>> model = jaxrnn.stack(
    ...     jaxrnn.embedding(10, 4), jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(10)
    ... )
    >>> params = model.init(jax.random.key(0), 10)
    >>> prompt = jnp.zeros((4, 3), int)
    >>> state, tokens = generate(model, params, prompt, 6, key=jax.random.key(1))
    >>> tokens.shape
    (6, 3)
    """
    num_steps = check_size("num_steps", num_steps)
    prompt = jnp.asarray(prompt)
    if prompt.ndim < 1 or prompt.shape[0] < 1:
        raise ValueError(
            f"prompt must have shape (T, *B, ...) with T at least 1, got shape "
            f"{prompt.shape}"
        )
    integers = jnp.issubdtype(prompt.dtype, jnp.integer)
    if integers:
        prompt = check_integers("prompt", prompt)
    state, ys = layer.apply(params, prompt, state, mask=mask)
    first_key, key = jax.random.split(key)

    def next_input(key, y):
        x = choose(key, y)
        if jnp.issubdtype(x.dtype, jnp.integer) != integers:
            raise TypeError(
                f"choose must return inputs like the prompt, of dtype "
                f"{prompt.dtype.name}, got {x.dtype.name}"
            )
        return x.astype(prompt.dtype)

    first = next_input(first_key, _last_valid(ys, mask))

    def body(carry, step_key):
        state, x = carry
        state, y = layer.step(params, state, x)
        x = next_input(step_key, y)
        return (state, x), x

    keys = jax.random.split(key, num_steps - 1)
    (state, _), rest = lax.scan(body, (state, first), keys)
    return state, jnp.concatenate([first[None], rest])


def _last_valid(ys: Array, mask: ArrayLike | None) -> Array:
    """``ys (T, *B, O)`` at the last valid step of each row."""
    if mask is None:
        return ys[-1]
    last = ys.shape[0] - 1 - jnp.argmax(jnp.asarray(mask)[::-1], axis=0)
    return jnp.take_along_axis(ys, last[None, ..., None], axis=0)[0]
