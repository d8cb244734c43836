"""Metrics of classifications, over the unmasked steps."""

import math

import jax.numpy as jnp

from .._checks import as_array, check_integers, check_place_flags
from .._masks import masked_mean
from .._numerics.most_probable import most_probable
from .._typing import Array, ArrayLike


def accuracy(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """Accuracy: the share of steps whose most probable class is the label.

    A step with a NaN logit has no most probable class and counts as wrong.

    Args:
        logits: ``(T, *B, V)``, or probabilities.
        labels: integers ``(T, *B)``; those outside ``[0, V)`` do not count.
        mask: bool ``(T, *B)`` or None.

    Returns:
        A scalar.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``labels`` are not integers, or ``mask`` is not boolean.

    >>> float(accuracy(jnp.array([[2.0, 1.0], [0.0, 1.0]]), jnp.array([0, 0])))
    0.5
    """
    predicted, labels, counted = _classes(logits, labels, mask)
    return masked_mean((predicted == labels).astype(jnp.float32), counted)


def confusion_matrix(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """Confusion matrix: entry (i, j) counts the steps of class i predicted as class j.

    Args:
        logits: ``(T, *B, V)``, or probabilities.
        labels: integers ``(T, *B)``; those outside ``[0, V)`` do not count.
        mask: bool ``(T, *B)`` or None.

    Returns:
        Integers ``(V, V)``. Steps with a NaN logit are left out.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``labels`` are not integers, or ``mask`` is not boolean.

    >>> logits = jnp.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    >>> confusion_matrix(logits, jnp.array([0, 0, 1])).tolist()
    [[1, 1], [1, 0]]
    """
    size = as_array("logits", logits).shape[-1]
    predicted, labels, counted = _classes(logits, labels, mask)
    outside = jnp.where(counted & (predicted >= 0), labels, size)
    counts = jnp.zeros((size, size), jnp.int32)
    return counts.at[outside, predicted].add(1, mode="drop")


def f1_score(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """F1 of each class: the harmonic mean of precision and recall.

    Args:
        logits: ``(T, *B, V)``, or probabilities.
        labels: integers ``(T, *B)``.
        mask: bool ``(T, *B)`` or None.

    Returns:
        ``(V,)``; NaN for a class that neither occurs nor is predicted.
        :func:`macro_f1` averages the others.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``labels`` are not integers, or ``mask`` is not boolean.

    >>> logits = jnp.array([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    >>> f1_score(logits, jnp.array([0, 0, 1])).tolist()
    [0.5, 0.0]
    """
    scores, there = _f1(logits, labels, mask)
    return jnp.where(there, scores, jnp.nan)


def macro_f1(
    logits: ArrayLike, labels: ArrayLike, *, mask: ArrayLike | None = None
) -> Array:
    """Average :func:`f1_score` over the classes that occur or are predicted.

    Args:
        logits, labels, mask: see :func:`f1_score`.

    Returns:
        A scalar, like ``f1_score(average="macro")`` of scikit-learn.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``labels`` are not integers, or ``mask`` is not boolean.

    >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    >>> float(macro_f1(logits, jnp.array([0, 1])))  # there is no class 2
    1.0
    """
    scores, there = _f1(logits, labels, mask)
    return masked_mean(scores, there)


def _f1(
    logits: ArrayLike, labels: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array]:
    """Return F1 of each class, and which classes occur or are predicted."""
    counts = confusion_matrix(logits, labels, mask=mask)
    _, labels, counted = _classes(logits, labels, mask)
    # A step whose logits are NaN is predicted as no class, and is missing from counts.
    occurs = jnp.zeros(len(counts), jnp.int32)
    occurs = occurs.at[jnp.where(counted, labels, len(counts))].add(1, mode="drop")
    both = (counts.sum(0, dtype=jnp.int32) + occurs).astype(jnp.float32)
    right = jnp.diagonal(counts).astype(jnp.float32)
    return 2 * right / jnp.maximum(both, 1), both > 0


def perplexity(loss: ArrayLike) -> Array:
    """Perplexity: the exponential of a mean cross-entropy.

    Args:
        loss: mean cross-entropy in nats.

    Returns:
        ``exp(loss)``: the size of a uniform vocabulary that would be equally hard to
        predict.

    >>> float(perplexity(0.0))
    1.0
    """
    return jnp.exp(as_array("loss", loss))


def nats_to_bits(loss: ArrayLike) -> Array:
    """Convert a mean cross-entropy from nats to bits, such as bits per character.

    Args:
        loss: mean cross-entropy in nats.

    Returns:
        ``loss / log(2)``.

    >>> round(float(nats_to_bits(math.log(8))), 5)
    3.0
    """
    return as_array("loss", loss) / math.log(2)


def _classes(
    logits: ArrayLike, labels: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Return the most probable classes, the labels, and which of these count."""
    labels = check_integers("labels", labels)
    logits = as_array("logits", logits)
    shape = logits.shape
    if shape[:-1] != labels.shape or not shape:
        raise ValueError(
            "labels must have the shape of logits without its last axis, "
            f"{shape[:-1]}, got {labels.shape}"
        )
    valid = check_place_flags("mask", mask, labels.shape)
    predicted = most_probable(logits).astype(labels.dtype)
    counted = (labels >= 0) & (labels < shape[-1])
    return predicted, labels, counted if valid is None else counted & valid
