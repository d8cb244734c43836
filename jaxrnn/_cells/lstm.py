"""Long short-term memory.

Forward, with ``s`` the logistic sigmoid and gates in the order i, f, g, o::

    a_x = x W_x                                 project
    a_i, a_f, a_g, a_o = split(a_x + h_prev W_h + b)
    i, f, o = s(a_i), s(a_f), s(a_o)
    g  = tanh(a_g)
    c  = f * c_prev + i * g
    m  = tanh(c)
    h  = o * m
    y  = h

Backward, with ``dh = dh' + dy``, and ``dh'``, ``dc'`` the cotangents from later::

    dc   = dc' + dh * o * (1 - m^2)
    da_i = dc * g      * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = dc * i      * (1 - g^2)
    da_o = dh * m      * o * (1 - o)
    dh_prev = da W_h^T
    dc_prev = dc * f

In one call for many steps, sums for the parameters and a ``dx`` for each step::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T

If the cell state is clipped at v, ``c = clip(f * c_prev + i * g, -v, v)``, and ``dc``
is zero at the entries that were clipped.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from .._base import Adjoint, Cell, Kernel
from .._descriptions.spec import described
from .._numerics.gate_activation import activate
from .._numerics.precision import (
    Product,
    add_bias,
    dot,
    dot_in_loop,
    dot_transposed,
    leading_sum,
    outer_sum,
    scaled,
)
from .._options import check_finite, check_positive, check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import draw_gates, project_inputs, step_of, zero_state

NUM_GATES, CANDIDATE = 4, 2


class LSTMParams(NamedTuple):
    """Parameters of :func:`lstm`; gates in the order i, f, g, o."""

    w_x: Array  # (I, 4H)
    w_h: Array  # (H, 4H)
    b: Array  # (4H,)


class LSTMState(NamedTuple):
    """State of :func:`lstm`."""

    h: Array  # (*B, H), the hidden state, which is also the output
    c: Array  # (*B, H), the cell state


class LSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    c_prev: Array
    i: Array
    f: Array
    g: Array
    o: Array


def lstm_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> LSTMParams:
    """Draw the weights gate by gate; the bias is zero but for the forget gate."""
    w_x, w_h = draw_gates(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        num_gates=NUM_GATES,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    b = jnp.zeros(w_x.shape[1:], w_x.dtype)
    return LSTMParams(
        w_x=w_x, w_h=w_h, b=b.at[hidden_size : 2 * hidden_size].set(forget_bias)
    )


def lstm_initial_state(params: LSTMParams, batch_shape: Shape = ()) -> LSTMState:
    """Zeros, each ``(*B, H)``."""
    h, c = (zero_state(params, batch_shape) for _ in range(2))
    return LSTMState(h=h, c=c)


def lstm_forward(
    params: LSTMParams,
    state: LSTMState,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
    candidate_scale: Array | None = None,
    cell_clip: float | None = None,
) -> tuple[LSTMState, Array, LSTMResidual]:
    """One step and its residual; dropout may scale the candidate g ``(*B, H)``."""
    h_prev, c_prev = state
    a = add_bias(a_x + recurrent_dot(h_prev, params.w_h), params.b)
    i, f, g, o = jnp.split(activate(a, NUM_GATES, CANDIDATE), NUM_GATES, axis=-1)
    c = f * c_prev + i * scaled(g, candidate_scale)
    if cell_clip is not None:
        c = jnp.clip(c, -cell_clip, cell_clip)
    m = jnp.tanh(c)
    h = o * m
    residual = LSTMResidual(h_prev=h_prev, c_prev=c_prev, i=i, f=f, g=g, o=o)
    return LSTMState(h=h, c=c), h.astype(params.w_h.dtype), residual


lstm_step = step_of(lstm_forward, recurrent_dot=dot)


def lstm_backward(
    params: LSTMParams,
    residual: LSTMResidual,
    dstate: LSTMState,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
    candidate_scale: Array | None = None,
    cell_clip: float | None = None,
) -> tuple[LSTMState, tuple[Array]]:
    """Pull cotangents back through one step; options match :func:`lstm_forward`."""
    # c and m are computed again rather than kept for all steps, as memory that is
    # touched for the first time costs more (docs/performance.md).
    _, c_prev, i, f, g, o = residual
    kept = scaled(g, candidate_scale)
    c = f * c_prev + i * kept
    m = jnp.tanh(c if cell_clip is None else jnp.clip(c, -cell_clip, cell_clip))
    dh = dstate.h + dy.astype(dstate.h.dtype)
    dc = dstate.c + dh * o * (1 - m * m)
    if cell_clip is not None:
        dc = jnp.where(abs(c) < cell_clip, dc, 0)
    da_i = dc * kept * i * (1 - i)
    da_f = dc * c_prev * f * (1 - f)
    da_g = scaled(dc * i, candidate_scale) * (1 - g * g)
    da_o = dh * m * o * (1 - o)
    da = jnp.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    return LSTMState(h=recurrent_dot_transposed(da, params.w_h), c=dc * f), (da,)


def lstm_accumulate(
    params: LSTMParams, xs: Array, residuals: LSTMResidual, da_xs: tuple[Array]
) -> tuple[LSTMParams, Array]:
    """Return the gradients of the parameters, summed over the steps, and ``dxs``."""
    (das,) = da_xs
    dparams = LSTMParams(
        w_x=outer_sum(xs, das, params.w_x),
        w_h=outer_sum(residuals.h_prev, das, params.w_h),
        b=leading_sum(das, params.b),
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    cell_clip: float | None = None,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Long short-term memory with forget gate, without peepholes.

    The state is :class:`LSTMState` ``(h, c)``; the output is ``h (*B, H)``.

    Args:
        hidden_size: H.
        forget_bias: initial bias of the forget gate, stored in ``b``; nothing is
            added at run time.
        cell_clip: bound at which entries of the cell state c are clipped, above and
            below. No gradient passes through a clipped entry. None does not clip.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`LSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1, or ``cell_clip`` is not positive.
        TypeError: ``hidden_size`` is not an int, or ``cell_clip`` is not a number.

    Differs from ``torch.nn.LSTM`` in having one bias, the sum of the two biases there,
    and transposed weights; the order of the gates is the same. Differs from Flax in
    the order of the state, which is ``(c, h)`` there.

    References:
        Hochreiter and Schmidhuber, Long short-term memory, 1997. Gers, Schmidhuber
        and Cummins, Learning to forget, 2000. Forget bias of 1: Jozefowicz et al.,
        An empirical exploration of recurrent network architectures, 2015.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> state.c.shape, y.shape
    ((3, 5), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    if cell_clip is not None:
        cell_clip = check_positive("cell_clip", cell_clip)
    options = {"cell_clip": cell_clip}
    return Cell(
        init=functools.partial(
            lstm_init,
            hidden_size=hidden_size,
            forget_bias=check_finite("forget_bias", forget_bias),
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=lstm_initial_state,
        project=project_inputs,
        step=functools.partial(lstm_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(lstm_forward, **options),
            backward=functools.partial(lstm_backward, **options),
            accumulate=lstm_accumulate,
        ),
        kernel=Kernel("lstm", num_kept=5, option=cell_clip or 0.0),
    )
