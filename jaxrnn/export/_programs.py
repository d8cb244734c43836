"""Programs of a model, traced with symbolic sizes and for several platforms."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
from jax.export import Exported

from .._base import Layer
from .._checks import check_floating
from .._typing import Params, Shape
from ._safety import foreign_part
from ._structure import build, describe

# Sizes to try a model with before the symbols, whose errors say less.
_SOME_STEPS, _SOME_ENTRIES = 2, 3

_SOURCE_LINES = "jax_traceback_in_locations_limit"


class Programs(NamedTuple):
    """The programs of a model, and what their arrays are arranged as."""

    programs: dict[str, Exported]
    state: Any  # structures, as a reader has them
    outputs: Any
    why_no_step: str | None


def make_programs(
    model: Layer,
    params: Params,
    features: Shape,
    sizes: tuple[int | None, int | None],
    platforms: tuple[str, ...],
) -> Programs:
    """Make the programs of a model for sizes ``(T, B)``, where None leaves one open."""
    functions = _functions(model)
    inputs = _find_inputs(model, params, features, sizes)
    state = _find_state(functions["initial_state"], params, inputs.shape[1])
    with_numbers = _arguments(params, inputs, state)
    why_no_step = _why_no_step(functions["step"], with_numbers["step"])
    if why_no_step is not None:
        del functions["step"]
    arguments = _arguments(params, _with_symbols(inputs, sizes), state)
    programs = {
        name: _program(name, function, arguments[name], with_numbers[name], platforms)
        for name, function in functions.items()
    }
    structures = _structures(programs)
    flat = {name: _flat(program) for name, program in programs.items()}
    return Programs(flat, *structures, why_no_step)


def _find_inputs(
    model: Layer, params: Params, features: Shape, sizes: tuple[int | None, int | None]
) -> Any:
    """Find out whether a model takes numbers or token ids, by a trial of both."""
    steps, entries = sizes[0] or _SOME_STEPS, sizes[1] or _SOME_ENTRIES
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(params)}
    floating = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    dtype = functools.reduce(jnp.promote_types, floating or [check_floating("", None)])
    numbers = jax.ShapeDtypeStruct((steps, entries, *features), dtype)
    tokens = jax.ShapeDtypeStruct((steps, entries), jnp.int32)
    try:
        jax.eval_shape(model.apply, params, numbers)
    except ValueError as error:
        raise ValueError(
            f"input_size must be the one that params were drawn for, got {features}: "
            f"{error}"
        ) from error
    except TypeError as error:
        try:
            jax.eval_shape(model.apply, params, tokens)
        except (TypeError, ValueError):
            raise error from None
        return tokens
    return numbers


def _with_symbols(inputs: Any, sizes: tuple[int | None, int | None]) -> Any:
    """Put symbols in place of the sizes that stay open."""
    symbols = jax.export.symbolic_shape("t, b")
    opened = [s if n is None else n for s, n in zip(symbols, sizes, strict=True)]
    return jax.ShapeDtypeStruct((*opened, *inputs.shape[2:]), inputs.dtype)


def _functions(model: Layer) -> dict[str, Callable[..., Any]]:
    def initial_state(params, batch):
        return model.initial_state(params, batch.shape)

    def apply(params, xs, state, mask):
        return model.apply(params, xs, state, mask=mask)

    def step(params, x, state):
        return model.step(params, state, x)

    return {"initial_state": initial_state, "apply": apply, "step": step}


def _find_state(initial_state: Callable[..., Any], params: Params, entries: int) -> Any:
    """Return the shapes of a state of so many batch entries."""
    batch = jax.ShapeDtypeStruct((entries,), bool)
    state = jax.eval_shape(initial_state, params, batch)
    for leaf in jax.tree.leaves(state):
        if leaf.shape[:1] != (entries,):
            raise ValueError(
                "model.initial_state must return leaves whose first axis is the batch, "
                f"got a leaf of shape {leaf.shape} for batch_shape = ({entries},)"
            )
    return state


def _arguments(params: Params, inputs: Any, state: Any) -> dict[str, tuple[Any, ...]]:
    """Return the shapes of the arguments of each function."""
    shape = jax.ShapeDtypeStruct
    steps, entries, *features = inputs.shape
    state = jax.tree.map(lambda s: shape((entries, *s.shape[1:]), s.dtype), state)
    return {
        "initial_state": (params, shape((entries,), bool)),
        "apply": (params, inputs, state, shape((steps, entries), bool)),
        "step": (params, shape((entries, *features), inputs.dtype), state),
    }


def _why_no_step(step: Callable[..., Any], arguments: tuple[Any, ...]) -> str | None:
    """Return why a model cannot be stepped; None if it can."""
    try:
        jax.eval_shape(step, *arguments)
    except ValueError as error:
        return str(error)
    return None


def _program(
    name: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    with_numbers: tuple[Any, ...],
    platforms: tuple[str, ...],
) -> Exported:
    """Make one program; ``with_numbers`` are its arguments without symbols."""
    export = jax.export.export(jax.jit(function), platforms=platforms)
    try:
        with _without_source_lines():
            made = export(*arguments)
    except Exception as error:
        _check_with_numbers(name, export, with_numbers)
        raise ValueError(
            "num_steps and batch_size must be given for this model, whose computation "
            f"does not allow them to stay open, got None: {error}"
        ) from error
    foreign = foreign_part(made)
    if foreign is not None:
        raise ValueError(
            "model must compute by operations of StableHLO alone, so that its artefact "
            f"is safe to read, got {foreign} in its {name}"
        )
    return made


def _check_with_numbers(
    name: str, export: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Raise the error that a model gives with numbers for its sizes, too."""
    try:
        export(*arguments)
    except Exception as error:
        raise ValueError(
            f"model.{name} must compute what jax.export can write for the platforms: "
            f"{error}"
        ) from error


@contextlib.contextmanager
def _without_source_lines() -> Iterator[None]:
    """Leave the names of source files, which are a third of a program, out of it."""
    limit = getattr(jax.config, _SOURCE_LINES)
    jax.config.update(_SOURCE_LINES, 0)
    try:
        yield
    finally:
        jax.config.update(_SOURCE_LINES, limit)


def _structures(programs: dict[str, Exported]) -> tuple[Any, Any]:
    """Return the structures of state and outputs, as a reader has them."""
    initial = programs["initial_state"]
    state, shapes = initial.out_tree, _shapes(initial.out_avals)
    outputs = programs["apply"].out_tree.children()[1]
    for name in programs.keys() - {"initial_state"}:
        program = programs[name]
        its_state, its_outputs = program.out_tree.children()
        if its_state != state or _shapes(program.out_avals)[: len(shapes)] != shapes:
            raise TypeError(
                f"model.{name} must return a state of the structure, shapes and dtypes "
                f"of its initial state, got {its_state} and {program.out_avals}"
            )
        if its_outputs != outputs:
            raise TypeError(
                f"model.{name} must return outputs of the structure of model.apply, "
                f"{outputs}, got {its_outputs}"
            )
    return build(describe(state)), build(describe(outputs))


def _shapes(avals: Any) -> list[tuple[Any, Any]]:
    return [(aval.shape, aval.dtype) for aval in avals]


def _flat(program: Exported) -> Exported:
    """Make a program a function of arrays alone, which any reader can call."""
    arguments = (0,) * program.in_tree.num_leaves
    results = (0,) * program.out_tree.num_leaves
    return dataclasses.replace(
        program,
        in_tree=jax.tree.structure((arguments, {})),
        out_tree=jax.tree.structure(results),
    )
