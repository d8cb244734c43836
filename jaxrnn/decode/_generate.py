"""Generation: feed the output of a layer back as its next input."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Layer
from .._checks import (
    as_array,
    check_class,
    check_flags,
    check_integers,
    check_layer,
)
from .._eager import compiled
from .._options import check_function, check_key, check_size
from .._tree import select
from .._typing import Array, ArrayLike, Key, Params, State
from ..pooling import last
from ._choices import Choose, greedy, reads_logits


def generate(
    layer: Layer,
    params: Params,
    prompt: ArrayLike,
    num_steps: int,
    *,
    key: Key,
    choose: Choose = greedy,
    end: int | None = None,
    state: State | None = None,
    mask: ArrayLike | None = None,
    known: Any = None,
) -> tuple[State, Array]:
    """Continue a prompt: feed each output, through ``choose``, back as the next input.

    ``layer.apply`` consumes the whole prompt. Generation is then one loop over
    ``layer.step``, which stops when all batch entries have ended. To jit it, close over
    the layer and ``num_steps``.

    Args:
        layer: a layer that can be stepped. It maps token ids to logits for the choices
            of this module, or values to values for a ``choose`` of your own.
        params: parameters of the layer.
        prompt: inputs ``(T, *B)`` or ``(T, *B, I)``, at least one step.
        num_steps: number of steps to generate, at least 1.
        key: a ``jax.random`` key; :func:`greedy` does not use it.
        choose: function ``(key, y) -> x``, for instance :func:`greedy` or
            ``sampling(temperature=0.8, top_k=10)``; with ``known``, a function
            ``(key, y, known) -> x``.
        end: token id that ends a sequence. A batch entry that has drawn it repeats it
            and holds its state; :func:`lengths_until` counts the steps before. None
            lets no entry end.
        state: state before the prompt, for instance the one that an earlier call
            returned. A batch entry whose prompt ends with ``end`` has then ended
            already, and goes on repeating it.
        mask: bool ``(T, *B)`` for prompts of several lengths, padded on either side;
            each must have at least one step.
        known: pytree with leaves ``(num_steps, *B, ...)`` of inputs that are known in
            advance, such as a calendar or a weather forecast. ``choose`` gets the entry
            of the step whose input it makes.

    Returns:
        ``(state, xs)``: the generated inputs ``(num_steps, *B, ...)``, and the state
        after all of them except the last, which has not been consumed. To continue,
        pass it as ``state`` with ``xs[-1:]`` as the prompt.

    Raises:
        ValueError: the layer cannot be stepped, the prompt is empty, ``num_steps`` is
            below 1, ``known`` has another number of steps, or, for a ``choose`` of this
            module, ``end`` is out of vocabulary.
        TypeError: ``choose`` returns integers for a floating prompt or the reverse,
            ``end`` is given for a floating prompt, or an argument is of another type.

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
    check_layer("layer", layer)
    check_function("choose", choose)
    key = check_key("key", key)
    num_steps = check_size("num_steps", num_steps)
    for leaf in jax.tree.leaves(known):
        if jnp.shape(leaf)[:1] != (num_steps,):
            raise ValueError(
                f"known must have num_steps = {num_steps} steps, got shape "
                f"{jnp.shape(leaf)}"
            )
    known = jax.tree.map(jnp.asarray, known)
    prompt = as_array("prompt", prompt)
    if prompt.ndim < 1 or prompt.shape[0] < 1:
        raise ValueError(
            f"prompt must have shape (T, *B, ...) with T at least 1, got shape "
            f"{prompt.shape}"
        )
    if jnp.issubdtype(prompt.dtype, jnp.integer) or end is not None:
        prompt = check_integers("prompt", prompt)
    if end is not None:
        end = check_size("end", end, least=0)
    ended = jnp.zeros(prompt.shape[1:], bool)
    mask = None if mask is None else jnp.asarray(mask)
    if end is not None and state is not None:
        ended, mask = _ended_before(prompt, mask, end)
    state, ys = layer.apply(params, prompt, state, mask=mask)
    if end is not None and (reads_logits(choose)):
        check_class("end", end, ys.shape[-1], "tokens")
    data = (params, prompt, mask, state, ys, ended, known, key)
    return _continued(layer, choose, num_steps, end, *data)


@compiled(num_static=4)
def _continued(
    layer: Layer,
    choose: Choose,
    num_steps: int,
    end: int | None,
    params: Params,
    prompt: Array,
    mask: Array | None,
    state: State,
    ys: Array,
    ended: Array,
    known: Any,
    key: Key,
) -> tuple[State, Array]:
    """Generate from the state and the outputs of the prompt."""
    integers = jnp.issubdtype(prompt.dtype, jnp.integer)
    first_key, key = jax.random.split(key)

    def next_input(key, y, step):
        given = () if known is None else (_entry(known, step),)
        x = choose(key, y, *given)
        if jnp.issubdtype(x.dtype, jnp.integer) != integers:
            raise TypeError(
                f"choose must return inputs like the prompt, of dtype "
                f"{prompt.dtype.name}, got {x.dtype.name}"
            )
        return x.astype(prompt.dtype)

    first = next_input(first_key, last(ys, mask), 0)
    keys = jax.random.split(key, num_steps - 1)

    def advance(state, x, step):
        new_state, y = layer.step(params, state, x)
        return new_state, next_input(keys[step - 1], y, step)

    if end is None:

        def body(carry, step):
            state, x = advance(*carry, step=step)
            return (state, x), x

        steps = jnp.arange(1, num_steps)
        (state, _), rest = lax.scan(body, (state, first), steps)
        return state, jnp.concatenate([first[None], rest])

    ending = jnp.full_like(first, end)
    first = jnp.where(ended, ending, first)
    written = jnp.broadcast_to(ending, (num_steps, *ending.shape)).at[0].set(first)

    def goes_on(carry):
        step, _, x, _ = carry
        return (step < num_steps) & (x != end).any()

    def write(carry):
        step, state, x, written = carry
        ended = x == end
        new_state, new_x = advance(state, x, step)
        state, x = select(ended, (state, x), (new_state, new_x))
        return step + 1, state, x, written.at[step].set(x)

    carry = lax.while_loop(goes_on, write, (jnp.array(1), state, first, written))
    _, state, _, written = carry
    return state, written


def _entry(tree: Any, step: ArrayLike) -> Any:
    return jax.tree.map(
        lambda leaf: lax.dynamic_index_in_dim(jnp.asarray(leaf), step, keepdims=False),
        tree,
    )


def _ended_before(
    prompt: Array, mask: ArrayLike | None, end: int
) -> tuple[Array, Array]:
    """Find prompts ``(*B)`` that end with ``end``, and mask that token."""
    valid = check_flags("mask", mask, prompt.shape)
    if valid is None:
        valid = jnp.ones(prompt.shape, bool)
    to_come = jnp.cumsum(valid[::-1], axis=0, dtype=jnp.int32)[::-1]
    ends = valid & (to_come == 1) & (prompt == end)
    return ends.any(axis=0), valid & ~ends


def lengths_until(tokens: ArrayLike, end: int) -> Array:
    """Count the steps of each sequence up to and including its first end token.

    Args:
        tokens: token ids ``(T, *B)``, for instance from :func:`generate`.
        end: token id that ends a sequence.

    Returns:
        Integers ``(*B)``, for :func:`jaxrnn.lengths_to_mask`; T for a sequence that has
        no ``end``.

    Raises:
        TypeError: ``tokens`` or ``end`` are not integers.
        ValueError: ``end`` is below 0.

    >>> lengths_until(jnp.array([[3, 9], [9, 9], [9, 2]]), 9).tolist()
    [2, 1]
    """
    ends = check_integers("tokens", tokens) == check_size("end", end, least=0)
    first = jnp.argmax(ends, axis=0) + 1
    return jnp.where(ends.any(axis=0), first, len(ends))
