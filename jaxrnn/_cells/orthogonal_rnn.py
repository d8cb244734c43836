"""A simple recurrent network whose recurrent matrix stays orthogonal.

Forward, with ``s`` any activation::

    A   = W_h - W_h^T
    Q   = exp(A)  or  (I - A / 2)^-1 (I + A / 2)        once for all steps
    a_x = x W_x                                         project
    h   = s(a_x + h_prev Q + b)
    y   = h

``A`` is antisymmetric, so that ``Q`` is orthogonal for any ``W_h``: the exponential
map, or the Cayley transform. Backward it is the network of Elman, with the cotangent
``dQ`` that this gives; what is before it, JAX differentiates.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from .._base import Cell
from .._cell_wrappers.reparametrized import reparametrized
from .._descriptions.known import known
from .._descriptions.spec import described
from .._numerics.activation import Activation
from .._numerics.precision import accumulation_dtype
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform
from .elman import ElmanParams, elman


@known
def exponential_map(w: Array) -> Array:
    """Matrix exponential ``exp(w - w^T)``, which reaches every rotation.

    Args:
        w: any square matrix ``(H, H)``.

    Returns:
        An orthogonal matrix ``(H, H)``, of determinant 1.

    References:
        Lezcano-Casado and Martínez-Rubio, Cheap orthogonal constraints in neural
        networks, 2019.
    """
    return jax.scipy.linalg.expm(w - w.T)


@known
def cayley_transform(w: Array) -> Array:
    """Cayley transform ``(I - A / 2)^-1 (I + A / 2)`` with ``A = w - w^T``.

    Args:
        w: any square matrix ``(H, H)``.

    Returns:
        An orthogonal matrix ``(H, H)``, without -1 among its eigenvalues.

    References:
        Helfrich, Willmott and Ye, Orthogonal recurrent neural networks with scaled
        Cayley transform, 2018.
    """
    half = (w - w.T) / 2
    one = jnp.eye(len(w), dtype=w.dtype)
    return jnp.linalg.solve(one - half, one + half)


@known
def random_rotations(key: Key, shape: Shape, dtype: DTypeLike) -> Array:
    """Draw w such that ``exp(w - w^T)`` rotates pairs of units by random angles.

    References:
        Henaff, Szlam and LeCun, Recurrent orthogonal networks and long-memory tasks,
        2016.
    """
    size = shape[0]
    angles = jax.random.uniform(key, (size // 2,), dtype, -jnp.pi, jnp.pi)
    first = 2 * jnp.arange(size // 2)
    return jnp.zeros(shape, dtype).at[first, first + 1].set(angles)


@described
def orthogonal_rnn(
    hidden_size: int,
    *,
    map_fn: Callable[[Array], Array] = exponential_map,
    activation: Activation = jnp.tanh,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = random_rotations,
) -> Cell:
    """Simple recurrent cell ``h = s(x W_x + h_prev Q + b)`` with an orthogonal Q.

    ``Q = map_fn(W_h)`` stays orthogonal, up to rounding, whatever an optimiser does to
    ``W_h``. So the product with Q neither shrinks nor stretches the state. An unroll
    computes Q once for all steps; streaming computes it in every step. The state is
    ``h (*B, H)`` and so is the output.

    Args:
        hidden_size: H.
        map_fn: function of a matrix ``(H, H)`` to an orthogonal one, such as
            :func:`exponential_map` or :func:`cayley_transform`. The initial angles are
            uniform with the former, and nearer to 0 with the latter.
        activation: s, any function of arrays.
        w_x_init: initialiser of ``w_x (I, H)``.
        w_h_init: initialiser of ``w_h (H, H)``, from which Q is made.

    Returns:
        A :class:`Cell` with parameters :class:`ElmanParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, ``activation`` is not callable, or
            ``map_fn`` is not a function from a matrix to a matrix of the same size.

    torch, Keras and Flax have no such cell; ``torch.nn.utils.parametrizations`` has the
    same maps.

    References:
        Lezcano-Casado and Martínez-Rubio, Cheap orthogonal constraints in neural
        networks, 2019. Arjovsky, Shah and Bengio, Unitary evolution recurrent neural
        networks, 2016.

    >>> cell = orthogonal_rnn(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> y.shape
    (3, 5)
    """
    if not callable(map_fn):
        raise TypeError(f"map_fn must be a function of a matrix, got {map_fn!r}")

    def weights(params: ElmanParams) -> ElmanParams:
        w = params.w_h
        q = jnp.asarray(map_fn(w.astype(accumulation_dtype(w.dtype))))
        return params._replace(w_h=q.astype(w.dtype))

    cell = elman(
        hidden_size, activation=activation, w_x_init=w_x_init, w_h_init=w_h_init
    )
    return reparametrized(cell, weights)
