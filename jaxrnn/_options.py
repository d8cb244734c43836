"""Checks of options: numbers, flags, functions, keys.

Each names the argument, what was expected and what came.
"""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._typing import Shape


def check_size(name: str, value: Any, *, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}")
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an int, got {value!r} of type {type(value).__name__}"
        ) from None
    if size < least:
        raise ValueError(f"{name} must be at least {least}, got {size}")
    return size


def check_type(name: str, value: Any, kind: type) -> Any:
    """Return ``value`` if it is of this type."""
    if not isinstance(value, kind):
        raise TypeError(
            f"{name} must be of type {kind.__name__}, got {type(value).__name__}"
        )
    return value


def check_shape(name: str, value: Any) -> Shape:
    """Return ``value`` as a tuple of sizes, which may be symbols of ``jax.export``."""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError(
            f"{name} must be a tuple of sizes, such as (3,) or (), got {value!r:.80}"
        )
    return tuple(value)


def check_function(name: str, value: Any) -> Any:
    """Return ``value`` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r:.80}")
    return value


def check_number(name: str, value: Any) -> float:
    """Return ``value`` as a float."""
    try:
        return float(operator.truediv(value, 1))
    except TypeError:
        raise TypeError(f"{name} must be a number, got {value!r}") from None


def check_bool(name: str, value: Any) -> bool:
    """Return ``value`` if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r:.80}")
    return bool(value)


def check_finite(name: str, value: Any) -> float:
    """Return ``value`` as a finite number."""
    number = check_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def check_rate(name: str, value: Any) -> float:
    """Return ``value`` as a probability below 1."""
    rate = check_number(name, value)
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return rate


def check_positive(name: str, value: Any) -> float:
    """Return ``value`` as a finite number above 0."""
    number = check_number(name, value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return number


def check_key(name: str, value: Any) -> Any:
    """Return ``value`` if it is a key of ``jax.random``, of either kind."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and (
        jnp.issubdtype(dtype, jax.dtypes.prng_key)
        or (dtype == jnp.uint32 and jnp.ndim(value) == 1)
    ):
        return value
    raise TypeError(
        f"{name} must be a key, such as jax.random.key(0), got {value!r:.80}"
    )


def split_key(key: Any, count: int) -> Any:
    """Check an argument ``key`` and split it into ``count`` keys."""
    return jax.random.split(check_key("key", key), count)


def check_names(name: str, value: Any) -> tuple[str, ...]:
    """Return ``value`` as a tuple of names; a single name is a tuple of one."""
    names = (value,) if isinstance(value, str) else value
    if not hasattr(names, "__iter__") or not all(isinstance(n, str) for n in names):
        raise TypeError(f"{name} must be a string or several, got {value!r:.80}")
    return tuple(names)


def check_option(name: str, value: Any, annotation: Any) -> None:
    """Check an argument of a factory by its annotation.

    An argument whose name ends in ``_init`` is an initialiser. A traced value passes
    unchecked: it is not known yet.
    """
    if isinstance(value, jax.core.Tracer):
        return
    if annotation is bool:
        check_bool(name, value)
    elif annotation is float:
        check_finite(name, value)
    elif name.endswith("_init") and not callable(value):
        raise TypeError(
            f"{name} must be an initialiser, a function of key, shape and dtype, got "
            f"{value!r:.80}"
        )
