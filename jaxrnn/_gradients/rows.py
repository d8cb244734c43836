"""Functions of one batch entry, mapped over the batch; states as vectors."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from .._typing import Array


def flat(tree: Any) -> Array:
    """Flatten a pytree to one vector ``(N,)``."""
    return ravel_pytree(tree)[0]


def over_rows(
    fn: Callable[..., Any], num_axes: int, in_axes: Any = 0
) -> Callable[..., Any]:
    """Map a function of one batch entry over ``num_axes`` leading axes."""
    for _ in range(num_axes):
        fn = jax.vmap(fn, in_axes)
    return fn
