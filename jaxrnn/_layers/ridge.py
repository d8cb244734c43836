"""A linear readout in closed form."""

import math

import jax.numpy as jnp

from .._checks import check_flags, check_sequence
from .._numerics.precision import accumulation_dtype
from .._options import check_positive
from .._typing import Array, ArrayLike
from .time_distributed import DenseParams


def ridge_readout(
    features: ArrayLike,
    targets: ArrayLike,
    *,
    penalty: float,
    mask: ArrayLike | None = None,
) -> DenseParams:
    """Fit a :func:`jaxrnn.dense` by ridge regression.

    The result minimises the sum of squared errors plus ``penalty`` times the sum of
    squared weights. The bias is not penalised.

    Args:
        features: ``(T, *B, F)``, for instance the states of :func:`jaxrnn.echo_state`.
        targets: ``(T, *B, O)``, in the dtype of ``features``.
        penalty: number above 0; it keeps weights small if features are nearly linearly
            dependent.
        mask: bool ``(T, *B)``; masked steps do not count. Use it to drop the washout,
            the initial transient of a reservoir.

    Returns:
        ``DenseParams`` with ``w (F, O)`` and ``b (O,)``.

    Raises:
        ValueError: shapes do not fit, no step counts, or ``penalty`` is not positive.
        TypeError: dtypes do not fit, or ``mask`` is not boolean.

    References:
        Hoerl and Kennard, Ridge regression: biased estimation for nonorthogonal
        problems, 1970.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.echo_state(50)
    >>> params = cell.init(jax.random.key(0), 1)
    >>> xs = jnp.sin(jnp.arange(300.0) / 5)[:, None]
    >>> _, states = jaxrnn.unroll(cell, params, xs[:-1])
    >>> readout = ridge_readout(states[50:], xs[51:], penalty=1e-4)
    >>> _, ys = jaxrnn.dense(1).apply(readout, states[50:])
    >>> bool(abs(ys - xs[51:]).max() < 0.05)
    True
    """
    x, y = check_sequence("features", features), check_sequence("targets", targets)
    if y.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"targets must have the steps and rows of features, {x.shape[:-1]}, got "
            f"shape {y.shape}"
        )
    if y.dtype != x.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            "features and targets must have one floating dtype, got "
            f"{x.dtype.name} and {y.dtype.name}"
        )
    if not math.prod(x.shape[:-1]):
        raise ValueError(f"features must have at least one step, got shape {x.shape}")
    ridge = check_positive("penalty", penalty)
    valid = check_flags("mask", mask, x.shape[:-1])
    counted = jnp.ones(x.shape[:-1], bool) if valid is None else valid
    dtype = x.dtype
    x, x_mean = _centred(x.astype(accumulation_dtype(dtype)), counted)
    y, y_mean = _centred(y.astype(accumulation_dtype(dtype)), counted)
    # Not by x^T x: its condition number is the square of the condition number of x.
    u, s, vt = jnp.linalg.svd(x, full_matrices=False)
    shrunk = s / (s * s + ridge)
    w = vt.T @ (shrunk[:, None] * (u.T @ y))
    return DenseParams(w=w.astype(dtype), b=(y_mean - x_mean @ w).astype(dtype))


def _centred(values: Array, counted: Array) -> tuple[Array, Array]:
    """Subtract the mean of the counted rows; return centred rows and mean."""
    values = jnp.where(counted[..., None], values, 0).reshape(-1, values.shape[-1])
    counted = counted.reshape(-1, 1)
    mean = values.sum(axis=0) / jnp.maximum(counted.sum(), 1).astype(values.dtype)
    return jnp.where(counted, values - mean[None], 0), mean
