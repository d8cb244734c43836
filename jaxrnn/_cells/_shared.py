"""What the files of several cells share besides their maths."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_features, check_floating
from .._numerics.precision import accumulation_dtype, dot
from .._options import check_key, check_shape, check_size
from .._typing import Array, DTypeLike, Key, Params, Shape, State
from ..initializers import Initializer, drawn, per_gate


def checked_init(
    key: Key, input_size: int, dtype: DTypeLike | None
) -> tuple[Key, int, Any]:
    """Check and return the arguments of ``init``; dtype None becomes the default."""
    return (
        check_key("key", key),
        check_size("input_size", input_size),
        check_floating("dtype", dtype),
    )


def draw_gates(
    key: Key,
    input_size: int,
    dtype: DTypeLike | None,
    *,
    hidden_size: int,
    num_gates: int = 1,
    w_x_init: Initializer,
    w_h_init: Initializer,
) -> tuple[Array, Array]:
    """Draw ``w_x (I, G H)`` and ``w_h (H, G H)``, each gate's block by itself.

    Args:
        key, input_size, dtype: the arguments of ``init``, which are checked here.
        hidden_size: H.
        num_gates: G.
        w_x_init: initialiser of one gate's block ``(I, H)`` of ``w_x``.
        w_h_init: initialiser of one gate's block ``(H, H)`` of ``w_h``.
    """
    key, input_size, float_dtype = checked_init(key, input_size, dtype)
    key_x, key_h = jax.random.split(key)
    width = num_gates * hidden_size
    if num_gates > 1:
        w_x_init, w_h_init = (
            per_gate(w_x_init, num_gates),
            per_gate(w_h_init, num_gates),
        )
    return (
        drawn("w_x_init", w_x_init, key_x, (input_size, width), float_dtype),
        drawn("w_h_init", w_h_init, key_h, (hidden_size, width), float_dtype),
    )


def zero_state(params: Any, batch_shape: Shape = ()) -> Array:
    """Zeros ``(*B, H)``, where ``params.w_h`` has H rows."""
    return batch_zeros(params.w_h.shape[:1], batch_shape, params.w_h.dtype)


def batch_zeros(shape: Shape, batch_shape: Shape, dtype: DTypeLike) -> Array:
    """Zeros ``(*B, *shape)`` in the accumulation dtype of ``dtype``.

    Call it once for each array of a state: donating a state donates all its buffers, so
    no two of them may be the same.
    """
    whole = (*check_shape("batch_shape", batch_shape), *shape)
    return jnp.zeros(whole, accumulation_dtype(dtype))


def project_inputs(params: Any, xs: Array) -> Array:
    """Multiply inputs ``(..., I)`` by ``params.w_x (I, A)``, in one product."""
    check_features("xs", xs, params.w_x.shape[0], params.w_x.dtype)
    return dot(xs, params.w_x)


def step_of(
    forward: Callable[..., tuple[State, Array, Any]], **fixed: Any
) -> Callable[..., tuple[State, Array]]:
    """Make the ``step`` of a cell from the ``forward`` of its adjoint.

    Args:
        forward: the function; the step takes its options.
        fixed: options that a single step chooses otherwise than a loop does. A plain
            product is one: to prepare its matrix pays only in a loop.
    """
    return functools.partial(_step, forward, **fixed)


def _step(
    forward: Callable[..., tuple[State, Array, Any]],
    params: Params,
    state: State,
    a_x: Array,
    **options: Any,
) -> tuple[State, Array]:
    state, y, _ = forward(params, state, a_x, **options)
    return state, y
