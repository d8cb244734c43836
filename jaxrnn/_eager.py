"""Programs that eager calls share: what one call compiled, the next one runs.

A loop over time is a program that XLA compiles. JAX finds it again by the functions
that it was made of, and an unroll makes new ones in each call. :func:`compiled` finds
it by the cell, whose description stays the same.
"""

import functools
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
from jax.extend import core

from ._known import name_of
from ._spec import spec_of

# JAX warns of this function: under jit, nothing may compute something else. Here only
# the time to trace depends on it. A program within a program takes half as long again.
_is_staged = core.unsafe_am_i_under_a_jit_DO_NOT_USE

P = ParamSpec("P")
R = TypeVar("R")


def compiled(num_static: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function once for equal leading arguments, shapes and dtypes.

    Under ``jax.jit`` and in JAX's loops the function itself runs, and becomes part of
    the program that is traced.

    Args:
        num_static: number of leading arguments that are cells, functions or sizes.
            If one of them closes over a traced value, the function itself runs, so that
            JAX sees that value.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        # Not inline: JAX keeps the gradient of a program with the program.
        program = jax.jit(function, static_argnums=tuple(range(num_static)))

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if _is_staged() or holds_tracer((function, *args[:num_static])):
                return function(*args, **kwargs)
            return program(*args, **kwargs)

        return call

    return decorate


def holds_tracer(value: Any) -> bool:
    """Whether a function or a tuple of them closes over a value that JAX is tracing."""
    seen: set[int] = set()

    def search(value: Any) -> bool:
        if isinstance(value, jax.core.Tracer):
            return True
        if isinstance(value, _PLAIN) or id(value) in seen or name_of(value):
            return False
        seen.add(id(value))
        spec = spec_of(value)
        if spec is not None:  # what a factory makes is made of its arguments alone
            return search(spec.arguments)
        return any(map(search, _parts(value)))

    return search(value)


_PLAIN = (str, bytes, int, float, complex, type(None), type, types.ModuleType)


def _parts(value: Any) -> list[Any]:
    """What a value was made of, as far as it can be seen."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    parts = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            try:
                parts.append(cell.cell_contents)
            except ValueError:  # a name that has no value yet
                continue
        parts += value.__defaults__ or ()
        parts += (value.__kwdefaults__ or {}).values()
    return parts
