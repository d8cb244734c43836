"""Functions that factories take as arguments and that files can name.

The list is explicit, so that a file can name nothing else: ``jax.numpy`` has a function
that reads files.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Any] = {}
_NAMES: dict[Any, str] = {}


def known(function: F) -> F:
    """Register a function of the library, so that a file can name it."""
    register(public_name(function), function)
    return function


def register(name: str, function: Any) -> None:
    FUNCTIONS[name] = function
    _NAMES[function] = name


_NAMED = {
    "jax.nn": (
        jax.nn,
        "celu elu gelu glu hard_sigmoid hard_silu hard_tanh identity leaky_relu "
        "log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_sign softmax "
        "softplus sparse_plus squareplus standardize",
    ),
    "jax.numpy": (
        jnp,
        "abs add arctan cos exp logaddexp maximum minimum multiply sign sin square "
        "subtract tanh",
    ),
    "jax.random": (jax.random, "normal truncated_normal uniform"),
    "jax.checkpoint_policies": (
        jax.checkpoint_policies,
        "checkpoint_dots checkpoint_dots_with_no_batch_dims dots_saveable "
        "dots_with_no_batch_dims_saveable everything_saveable nothing_saveable",
    ),
}
for _path, (_module, _names) in _NAMED.items():
    for _each in _names.split():
        if hasattr(_module, _each):
            register(f"{_path}.{_each}", getattr(_module, _each))


def public_name(function: Callable[..., Any]) -> str:
    """Return the path by which users import a function."""
    # jaxrnn._cells.lstm.lstm is jaxrnn.lstm.
    public = function.__module__.split("._")[0]
    return f"{public}.{function.__name__}"


def name_of(function: Any) -> str | None:
    """Return the name of a function in a file; None if it has no name."""
    try:
        return _NAMES.get(function) if callable(function) else None
    except TypeError:  # an instance without a hash
        return None
