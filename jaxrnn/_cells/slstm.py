"""LSTM with exponential gates and a stabiliser (sLSTM).

Forward, with ``s`` the logistic sigmoid, ``l`` its logarithm, and gates in the order
i, f, g, o. ``e = l`` for a sigmoid forget gate, ``e(a) = a`` for an exponential one::

    a_x = x W_x                                 project
    a_i, a_f, a_g, a_o = split(a_x + h_prev W_h + b)
    t   = e(a_f) + m_prev
    m   = max(t, a_i)                           a_i where n_prev = 0
    i   = exp(a_i - m)
    f   = exp(t - m)                            0 where n_prev = 0
    g   = tanh(a_g)        o = s(a_o)
    c   = f * c_prev + i * g
    n   = f * n_prev + i
    h   = o * c / n
    y   = h

The true cell state is ``c exp(m)`` and the true normaliser ``n exp(m)``: ``m`` keeps
both in range, and leaves ``h`` as it is. A row whose normaliser is zero has seen
nothing yet; its ``m`` means nothing then.

Backward, with ``dh = dh' + dy``, and ``dh'``, ``dc'``, ``dn'``, ``dm'`` the cotangents
from later, and ``w`` 1 where ``m = t`` and 0 where ``m = a_i``::

    da_o = dh * (c / n) * o * (1 - o)
    dc   = dc' + dh * o / n
    dn   = dn' - dh * h / n
    di   = i * (dc * g + dn)                    of a_i - m
    df   = f * (dc * c_prev + dn * n_prev)      of t - m
    dm   = dm' - di - df
    da_i = di + (1 - w) * dm
    dt   = df + w * dm
    da_f = dt * e'(a_f)                         s(-a_f), or 1
    da_g = dc * i * (1 - g^2)
    dh_prev = da W_h^T
    dc_prev = dc * f      dn_prev = dn * f      dm_prev = dt

Accumulated over all steps::

    dW_x = sum x^T da        dW_h = sum h_prev^T da
    db   = sum da            dx   = da W_x^T
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._descriptions.spec import described
from .._numerics.precision import (
    Product,
    add_bias,
    dot,
    dot_in_loop,
    dot_transposed,
)
from .._options import check_bool, check_size
from .._typing import Array, Shape
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import project_inputs, step_of, zero_state
from .lstm import NUM_GATES, LSTMParams, lstm_accumulate, lstm_init


class SLSTMState(NamedTuple):
    """State of :func:`slstm`."""

    h: Array  # (*B, H), the hidden state, which is also the output; as all below
    c: Array  # the cell state, divided by exp(m)
    n: Array  # the normaliser, divided by exp(m); 0 in a fresh row, else positive
    m: Array  # the stabiliser


class SLSTMResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    c_prev: Array
    n_prev: Array
    i: Array
    f: Array
    g: Array
    o: Array
    a_f: Array
    held: Array  # bool, where m is that of the state before


def slstm_initial_state(params: LSTMParams, batch_shape: Shape = ()) -> SLSTMState:
    """Zeros, each ``(*B, H)``."""
    return SLSTMState(*(zero_state(params, batch_shape) for _ in range(4)))


def slstm_forward(
    params: LSTMParams,
    state: SLSTMState,
    a_x: Array,
    *,
    exponential: bool = False,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[SLSTMState, Array, SLSTMResidual]:
    """One step and its residual."""
    h_prev, c_prev, n_prev, m_prev = state
    a = add_bias(a_x + recurrent_dot(h_prev, params.w_h), params.b)
    a_i, a_f, a_g, a_o = jnp.split(a, NUM_GATES, axis=-1)
    g, o = jnp.tanh(a_g), jax.nn.sigmoid(a_o)
    t = (a_f if exponential else jax.nn.log_sigmoid(a_f)) + m_prev
    seen = n_prev != 0
    held = seen & (t >= a_i)
    m = jnp.where(held, t, a_i)
    i = jnp.exp(a_i - m)
    f = jnp.where(seen, jnp.exp(jnp.where(seen, t - m, 0)), 0)
    c, n = f * c_prev + i * g, f * n_prev + i
    h = o * c / n
    residual = SLSTMResidual(h_prev, c_prev, n_prev, i, f, g, o, a_f, held)
    return SLSTMState(h=h, c=c, n=n, m=m), h.astype(params.w_h.dtype), residual


slstm_step = step_of(slstm_forward, recurrent_dot=dot)


def slstm_backward(
    params: LSTMParams,
    residual: SLSTMResidual,
    dstate: SLSTMState,
    dy: Array,
    *,
    exponential: bool = False,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[SLSTMState, tuple[Array]]:
    """Transpose of one step, with the options of :func:`slstm_forward`."""
    _, c_prev, n_prev, i, f, g, o, a_f, held = residual
    c, n = f * c_prev + i * g, f * n_prev + i
    dh = dstate.h + dy.astype(dstate.h.dtype)
    da_o = dh * (c / n) * o * (1 - o)
    dc = dstate.c + dh * o / n
    dn = dstate.n - dh * o * c / (n * n)
    di = i * (dc * g + dn)
    df = f * (dc * c_prev + dn * n_prev)
    dm = dstate.m - di - df
    da_i = di + jnp.where(held, 0, dm)
    dt = df + jnp.where(held, dm, 0)
    da_f = dt if exponential else dt * jax.nn.sigmoid(-a_f)
    da_g = dc * i * (1 - g * g)
    da = jnp.concatenate([da_i, da_f, da_g, da_o], axis=-1)
    dprevious = SLSTMState(
        h=recurrent_dot_transposed(da, params.w_h), c=dc * f, n=dn * f, m=dt
    )
    return dprevious, (da,)


@described
def slstm(
    hidden_size: int,
    *,
    exponential: bool = False,
    forget_bias: float = 1.0,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """LSTM with an exponential input gate and a normaliser (sLSTM).

    The state is :class:`SLSTMState` ``(h, c, n, m)``; the output is ``h (*B, H)``. New
    content may outweigh the old content of the cell by any factor, so the cell can
    revise what it stored. The paper's heads are :func:`jaxrnn.multihead`; its
    convolution, normalisation and projections are layers around the cell.

    Args:
        hidden_size: H.
        exponential: if True, the forget gate is exponential too; if False, a sigmoid.
        forget_bias: initial bias of the forget gate, stored in ``b``.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`LSTMParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    Differs from the authors' code, which tests the whole batch for a fresh state. Here
    each batch entry is tested, so entries can be reset one by one. torch, Keras and
    Flax have no such cell.

    References:
        Beck et al., xLSTM: extended long short-term memory, 2024.

    >>> cell = slstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> state.n.shape, y.shape
    ((3, 5), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    options = {"exponential": check_bool("exponential", exponential)}
    return Cell(
        init=functools.partial(
            lstm_init,
            hidden_size=hidden_size,
            forget_bias=forget_bias,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=slstm_initial_state,
        project=project_inputs,
        step=functools.partial(slstm_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(slstm_forward, **options),
            backward=functools.partial(slstm_backward, **options),
            accumulate=lstm_accumulate,
        ),
    )
