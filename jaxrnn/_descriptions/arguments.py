"""Arguments of factories: how they are compared, written as Python, and pickled."""

import functools
from typing import Any, NamedTuple

import jax

from .known import FUNCTIONS, name_of


class UndescribableError(Exception):
    """Raised if an argument of a factory cannot be described."""


def canonical(value: Any) -> Any:
    """Return the value of an argument in the form in which it is compared."""
    if isinstance(value, jax.core.Tracer):
        raise UndescribableError
    if isinstance(value, functools.partial):
        return Partial.of(value)
    if hasattr(value, "spec") or value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list) or type(value) is tuple:
        return tuple(map(canonical, value))
    if isinstance(value, dict):
        raise UndescribableError
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()  # a number of NumPy or JAX
    try:
        hash(value)
    except TypeError:
        raise UndescribableError from None
    return value


class Partial(NamedTuple):
    """A ``functools.partial`` that equals another one of the same arguments."""

    function: Any
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, partial: functools.partial) -> "Partial":
        return cls(
            canonical(partial.func),
            tuple(map(canonical, partial.args)),
            tuple((k, canonical(v)) for k, v in sorted(partial.keywords.items())),
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.arguments, *args, **dict(self.options) | kwargs)

    def __repr__(self) -> str:
        words = [*map(code, (self.function, *self.arguments))]
        words += [f"{name}={code(value)}" for name, value in self.options]
        return f"functools.partial({', '.join(words)})"


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def code(value: Any) -> str:
    """Write a value as Python code."""
    if type(value) is tuple:
        return f"({', '.join(map(code, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Partial) or getattr(value, "spec", None) is not None:
        return repr(value)
    name = name_of(value)
    if name is not None:
        return name
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


class _Named(NamedTuple):
    """Name of a function in a pickle, since functions of JAX cannot be pickled."""

    name: str


def pack(value: Any) -> Any:
    if isinstance(value, Partial):
        return Partial(*map(pack, value))
    if type(value) is tuple:
        return tuple(map(pack, value))
    name = name_of(value)
    return value if name is None else _Named(name)


def unpack(value: Any) -> Any:
    if isinstance(value, _Named):
        return FUNCTIONS[value.name]
    if isinstance(value, Partial):
        return Partial(*map(unpack, value))
    return tuple(map(unpack, value)) if type(value) is tuple else value
