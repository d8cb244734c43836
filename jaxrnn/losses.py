"""Losses over sequences: element losses of Optax, reduced over the unmasked steps.

Every loss takes predictions ``(T, *B, F)`` first, targets second, and the mask of the
layers ``(T, *B)``. Masked steps have no effect on the loss and its gradients, even if
they hold NaN. For one label per sequence pass ``logits (B, V)`` and ``labels (B)``: B
stands in the place of T.

``reduction`` turns the losses of the steps ``(T, *B)`` into the result:
:func:`masked_mean`, :func:`masked_sum`, :func:`per_step`, or any function of
``(values, mask)``. Computation is in at least float32.
"""

import math

import jax
import jax.numpy as jnp
import optax

from ._checks import (
    as_array,
    check_class,
    check_flags,
    check_integers,
    check_place_flags,
    check_sequence,
)
from ._eager import compiled
from ._masks import Reduction, masked_mean, masked_sum, per_step, zero_where_masked
from ._numerics.precision import accumulation_dtype
from ._options import check_bool, check_function
from ._typing import Array, ArrayLike, Shape

__all__ = [
    "Reduction",
    "ctc",
    "masked_mean",
    "masked_sum",
    "mean_squared_error",
    "per_step",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]


def mean_squared_error(
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: Reduction = masked_mean,
) -> Array:
    """Mean squared error: averaged over features, then reduced over steps.

    Args:
        predictions: ``(T, *B, F)``.
        targets: ``(T, *B, F)``.
        mask: bool ``(T, *B)`` or None.
        reduction: see the module.

    Returns:
        A scalar, unless ``reduction`` says otherwise.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean, or the predictions are not floating.

    >>> float(mean_squared_error(jnp.zeros((7, 3, 2)), jnp.ones((7, 3, 2))))
    1.0
    """
    check_function("reduction", reduction)
    predictions, mask = _prepare("predictions", predictions, mask)
    targets = _targets(targets, predictions.shape, predictions, mask)
    return reduction(optax.squared_error(predictions, targets).mean(-1), mask)


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: Reduction = masked_mean,
) -> Array:
    """Cross-entropy in nats of exclusive classes.

    Args:
        logits: ``(T, *B, V)``, before any softmax.
        labels: classes as integers ``(T, *B)``, or probabilities ``(T, *B, V)`` of a
            floating dtype, one-hot or soft.
        mask: bool ``(T, *B)`` or None.
        reduction: see the module.

    Returns:
        A scalar, unless ``reduction`` says otherwise. A label outside ``[0, V)`` at an
        unmasked step gives NaN.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean, or the predictions are not floating.

    >>> loss = softmax_cross_entropy(jnp.zeros((7, 3, 4)), jnp.zeros((7, 3), int))
    >>> bool(jnp.isclose(loss, jnp.log(4)))
    True
    """
    check_function("reduction", reduction)
    logits, mask = _prepare("logits", logits, mask)
    labels = as_array("labels", labels)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        labels = check_integers("labels", labels)
        labels = _targets(labels, logits.shape[:-1], labels, mask, "labels")
        known = (labels >= 0) & (labels < logits.shape[-1])
        values = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.where(known, labels, 0)
        )
        # An array of NaN, made to choose from, would stop jax_debug_nans.
        values = jnp.where(known, values, jnp.nan)
    else:
        labels = _targets(labels, logits.shape, logits, mask, "labels")
        values = optax.softmax_cross_entropy(logits, labels)
    return reduction(values, mask)


def sigmoid_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    reduction: Reduction = masked_mean,
) -> Array:
    """Cross-entropy in nats of independent binary labels, averaged over them.

    Args:
        logits: ``(T, *B, F)``, before any sigmoid.
        labels: 0, 1 or probabilities ``(T, *B, F)``.
        mask: bool ``(T, *B)`` or None.
        reduction: see the module.

    Returns:
        A scalar, unless ``reduction`` says otherwise.

    Raises:
        ValueError: a shape does not fit.
        TypeError: ``mask`` is not boolean, or the predictions are not floating.

    >>> loss = sigmoid_cross_entropy(jnp.zeros((7, 3, 1)), jnp.ones((7, 3, 1)))
    >>> bool(jnp.isclose(loss, jnp.log(2)))
    True
    """
    check_function("reduction", reduction)
    logits, mask = _prepare("logits", logits, mask)
    labels = _targets(labels, logits.shape, logits, mask, "labels")
    return reduction(optax.sigmoid_binary_cross_entropy(logits, labels).mean(-1), mask)


def ctc(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    label_mask: ArrayLike | None = None,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: Reduction = masked_mean,
) -> Array:
    """Loss of connectionist temporal classification (CTC).

    The loss is the negative log-probability, in nats, of all ways to spread the labels
    over the steps with blanks between them. To decode labels, use
    :func:`jaxrnn.decode.ctc_greedy`.

    Args:
        logits: ``(T, *B, V)``, before any softmax, including the blank.
        labels: integers ``(N, *B)``, time first, without blanks. Negative labels are
            padding, as if masked by ``label_mask``.
        mask: bool ``(T, *B)`` or None.
        label_mask: bool ``(N, *B)`` or None, for labels that are padded at the end.
        blank: the class that stands for no label.
        zero_infinity: if True, a sequence that is too short for its labels has loss 0
            and no gradient instead of infinity. The mean is over all sequences, as in
            torch.
        reduction: reduces the losses ``(*B)`` of the sequences, without a mask; see the
            module.

    Returns:
        A scalar, unless ``reduction`` says otherwise. Labels need one step each, and
        one more between two that are equal. A sequence with fewer unmasked steps has
        an infinite loss; ``reduction=per_step`` shows which. A sequence with a label
        that is the blank or not a class has loss NaN.

    Raises:
        ValueError: a shape does not fit, or ``blank`` is not a class.
        TypeError: a mask is not boolean, ``logits`` is not floating, or ``labels`` or
            ``blank`` are not integers.

    References:
        Graves et al., Connectionist temporal classification, 2006.

    >>> loss = ctc(jnp.zeros((2, 3, 4)), jnp.ones((1, 3), int))
    >>> bool(jnp.isclose(loss, -jnp.log(3 / 16)))  # 1 1, 0 1 and 1 0 of 16 ways
    True
    """
    logits, mask = _prepare("logits", logits, mask)
    labels = check_integers("labels", labels)
    batch = logits.shape[1:-1]
    if labels.shape[1:] != batch or labels.ndim < 1:
        raise ValueError(
            f"labels must have shape (N, *B) with *B = {batch}, got {labels.shape}"
        )
    label_mask = check_flags("label_mask", label_mask, labels.shape, "(N, *B)")
    check_function("reduction", reduction)
    blank = check_class("blank", blank, logits.shape[-1])
    zero_infinity = check_bool("zero_infinity", zero_infinity)
    steps = jnp.ones(logits.shape[:-1], bool) if mask is None else mask
    valid = labels >= 0 if label_mask is None else label_mask & (labels >= 0)
    known = (labels < logits.shape[-1]) & (labels != blank)
    labels = jnp.where(valid & known, labels, blank)

    def rows(values: Array) -> Array:
        """Reshape ``(T, *B, ...)`` to ``(rows, T, ...)``."""
        flat = values.reshape(
            len(values), math.prod(batch), *values.shape[1 + len(batch) :]
        )
        return jnp.swapaxes(flat, 0, 1)

    values = _ctc_loss(blank, rows(logits), rows(steps), rows(labels), rows(valid))
    repeated = (labels[1:] == labels[:-1]) & valid[1:]
    needed = valid.sum(0) + repeated.sum(0)
    values = values.reshape(batch).astype(logits.dtype)
    fits = needed <= steps.sum(0)
    values = jnp.where(fits, values, 0.0 if zero_infinity else jnp.inf)
    unknown = (valid & ~known).any(0)
    return reduction(jnp.where(unknown, jnp.nan, values), None)


@compiled(num_static=1)
def _ctc_loss(
    blank: int, logits: Array, steps: Array, labels: Array, valid: Array
) -> Array:
    """Compute the loss of Optax of logits ``(rows, T, V)`` and labels ``(rows, N)``."""
    # Optax has Python scalars and other integers in it.
    with jax.numpy_dtype_promotion("standard"):
        return optax.ctc_loss(
            logits,
            (~steps).astype(logits.dtype),
            labels,
            (~valid).astype(logits.dtype),
            blank_id=blank,
        )


def _prepare(
    name: str, values: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array | None]:
    """Check predictions and mask; return both, zero where masked."""
    values = check_sequence(name, values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {values.dtype.name}")
    mask = check_place_flags("mask", mask, values.shape[:-1])
    values = values.astype(accumulation_dtype(values.dtype))
    return zero_where_masked(values, mask), mask


def _targets(
    targets: ArrayLike,
    shape: Shape,
    like: Array,
    mask: Array | None,
    name: str = "targets",
) -> Array:
    """Check targets; return them in the dtype of ``like``, zero where masked."""
    targets = as_array(name, targets)
    if targets.shape != shape:
        hint = ""
        if name == "labels" and targets.shape == shape[:-1]:
            hint = f": labels of dtype {targets.dtype.name} are read as probabilities"
        raise ValueError(
            f"{name} must have shape {shape}, got shape {targets.shape}{hint}"
        )
    if jnp.issubdtype(targets.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be real, got dtype {targets.dtype.name}")
    return zero_where_masked(targets.astype(like.dtype), mask)
