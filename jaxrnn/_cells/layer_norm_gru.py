"""Gated recurrent unit with normalised pre-activations.

Forward, with ``s`` the logistic sigmoid, ``N`` the normalisation over features to mean
0 and variance 1, of the gates r, z together and of the candidate n by itself::

    a_x = k_x * N(x W_x)                        project
    n_h = N(h_prev W_h)
    a_h = k_h * n_h + b_h
    r, z = s(a_x_rz + b_rz + a_h_rz)
    n   = tanh(a_x_n + b_n + r * a_h_n)
    h   = (1 - z) * n + z * h_prev
    y   = h

Backward, with ``dh = dh' + dy``, ``dh'`` the cotangent from later, and ``N^T`` the
transpose of N, block by block::

    da_n = dh * (1 - z)      * (1 - n^2)
    da_z = dh * (h_prev - n) * z * (1 - z)
    da_r = da_n * a_h_n      * r * (1 - r)
    da   = (da_r, da_z, da_n)                   of a_x
    da_h = (da_r, da_z, r * da_n)
    dv_h = N^T(k_h * da_h)                      of h_prev W_h
    dh_prev = dh * z + dv_h W_h^T

Accumulated over all steps, with ``dv_x = N^T(k_x * da)``, of ``x W_x``::

    dW_x = sum x^T dv_x      dW_h = sum h_prev^T dv_h      dx = dv_x W_x^T
    dk_x = sum da * n_x      dk_h = sum da_h * n_h
    db   = sum da            db_h = sum da_h
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell
from .._descriptions.spec import described
from .._numerics.normalized import Normalized, normalized, normalized_transposed
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
from .._options import check_size
from .._typing import Array, DTypeLike, Key
from ..initializers import Initializer, glorot_uniform, orthogonal
from ._shared import project_inputs, step_of, zero_state
from .gru import gates_and_candidate, gru_init


class LayerNormGRUParams(NamedTuple):
    """Parameters of :func:`layer_norm_gru`; gates in the order r, z, n."""

    w_x: Array  # (I, 3H)
    w_h: Array  # (H, 3H)
    b: Array  # (3H,), added to the input product
    b_h: Array  # (3H,), added to the recurrent product
    k_x: Array  # (3H,), scale of the normalised input product
    k_h: Array  # (3H,), scale of the normalised recurrent product


class LayerNormGRUResidual(NamedTuple):
    """What the backward pass of a step needs."""

    h_prev: Array  # (*B, H)
    n_h: tuple[Normalized, Normalized]  # of the gates, 2H, and of the candidate, H
    r: Array  # (*B, H), as all below
    z: Array
    n: Array


def layer_norm_gru_init(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None = None,
    *,
    hidden_size: int,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> LayerNormGRUParams:
    """Draw the parameters of a GRU; the scales are one."""
    own = gru_init(
        key,
        input_size,
        dtype,
        hidden_size=hidden_size,
        w_x_init=w_x_init,
        w_h_init=w_h_init,
    )
    return LayerNormGRUParams(*own, k_x=jnp.ones_like(own.b), k_h=jnp.ones_like(own.b))


def _normalized(v: Array) -> tuple[Normalized, Normalized]:
    v_rz, v_n = gates_and_candidate(v)
    return normalized(v_rz), normalized(v_n)


def _transposed(dn: Array, n: tuple[Normalized, Normalized]) -> Array:
    parts = [
        normalized_transposed(own, block)
        for own, block in zip(gates_and_candidate(dn), n, strict=True)
    ]
    return jnp.concatenate(parts, axis=-1)


def _values(n: tuple[Normalized, Normalized]) -> Array:
    return jnp.concatenate([block.values for block in n], axis=-1)


def layer_norm_gru_project(params: LayerNormGRUParams, xs: Array) -> Array:
    """``k_x * N(xs W_x)``, shape ``(..., 3H)``."""
    return scaled(_values(_normalized(project_inputs(params, xs))), params.k_x)


def layer_norm_gru_forward(
    params: LayerNormGRUParams,
    state: Array,
    a_x: Array,
    *,
    recurrent_dot: Product = dot_in_loop,
) -> tuple[Array, Array, LayerNormGRUResidual]:
    """One step and its residual."""
    n_h = _normalized(recurrent_dot(state, params.w_h))
    a_i_rz, a_i_n = gates_and_candidate(add_bias(a_x, params.b))
    a_h_rz, a_h_n = gates_and_candidate(
        add_bias(scaled(_values(n_h), params.k_h), params.b_h)
    )
    r, z = jnp.split(jax.nn.sigmoid(a_i_rz + a_h_rz), 2, axis=-1)
    n = jnp.tanh(a_i_n + r * a_h_n)
    h = (1 - z) * n + z * state
    residual = LayerNormGRUResidual(h_prev=state, n_h=n_h, r=r, z=z, n=n)
    return h, h.astype(params.w_h.dtype), residual


layer_norm_gru_step = step_of(layer_norm_gru_forward, recurrent_dot=dot)


def layer_norm_gru_backward(
    params: LayerNormGRUParams,
    residual: LayerNormGRUResidual,
    dstate: Array,
    dy: Array,
    *,
    recurrent_dot_transposed: Product = dot_transposed,
) -> tuple[Array, tuple[Array]]:
    """Transpose of one step."""
    h_prev, n_h, r, z, n = residual
    _, a_h_n = gates_and_candidate(
        add_bias(scaled(_values(n_h), params.k_h), params.b_h)
    )
    dh = dstate + dy.astype(dstate.dtype)
    da_n = dh * (1 - z) * (1 - n * n)
    da_z = dh * (h_prev - n) * z * (1 - z)
    da_r = da_n * a_h_n * r * (1 - r)
    da_h = jnp.concatenate([da_r, da_z, r * da_n], axis=-1)
    dv_h = _transposed(scaled(da_h, params.k_h), n_h)
    dh_prev = dh * z + recurrent_dot_transposed(dv_h, params.w_h)
    return dh_prev, (jnp.concatenate([da_r, da_z, da_n], axis=-1),)


def layer_norm_gru_accumulate(
    params: LayerNormGRUParams,
    xs: Array,
    residuals: LayerNormGRUResidual,
    da_xs: tuple[Array],
) -> tuple[LayerNormGRUParams, Array]:
    """Weight gradients of all steps, and the transpose of ``project``."""
    (das,) = da_xs
    h_prev, n_h, r, _, _ = residuals
    da_rz, da_n = gates_and_candidate(das)
    da_hs = jnp.concatenate([da_rz, r * da_n], axis=-1)
    n_x = _normalized(dot(xs, params.w_x))
    dv_x = _transposed(scaled(das, params.k_x), n_x)
    dv_h = _transposed(scaled(da_hs, params.k_h), n_h)
    dparams = LayerNormGRUParams(
        w_x=outer_sum(xs, dv_x, params.w_x),
        w_h=outer_sum(h_prev, dv_h, params.w_h),
        b=leading_sum(das, params.b),
        b_h=leading_sum(da_hs, params.b_h),
        k_x=leading_sum(das * _values(n_x), params.k_x),
        k_h=leading_sum(da_hs * _values(n_h), params.k_h),
    )
    return dparams, dot_transposed(dv_x, params.w_x).astype(xs.dtype)


@described
def layer_norm_gru(
    hidden_size: int,
    *,
    w_x_init: Initializer = glorot_uniform,
    w_h_init: Initializer = orthogonal,
) -> Cell:
    """Gated recurrent unit with layer normalisation inside the step.

    The products with the input and with the state are normalised, both gates together
    and the candidate by itself. The reset gate acts after the product. The state, an
    array ``h (*B, H)``, is also the output.

    Args:
        hidden_size: H.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.

    Returns:
        A :class:`Cell` with parameters :class:`LayerNormGRUParams`.

    Raises:
        ValueError: ``hidden_size`` is below 1.
        TypeError: ``hidden_size`` is not an int.

    Differs from the haste library in normalising the candidate apart from the gates, as
    the paper does. Differs from the paper in that z keeps the old state, as in
    :func:`jaxrnn.gru`. torch, Keras and Flax have no such cell.

    References:
        Ba, Kiros and Hinton, Layer normalization, 2016, equations 25 to 27.

    >>> cell = layer_norm_gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state = cell.initial_state(params, (3,))
    >>> state, y = cell.step(params, state, cell.project(params, jnp.ones((3, 2))))
    >>> params.k_h.shape, y.shape
    ((15,), (3, 5))
    """
    hidden_size = check_size("hidden_size", hidden_size)
    return Cell(
        init=functools.partial(
            layer_norm_gru_init,
            hidden_size=hidden_size,
            w_x_init=w_x_init,
            w_h_init=w_h_init,
        ),
        initial_state=zero_state,
        project=layer_norm_gru_project,
        step=layer_norm_gru_step,
        output_size=hidden_size,
        adjoint=Adjoint(
            forward=layer_norm_gru_forward,
            backward=layer_norm_gru_backward,
            accumulate=layer_norm_gru_accumulate,
        ),
    )
