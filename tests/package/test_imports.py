"""Which folder and file of the package may import which (docs/design.md)."""

import ast
import graphlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxrnn"

# A room is a folder of the package, or a file that stands in none. Each may import from
# itself, and from the rooms that stand behind it here.
GROUND = (
    "_typing _options _tree _descriptions _base _eager _checks _numerics _params _masks"
)
MAY_IMPORT = {
    "_typing": "",
    "_export": "",
    "_options": "_typing",
    "_tree": "_typing",
    "_descriptions": "_options",
    "_base": "_descriptions _typing",
    "_eager": "_descriptions",
    "_checks": "_base _options _typing",
    "_numerics": "_checks _descriptions _typing",
    "_params": "_base _checks _descriptions _numerics _typing",
    "_masks": "_checks _numerics _options _tree _typing",
    "initializers": GROUND,
    "_cell_wrappers": GROUND,
    "_cells": f"{GROUND} _cell_wrappers initializers",
    "_unrolls": GROUND,
    "_layers": f"{GROUND} _unrolls initializers",
    "_gradients": f"{GROUND} _unrolls",
    "pooling": f"{GROUND} initializers",
    "decode": f"{GROUND} pooling",
    "seq2seq": f"{GROUND} _unrolls _layers decode initializers",
    "data": GROUND,
    "losses": GROUND,
    "metrics": GROUND,
    "normalization": GROUND,
    "optimizers": GROUND,
    "train": GROUND,
    "truncated": f"{GROUND} train",
    "checkpoint": GROUND,
    "diagnostics": f"{GROUND} _gradients _unrolls initializers",
    "plotting": f"{GROUND} diagnostics",
    "testing": f"{GROUND} _gradients _unrolls",
}
LEFT_OUT = {"checkpoint", "plotting"}  # by ``import jaxrnn``
MAY_IMPORT["__init__"] = " ".join(set(MAY_IMPORT) - LEFT_OUT)

# Not even through other files.
NEVER_REACHES = [
    ("_cells", "_unrolls"),
    ("_unrolls", "_cells"),
    ("_layers", "_cells"),
    ("losses", "_unrolls"),
]

PACKAGES_OF = {
    "optax": {"losses", "train", "truncated", "optimizers"},
    "safetensors": {"checkpoint"},
    "matplotlib": {"plotting"},
}


def module_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts if parts == ("__init__",) or parts[-1] != "__init__" else parts[:-1]


PATHS = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module):
    """The modules of the package that ``module`` imports, and the other packages."""
    path = PATHS[module]
    folder = path.relative_to(PACKAGE).parts[:-1]
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            parent = folder[: len(folder) + 1 - node.level]
            named = (*parent, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                own.add(
                    (*named, alias.name) if (*named, alias.name) in PATHS else named
                )
    return own, others


GRAPH = {module: imports(module) for module in PATHS}


def reached(module):
    """The modules that ``module`` imports, and those that they import."""
    seen, ahead = set(), {module}
    while ahead:
        seen |= ahead
        ahead = set().union(*(GRAPH[each][0] for each in ahead)) - seen
    return seen


@pytest.mark.parametrize("module", PATHS, ids=".".join)
def test_a_file_imports_from_the_rooms_that_it_may(module):
    own, others = GRAPH[module]
    allowed = {module[0], *MAY_IMPORT[module[0]].split()}
    assert {imported[0] for imported in own} <= allowed
    for package, rooms in PACKAGES_OF.items():
        assert package not in others or module[0] in rooms


@pytest.mark.parametrize(("room", "other"), NEVER_REACHES)
def test_rooms_that_know_nothing_of_each_other(room, other):
    for module in PATHS:
        if module[0] == room:
            assert not [each for each in reached(module) if each[0] == other], module


def test_no_imports_go_round_in_a_circle():
    graph = {module: own for module, (own, _) in GRAPH.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_every_room_has_its_rule():
    assert set(MAY_IMPORT) == {module[0] for module in PATHS}


@pytest.mark.parametrize("module", PATHS, ids=".".join)
def test_no_import_hides_in_a_function(module):
    for function in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                assert not isinstance(node, ast.Import | ast.ImportFrom), function.name
