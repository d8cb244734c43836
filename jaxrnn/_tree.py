"""Pytrees of arrays: selections, zeros, sums and fields."""

from typing import Any

import jax
import jax.numpy as jnp

from ._typing import Array, State


def select(condition: Array, on_true: Any, on_false: Any) -> Any:
    """Select from two pytrees with leaves ``(*B, ...)`` by a bool ``(*B)``.

    Never a product with the condition: a NaN that is not chosen must not remain.
    """

    def choose(a, b):
        if a.dtype == jax.dtypes.float0:
            return a  # the cotangent of an integer: there is nothing to choose
        axes = condition.shape + (1,) * (a.ndim - condition.ndim)
        return jnp.where(condition.reshape(axes), a, b)

    return jax.tree.map(choose, on_true, on_false)


def zeros_like(tree: Any) -> Any:
    """Return zeros with the shapes and dtypes of ``tree``."""
    return jax.tree.map(jnp.zeros_like, tree)


def add(total: Any, more: Any) -> Any:
    """Add two cotangents; those of integers have nothing to add."""

    def plus(t, m):
        return t if jax.dtypes.float0 in (t.dtype, m.dtype) else t + m

    return jax.tree.map(plus, total, more)


def state_fields(state: State) -> dict[str, Any]:
    """Return the fields of a state by name; a single array is the field ``h``."""
    if isinstance(state, tuple) and hasattr(state, "_asdict"):
        return state._asdict()
    return {"h": state}
