"""The linear recurrent unit: decaying rotations.

Forward, on pairs of real and imaginary parts, ``h = (r, j)``, with a rotation by
``phi`` and a decay ``m`` for each, ``k = m (cos(phi) + i sin(phi)) = p + i q``::

    m   = exp(-exp(nu))        phi = exp(theta)
    a_x = exp(gamma) * (x W_x)                  project, both parts side by side
    r   = p * r_prev - q * j_prev + a_x_r
    j   = q * r_prev + p * j_prev + a_x_j
    y   = h

Backward, with ``dh = dh' + dy = (dr, dj)``, ``dh'`` the cotangent from later::

    da_x    = dh
    dr_prev = p * dr + q * dj
    dj_prev = p * dj - q * dr

Accumulated over all steps, with ``V = sum x^T da_x``::

    dp = sum dr * r_prev + dj * j_prev          dq = sum dj * r_prev - dr * j_prev
    dnu    = -exp(nu) (p dp + q dq)             dtheta = phi (p dq - q dp)
    dgamma = exp(gamma) sum V * W_x             over inputs and both parts
    dW_x   = exp(gamma) V                       dx = (exp(gamma) da_x) W_x^T
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Adjoint, Cell
from .._descriptions.known import known
from .._descriptions.spec import described
from .._numerics.precision import (
    accumulation_dtype,
    dot_transposed,
    leading_sum,
    of_rank,
    outer_sum,
    scaled,
)
from .._options import check_rate, check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, per_gate
from ._shared import batch_zeros, checked_init, project_inputs, step_of


class LRUParams(NamedTuple):
    """Parameters of :func:`lru`."""

    nu: Array  # (H,), logarithm of minus the logarithm of the decay
    theta: Array  # (H,), logarithm of the angle of a step
    gamma: Array  # (H,), logarithm of what the input is scaled by
    w_x: Array  # (I, 2H), real parts first


class LRUResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, 2H)


@known
def fan_in_normal(key: Key, shape: Shape, dtype: DTypeLike) -> Array:
    """Draw real numbers from a normal distribution of variance ``1 / (2 I)``."""
    scale = jnp.asarray(1 / math.sqrt(2 * shape[0]), dtype)
    return jax.random.normal(key, shape, dtype) * scale


def lru_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    least_decay: float = 0.0,
    most_decay: float = 0.999,
    w_x_init: Initializer = fan_in_normal,
) -> LRUParams:
    """Draw decays and angles uniformly in a ring of the complex plane."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    wide = accumulation_dtype(float_dtype)
    key_m, key_phi, key_x = jax.random.split(key, 3)
    # Uniform in area means that the squares of the moduli are uniform.
    tiny = jnp.finfo(wide).tiny
    low, high = max(least_decay**2, tiny), most_decay**2
    squared = jax.random.uniform(key_m, (hidden_size,), wide, low, high)
    angle = jax.random.uniform(key_phi, (hidden_size,), wide, tiny, 2 * math.pi)
    return LRUParams(
        nu=jnp.log(-0.5 * jnp.log(squared)).astype(float_dtype),
        theta=jnp.log(angle).astype(float_dtype),
        gamma=(0.5 * jnp.log1p(-squared)).astype(float_dtype),
        w_x=per_gate(w_x_init, 2)(key_x, (input_size, 2 * hidden_size), float_dtype),
    )


def lru_initial_state(params: LRUParams, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, 2H)``."""
    return batch_zeros(params.w_x.shape[1:], batch_shape, params.w_x.dtype)


def _input_scale(params: LRUParams) -> Array:
    gamma = params.gamma.astype(accumulation_dtype(params.gamma.dtype))
    return jnp.tile(jnp.exp(gamma), 2)


def lru_project(params: LRUParams, xs: Array) -> Array:
    """``exp(gamma) * (xs W_x)``, shape ``(..., 2H)``."""
    return scaled(project_inputs(params, xs), _input_scale(params))


def _rotation(params: LRUParams, rank: int) -> tuple[Array, Array]:
    """Return the decay, real part ``p``, imaginary part ``q``, with ``rank`` axes."""
    dtype = accumulation_dtype(params.nu.dtype)
    nu, theta = (of_rank(rank, each) for each in (params.nu, params.theta))
    m = jnp.exp(-jnp.exp(nu.astype(dtype)))
    phi = jnp.exp(theta.astype(dtype))
    return m * jnp.cos(phi), m * jnp.sin(phi)


def lru_coefficients(params: LRUParams, a_xs: Array) -> tuple[Array, Array]:
    """Return the complex decay ``k (..., H)`` and drive ``(..., H)`` of all steps."""
    return lax.complex(*_rotation(params, a_xs.ndim)), lax.complex(
        *jnp.split(a_xs, 2, axis=-1)
    )


def lru_forward(
    params: LRUParams, state: Array, a_x: Array
) -> tuple[Array, Array, LRUResidual]:
    """One step and its residual."""
    p, q = _rotation(params, state.ndim)
    r, j = jnp.split(state, 2, axis=-1)
    h = jnp.concatenate([p * r - q * j, q * r + p * j], axis=-1) + a_x
    return h, h.astype(params.w_x.dtype), LRUResidual(h_prev=state)


lru_step = step_of(lru_forward)


def lru_backward(
    params: LRUParams, residual: LRUResidual, dstate: Array, dy: Array
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    p, q = _rotation(params, dstate.ndim)
    dh = dstate + dy.astype(dstate.dtype)
    dr, dj = jnp.split(dh, 2, axis=-1)
    return jnp.concatenate([p * dr + q * dj, p * dj - q * dr], axis=-1), (dh,)


def lru_accumulate(
    params: LRUParams, xs: Array, residuals: LRUResidual, da_xs: tuple[Array]
) -> tuple[LRUParams, Array]:
    """Parameter gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    r, j = jnp.split(residuals.h_prev, 2, axis=-1)
    dr, dj = jnp.split(das, 2, axis=-1)
    p, q = _rotation(params, 1)
    dp = leading_sum(dr * r + dj * j, p)
    dq = leading_sum(dj * r - dr * j, q)
    scale = _input_scale(params)
    wide = params.w_x.astype(scale.dtype)
    v = outer_sum(xs, das, wide)
    dgamma = scale * (v * wide).sum(axis=0)
    nu, theta = params.nu.astype(p.dtype), params.theta.astype(p.dtype)
    dparams = LRUParams(
        nu=-jnp.exp(nu) * (p * dp + q * dq),
        theta=jnp.exp(theta) * (p * dq - q * dp),
        gamma=dgamma.reshape(2, -1).sum(axis=0),
        w_x=scaled(v, scale),
    )
    dparams = jax.tree.map(lambda d, leaf: d.astype(leaf.dtype), dparams, params)
    return dparams, dot_transposed(scaled(das, scale), params.w_x).astype(xs.dtype)


@described
def lru(
    hidden_size: int,
    *,
    least_decay: float = 0.0,
    most_decay: float = 0.999,
    w_x_init: Initializer = fan_in_normal,
) -> Cell:
    """Linear recurrent unit: ``h = k h_prev + exp(gamma) (x W_x)``, complex, diagonal.

    The state is one real array ``(*B, 2H)``, real parts first, and so is the output. A
    step is linear in the state: :func:`jaxrnn.unroll_associative` runs it without a
    loop over time. The paper's readout, the real part of a product with a complex
    matrix, is a :func:`jaxrnn.dense` after it, which reads both parts.

    Args:
        hidden_size: H, the number of complex units.
        least_decay: smallest initial modulus of ``k``, r_min of the paper.
        most_decay: largest initial modulus of ``k``, r_max of the paper. It is below 1;
            the nearer to 1, the longer the memory.
        w_x_init: initialiser of one part ``(I, H)`` of ``w_x``.

    Returns:
        A :class:`Cell` with parameters :class:`LRUParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1, a decay is not in [0, 1), or
            ``least_decay`` is not below ``most_decay``.
        TypeError: ``hidden_size`` is not an int, or a decay is not a number.

    torch, Keras and Flax have no such cell.

    References:
        Orvieto et al., Resurrecting recurrent neural networks for long sequences, 2023.

    >>> cell = lru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_x.shape, y.shape
    ((2, 10), (3, 10))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    least = check_rate("least_decay", least_decay)
    most = check_rate("most_decay", most_decay)
    if least >= most:
        raise ValueError(
            f"most_decay must be above least_decay = {least}, got {most_decay!r}"
        )
    return Cell(
        init=functools.partial(
            lru_init,
            hidden_size=hidden_size,
            least_decay=least,
            most_decay=most,
            w_x_init=w_x_init,
        ),
        initial_state=lru_initial_state,
        project=lru_project,
        step=lru_step,
        output_size=2 * hidden_size,
        adjoint=Adjoint(
            forward=lru_forward, backward=lru_backward, accumulate=lru_accumulate
        ),
        coefficients=lru_coefficients,
    )
