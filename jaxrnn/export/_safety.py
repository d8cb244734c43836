"""What a program may contain, so that a file from a stranger can be read.

A StableHLO program computes, and cannot open a file. But a custom call runs a function
of the process by its name, and a pytree may name a type whose reader another library
has registered. Both are looked for before anything runs.
"""

from typing import Any

import flatbuffers.encode
import flatbuffers.number_types
import flatbuffers.packer
import flatbuffers.table
from jax.export import Exported
from jax.extend.mlir import ir
from jax.interpreters import mlir

# Functions of LAPACK and its like trust the shapes that they are told: a wrong one
# overwrites memory. So each has the ranks of its operands and results here, where all
# matrices are square and of one size. These calls are what orthogonal cells need.
_LU = (2,), (2, 1, 0)
_PIVOTS = (1,), (1,)
_SOLVE = (2, 2), (2,)
_LINEAR_ALGEBRA = {
    "lapack_sgetrf_ffi": _LU,
    "lapack_dgetrf_ffi": _LU,
    "lapack_strsm_ffi": _SOLVE,
    "lapack_dtrsm_ffi": _SOLVE,
    "cusolver_getrf_ffi": _LU,
    "cu_lu_pivots_to_permutation": _PIVOTS,
    "hipsolver_getrf_ffi": _LU,
    "hip_lu_pivots_to_permutation": _PIVOTS,
    "LuDecomposition": ((2,), (2, 1, 1)),
}

# Checks of symbolic sizes, which JAX resolves before it compiles.
_ASSERTION = "shape_assertion"

_DIALECTS = ("builtin", "func", "stablehlo", "chlo")
_TALKS_TO_HOST = {f"stablehlo.{name}" for name in ("infeed", "outfeed", "send", "recv")}


def foreign_part(program: Exported) -> str | None:
    """Find a part of a program that an artefact may not have.

    Returns:
        The name of the first such part; None if there is none.
    """
    if program.ordered_effects or program.unordered_effects:
        return "an effect"
    if program.nr_devices != 1:
        return f"a program for {program.nr_devices} devices"
    found: list[str] = []

    def look(operation: Any) -> Any:
        name = _foreign(operation.operation)
        if name is not None:
            found.append(name)
        return ir.WalkResult.ADVANCE

    with mlir.make_ir_context():
        program.mlir_module(serialized=False).operation.walk(look)
    return found[0] if found else None


def _foreign(operation: Any) -> str | None:
    name = operation.name
    if name == "stablehlo.custom_call":
        target = ir.StringAttr(operation.attributes["call_target_name"]).value
        if target == _ASSERTION or _is_safe(target, operation):
            return None
        return f"a call of {target}"
    allowed = name.split(".")[0] in _DIALECTS and name not in _TALKS_TO_HOST
    return None if allowed else f"the operation {name}"


def _is_safe(target: str, operation: Any) -> bool:
    """Test that a call of linear algebra has square matrices of one size."""
    if target not in _LINEAR_ALGEBRA:
        return False
    ranks = [rank for group in _LINEAR_ALGEBRA[target] for rank in group]
    values = [*operation.operands, *operation.results]
    shapes = [list(ir.RankedTensorType(value.type).shape) for value in values]
    if len(shapes) != len(ranks) or len(shapes[0]) < ranks[0]:
        return False
    heads, size = shapes[0][: len(shapes[0]) - ranks[0]], shapes[0][-1]
    known = all(length >= 0 for length in shapes[0])  # a symbolic size is negative
    return known and all(
        shape == [*heads, *[size] * rank]
        for shape, rank in zip(shapes, ranks, strict=True)
    )


# Fields of the flatbuffer of ``jax.export``, and the kinds of pytree that it names.
_IN_TREE, _OUT_TREE, _VJP = 2, 4, 17
_KIND, _CHILDREN = 0, 1
_LEAF, _TUPLE, _DICT = 0, 2, 4


def is_flat(contents: bytes) -> bool:
    """Test that a serialised program takes and returns tuples of arrays, without types.

    ``jax.export.deserialize`` calls what is registered for the name of a type, which
    may be a function of another library that unpickles.
    """
    start = flatbuffers.encode.Get(flatbuffers.packer.uoffset, contents, 0)
    program = flatbuffers.table.Table(contents, start)
    trees = [_child(program, field) for field in (_IN_TREE, _OUT_TREE)]
    return _child(program, _VJP) is None and all(
        tree is not None and _is_plain(tree) for tree in trees
    )


def _is_plain(tree: Any) -> bool:
    where = tree.Offset(4 + 2 * _KIND)
    kind = tree.Get(flatbuffers.number_types.Int8Flags, where + tree.Pos)
    if (kind if where else _LEAF) not in (_LEAF, _TUPLE, _DICT):
        return False
    children = tree.Offset(4 + 2 * _CHILDREN)
    if not children:
        return True
    first = tree.Vector(children)
    return all(
        _is_plain(flatbuffers.table.Table(tree.Bytes, tree.Indirect(first + 4 * index)))
        for index in range(tree.VectorLen(children))
    )


def _child(table: Any, field: int) -> Any:
    """Return the table in a field of a table; None if it has none."""
    where = table.Offset(4 + 2 * field)
    if not where:
        return None
    return flatbuffers.table.Table(table.Bytes, table.Indirect(where + table.Pos))
