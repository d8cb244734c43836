"""Best-path decoding of the outputs of CTC training."""

import jax.numpy as jnp

from .._checks import (
    check_class,
    check_flags,
    check_sequence,
)
from .._numerics.most_probable import most_probable
from .._typing import Array, ArrayLike


def ctc_greedy(
    logits: ArrayLike, mask: ArrayLike | None = None, *, blank: int = 0
) -> tuple[Array, Array]:
    """Decode the best CTC path: take the best class of each step, merge, drop blanks.

    Args:
        logits: ``(T, *B, V)``, from a model trained with :func:`jaxrnn.losses.ctc`.
        mask: bool ``(T, *B)`` or None. A masked step is left out, as in the loss, so
            the steps before and after it are neighbours.
        blank: the class that stands for no label.

    Returns:
        ``(labels, lengths)``: integers ``(T, *B)``, the labels of each sequence
        followed by blanks, and the number of labels ``(*B)``.

    Raises:
        ValueError: a shape does not fit, or ``blank`` is not a class.
        TypeError: ``mask`` is not boolean, or ``blank`` is not an int.

    References:
        Graves et al., Connectionist temporal classification, 2006 (best path decoding).

    >>> import jax
    >>> logits = jax.nn.one_hot(jnp.array([2, 2, 0, 2, 1, 1]), 3)[:, None]
    >>> labels, lengths = ctc_greedy(logits)
    >>> labels[:, 0].tolist(), lengths.tolist()
    ([2, 2, 1, 0, 0, 0], [3])
    """
    scores = check_sequence("logits", logits)
    blank = check_class("blank", blank, scores.shape[-1])
    best = most_probable(scores)
    valid = check_flags("mask", mask, best.shape)
    if valid is not None:
        # Masked steps move to the end, where they count as blanks.
        order = jnp.argsort(~valid, axis=0, stable=True)
        best = jnp.take_along_axis(jnp.where(valid, best, blank), order, axis=0)
    before = jnp.concatenate([jnp.full_like(best[:1], blank), best[:-1]])
    kept = (best != blank) & (best != before)
    order = jnp.argsort(~kept, axis=0, stable=True)
    labels = jnp.take_along_axis(jnp.where(kept, best, blank), order, axis=0)
    return labels, kept.sum(axis=0)
