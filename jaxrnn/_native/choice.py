"""A function with two bodies: custom calls for CPUs, and JAX's own operations.

Which of the two runs is decided when JAX lowers the program: custom calls on a CPU, and
JAX's operations on other platforms and in programs for ``jax.export``, which other
machines run. Under ``jax.vmap`` a rule says whether the batch can be folded into one
call; otherwise JAX's operations are vectorised.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


class Bodies(NamedTuple):
    """The two bodies of a function, and how ``vmap`` treats it; all have a hash."""

    native: Callable[..., Any]
    jax: Callable[..., Any]
    fold: Callable[[Any, Any], Any]
    """``(args, axes) -> None | (args, like, result_axes)``: move the vmapped axes into
    the axes that the function has, or None if it cannot be done."""


choice = Primitive("jaxrnn_native")
choice.multiple_results = True


def call(bodies: Bodies, like: Any, *args: Any) -> Any:
    """Call a function that has two bodies; ``like`` has the shapes of its results."""
    leaves, structure = jax.tree.flatten(args)
    results, results_structure = jax.tree.flatten(like)
    shapes = tuple((result.shape, result.dtype) for result in results)
    results = choice.bind(*leaves, bodies=bodies, structure=structure, shapes=shapes)
    return jax.tree.unflatten(results_structure, results)


def _flat(body: Callable[..., Any], structure: Any) -> Callable[..., list[Any]]:
    def run(*leaves: Any) -> list[Any]:
        return jax.tree.leaves(body(*jax.tree.unflatten(structure, leaves)))

    return run


@choice.def_impl
def _eager(*leaves, **params):
    return _program(**params)(*leaves)


@functools.lru_cache(maxsize=256)
def _program(**params):
    return jax.jit(functools.partial(choice.bind, **params))


@choice.def_abstract_eval
def _shapes(*leaves, shapes, **params):
    return [jax.core.ShapedArray(shape, dtype) for shape, dtype in shapes]


def _lower_to_jax(ctx, *leaves, bodies, structure, shapes):
    body = _flat(bodies.jax, structure)
    return mlir.lower_fun(body, multiple_results=True)(ctx, *leaves)


def _lower_to_native(ctx, *leaves, bodies, structure, shapes):
    if ctx.module_context.lowering_parameters.for_export:
        return _lower_to_jax(
            ctx, *leaves, bodies=bodies, structure=structure, shapes=shapes
        )
    body = _flat(bodies.native, structure)
    return mlir.lower_fun(body, multiple_results=True)(ctx, *leaves)


mlir.register_lowering(choice, _lower_to_jax)
mlir.register_lowering(choice, _lower_to_native, platform="cpu")


def _batch(leaves, axes, *, bodies, structure, shapes):
    axes = [axis if isinstance(axis, int) else None for axis in axes]
    args = jax.tree.unflatten(structure, leaves)
    folded = bodies.fold(args, axes_of(axes, structure))
    if folded is None:
        body = _flat(bodies.jax, structure)
        results = jax.vmap(body, in_axes=tuple(axes))(*leaves)
        return results, [0] * len(results)
    args, like, result_axes = folded
    return jax.tree.leaves(call(bodies, like, *args)), result_axes


class Axis(NamedTuple):
    """A vmapped axis of one array; a leaf of a pytree, as None would not be."""

    index: int | None


def axes_of(axes: list[int | None], structure: Any) -> Any:
    """Arrange axes as the arguments are arranged."""
    return jax.tree.unflatten(structure, [Axis(axis) for axis in axes])


batching.primitive_batchers[choice] = _batch
