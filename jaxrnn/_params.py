"""Check of parameters against the structure and shapes that ``init`` would draw."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ._base import Cell
from ._checks import kind_of_tree
from ._descriptions.captured import holds_tracer
from ._numerics.int8 import dequantized, has_int8, is_int8
from ._numerics.placement import is_placed
from ._typing import Params, Shape

Template = tuple[Any, list[tuple[str, tuple[int | None, ...]]]]
"""The structure of parameters, and the name and shape of each leaf."""


def check_cell_params(cell: Cell, params: Params) -> None:
    """Check structure and shapes of the parameters of a cell that a factory made.

    The input size is left to ``project``, which compares it with the inputs. Int8
    weights count as the matrices that they stand for.

    Raises:
        TypeError: the parameters have another structure.
        ValueError: a parameter has another shape.
    """
    if cell.spec is None or is_placed(params):  # inside shard_map they may be parts
        return
    template = _uncached(cell) if holds_tracer(cell) else _of_cell(cell)
    check_params(cell, template, params)


def loop_params(cell: Cell, params: Params) -> Params:
    """Check parameters; return them for a loop, with int8 weights as floats.

    So they are converted once, before the loop, whatever the loop does with them.
    """
    check_cell_params(cell, params)
    return dequantized(params)


def step_params(cell: Cell, params: Params) -> Params:
    """Check parameters; return them for a single step.

    Int8 weights stay if the step does nothing with them but ``dot``. That is so for
    cells that have a compiled kernel, as no other step keeps the field ``kernel``.
    """
    check_cell_params(cell, params)
    return params if cell.kernel is not None else dequantized(params)


def check_floating_params(cell: Cell, params: Params) -> None:
    """Check parameters, and refuse int8 weights, which have no gradient."""
    check_cell_params(cell, params)
    if has_int8(params):
        raise TypeError(
            "params must have floating weights here, got int8 weights: "
            "jaxrnn.quantization.dequantize(params) converts them"
        )


def input_size_of(cell: Cell, params: Params) -> int | None:
    """Return the input size that parameters were drawn for; None if it is unknown."""
    template = _uncached(cell)
    if template is None:
        return None
    for (_, shape), leaf in zip(template[1], jax.tree.leaves(params), strict=True):
        for size, there in zip(shape, np.shape(leaf), strict=True):
            if size is None:
                return there
    return None


def check_params(owner: Cell | str, template: Template | None, params: Params) -> None:
    """Compare parameters with a template of :func:`template_of`."""
    if template is None:
        return
    structure, leaves = template
    found = jax.tree.structure(params, is_leaf=is_int8)
    if found != structure:
        raise TypeError(
            f"params must be parameters of {owner}, of type {kind_of_tree(structure)}, "
            f"got {kind_of_tree(found)}"
        )
    weights = jax.tree.leaves(params, is_leaf=is_int8)
    for (name, shape), leaf in zip(leaves, weights, strict=True):
        got = leaf.shape if is_int8(leaf) else np.shape(leaf)
        fits = len(got) == len(shape) and all(
            size in (None, there) for size, there in zip(shape, got, strict=True)
        )
        if not fits:
            sizes = ", ".join("I" if size is None else str(size) for size in shape)
            comma = "," if len(shape) == 1 else ""
            raise ValueError(
                f"params{name} must have shape ({sizes}{comma}) for {owner}, got shape "
                f"{got}"
            )


def template_of(init: Callable[..., Params], sizes: tuple[int, int]) -> Template | None:
    """Trace ``init`` for the structure and the shapes of what it draws.

    Args:
        init: of a cell or layer.
        sizes: two sizes of the inputs; the same one where only one is possible.

    Returns:
        The template, in which a size that depends on the input size is None; or None if
        ``init`` cannot be traced, for instance because it calls NumPy.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        drawn = [jax.eval_shape(lambda k, n=n: init(k, n), key) for n in sizes]
    except Exception:
        return None
    leaves = []
    one, other = (jax.tree_util.tree_leaves_with_path(tree) for tree in drawn)
    for (path, a), (_, b) in zip(one, other, strict=True):
        leaves.append((jax.tree_util.keystr(path), _common(a.shape, b.shape)))
    return jax.tree.structure(drawn[0]), leaves


def _common(a: Shape, b: Shape) -> tuple[int | None, ...]:
    return tuple(m if m == n else None for m, n in zip(a, b, strict=True))


def _uncached(cell: Cell) -> Template | None:
    return template_of(cell.init, (1, 2))


_of_cell = functools.lru_cache(maxsize=1024)(_uncached)
