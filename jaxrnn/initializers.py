"""Initialisers of recurrent weights, gate by gate.

An initialiser is ``(key, shape, dtype) -> array``, as in ``jax.nn.initializers``,
and those can be passed to a cell (some of them not in 16 bits). The matrices of a cell
with G gates are stored side by side, ``(I, G * H)``; what is right for one matrix
(orthogonality, a fan-based scale) is wrong for their concatenation, so cells apply them
per gate.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.nn import initializers

from ._checks import check_floating
from ._descriptions.known import known
from ._descriptions.spec import described
from ._numerics.precision import accumulation_dtype
from ._options import check_function, check_key, check_shape, check_size
from ._typing import Array, DTypeLike, Key, Shape

Initializer: TypeAlias = Callable[[Key, Shape, DTypeLike], Array]

__all__ = ["Initializer", "glorot_uniform", "orthogonal", "per_gate"]


def _matrix_shape(shape: Shape) -> Shape:
    sizes = check_shape("shape", shape)
    if len(sizes) < 2:
        raise ValueError(f"shape must have at least two axes, got {sizes}")
    return sizes


@known
def glorot_uniform(key: Key, shape: Shape, dtype: DTypeLike | None = None) -> Array:
    """Draw uniformly on +-sqrt(6 / (fan_in + fan_out)).

    Args:
        key: a ``jax.random`` key.
        shape: ``(fan_in, fan_out)``; for kernels ``(*K, fan_in, fan_out)``, whose size
            both are multiplied by.
        dtype: floating dtype; None takes JAX's default.

    Returns:
        An array of ``shape``.

    References:
        Glorot and Bengio, Understanding the difficulty of training deep feedforward
        neural networks, 2010.
    """
    shape = _matrix_shape(shape)
    return _glorot_uniform(check_key("key", key), shape, check_floating("dtype", dtype))


@known
def orthogonal(key: Key, shape: Shape, dtype: DTypeLike | None = None) -> Array:
    """Draw a uniformly distributed orthogonal matrix.

    Args:
        key: a ``jax.random`` key.
        shape: ``(rows, columns)``; orthonormal along the shorter side.
        dtype: floating dtype; None takes JAX's default.

    Returns:
        An array of ``shape``.

    References:
        Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep
        linear neural networks, 2014.
    """
    shape = _matrix_shape(shape)
    return _orthogonal(check_key("key", key), shape, check_floating("dtype", dtype))


def drawn(
    name: str, initializer: Initializer, key: Key, shape: Shape, dtype: DTypeLike
) -> Array:
    """Call an initialiser, and check what it returns.

    Raises:
        ValueError: it returns another shape.
        TypeError: it returns no array of numbers.
    """
    values = jnp.asarray(initializer(key, shape, dtype))
    if values.shape != tuple(shape):
        raise ValueError(
            f"{name} must return an array of shape {tuple(shape)}, got shape "
            f"{values.shape}"
        )
    return values


@described
def per_gate(initializer: Initializer, num_gates: int) -> Initializer:
    """Draw each of ``num_gates`` blocks of columns on its own.

    Args:
        initializer: draws one gate's block ``(I, H)``.
        num_gates: G.

    Returns:
        An initialiser of shapes ``(I, G * H)``, or ``(*K, I, G * H)`` for kernels,
        which raises ValueError for others.

    Differs from Keras, whose orthogonal initialiser acts on the concatenation
    ``(H, 4 * H)``: its rows are orthonormal, its gate blocks are not orthogonal.

    >>> w = per_gate(orthogonal, 4)(jax.random.key(0), (3, 12), jnp.float32)
    >>> gate = w[:, 3:6]
    >>> float(abs(gate @ gate.T - jnp.eye(3, dtype=gate.dtype)).max()) < 1e-5
    True
    """
    check_function("initializer", initializer)
    num_gates = check_size("num_gates", num_gates)

    def init(key, shape, dtype):
        *leading, columns = shape
        if columns % num_gates:
            raise ValueError(
                f"shape must have a multiple of {num_gates} columns, got {shape}"
            )
        block = (*leading, columns // num_gates)
        keys = jax.random.split(key, num_gates)
        blocks = [drawn("initializer", initializer, k, block, dtype) for k in keys]
        return jnp.concatenate(blocks, axis=-1)

    return init


# One program for each shape: every operation that runs alone is compiled alone.
_glorot_uniform = jax.jit(initializers.glorot_uniform(), static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _orthogonal(key, shape, dtype):
    wide = initializers.orthogonal()(key, shape, accumulation_dtype(dtype))
    return wide.astype(dtype)
