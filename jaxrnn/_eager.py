"""Programs that eager calls share: what one call compiled, the next one runs.

A loop over time is a program that XLA compiles. JAX finds it again by the functions
that it was made of, and an unroll makes new ones in each call. :func:`compiled` finds
it by the cell, whose description stays the same, and by what its functions hold.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax.extend import core

from ._descriptions.captured import held_values

# JAX warns of this function: under jit, nothing may compute something else. Here only
# the time to trace depends on it. A program within a program takes half as long again.
_is_staged = core.unsafe_am_i_under_a_jit_DO_NOT_USE

F = TypeVar("F", bound=Callable[..., Any])


def compiled(num_static: int) -> Callable[[F], F]:
    """Compile a function once for equal leading arguments, shapes and dtypes.

    Under ``jax.jit`` and in JAX's loops the function itself runs, and becomes part of
    the program that is traced. So it does if a leading argument holds a traced value,
    which JAX must see, or a value that may change.

    Args:
        num_static: number of leading arguments that are cells, functions or sizes.
    """

    def decorate(function: F) -> F:
        def run(held: Any, *args: Any) -> Any:
            return function(*args)

        run.__name__ = function.__name__
        # Not inline: JAX keeps the gradient of a program with the program.
        program = jax.jit(run, static_argnums=tuple(range(1 + num_static)))

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            held = None
            if not _is_staged():
                held = held_values((function, *args[:num_static]))
            return function(*args) if held is None else program(held, *args)

        shared: Any = call
        return shared

    return decorate
