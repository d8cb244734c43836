"""Residuals of each step, and how often gates are saturated."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._base import Cell
from .._checks import check_flags, check_floating, check_sequence
from .._numerics.precision import accumulation_dtype
from .._typing import ArrayLike, Params, Residual, State
from .._unrolls.arguments import prepare
from .._unrolls.reference import scan_forward


class Saturation(NamedTuple):
    """Fractions of time that units are saturated; result of :func:`saturation`."""

    low: Any  # pytree like the gates with leaves (H,)
    high: Any  # the same


def residuals(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> Residual:
    """Return the residuals of each step, which contain its gates.

    Args:
        cell: cell to run; must have an ``adjoint``.
        params, xs, state, mask, resets, reverse: see :func:`jaxrnn.unroll`.

    Returns:
        Residuals of ``adjoint.forward`` with leaves ``(T, *B, ...)``, for
        :func:`jaxrnn.lstm` for example ``h_prev, c_prev, i, f, g, o``. Residuals of
        masked steps have no meaning.

    Raises:
        ValueError: ``cell`` has no adjoint, or see :func:`jaxrnn.unroll`.
        TypeError: see :func:`jaxrnn.unroll`.

    >>> import jaxrnn
    >>> cell = jaxrnn.lstm(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> residuals(cell, params, jnp.ones((7, 3, 2))).f.shape
    (7, 3, 5)
    """
    run, inputs = prepare(cell, params, xs, state, mask, resets, reverse)
    if cell.adjoint is None:
        raise ValueError(
            "cell must have an adjoint, which computes the residuals, got "
            "cell.adjoint = None"
        )
    return scan_forward(run, params, inputs)[1]


def saturation(
    gates: Any, *, mask: ArrayLike | None = None, low: float = 0.1, high: float = 0.9
) -> Saturation:
    """Compute the fraction of steps at which each unit of a gate is saturated.

    A gate that is always open or always shut passes everything or nothing, and its
    own gradient is near zero. For states of tanh use ``low=-0.9``.

    Args:
        gates: pytree of activations with leaves ``(T, *B, H)``, for instance gates
            picked from :func:`residuals`, as in ``{"forget": residual.f}``.
        mask: bool ``(T, *B)``; masked steps do not count.
        low: value below which a unit is saturated low.
        high: value above which a unit is saturated high.

    Returns:
        :class:`Saturation`: fractions of all steps of all batch entries, with leaves
        ``(H,)``.

    Raises:
        ValueError: a leaf is not ``(T, *B, H)``, ``mask`` does not fit, or ``low`` is
            above ``high``.
        TypeError: a leaf is not floating, or ``mask`` is not boolean.

    References:
        Karpathy, Johnson and Li, Visualizing and understanding recurrent networks,
        2015.

    >>> f = jnp.array([[0.05, 0.5], [0.95, 0.5], [0.95, 0.0]])
    >>> fractions = saturation({"forget": f}).high["forget"]
    >>> [round(float(fraction), 2) for fraction in fractions]
    [0.67, 0.0]
    """
    if low > high:
        raise ValueError(f"low must be at most high, got {low} and {high}")

    def of_gate(path, gate):
        name = "gates" + jax.tree_util.keystr(path)
        values = check_sequence(name, gate)
        dtype = accumulation_dtype(check_floating(name, values.dtype))
        valid = check_flags("mask", mask, values.shape[:-1])
        fraction = functools.partial(
            jnp.mean,
            axis=tuple(range(values.ndim - 1)),
            dtype=dtype,
            where=None if valid is None else valid[..., None],
        )
        wide = values.astype(dtype)
        return Saturation(low=fraction(wide < low), high=fraction(wide > high))

    of_gates = jax.tree_util.tree_map_with_path(of_gate, gates)
    outer, inner = jax.tree.structure(gates), jax.tree.structure(Saturation(0, 0))
    return jax.tree.transpose(outer, inner, of_gates)
