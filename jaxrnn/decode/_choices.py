"""Ways to choose the next token of a sequence from logits."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from .._numerics.most_probable import most_probable, none_of_nan
from .._numerics.precision import accumulation_dtype
from .._options import check_number, check_size
from .._typing import Array, Key

Choose: TypeAlias = Callable[[Key, Array], Array]
"""Function ``(key, y (*B, O)) -> x (*B, ...)`` of an output to the next input."""


def greedy(key: Key, logits: Array) -> Array:
    """Choose the most probable token.

    Args:
        key: not used.
        logits: ``(*B, V)``.

    Returns:
        Token ids ``(*B)``; -1, which is no token, where a logit is NaN.
    """
    return most_probable(logits)


def sampling(
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Choose:
    """Make a function that draws tokens from ``softmax(logits / temperature)``.

    Args:
        temperature: number above 0; the lower, the nearer to :func:`greedy`.
        top_k: number of most probable tokens to draw from; None draws from all.
        top_p: probability of the nucleus, the fewest most probable tokens that together
            have at least this probability, to draw from; None draws from all.

    Returns:
        A function for ``choose`` of :func:`generate`. Where a logit is NaN it returns
        -1, which is no token.

    Raises:
        ValueError: ``temperature`` is not above 0, ``top_p`` is not above 0 and at most
            1, ``top_k`` is below 1, or, while tracing, above the vocabulary size.
        TypeError: ``temperature`` or ``top_p`` is not a number, or ``top_k`` is not an
            int.

    References:
        Fan, Lewis and Dauphin, Hierarchical neural story generation, 2018 (top k).
        Holtzman et al., The curious case of neural text degeneration, 2020 (nucleus).

    >>> choose = sampling(temperature=0.7, top_k=2)
    >>> int(choose(jax.random.key(0), jnp.array([9.0, -9.0, 9.0]))) in (0, 2)
    True
    """
    temperature = check_number("temperature", temperature)
    if not temperature > 0:
        raise ValueError(
            f"temperature must be above 0, got {temperature}: for the "
            "most probable token use jaxrnn.decode.greedy"
        )
    if top_k is not None:
        top_k = check_size("top_k", top_k)
    if top_p is not None and not 0 < check_number("top_p", top_p) <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p!r}")

    return Sampling(temperature, top_k, top_p)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Function that :func:`sampling` makes; it equals others of the same options."""

    temperature: float
    top_k: int | None
    top_p: float | None

    def __call__(self, key: Key, logits: Array) -> Array:
        # In 16 bits the noise is too coarse for rare tokens. The largest logit is moved
        # to 0 so that a low temperature cannot overflow it.
        logits = logits.astype(accumulation_dtype(logits.dtype))
        logits = (logits - logits.max(axis=-1, keepdims=True)) / self.temperature
        if self.top_k is None and self.top_p is None:
            return none_of_nan(logits, jax.random.categorical(key, logits))
        count = logits.shape[-1] if self.top_k is None else self.top_k
        if count > logits.shape[-1]:
            raise ValueError(
                f"top_k must be at most the vocabulary size {logits.shape[-1]}, "
                f"got {self.top_k}"
            )
        best, tokens = lax.top_k(logits, count)
        if self.top_p is not None:
            probabilities = jax.nn.softmax(best)
            before = jnp.cumsum(probabilities, axis=-1) - probabilities
            best = jnp.where(before < self.top_p, best, -jnp.inf)
        drawn = jax.random.categorical(key, best)
        chosen = jnp.take_along_axis(tokens, drawn[..., None], axis=-1)[..., 0]
        return none_of_nan(logits, chosen)


def reads_logits(choose: Any) -> bool:
    """Test whether ``choose`` reads a logit for each token, as those here do."""
    return choose is greedy or isinstance(choose, Sampling)
