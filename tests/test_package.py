"""The package as a whole: its layers, its public names, its documents."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import jax
import pytest

import jaxrnn

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "jaxrnn"

# A module imports from rows above its own only (docs/design.md, "Import layers").
IMPORT_LAYERS = [
    ["_typing"],
    ["_base", "_plan", "_rows"],
    ["_precision"],
    [
        "_activation",
        "_checks",
        "_convolution",
        "_finite_differences",
        "_gate_activation",
        "_normalized",
    ],
    [
        "_scan",
        "_batches",
        "_edit_distance",
        "_influence",
        "_multihead",
        "_noise",
        "_reparametrized",
        "_series",
        "_vocabulary",
        "initializers",
    ],
    ["_cells.elman", "_cells.lstm", "_cells.gru", "_unroll"],
    [
        "_cells.conv_lstm",
        "_cells.coupled_lstm",
        "_cells.indrnn",
        "_cells.janet",
        "_cells.jordan",
        "_cells.layer_norm_gru",
        "_cells.layer_norm_lstm",
        "_cells.leaky_integrator",
        "_cells.lru",
        "_cells.mgu",
        "_cells.mingru",
        "_cells.minlstm",
        "_cells.orthogonal_rnn",
        "_cells.peephole_lstm",
        "_cells.projected_lstm",
        "_cells.recurrent_highway",
        "_cells.slstm",
    ],
    [
        "_cells.antisymmetric",
        "_cells.conv_gru",
        "_cells.echo_state",
    ],
    ["_associative", "_chunks", "_unroll_with"],
    ["_row_by_row"],
    ["_reverse_mode"],
    ["_bptt", "_gradient_by_lag", "_rtrl", "_time_distributed"],
    [
        "_attention",
        "_connections",
        "_dropout",
        "_learned_state",
        "_recurrent_dropout",
        "_returned",
        "_ridge",
        "_tied",
        "_update",
        "_zoneout",
        "pooling",
    ],
    ["_layers", "_beam_search"],
    ["_gradient_norms", "_jacobians", "_gates", "_cell_problem"],
    ["_step_properties", "_sequence_properties"],
    ["_cell_properties"],
    [
        "losses",
        "metrics",
        "data",
        "decode",
        "train",
        "truncated",
        "optimizers",
        "normalization",
        "diagnostics",
        "testing",
        "checkpoint",
    ],
    ["plotting", "seq2seq"],
    ["__init__"],
]
RANK = {name: rank for rank, row in enumerate(IMPORT_LAYERS) for name in row}
MODULES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
]
SUBMODULES = [
    "data",
    "decode",
    "diagnostics",
    "initializers",
    "losses",
    "metrics",
    "normalization",
    "optimizers",
    "pooling",
    "seq2seq",
    "train",
    "truncated",
    "checkpoint",
    "plotting",
    "testing",
]


def imports(module):
    """The modules of the package that ``module`` imports, and the others."""
    path = PACKAGE / (module.replace(".", "/") + ".py")
    own, others = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            others.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            package = ["jaxrnn", *module.split(".")][: -node.level]
            if node.module is None:
                own |= {".".join([*package[1:], alias.name]) for alias in node.names}
            else:
                own.add(".".join([*package[1:], node.module]))
    return own, others


@pytest.mark.parametrize("module", [m for m in MODULES if m != "_cells.__init__"])
def test_modules_import_from_lower_layers_only(module):
    own, others = imports(module)
    for imported in own:
        assert RANK[imported] < RANK[module], f"{module} imports {imported}"
    if module not in ("losses", "train", "_update", "truncated", "optimizers"):
        assert "optax" not in others
    if module != "checkpoint":
        assert "safetensors" not in others
    if module != "plotting":
        assert "matplotlib" not in others


@pytest.mark.parametrize("module", MODULES)
def test_no_import_hides_in_a_function(module):
    tree = ast.parse((PACKAGE / (module.replace(".", "/") + ".py")).read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                assert not isinstance(node, ast.Import | ast.ImportFrom), function.name


def test_every_module_has_its_place():
    assert set(RANK) == set(MODULES) - {"_cells.__init__"}


def public_objects():
    for name in jaxrnn.__all__:
        yield f"jaxrnn.{name}", getattr(jaxrnn, name)
    for submodule in SUBMODULES:
        module = importlib.import_module(f"jaxrnn.{submodule}")
        yield f"jaxrnn.{submodule}", module
        for name in module.__all__:
            yield f"jaxrnn.{submodule}.{name}", getattr(module, name)


@pytest.mark.parametrize(("name", "value"), list(public_objects()))
def test_public_names_are_documented(name, value):
    if not (
        inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value)
    ):
        return  # an alias or a partial, documented where it is defined
    doc = inspect.getdoc(value)
    assert doc, name
    if isinstance(value, type) and issubclass(value, tuple):
        # NamedTuple writes a docstring of its own where there is none.
        assert not doc.startswith(f"{value.__name__}("), name
    if inspect.isfunction(value):
        parameters = [p for p in inspect.signature(value).parameters if p != "self"]
        for parameter in parameters:
            assert re.search(rf"\b{parameter}\b", doc), (
                f"{name} does not say {parameter}"
            )


def test_all_lists_every_public_name():
    public = {name for name in vars(jaxrnn) if not name.startswith("_")}
    assert set(jaxrnn.__all__) <= public
    assert public - set(jaxrnn.__all__) <= {"checkpoint", "plotting"}
    for name in ("elman", "lstm", "gru", "unroll", "unroll_bptt", "bptt", "layer"):
        assert name in jaxrnn.__all__


def code_blocks(document):
    text = (ROOT / document).read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "docs/new_cell.md"])
def test_code_in_documents_runs(document):
    blocks = code_blocks(document)
    assert blocks
    scope = {"__name__": "document"}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            exec(compile(block, document, "exec"), scope)


def test_the_readme_has_its_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert 'pip install -e ".[examples]" && python examples/char_lm.py' in readme
    assert 'pip install -e ".[test]" && pytest' in readme


def formulas(document):
    """Rows of its tables of formulas and lines of code, with the file of the lines."""
    file = None
    for line in (ROOT / document).read_text().splitlines():
        if head := re.match(r"\| formula \| `(.+)` \|", line):
            file = head[1]
        elif not line.startswith("|"):
            file = None
        elif file and (code := re.search(r"\| `([^|]+)` \|$", line)):
            yield pytest.param(file, code[1], id=code[1])


@pytest.mark.parametrize(("file", "code"), list(formulas("docs/bptt.md")))
def test_each_formula_stands_beside_its_line(file, code):
    source = " ".join((ROOT / file).read_text().split())
    # The formatter may break a line.
    written = re.sub(r"(?<=[(\[]) | (?=[)\]])|,(?= ?[)\]])", "", source)
    assert code in source or code in written


def test_there_are_formulas():
    assert len(list(formulas("docs/bptt.md"))) > 50


def test_the_page_of_cells_is_current_and_has_them_all():
    page = (ROOT / "docs" / "cells.md").read_text()
    for path in (PACKAGE / "_cells").glob("[a-z]*.py"):
        assert f"\n## {path.stem}\n" in page
    script = ROOT / "benchmarks" / "cells_page.py"
    result = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
