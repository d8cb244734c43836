"""Modules import from lower layers only, and say so at their top."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxrnn"

# A module imports from rows above its own only (docs/design.md, "Import layers").
IMPORT_LAYERS = [
    ["_export", "_files", "_descriptions.known", "_leaves", "_typing"],
    ["_descriptions.arguments", "_options"],
    [
        "_descriptions.spec",
        "_numerics.placement",
        "_numerics.tuning",
        "_gradients.rows",
    ],
    ["_base", "_descriptions.captured", "_descriptions.from_spec"],
    ["_eager"],
    ["_checks", "_numerics.most_probable"],
    ["_params"],
    ["_numerics.precision", "_tree"],
    ["_masks", "_unrolls.arguments", "_unrolls.buffers", "_unrolls.masked_scan"],
    ["_unrolls.plan", "_unrolls.reference"],
    [
        "_numerics.activation",
        "_numerics.convolution",
        "_finite_differences",
        "_numerics.gate_activation",
        "_numerics.normalized",
    ],
    [
        "_batches",
        "_choices",
        "_edit_distance",
        "_gradients.influence",
        "_cell_wrappers.multihead",
        "_cell_wrappers.noise",
        "_cell_wrappers.reparametrized",
        "_series",
        "_vocabulary",
        "initializers",
    ],
    [
        "_cells.elman",
        "_cells.lstm",
        "_cells.gru",
        "_unrolls.unroll",
        "_gradients.transition",
    ],
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
    ["_unrolls.associative", "_unrolls.chunks", "_unrolls.rematerialized"],
    ["_unrolls.row_by_row"],
    ["_unrolls.reverse_mode"],
    [
        "_unrolls.bptt",
        "_gradients.by_lag",
        "_gradients.rtrl",
        "_layers.time_distributed",
    ],
    [
        "_attention",
        "_layers.connections",
        "_layers.dropout",
        "_cell_wrappers.learned_state",
        "_cell_wrappers.recurrent_dropout",
        "_cell_wrappers.outputs",
        "_layers.ridge",
        "_layers.tied",
        "_update",
        "_cell_wrappers.zoneout",
        "pooling",
    ],
    ["_layers.stack", "_scheduled_sampling"],
    ["_layers.recurrent", "_beam_search"],
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
    if not (path.name == "__init__.py" and path.parent.name.startswith("_"))
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


@pytest.mark.parametrize("module", MODULES)
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
    assert set(RANK) == set(MODULES)
