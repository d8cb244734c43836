"""Edit distance and error rate of sequences of tokens."""

import jax.numpy as jnp
from jax import lax

from .._checks import check_flags, check_integers
from .._eager import compiled
from .._typing import Array, ArrayLike


def edit_distance(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    target_mask: ArrayLike | None = None,
) -> Array:
    """Edit distance: the fewest insertions, deletions and substitutions of tokens.

    The whole batch takes one scan over ``predictions``, under jit on any device. Each
    step costs O(S).

    Args:
        predictions: decoded token ids ``(T, *B)``.
        targets: token ids ``(S, *B)``.
        mask: bool ``(T, *B)`` for the predictions; masked tokens are left out.
        target_mask: bool ``(S, *B)`` for the targets; masked tokens are left out.

    Returns:
        Integers ``(*B)``.

    Raises:
        ValueError: a shape does not fit.
        TypeError: sequences are not integers, or a mask is not boolean.

    References:
        Levenshtein, Binary codes capable of correcting deletions, insertions and
        reversals, 1966. Wagner and Fischer, The string-to-string correction problem,
        1974.

    >>> found, wanted = jnp.array([1, 2, 2, 3]), jnp.array([1, 2, 4])
    >>> int(edit_distance(found, wanted))
    2
    """
    found, valid = _tokens("predictions", predictions, "mask", mask)
    wanted, counted = _tokens("targets", targets, "target_mask", target_mask)
    if found.shape[1:] != wanted.shape[1:]:
        raise ValueError(
            "targets must have the batch dimensions of predictions, "
            f"{found.shape[1:]}, got {wanted.shape[1:]}"
        )
    return _edit_distance(found, valid, wanted.astype(found.dtype), counted)


@compiled(num_static=0)
def _edit_distance(found: Array, valid: Array, wanted: Array, counted: Array) -> Array:
    # Entry j of a row of the table is the distance between the predictions read so far
    # and the first j targets. Before anything is read, that is the number of targets
    # that count: a masked target has the distance of the one before it.
    zero = jnp.zeros((1, *found.shape[1:]), jnp.int32)
    first = jnp.concatenate([zero, jnp.cumsum(counted, axis=0, dtype=jnp.int32)])
    never = jnp.int32(len(found) + len(wanted) + 1)

    def body(distances, step):
        token, is_valid = step
        replaced = distances[:-1] + (wanted != token[None]).astype(jnp.int32)
        cheapest = jnp.minimum(replaced, distances[1:] + 1)
        cheapest = jnp.where(counted, cheapest, never)
        cheapest = jnp.concatenate([distances[:1] + 1, cheapest])
        # A missing token costs 1. So the minimum over all ways to skip targets is a
        # running minimum of the distances less the number of targets.
        new = lax.cummin(cheapest - first, axis=0) + first
        return jnp.where(is_valid[None], new, distances), None

    distances, _ = lax.scan(body, first, (found, valid))
    return distances[-1]


def token_error_rate(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    target_mask: ArrayLike | None = None,
) -> Array:
    """Token error rate: edit distances divided by the number of target tokens.

    Over words this is the word error rate (WER), over characters the CER, over
    phonemes the PER.

    Args:
        predictions: integers ``(T, *B)``: what was decoded.
        targets: integers ``(S, *B)``.
        mask: bool ``(T, *B)``, of the predictions; what is False is left out.
        target_mask: bool ``(S, *B)``, of the targets.

    Returns:
        A scalar; above 1 where much too much was decoded. Without a target, the number
        of symbols that should not be there.

    Raises:
        ValueError: a shape does not fit.
        TypeError: sequences are not integers, or a mask is not boolean.

    >>> found, wanted = jnp.array([1, 2, 2, 3]), jnp.array([1, 2, 4])
    >>> round(float(token_error_rate(found, wanted)), 3)
    0.667
    """
    distances = edit_distance(predictions, targets, mask=mask, target_mask=target_mask)
    _, counted = _tokens("targets", targets, "target_mask", target_mask)
    return distances.sum() / jnp.maximum(counted.sum(), 1)


def _tokens(
    name: str, values: ArrayLike, mask_name: str, mask: ArrayLike | None
) -> tuple[Array, Array]:
    """Return token ids ``(T, *B)``, and which of them count."""
    symbols = check_integers(name, values)
    if symbols.ndim < 1:
        raise ValueError(f"{name} must have shape (T, *B), got a single number")
    valid = check_flags(mask_name, mask, symbols.shape)
    return symbols, jnp.ones(symbols.shape, bool) if valid is None else valid
