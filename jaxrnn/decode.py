"""Generation: a layer's output, fed back as its next input; and beam search."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from ._base import Layer
from ._beam_search import Hypotheses, beam_search
from ._checks import check_flags, check_integers, check_sequence, check_size
from ._precision import accumulation_dtype
from ._scan import select
from ._typing import Array, ArrayLike, Key, Params, State
from .pooling import last

__all__ = [
    "Choose",
    "Hypotheses",
    "beam_search",
    "ctc_greedy",
    "generate",
    "greedy",
    "lengths_until",
    "sampling",
]

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


def sampling(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Choose:
    """Draw a symbol with probability ``softmax(logits / temperature)``.

    Args:
        temperature: above 0; towards 0 sampling becomes :func:`greedy`.
        top_k: draw among the k most probable symbols only; None among all.
        top_p: draw among the fewest of these that have at least this probability
            together, the nucleus; None among all.

    Returns:
        A function for ``choose`` of :func:`generate`.

    Raises:
        ValueError: ``temperature`` is not above 0, ``top_p`` not above 0 and at most 1,
            ``top_k`` is below 1, or, while tracing, above the number of symbols.
        TypeError: ``top_k`` is not an int.

    References:
        Fan, Lewis and Dauphin, Hierarchical neural story generation, 2018 (top k).
        Holtzman et al., The curious case of neural text degeneration, 2020 (nucleus).

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
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p!r}")

    def choose(key, logits):
        # In 16 bits the noise is too coarse for rare symbols; the largest logit is
        # moved to 0 so that a low temperature cannot overflow it.
        logits = logits.astype(accumulation_dtype(logits.dtype))
        logits = (logits - logits.max(axis=-1, keepdims=True)) / temperature
        if top_k is None and top_p is None:
            return jax.random.categorical(key, logits)
        count = logits.shape[-1] if top_k is None else top_k
        if count > logits.shape[-1]:
            raise ValueError(
                f"top_k must be at most the number of symbols {logits.shape[-1]}, "
                f"got {top_k}"
            )
        best, symbols = lax.top_k(logits, count)
        if top_p is not None:
            probabilities = jax.nn.softmax(best)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            best = jnp.where(before < top_p, best, -jnp.inf)
        drawn = jax.random.categorical(key, best)
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
    end: int | None = None,
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
        end: the symbol that ends a sequence: once it is drawn, a row repeats it and
            holds its state; see :func:`lengths_until`. None: no row ends.
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
        TypeError: ``choose`` returns integers for a floating prompt or the reverse; or
            there is an ``end`` of a floating prompt.

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
    if integers or end is not None:
        prompt = check_integers("prompt", prompt)
    if end is not None:
        end = check_size("end", end, least=0)
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

    first = next_input(first_key, last(ys, mask))

    def body(carry, step_key):
        state, x = carry
        new_state, y = layer.step(params, state, x)
        new_x = next_input(step_key, y)
        if end is not None:
            new_state, new_x = select(x == end, (state, x), (new_state, new_x))
        return (new_state, new_x), new_x

    keys = jax.random.split(key, num_steps - 1)
    (state, _), rest = lax.scan(body, (state, first), keys)
    return state, jnp.concatenate([first[None], rest])


def lengths_until(tokens: ArrayLike, end: int) -> Array:
    """The length of each sequence, with its first end symbol; all of it without one.

    Args:
        tokens: integers ``(T, *B)``, for instance of :func:`generate`.
        end: the symbol that ends a sequence.

    Returns:
        Integers ``(*B)``, as :func:`jaxrnn.lengths_to_mask` takes.

    Raises:
        TypeError: ``tokens`` are not integers.

    >>> lengths_until(jnp.array([[3, 9], [9, 9], [9, 2]]), 9).tolist()
    [2, 1]
    """
    ends = check_integers("tokens", tokens) == end
    first = jnp.argmax(ends, axis=0) + 1
    return jnp.where(ends.any(axis=0), first, len(ends))


def ctc_greedy(
    logits: ArrayLike, mask: ArrayLike | None = None, *, blank: int = 0
) -> tuple[Array, Array]:
    """The labels of the most probable class of each step: repeats are one, blanks none.

    Args:
        logits: ``(T, *B, V)``, of a model trained by :func:`jaxrnn.losses.ctc`.
        mask: bool ``(T, *B)`` or None.
        blank: the class that stands for no label.

    Returns:
        ``(labels, lengths)``: integers ``(T, *B)``, the labels of each sequence first
        and then blanks, and how many there are, ``(*B)``.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean.

    References:
        Graves et al., Connectionist temporal classification, 2006 (best path decoding).

    >>> logits = jax.nn.one_hot(jnp.array([2, 2, 0, 2, 1, 1]), 3)[:, None]
    >>> labels, lengths = ctc_greedy(logits)
    >>> labels[:, 0].tolist(), lengths.tolist()
    ([2, 2, 1, 0, 0, 0], [3])
    """
    scores = check_sequence("logits", logits)
    best = jnp.argmax(scores, axis=-1)
    valid = check_flags("mask", mask, best.shape)
    if valid is not None:
        best = jnp.where(valid, best, blank)
    before = jnp.concatenate([jnp.full_like(best[:1], blank), best[:-1]])
    kept = (best != blank) & (best != before)
    order = jnp.argsort(~kept, axis=0, stable=True)
    labels = jnp.take_along_axis(jnp.where(kept, best, blank), order, axis=0)
    return labels, kept.sum(axis=0)
