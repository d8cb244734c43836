"""minGRU: a gated recurrent unit whose gate sees only the input.

Forward, with ``s`` the logistic sigmoid, ``g`` any activation, and blocks in the order
z, n::

    a_x = x W_x                                 project
    z   = s(a_x_z + b_z)
    n   = g(a_x_n + b_n)
    h   = (1 - z) * h_prev + z * n
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent of ``h`` from later::

    da_z    = dh * (n - h_prev) * z * (1 - z)
    da_n    = g'(a_n) * dh * z
    dh_prev = dh * (1 - z)

Accumulated over all steps::

    dW_x = sum x^T da        db = sum da        dx = da W_x^T

As no product with ``h_prev`` is in a step, it is linear: ``1 - z`` is the decay and
``z * n`` the drive of :func:`jaxrnn.unroll_associative`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._checks import check_activation
from .._descriptions.spec import described
from .._numerics.activation import Activation, activation_transposed, identity, kept_of
from .._numerics.precision import (
    add_bias,
    dot_transposed,
    leading_sum,
    outer_sum,
)
from .._options import check_size
from .._typing import Array, DTypeLike, Key, Shape
from ..initializers import Initializer, glorot_uniform, per_gate
from ._shared import batch_zeros, checked_init, project_inputs, step_of

NUM_GATES = 2


class MinGRUParams(NamedTuple):
    """Parameters of :func:`mingru`; blocks in the order z, n."""

    w_x: Array  # (I, 2H)
    b: Array  # (2H,)


class MinGRUResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H), as all below
    z: Array
    n: Array
    a_n: Array | None  # None where the derivative has a formula in n


def mingru_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
) -> MinGRUParams:
    """Draw the weights block by block; the bias is zero."""
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    shape = (input_size, NUM_GATES * hidden_size)
    return MinGRUParams(
        w_x=per_gate(w_x_init, NUM_GATES)(key, shape, float_dtype),
        b=jnp.zeros(shape[1:], float_dtype),
    )


def mingru_initial_state(params: MinGRUParams, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, H)``."""
    size = params.b.shape[0] // NUM_GATES
    return batch_zeros((size,), batch_shape, params.b.dtype)


def _split(params: MinGRUParams, a_x: Array) -> list[Array]:
    return jnp.split(add_bias(a_x, params.b), NUM_GATES, axis=-1)


def mingru_coefficients(
    params: MinGRUParams, a_xs: Array, *, activation: Activation = identity
) -> tuple[Array, Array]:
    """Return decay ``1 - z`` and drive ``z * n`` of all steps."""
    a_z, a_n = _split(params, a_xs)
    return jax.nn.sigmoid(-a_z), jax.nn.sigmoid(a_z) * activation(a_n)


def mingru_forward(
    params: MinGRUParams,
    state: Array,
    a_x: Array,
    *,
    activation: Activation = identity,
) -> tuple[Array, Array, MinGRUResidual]:
    """One step and its residual."""
    a_z, a_n = _split(params, a_x)
    z, n = jax.nn.sigmoid(a_z), activation(a_n)
    h = (1 - z) * state + z * n
    residual = MinGRUResidual(h_prev=state, z=z, n=n, a_n=kept_of(activation, a_n))
    return h, h.astype(params.b.dtype), residual


mingru_step = step_of(mingru_forward)


def mingru_backward(
    params: MinGRUParams,
    residual: MinGRUResidual,
    dstate: Array,
    dy: Array,
    *,
    activation: Activation = identity,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    h_prev, z, n, a_n = residual
    dh = dstate + dy.astype(dstate.dtype)
    da_z = dh * (n - h_prev) * z * (1 - z)
    da_n = activation_transposed(activation, n, a_n, dh * z)
    return dh * (1 - z), (jnp.concatenate([da_z, da_n], axis=-1),)


def mingru_accumulate(
    params: MinGRUParams, xs: Array, residuals: MinGRUResidual, da_xs: tuple[Array]
) -> tuple[MinGRUParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    dparams = params._replace(
        w_x=outer_sum(xs, das, params.w_x), b=leading_sum(das, params.b)
    )
    return dparams, dot_transposed(das, params.w_x).astype(xs.dtype)


@described
def mingru(
    hidden_size: int,
    *,
    activation: Activation = identity,
    w_x_init: Initializer = glorot_uniform,
) -> Cell:
    """minGRU: ``h = (1 - z) h_prev + z n``, where z and n depend only on the input.

    The state is ``h (*B, H)`` and so is the output. A step is linear in the state:
    :func:`jaxrnn.unroll_associative` runs it without a loop over time.

    Args:
        hidden_size: H.
        activation: g of the candidate, any function of arrays; the identity by
            default, as in the paper's vanilla form. Its log-space form needs positive
            values.
        w_x_init: initialiser of one block ``(I, H)`` of ``w_x``.

    Returns:
        A :class:`Cell` with parameters :class:`MinGRUParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int, or ``activation`` is not callable.

    torch, Keras and Flax have no such cell.

    References:
        Feng et al., Were RNNs all we needed?, 2024.

    >>> cell = mingru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.w_x.shape, y.shape
    ((2, 10), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    check_activation("activation", activation)
    options = {"activation": activation}
    return Cell(
        init=functools.partial(mingru_init, hidden_size=hidden_size, w_x_init=w_x_init),
        initial_state=mingru_initial_state,
        project=project_inputs,
        step=functools.partial(mingru_step, **options),
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=functools.partial(mingru_forward, **options),
            backward=functools.partial(mingru_backward, **options),
            accumulate=mingru_accumulate,
        ),
        coefficients=functools.partial(mingru_coefficients, **options),
    )
