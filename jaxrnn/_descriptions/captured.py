"""Values that functions hold besides their arguments.

A function may close over a value, read a global, or be a method of an object. A program
that was compiled of it holds those values as they were, so that a program is shared
only as long as they stay the same.
"""

import enum
import functools
import inspect
import types
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np

from .known import name_of
from .spec import spec_of

# Functions of these packages read no state that users change.
_LIBRARIES = ("jax", "jaxlib", "jaxrnn", "numpy", "optax", "builtins", "functools")

_CONSTANTS = (
    *(str, bytes, int, float, complex, type(None), np.generic, np.dtype, enum.Enum),
    # What functions that JAX has transformed hold.
    *(inspect.Signature, jax.tree_util.PyTreeDef),
)
_LARGEST = 1000  # number of values that are worth a look in each eager call


def holds_tracer(value: Any) -> bool:
    """Test whether functions hold a value that JAX is tracing."""
    return any(isinstance(each, jax.core.Tracer) for each in _held(value, set()))


def held_values(value: Any) -> tuple[Hashable, ...] | None:
    """Make a key of the values that functions capture, for caches of programs.

    Args:
        value: a function, a cell or layer, or a tuple of these.

    Returns:
        The key; None if a value is traced, or may change without a trace, as the
        entries of a NumPy array may.
    """
    key: list[Hashable] = []
    for each in _held(value, set()):
        if isinstance(each, _CONSTANTS):
            key.append((type(each), each))
        elif isinstance(each, jax.core.Tracer):
            return None
        elif isinstance(each, jax.Array) or type(each) is object:
            key.append(_Same(each))
        else:
            return None
        if len(key) > _LARGEST:
            return None
    return tuple(key)


class _Same:
    """Key that compares and hashes by the identity of its object."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _held(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield, recursively, the values that functions and containers refer to."""
    if isinstance(value, _CONSTANTS):
        yield value
        return
    if isinstance(value, type | types.ModuleType) or id(value) in seen:
        return
    if name_of(value) is not None:
        return
    seen.add(id(value))
    spec = spec_of(value)
    if spec is not None:  # what a factory makes depends on its arguments alone
        value = spec.arguments
    parts = _parts(value)
    if parts is None:
        yield value
        return
    for part in parts:
        yield from _held(part, seen)


def _parts(value: Any) -> list[Any] | None:
    """Return the parts of a function or a container; None for any other value."""
    if isinstance(value, jax.Array | np.ndarray):
        return None
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, dict | list | tuple | set | frozenset):
        if len(value) > _LARGEST:
            return None
        return [*value, *value.values()] if isinstance(value, dict) else list(value)
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if hasattr(value, "__dict__"):
        return list(vars(value).values())
    return [] if callable(value) else None


def _of_function(function: types.FunctionType) -> list[Any]:
    """Return closure, defaults, attributes and named globals of a function."""
    parts = [*vars(function).values(), *(function.__defaults__ or ())]
    parts += (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # a name that has no value yet
            continue
    if _is_of_library(function.__module__):
        return parts
    names = _names_in(function.__code__)
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        parts.append(value)
        if isinstance(value, types.ModuleType) and not _is_of_library(value.__name__):
            parts += [getattr(value, n) for n in sorted(names) if hasattr(value, n)]
    return parts


def _is_of_library(module: str | None) -> bool:
    return (module or "").split(".")[0] in _LIBRARIES


def _names_in(code: types.CodeType) -> set[str]:
    """Return the names that a code object looks up, with nested functions."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names
