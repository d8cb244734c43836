"""Which folder and file of the package may import which, as docs/design.md says."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jaxrnn"
PAGE = (ROOT / "docs" / "design.md").read_text()

# A room is a folder of the package, or a file that stands in none. Each may import from
# itself, and from the rooms in its row of the page's tables.
TABLE = re.compile(r"modules \| may import.*\n.*\n((?:\|.*\n)+)")
ROW = re.compile(r"^\| `(\w+)` \| (.*) \|$", re.M)
BASE, OTHERS = (
    {room: set(re.findall(r"`(\w+)`", others)) for room, others in ROW.findall(table)}
    for table in TABLE.findall(PAGE)
)
MAY_IMPORT = BASE | {room: others | set(BASE) for room, others in OTHERS.items()}
LEFT_OUT = {"checkpoint", "convert", "export", "plotting"}  # by ``import jaxrnn``
MAY_IMPORT["__init__"] = set(MAY_IMPORT) - LEFT_OUT

# Not even through other files.
NEVER_REACHES = [
    ("_cells", "_unrolls"),
    ("_unrolls", "_cells"),
    ("_layers", "_cells"),
    ("losses", "_unrolls"),
]

USERS_OF = {
    "optax": {"losses", "train", "truncated", "optimizers"},
    "safetensors": {"checkpoint"},
    "flatbuffers": {"export"},
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
    assert {imported[0] for imported in own} <= {module[0], *MAY_IMPORT[module[0]]}
    for package, rooms in USERS_OF.items():
        assert package not in others or module[0] in rooms


@pytest.mark.parametrize(("room", "other"), NEVER_REACHES)
def test_rooms_that_know_nothing_of_each_other(room, other):
    for module in PATHS:
        if module[0] == room:
            assert not [each for each in reached(module) if each[0] == other], module


def test_no_imports_go_round_in_a_circle():
    graph = {module: own for module, (own, _) in GRAPH.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_every_room_has_its_rule_and_stands_in_the_drawing():
    rooms = {module[0] for module in PATHS}
    assert set(MAY_IMPORT) == rooms
    drawing = PAGE.partition("    jaxrnn/\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in drawing.splitlines()]
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(names) == sorted(f"{r}/" if r in folders else r for r in rooms)


@pytest.mark.parametrize("module", PATHS, ids=".".join)
def test_no_import_hides_in_a_function(module):
    for function in ast.walk(ast.parse(PATHS[module].read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                assert not isinstance(node, ast.Import | ast.ImportFrom), function.name
