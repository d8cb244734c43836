"""Batch normalisation of sequences, with masked statistics and running averages.

Statistics are over all valid steps of all rows, one mean and variance for each feature.
The running averages are a value that the caller carries, like an optimiser's state:
:func:`batch_norm_update` takes and returns them in training, :func:`batch_norm` uses
them. For normalisation of each step by itself see :func:`jaxrnn.layer_norm`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._checks import check_features, check_floating
from ._masks import checked_and_masked, zero_where_masked
from ._numerics.precision import accumulation_dtype, add_bias, of_rank, scaled
from ._options import check_positive, check_rate, check_size, check_type
from ._typing import Array, ArrayLike, DTypeLike

__all__ = [
    "BatchNormParams",
    "BatchNormStatistics",
    "batch_norm",
    "batch_norm_init",
    "batch_norm_update",
]


class BatchNormParams(NamedTuple):
    """Learned parameters of batch normalisation."""

    scale: Array  # (F,)
    b: Array  # (F,)


class BatchNormStatistics(NamedTuple):
    """Running averages of batch normalisation, which are not learned."""

    mean: Array  # (F,), as the next in float32 for 16-bit parameters
    variance: Array  # (F,)


def batch_norm_init(
    size: int, dtype: DTypeLike | None = None
) -> tuple[BatchNormParams, BatchNormStatistics]:
    """Make parameters and running averages of a normalisation without effect.

    Args:
        size: F, the number of features.
        dtype: floating dtype of the parameters; None is the default of JAX.

    Returns:
        ``(params, statistics)``.

    Raises:
        ValueError: ``size`` is below 1.
        TypeError: ``size`` is not an int, or ``dtype`` is not floating.
    """
    shape = (check_size("size", size),)
    float_dtype = check_floating("dtype", dtype)
    wide = accumulation_dtype(float_dtype)
    return (
        BatchNormParams(jnp.ones(shape, float_dtype), jnp.zeros(shape, float_dtype)),
        BatchNormStatistics(jnp.zeros(shape, wide), jnp.ones(shape, wide)),
    )


def batch_norm_update(
    params: BatchNormParams,
    statistics: BatchNormStatistics,
    xs: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
) -> tuple[BatchNormStatistics, Array]:
    """Normalise by the statistics of this batch, and update the averages: training.

    Args:
        params, statistics: from :func:`batch_norm_init`, or the last update.
        xs: ``(T, *B, F)``.
        mask: bool ``(T, *B)``; masked steps do not enter the statistics, and their
            outputs are zero. None means that all steps count.
        momentum: share of the old averages in the new ones.
        epsilon: above 0, added to the variance.

    Returns:
        ``(statistics, ys)``. If all steps are masked, the averages do not change.

    Raises:
        ValueError: a shape does not fit, or ``momentum`` is not in [0, 1).
        TypeError: a dtype does not fit.

    Differs from torch, where ``momentum`` is the share of the new average and the
    running variance is unbiased. Here the running variance averages the variances that
    normalise, as in Flax and Keras.

    References:
        Ioffe and Szegedy, Batch normalization, 2015. Laurent et al., Batch normalized
        recurrent neural networks, 2016.

    >>> params, statistics = batch_norm_init(2)
    >>> xs = jax.random.normal(jax.random.key(0), (7, 3, 2)) + 5
    >>> statistics, ys = batch_norm_update(params, statistics, xs)
    >>> bool(abs(ys.mean()) < 1e-4), bool((statistics.mean > 0.3).all())
    (True, True)
    """
    momentum = check_rate("momentum", momentum)
    inputs, valid = _checked(params, xs, mask)
    wide = inputs.astype(statistics.mean.dtype)
    weights = jnp.ones(inputs.shape[:-1], bool) if valid is None else valid
    weights = weights[..., None].astype(wide.dtype)
    steps = tuple(range(wide.ndim - 1))
    count = weights.sum()
    share = weights / jnp.maximum(count, 1)
    mean = (wide * share).sum(steps)
    variance = ((wide - of_rank(wide.ndim, mean)) ** 2 * share).sum(steps)
    batch = BatchNormStatistics(mean, variance)

    def average(old: Array, new: Array) -> Array:
        return jnp.where(count > 0, momentum * old + (1 - momentum) * new, old)

    new = jax.lax.stop_gradient(jax.tree.map(average, statistics, batch))
    return new, _normalised(params, batch, inputs, valid, epsilon)


def batch_norm(
    params: BatchNormParams,
    statistics: BatchNormStatistics,
    xs: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    epsilon: float = 1e-5,
) -> Array:
    """Normalise by the running averages: evaluation and streaming.

    Args:
        params, statistics: from training.
        xs: ``(T, *B, F)``.
        mask: bool ``(T, *B)``; masked outputs are zero. None masks no step.
        epsilon: as in training.

    Returns:
        ``(T, *B, F)``.

    Raises:
        ValueError: a shape does not fit.
        TypeError: a dtype does not fit.
    """
    inputs, valid = _checked(params, xs, mask)
    return _normalised(params, statistics, inputs, valid, epsilon)


def _checked(
    params: BatchNormParams, xs: ArrayLike, mask: ArrayLike | None
) -> tuple[Array, Array | None]:
    """Check parameters, inputs and mask; return the inputs, zero where masked."""
    check_type("params", params, BatchNormParams)
    inputs, valid = checked_and_masked("xs", xs, mask)
    check_features("xs", inputs, params.scale.shape[0], params.scale.dtype)
    return inputs, valid


def _normalised(
    params: BatchNormParams,
    statistics: BatchNormStatistics,
    inputs: Array,
    valid: Array | None,
    epsilon: float,
) -> Array:
    mean, variance = (of_rank(inputs.ndim, each) for each in statistics)
    epsilon = check_positive("epsilon", epsilon)
    centred = inputs.astype(mean.dtype) - mean
    normal = centred * jax.lax.rsqrt(variance + epsilon)
    ys = add_bias(scaled(normal, params.scale), params.b).astype(inputs.dtype)
    return zero_where_masked(ys, valid)
