"""Convolutional GRU: its gates at a spatial position see the neighbourhood.

Forward, where ``*`` between an image and a kernel is the convolution with zero padding,
and everything else is as in :mod:`jaxrnn._cells.gru`::

    a_x = x * W_x                               project
    a_h = h_prev * W_h + b_h

Backward as in that module, except that the transposed product is the convolution with
the flipped kernel, and that the gradient of a kernel is a sum over all spatial
positions::

    dh_prev = dh * z + da_h * flipped(W_h)
    dW_h[r] = sum h_prev[p + r]^T da_h[p]       over t, batch entries and positions p
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_kernel
from .._descriptions.spec import described
from .._numerics.convolution import convolve, convolve_transposed, kernel_sum
from .._numerics.precision import leading_sum
from .._options import check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, per_gate
from ._shared import batch_zeros, checked_init, step_of
from .conv_lstm import conv_project
from .gru import (
    NUM_GATES,
    GRUParams,
    GRUResidual,
    gates_and_candidate,
    gru_backward,
    gru_forward,
)


def conv_gru_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    kernel_shape: Shape,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
) -> GRUParams:
    """Draw the kernels gate by gate; the biases are zero."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_h = jax.random.split(key)
    width = NUM_GATES * hidden_size
    draw_x, draw_h = (per_gate(each, NUM_GATES) for each in (w_x_init, w_h_init))
    return GRUParams(
        w_x=draw_x(key_x, (*kernel_shape, input_size, width), float_dtype),
        w_h=draw_h(key_h, (*kernel_shape, hidden_size, width), float_dtype),
        b=jnp.zeros((width,), float_dtype),
        b_h=jnp.zeros((width,), float_dtype),
    )


def conv_gru_initial_state(
    params: GRUParams, batch_shape: Shape = (), *, spatial_shape: Shape
) -> Array:
    """Zeros ``(*B, *S, H)``."""
    shape = (*spatial_shape, params.w_h.shape[-2])
    return batch_zeros(shape, batch_shape, params.w_h.dtype)


def conv_gru_forward(
    params: GRUParams,
    state: Array,
    a_x: Array,
    *,
    candidate_scale: Array | None = None,
) -> tuple[Array, Array, GRUResidual]:
    """One step and its residual; dropout may scale the candidate."""
    options = {"candidate_scale": candidate_scale, "recurrent_dot": convolve}
    return gru_forward(params, state, a_x, **options)


conv_gru_step = step_of(conv_gru_forward)


def conv_gru_backward(
    params: GRUParams,
    residual: GRUResidual,
    dstate: Array,
    dy: Array,
    *,
    candidate_scale: Array | None = None,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step, with the option of :func:`conv_gru_forward`."""
    return gru_backward(
        params,
        residual,
        dstate,
        dy,
        candidate_scale=candidate_scale,
        recurrent_dot_transposed=convolve_transposed,
    )


def conv_gru_accumulate(
    params: GRUParams, xs: Array, residuals: GRUResidual, da_xs: tuple[Array]
) -> tuple[GRUParams, Array]:
    """Kernel gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    da_rz, da_n = gates_and_candidate(das)
    da_hs = jnp.concatenate([da_rz, residuals.r * da_n], axis=-1)
    dparams = GRUParams(
        w_x=kernel_sum(xs, das, params.w_x),
        w_h=kernel_sum(residuals.h_prev, da_hs, params.w_h),
        b=leading_sum(das, params.b),
        b_h=leading_sum(da_hs, params.b_h),
    )
    return dparams, convolve_transposed(das, params.w_x).astype(xs.dtype)


@described
def conv_gru(
    hidden_size: int,
    kernel_shape: Sequence[int],
    spatial_shape: Sequence[int],
    *,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
) -> Cell:
    """Convolutional GRU in one, two or three spatial dimensions.

    Inputs are ``(*B, *S, I)``, channels last, and outputs ``(*B, *S, H)``, which are
    the state. One convolution before the loop covers the inputs of all steps.

    Args:
        hidden_size: H, the number of channels.
        kernel_shape: K, an odd size for each spatial axis.
        spatial_shape: S, the sizes of these axes. No parameter depends on it.
        w_x_init: initialiser of one gate's kernel ``(*K, I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's kernel ``(*K, H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`GRUParams`: ``w_x (*K, I, 3H)``,
        ``w_h (*K, H, 3H)``, ``b (3H,)`` and ``b_h (3H,)``; gates in the order r, z, n.

    Raises:
        ValueError: a size is below 1, a kernel size is even, or ``kernel_shape`` and
            ``spatial_shape`` do not have the same number of sizes, one to three.
        TypeError: a size is not an int.

    The paper resets before the product. This cell resets after it, as the GRU of torch
    and cuDNN does, so that a step has one convolution. torch, Keras and Flax have no
    such cell.

    References:
        Ballas et al., Delving deeper into convolutional networks for learning video
        representations, 2016.

    >>> cell = conv_gru(5, kernel_shape=(3,), spatial_shape=(8,))
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (4,))
    >>> signals = jnp.ones((4, 8, 2))
    >>> state, y = cell.step(params, state, cell.project(params, signals))
    >>> params.w_h.shape, y.shape
    ((3, 5, 15), (4, 8, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    kernel, space = check_kernel(kernel_shape, spatial_shape)
    return Cell(
        init=functools.partial(
            conv_gru_init,
            hidden_size=hidden_size,
            kernel_shape=kernel,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=functools.partial(conv_gru_initial_state, spatial_shape=space),
        project=functools.partial(conv_project, spatial_shape=space),
        step=conv_gru_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=conv_gru_forward,
            backward=conv_gru_backward,
            accumulate=conv_gru_accumulate,
        ),
        spatial_shape=space,
    )
