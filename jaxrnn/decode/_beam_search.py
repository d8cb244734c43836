"""Beam search: keep the few most probable sequences at each step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Layer
from .._checks import check_class, check_integers, check_layer
from .._eager import compiled
from .._numerics.most_probable import NONE
from .._numerics.precision import accumulation_dtype, of_rank
from .._options import check_number, check_size
from .._typing import Array, ArrayLike, Params, State
from ..pooling import last


class Hypotheses(NamedTuple):
    """Sequences that :func:`beam_search` found, the best of each batch entry first."""

    tokens: Array  # int (num_steps, *B, K), filled up with ``end``
    scores: Array  # (*B, K), log-probability over length penalty; -inf if unused
    lengths: Array  # int (*B, K), with the end token; 0 if unused


class _Beams(NamedTuple):
    """Sequences with batch dimensions ``(*B, K)``."""

    tokens: Array  # int (*B, K, num_steps)
    scores: Array  # (*B, K)
    lengths: Array  # int (*B, K)


def beam_search(
    layer: Layer,
    params: Params,
    prompt: ArrayLike,
    num_steps: int,
    *,
    beam_size: int,
    end: int | None = None,
    length_penalty: float = 0.0,
    state: State | None = None,
    mask: ArrayLike | None = None,
) -> Hypotheses:
    """Continue a prompt by the most probable sequences of tokens under a layer.

    At each step the K most probable continuations go on. Continuations that end are put
    aside, and the final choice is between these and the sequences that are open after
    ``num_steps``. A beam of 1 without length penalty is greedy decoding. A beam that
    holds all possible sequences finds the most probable one.

    The search stops when no open sequence can win any more. To jit it, close over all
    arguments except ``params``, ``prompt``, ``state`` and ``mask``.

    Args:
        layer: a layer that can be stepped, from token ids to logits.
        params: parameters of the layer.
        prompt: token ids ``(T, *B)``, at least one step.
        num_steps: largest length of a sequence, at least 1.
        beam_size: K. It may be larger than the vocabulary.
        end: token id that ends a sequence; None lets all have ``num_steps`` tokens.
        length_penalty: alpha; a log-probability is divided by
            ``((5 + length) / 6) ** alpha``. With 0 short sequences are preferred, since
            each token makes a sequence less probable; 0.6 to 1 is usual.
        state: state before the prompt.
        mask: bool ``(T, *B)`` for prompts of several lengths, padded on either side.

    Returns:
        :class:`Hypotheses`, K for each batch entry. A batch entry that met a NaN logit
        has tokens -1 and scores NaN.

    Raises:
        ValueError: the layer cannot be stepped, the prompt is empty, a size is below 1,
            or, while tracing, ``end`` is out of vocabulary.
        TypeError: the prompt does not hold integers.

    References:
        Wu et al., Google's neural machine translation system, 2016 (length penalty,
        without the coverage penalty).

    >>> import jaxrnn
    >>> model = jaxrnn.stack(
    ...     jaxrnn.embedding(10, 4), jaxrnn.layer(jaxrnn.gru(5)), jaxrnn.dense(10)
    ... )
    >>> params = model.init(jax.random.key(0), 10)
    >>> prompt = jnp.zeros((4, 3), int)
    >>> best = beam_search(model, params, prompt, 6, beam_size=2, end=9)
    >>> best.tokens.shape, best.scores.shape
    ((6, 3, 2), (3, 2))
    """
    check_layer("layer", layer)
    num_steps = check_size("num_steps", num_steps)
    beam_size = check_size("beam_size", beam_size)
    prompt = check_integers("prompt", prompt)
    if prompt.ndim < 1 or prompt.shape[0] < 1:
        raise ValueError(
            f"prompt must have shape (T, *B) with T at least 1, got shape "
            f"{prompt.shape}"
        )
    state, ys = layer.apply(params, prompt, state, mask=mask)
    if end is not None:
        end = check_class("end", end, ys.shape[-1], "tokens of the layer")
    mask = None if mask is None else jnp.asarray(mask)
    options = (
        num_steps,
        beam_size,
        end,
        check_number("length_penalty", length_penalty),
    )
    logits = last(ys, mask)
    return _searched(layer, *options, params, state, logits, prompt[0])


@compiled(num_static=5)
def _searched(
    layer: Layer,
    num_steps: int,
    beam_size: int,
    end: int | None,
    length_penalty: float,
    params: Params,
    state: State,
    logits: Array,
    prompt: Array,
) -> Hypotheses:
    """Search from a state and the logits ``(*B, V)`` of the first new token."""
    batch, symbols = logits.shape[:-1], logits.shape[-1]
    axis = len(batch)
    dtype = accumulation_dtype(logits.dtype)

    def spread(leaf: Array) -> Array:
        shape = (*batch, beam_size, *leaf.shape[axis:])
        return jnp.broadcast_to(jnp.expand_dims(leaf, axis), shape)

    def penalty(length):
        return ((5 + jnp.asarray(length, dtype)) / 6) ** length_penalty

    def expand(index, alive, done, logits):
        """Extend each beam by one token, and keep the best."""
        each = alive.scores[..., None] + jax.nn.log_softmax(logits.astype(dtype))
        count = min(2 * beam_size, beam_size * symbols)
        scores, chosen = lax.top_k(each.reshape(*batch, -1), count)
        parents, drawn = chosen // symbols, (chosen % symbols).astype(prompt.dtype)
        tokens = _take(alive.tokens, parents, axis)
        candidates = _Beams(
            tokens=tokens.at[..., index].set(drawn),
            scores=scores,
            lengths=jnp.full_like(chosen, index + 1),
        )
        if end is not None:
            ends = drawn == end
            best = of_rank(ends.ndim, jnp.arange(count) < beam_size)
            ended = ends & best
            finished = candidates._replace(
                scores=jnp.where(ended, scores / penalty(index + 1), -jnp.inf)
            )
            done, _ = _best(done, finished, beam_size, axis)
            candidates = candidates._replace(scores=jnp.where(ends, -jnp.inf, scores))
        alive, order = _best(None, candidates, beam_size, axis)
        return alive, done, jnp.take_along_axis(parents, order, axis)

    def advance(index, state, alive, done, logits, broken):
        broken |= jnp.isnan(logits).any((-2, -1))
        alive, done, parents = expand(index, alive, done, logits)
        state = jax.tree.map(lambda leaf: _take(leaf, parents, axis), state)
        symbol = lax.dynamic_index_in_dim(alive.tokens, index, axis + 1, keepdims=False)
        state, logits = layer.step(params, state, symbol)
        return state, alive, done, logits, broken

    def goes_on(carry):
        """Test whether an open sequence may still win in a batch entry."""
        index, _, alive, done, _, broken = carry
        scores = alive.scores.max(-1)
        bound = jnp.maximum(scores / penalty(index + 1), scores / penalty(num_steps))
        decided = broken | (bound <= done.scores.min(-1)) | (scores == -jnp.inf)
        return (index < num_steps - 1) & ~decided.all()

    none = _Beams(
        tokens=jnp.full((*batch, beam_size, num_steps), end or 0, prompt.dtype),
        scores=jnp.full((*batch, beam_size), -jnp.inf, dtype),
        lengths=jnp.zeros((*batch, beam_size), jnp.int32),
    )
    first = none._replace(scores=none.scores.at[..., 0].set(0))
    broken = jnp.zeros(batch, bool)
    carry: Any = (jax.tree.map(spread, state), first, none, spread(logits), broken)
    if end is None:  # a scan, which has a gradient

        def body(carry, index):
            return advance(index, *carry), None

        carry, _ = lax.scan(body, carry, jnp.arange(num_steps - 1))
        index: Any = num_steps - 1
    else:
        carry = lax.while_loop(
            goes_on,
            lambda carry: (carry[0] + 1, *advance(*carry)),
            (jnp.array(0), *carry),
        )
        index, *carry = carry
    _, alive, done, logits, broken = carry
    broken |= jnp.isnan(logits).any((-2, -1))
    # Where the loop stopped early, one step more changes no choice.
    alive, done, _ = expand(index, alive, done, logits)
    open_ones = alive._replace(scores=alive.scores / penalty(num_steps))
    found, _ = _best(done, open_ones, beam_size, axis)
    there = found.scores > -jnp.inf
    found = found._replace(
        tokens=jnp.where(there[..., None], found.tokens, end or 0),
        lengths=jnp.where(there, found.lengths, 0),
    )
    broken = broken[..., None]
    tokens = jnp.where(broken[..., None], NONE, found.tokens)
    return Hypotheses(
        tokens=jnp.moveaxis(tokens, -1, 0),
        scores=jnp.where(broken, jnp.nan, found.scores),
        lengths=jnp.where(broken, 0, found.lengths),
    )


def _take(leaf: Array, index: Array, axis: int) -> Array:
    """Take the entries ``index (*B, N)`` of a leaf ``(*B, K, ...)``."""
    index = index.reshape(*index.shape, *(1,) * (leaf.ndim - axis - 1))
    return jnp.take_along_axis(leaf, index, axis)


def _best(
    some: _Beams | None, others: _Beams, count: int, axis: int
) -> tuple[_Beams, Array]:
    """Return the best ``count`` entries of two sets, and their indices."""
    both: Any = others
    if some is not None:
        both = jax.tree.map(lambda *p: jnp.concatenate(p, axis), some, others)
    _, order = lax.top_k(both.scores, count)
    return jax.tree.map(lambda leaf: _take(leaf, order, axis), both), order
