"""Convolutional LSTM: its gates at a spatial position see the neighbourhood.

Forward, where ``*`` between an image and a kernel is the convolution with zero padding,
and everything else is as in :mod:`jaxrnn._cells.lstm`::

    a_x = x * W_x                               project
    a_i, a_f, a_g, a_o = split(a_x + h_prev * W_h + b)

Backward as in that module, except that the transposed product is the convolution with
the flipped kernel, and that the gradient of a kernel is a sum over all spatial
positions::

    dh_prev = da * flipped(W_h)
    dW_h[r] = sum h_prev[p + r]^T da[p]         over t, batch entries and positions p
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_images, check_kernel
from .._descriptions.spec import described
from .._numerics.convolution import convolve, convolve_transposed, kernel_sum
from .._numerics.precision import leading_sum
from .._options import check_finite, check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, per_gate
from ._shared import batch_zeros, checked_init, step_of
from .lstm import (
    NUM_GATES,
    LSTMParams,
    LSTMResidual,
    LSTMState,
    lstm_backward,
    lstm_forward,
)


def conv_lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    kernel_shape: Shape,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
) -> LSTMParams:
    """Draw the kernels gate by gate; the bias is zero but for the forget gate."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_h = jax.random.split(key)
    width = NUM_GATES * hidden_size
    draw_x, draw_h = (per_gate(each, NUM_GATES) for each in (w_x_init, w_h_init))
    b = jnp.zeros((width,), float_dtype)
    return LSTMParams(
        w_x=draw_x(key_x, (*kernel_shape, input_size, width), float_dtype),
        w_h=draw_h(key_h, (*kernel_shape, hidden_size, width), float_dtype),
        b=b.at[hidden_size : 2 * hidden_size].set(forget_bias),
    )


def conv_lstm_initial_state(
    params: LSTMParams, batch_shape: Shape = (), *, spatial_shape: Shape
) -> LSTMState:
    """Zeros, each ``(*B, *S, H)``."""
    shape = (*spatial_shape, params.w_h.shape[-2])
    h, c = (batch_zeros(shape, batch_shape, params.w_h.dtype) for _ in range(2))
    return LSTMState(h=h, c=c)


def conv_project(params: LSTMParams, xs: Array, *, spatial_shape: Shape) -> Array:
    """``xs * W_x``, shape ``(..., *S, 4H)``."""
    check_images("xs", xs, spatial_shape, params.w_x.shape[-2], params.w_x.dtype)
    return convolve(xs, params.w_x)


def conv_lstm_forward(
    params: LSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    candidate_scale: Array | None = None,
) -> tuple[LSTMState, Array, LSTMResidual]:
    """One step and its residual; dropout may scale the candidate."""
    options = {"candidate_scale": candidate_scale, "recurrent_dot": convolve}
    return lstm_forward(params, state, a_x, **options)


conv_lstm_step = step_of(conv_lstm_forward)


def conv_lstm_backward(
    params: LSTMParams,
    residual: LSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    candidate_scale: Array | None = None,
) -> tuple[LSTMState, tuple[Array]]:
    """Transpose of one step, with the option of :func:`conv_lstm_forward`."""
    return lstm_backward(
        params,
        residual,
        dstate,
        dy,
        candidate_scale=candidate_scale,
        recurrent_dot_transposed=convolve_transposed,
    )


def conv_lstm_accumulate(
    params: LSTMParams, xs: Array, residuals: LSTMResidual, da_xs: tuple[Array]
) -> tuple[LSTMParams, Array]:
    """Kernel gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = LSTMParams(
        w_x=kernel_sum(xs, das, params.w_x),
        w_h=kernel_sum(residuals.h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
    )
    return dparams, convolve_transposed(das, params.w_x).astype(xs.dtype)


@described
def conv_lstm(
    hidden_size: int,
    kernel_shape: Sequence[int],
    spatial_shape: Sequence[int],
    *,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = glorot_uniform,
) -> Cell:
    """Convolutional LSTM in one, two or three spatial dimensions.

    Inputs are ``(*B, *S, I)``, channels last, and outputs ``h (*B, *S, H)``: sequences
    of signals, images or volumes. The state is ``LSTMState(h, c)`` of such arrays. One
    convolution before the loop covers the inputs of all steps.

    Args:
        hidden_size: H, the number of channels.
        kernel_shape: K, an odd size for each spatial axis.
        spatial_shape: S, the sizes of these axes. Parameters do not depend on it, so a
            cell of another shape can use them.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's kernel ``(*K, I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's kernel ``(*K, H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`LSTMParams`: ``w_x (*K, I, 4H)``,
        ``w_h (*K, H, 4H)`` and ``b (4H,)``; gates in the order i, f, g, o.

    Raises:
        ValueError: a size is below 1, a kernel size is even, or ``kernel_shape`` and
            ``spatial_shape`` do not have the same number of sizes, one to three.
        TypeError: a size is not an int.

    Differs from the paper in having no peepholes. Differs from Keras's ``ConvLSTM2D``,
    which has none either, in always padding the convolution and having no stride; from
    Flax's ``ConvLSTMCell`` in the order of the state, which is ``(c, h)`` there.

    References:
        Shi et al., Convolutional LSTM network: a machine learning approach for
        precipitation nowcasting, 2015.

    >>> cell = conv_lstm(5, kernel_shape=(3, 3), spatial_shape=(8, 6))
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (4,))
    >>> images = jnp.ones((4, 8, 6, 2))
    >>> state, y = cell.step(params, state, cell.project(params, images))
    >>> params.w_h.shape, y.shape
    ((3, 3, 5, 20), (4, 8, 6, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    kernel, space = check_kernel(kernel_shape, spatial_shape)
    return Cell(
        init=functools.partial(
            conv_lstm_init,
            hidden_size=hidden_size,
            kernel_shape=kernel,
            forget_bias=check_finite("forget_bias", forget_bias),
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=functools.partial(conv_lstm_initial_state, spatial_shape=space),
        project=functools.partial(conv_project, spatial_shape=space),
        step=conv_lstm_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=conv_lstm_forward,
            backward=conv_lstm_backward,
            accumulate=conv_lstm_accumulate,
        ),
        spatial_shape=space,
    )
