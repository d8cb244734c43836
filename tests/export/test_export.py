"""Artefacts: every model as programs in a file, which run without its code."""

import dataclasses
import functools
import json
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from all_models import inputs, model
from cases import CELLS, B, H, I, T, assert_close, initial_params
from covering import combinations, quick
from layer_cases import LAYERS, QUICK, VOCAB

import jaxrnn
from jaxrnn import checkpoint, export
from jaxrnn.checkpoint import _format
from jaxrnn.export import _artefact, _safety

MASK = np.random.default_rng(1).random((T, B)) < 0.7
LAYER = jaxrnn.layer(jaxrnn.lstm(H))
PARAMS = initial_params(LAYER)
XS = inputs("lstm")


@functools.cache
def made(name, **sizes):
    layer, params, tokens = model(name)
    size = VOCAB if tokens else inputs(name).shape[2:]
    return export.export(layer, params, size, **sizes)


def through_a_file(artefact, folder):
    artefact.save(folder / "model.safetensors")
    return export.load(folder / "model.safetensors")


def assert_applies(artefact, name, **flags):
    """Compare a run in an artefact with one of the model, whose state goes on."""
    layer, params, _ = model(name)
    xs, state = inputs(name), artefact.initial_state(B)
    assert_close(state, layer.initial_state(params, (B,)), 1e-12)
    apply = jax.jit(layer.apply)
    for _ in range(2):
        expected = apply(params, xs, state, **flags)
        actual = artefact.apply(xs, state, **flags)
        assert_close(actual, expected, 1e-12)
        state, _ = actual


def assert_steps(artefact, name):
    layer, params, _ = model(name)
    xs, state = inputs(name), artefact.initial_state(B)
    expected = jax.jit(layer.apply)(params, xs)
    outputs = []
    for x in xs:
        state, y = artefact.step(state, x)
        outputs.append(y)
    ys = jax.tree.map(lambda *parts: jnp.stack(parts), *outputs)
    assert_close((state, ys), expected, 1e-12)


MODES = {
    "static": {"num_steps": T, "batch_size": B},
    "batch": {"num_steps": T},
    "time": {"batch_size": B},
    "step": {},
}


@combinations(strength=1, name=list(CELLS), mode=list(MODES))
def test_every_cell_comes_back_and_computes_the_same(name, mode, tmp_path):
    artefact = through_a_file(made(name, **MODES[mode]), tmp_path)
    if mode == "step":
        assert_steps(artefact, name)
    else:
        assert_applies(artefact, name, mask=MASK)


@quick("name", LAYERS, by_default=QUICK)
def test_every_layer_comes_back_and_computes_the_same(name, tmp_path):
    artefact = through_a_file(made(name), tmp_path)
    assert_applies(artefact, name, mask=MASK)
    if LAYERS[name].causal:
        assert_steps(artefact, name)
    else:
        with pytest.raises(ValueError, match="layer must be causal to be stepped"):
            artefact.step((), inputs(name)[0])


@pytest.mark.parametrize("sizes", [(T, B), (4, 1), (1, 5)])
def test_one_artefact_runs_sequences_of_every_size(sizes):
    xs = inputs("lstm", *sizes)
    layer, params, _ = model("lstm")
    assert_close(made("lstm").apply(xs), layer.apply(params, xs), 1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_those_of_the_parameters(dtype, tmp_path):
    params, xs = jaxrnn.cast(PARAMS, dtype), XS.astype(dtype)
    artefact = through_a_file(export.export(LAYER, params, I), tmp_path)
    assert artefact.dtype == dtype
    assert_close(artefact.apply(xs), jax.jit(LAYER.apply)(params, xs), 1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.uint64])
def test_token_ids_may_have_any_integer_dtype(dtype):
    artefact, (layer, params, _) = made("embedding"), model("embedding")
    info = np.iinfo(dtype)
    tokens = np.array([[0, VOCAB - 1, info.max]], dtype)
    _, ys = artefact.apply(tokens)
    assert_close(ys[:, :2], layer.apply(params, tokens[:, :2])[1], 0)
    assert jnp.isnan(ys[0, 2]).all()


def test_an_artefact_says_what_it_takes(tmp_path):
    artefact = through_a_file(made("conv-gru-2d", num_steps=T), tmp_path)
    assert artefact.platforms == ("cpu", "cuda", "tpu")
    assert artefact.input_shape == (2, 4, I)
    assert artefact.output_shape == (2, 4, H)
    assert artefact.dtype == jnp.float64
    assert artefact.num_steps == T
    assert artefact.batch_size is None
    assert artefact.jax_version == jax.__version__
    inputs = f"float64 inputs ({T}, B, 2, 4, {I})"
    assert repr(artefact) == f"<Artefact: {inputs}, for cpu, cuda, tpu>"
    assert jaxrnn.from_spec(artefact.description) == model("conv-gru-2d")[0]


def test_parameters_are_stored_once(tmp_path):
    layer = jaxrnn.layer(jaxrnn.lstm(100))
    export.export(layer, initial_params(layer), I).save(tmp_path / "model")
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(initial_params(layer)))
    assert size < (tmp_path / "model").stat().st_size < size + 40_000


def test_source_files_are_not_named(tmp_path):
    made("stack").save(tmp_path / "model")
    assert b".py" not in (tmp_path / "model").read_bytes()


def test_strings_beside_an_artefact_are_kept(tmp_path):
    made("lstm").save(tmp_path / "model", {"classes": "low high"})
    assert checkpoint.load_metadata(tmp_path / "model") == {"classes": "low high"}


def test_a_call_may_be_part_of_a_program():
    step = jax.jit(made("lstm").step)
    state, _ = step(made("lstm").initial_state(B), XS[0])
    assert_close(state, made("lstm").step(made("lstm").initial_state(B), XS[0])[0], 0)


# A model of code that the reader does not have


class OwnState(NamedTuple):
    level: jax.Array
    history: dict


def own_cell():
    def initial_state(params, batch_shape=()):
        zeros = jnp.zeros((*batch_shape, I))
        return OwnState(zeros, {"last": zeros, "pair": (zeros, [zeros])})

    def step(params, state, a_x):
        level = params["decay"] * state.level + a_x
        return OwnState(level, {**state.history, "last": state.level}), level

    return jaxrnn.Cell(
        init=lambda key, size, dtype=None: {"decay": jnp.full((size,), 0.9, dtype)},
        initial_state=initial_state,
        project=lambda params, xs: xs * params["decay"],
        step=step,
        output_size=I,
    )


READER = """
import sys
import jax
import numpy as np
from jaxrnn import export

jax.config.update("jax_enable_x64", True)
artefact = export.load(sys.argv[1])
xs = np.load(sys.argv[2])
state, ys = artefact.apply(xs[:4])
for x in xs[4:]:
    state, y = artefact.step(state, x)
np.savez(sys.argv[3], y=y, level=state[0], last=state[1]["last"])
assert artefact.description is None
"""


def test_a_model_of_the_user_runs_in_a_process_without_its_code(tmp_path):
    layer = jaxrnn.layer(own_cell())
    params = layer.init(None, I, jnp.float64)
    export.export(layer, params, I).save(tmp_path / "model")
    np.save(tmp_path / "xs.npy", XS)
    paths = [tmp_path / name for name in ("model", "xs.npy", "out.npz")]
    subprocess.run([sys.executable, "-c", READER, *paths], check=True)
    state, ys = layer.apply(params, XS)
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["y"], ys[-1], rtol=1e-12)
        np.testing.assert_allclose(found["level"], state.level, rtol=1e-12)
        np.testing.assert_allclose(found["last"], state.history["last"], rtol=1e-12)


def test_a_program_is_a_function_of_arrays_that_jax_alone_can_read(tmp_path):
    made("lstm").save(tmp_path / "model")
    arrays = safetensors.numpy.load_file(tmp_path / "model")
    with safetensors.safe_open(tmp_path / "model", framework="numpy") as file:
        names = json.loads(file.metadata()["jaxrnn.artefact"])["params"]
    program = jax.export.deserialize(bytearray(arrays["programs.step"]))
    zeros = np.zeros((B, H))
    params = [arrays[f"params{name}"] for name in names]
    actual = program.call(*params, XS[0], zeros, zeros)
    state, y = made("lstm").step(made("lstm").initial_state(B), XS[0])
    assert_close(list(actual), [*state, y], 1e-12)


def test_every_type_of_parameters_and_states_is_registered():
    for name, kind in jaxrnn._descriptions.types.data_types().items():
        shape = jax.ShapeDtypeStruct((2,), jnp.float32)
        tree = kind(*[shape] * len(kind._fields))
        program = jax.export.export(jax.jit(lambda tree: tree))(tree)
        again = jax.export.deserialize(program.serialize())
        assert again.in_tree == program.in_tree, name


# Calls that do not fit


STATE = {"state": (jnp.zeros((B, H)), jnp.zeros((B, H)))}
WIDE = jaxrnn.LSTMState(jnp.zeros((B, H + 1)), jnp.zeros((B, H + 1)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a.apply(XS[0]), ValueError, r"xs must have shape \(T, B, 2\), got"),
        (lambda a: a.apply(XS[..., :1]), ValueError, r"\(T, B, 2\), got shape \(7, 3"),
        (lambda a: a.apply(XS[:0]), ValueError, "at least one step and one batch"),
        (lambda a: a.apply(XS.astype("f")), TypeError, "xs must have dtype float64"),
        (lambda a: a.apply("text"), TypeError, "xs must be an array of numbers"),
        (lambda a: a.apply(XS, mask=XS[..., 0]), TypeError, "mask must be boolean"),
        (lambda a: a.apply(XS, mask=MASK[:2]), ValueError, r"mask must have .* \(7, 3"),
        (lambda a: a.apply(XS, **STATE), ValueError, "state must be LSTMState, got a"),
        (lambda a: a.apply(XS, WIDE), ValueError, r"state\.h must have shape \(3, 5\)"),
        (lambda a: a.step(WIDE, XS[0]), ValueError, r"state\.h must have shape"),
        (lambda a: a.step(WIDE, XS), ValueError, r"x must have shape \(B, 2\), got"),
        (lambda a: a.initial_state(0), ValueError, "batch_size must be at least 1"),
        (lambda a: a.initial_state(2.0), TypeError, "batch_size must be an int"),
    ],
)
def test_a_wrong_call_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call(made("lstm"))


def test_other_sizes_than_the_fixed_ones_are_refused():
    artefact = made("lstm", num_steps=T, batch_size=B)
    with pytest.raises(ValueError, match=r"xs must have shape \(7, 3, 2\), got"):
        artefact.apply(XS[1:])
    with pytest.raises(ValueError, match="batch_size must be 3, as the artefact was"):
        artefact.initial_state(2)


def test_numbers_are_no_token_ids():
    with pytest.raises(TypeError, match="xs must be integers, got dtype float64"):
        made("embedding").apply(np.zeros((T, B)))


def test_an_artefact_for_other_platforms_does_not_run_here():
    artefact = made("lstm", platforms=("tpu",))
    with pytest.raises(ValueError, match="exported for platforms"):
        artefact.initial_state(B)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((CELLS["lstm"].cell, PARAMS, I), {}, TypeError, "wrap it in jaxrnn.layer"),
        ((LAYER, PARAMS[:2], I), {}, TypeError, "params must be parameters of jaxrnn"),
        ((LAYER, "text", I), {}, TypeError, "params must be an array"),
        ((LAYER, PARAMS, I + 1), {}, ValueError, "input_size must be .* got .3,."),
        ((LAYER, PARAMS, 0), {}, ValueError, "input_size must be at least 1, got 0"),
        ((LAYER, PARAMS, 2.0), {}, TypeError, "input_size must be an int, got 2.0"),
        ((LAYER, PARAMS, I), {"num_steps": 0}, ValueError, "num_steps must be at"),
        ((LAYER, PARAMS, I), {"batch_size": "B"}, TypeError, "batch_size must be an"),
        ((LAYER, PARAMS, I), {"platforms": "gpu"}, ValueError, "got 'gpu'"),
        (
            (LAYER, PARAMS, I),
            {"platforms": ()},
            ValueError,
            "must name at least one, got",
        ),
    ],
)
def test_a_wrong_export_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        export.export(*arguments, **options)


def test_a_model_that_needs_numbers_says_so():
    layer = jaxrnn.layer(jaxrnn.mingru(H), unroll_fn=jaxrnn.unroll_associative)
    params = initial_params(layer)
    with pytest.raises(ValueError, match="num_steps and batch_size must be given"):
        export.export(layer, params, I)
    artefact = export.export(layer, params, I, num_steps=T)
    assert_close(artefact.apply(XS), layer.apply(params, XS), 1e-12)


def own_layer(function):
    """A layer of a function of each step."""
    return jaxrnn.Layer(
        init=lambda key, input_size, dtype=None: (),
        initial_state=lambda params, batch_shape=(): (),
        apply=lambda params, xs, state=None, **flags: ((), function(xs)),
        step=lambda params, state, x: ((), function(x)),
        output_size=I,
    )


def called_back(xs):
    return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(xs.shape, xs.dtype), xs)


def orthogonal(xs):
    return xs @ jnp.linalg.qr(xs.sum() + jnp.ones((I, I)))[0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (called_back, "model.apply must compute what jax.export can write"),
        (orthogonal, r"got a call of \w+ in its apply"),
    ],
)
def test_a_model_that_calls_other_code_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        export.export(own_layer(function), (), I, platforms=("cpu", "tpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": lambda p, s, x: (x, x)}, "model.step must return a state of the"),
        ({"step": lambda p, s, x: ((), (x, x))}, "model.step must return outputs of"),
    ],
)
def test_a_step_unlike_its_run_is_refused(change, message):
    layer = own_layer(jnp.tanh)._replace(**change)
    with pytest.raises(TypeError, match=message):
        export.export(layer, (), I)


def test_a_state_without_batch_axis_is_refused():
    layer = own_layer(jnp.tanh)._replace(
        initial_state=lambda params, batch_shape=(): jnp.zeros(2)
    )
    with pytest.raises(ValueError, match="leaves whose first axis is the batch"):
        export.export(layer, (), I)


# Files that are damaged, newer, or of a stranger


def test_every_damaged_byte_is_found(tmp_path):
    path = tmp_path / "model"
    made("dense").save(path)
    whole = path.read_bytes()
    for index in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[index] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged|was not written by"):
            export.load(path)
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="damaged"):
        export.load(path)


def rewritten(path, change_header=None, **arrays):
    """Write a file of an artefact again, with a checksum that fits."""
    old, metadata = _format.read_file(path)
    if change_header is not None:
        header = json.loads(metadata[_artefact.HEADER])
        change_header(header)
        metadata[_artefact.HEADER] = json.dumps(header)
    _format.write_leaves(path, _format.ARTEFACT, {**old, **arrays}, metadata)


def as_array(program):
    return np.frombuffer(program.serialize(), np.uint8)


def test_an_artefact_of_a_newer_version_says_what_to_do(tmp_path):
    path = tmp_path / "model"
    made("dense").save(path)
    rewritten(path, lambda header: header.update(version=2))
    message = "version 2, of a newer version of jaxrnn: .* upgrade jaxrnn"
    with pytest.raises(ValueError, match=message):
        export.load(path)


def test_a_file_of_a_newer_format_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(_format, "_FORMATS", ("1", "2", "3"))
    made("dense").save(tmp_path / "model")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 3 of a newer version of jaxrnn"):
        export.load(tmp_path / "model")


def test_programs_of_another_jax_say_which(tmp_path):
    path = tmp_path / "model"
    made("dense").save(path)
    broken = dataclasses.replace(
        made("dense").programs["apply"], mlir_module_serialized=b"newer"
    )
    arrays = {"programs.apply": as_array(broken)}
    rewritten(path, lambda header: header.update(jax="99.0"), **arrays)
    with pytest.raises(ValueError, match=r"can read: .*; JAX 99.0 wrote it"):
        export.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(version="1"), "without a version"),
        (lambda header: header.pop("params"), "holds no artefact that JAX"),
        (lambda header: header["params"].pop(), "takes or returns other arrays"),
        (lambda header: header["params"].append(".x"), r"must hold .* params\.x"),
        (lambda header: header.update(state={"jaxrnn.Cell": []}), "got 'jaxrnn.Cell'"),
        (lambda header: header.update(state={"tuple": []}), "another number of arrays"),
        (lambda header: header.update(state={"os.system": []}), "got 'os.system'"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(change, message, tmp_path):
    path = tmp_path / "model"
    made("lstm").save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        export.load(path)
    assert str(path) in str(caught.value)


def test_a_header_that_is_no_json_is_refused(tmp_path):
    made("dense").save(tmp_path / "model")
    arrays, metadata = _format.read_file(tmp_path / "model")
    for text in ("{", "[" * 100_000, "[]"):
        metadata[_artefact.HEADER] = text
        _format.write_leaves(tmp_path / "model", _format.ARTEFACT, arrays, metadata)
        with pytest.raises(ValueError, match="model holds"):
            export.load(tmp_path / "model")


def test_programs_that_do_not_fit_each_other_are_refused(tmp_path):
    path = tmp_path / "model"
    made("lstm").save(path)
    rewritten(path, **{"programs.step": as_array(made("gru").programs["step"])})
    with pytest.raises(ValueError, match="its step takes or returns other arrays"):
        export.load(path)


def calls_lapack(matrix, num_pivots):
    """Take an LU decomposition, with as many pivots as one says that it has."""
    results = [matrix.shape, (num_pivots,), ()]
    dtypes = [matrix.dtype, jnp.int32, jnp.int32]
    call = jax.ffi.ffi_call(
        "lapack_dgetrf_ffi",
        [jax.ShapeDtypeStruct(*each) for each in zip(results, dtypes, strict=True)],
    )
    return call(matrix)[1]


CALLBACK = "xla_ffi_python_cpu_callback"  # runs Python


def calls(target):
    return lambda x: jax.ffi.ffi_call(target, jax.ShapeDtypeStruct((2, 2), x.dtype))(x)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (jnp.tanh, None),
        (lambda x: calls_lapack(x, 2), None),
        (lambda x: calls_lapack(x, 1), "a call of lapack_dgetrf_ffi"),
        (lambda x: calls_lapack(x, 300), "a call of lapack_dgetrf_ffi"),
        (lambda x: calls_lapack(x[0], 2), "a call of lapack_dgetrf_ffi"),
        (lambda x: calls_lapack(x[:1], 1), "a call of lapack_dgetrf_ffi"),
        (calls(CALLBACK), f"a call of {CALLBACK}"),
    ],
)
def test_what_a_program_may_call(function, found):
    check = jax.export.DisabledSafetyCheck.custom_call(CALLBACK)
    shape = jax.ShapeDtypeStruct((2, 2), jnp.float64)
    program = jax.export.export(
        jax.jit(function), platforms=["cpu"], disabled_checks=[check]
    )(shape)
    assert _safety.foreign_part(program) == found


def test_a_program_that_calls_python_is_refused_before_it_runs(tmp_path):
    path = tmp_path / "model"
    dense = made("dense")
    dense.save(path)
    program = jax.export.export(
        jax.jit(lambda w, b, batch: calls(CALLBACK)(w)[:0]),
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call(CALLBACK)],
    )(*dense.programs["initial_state"].in_avals)
    rewritten(path, **{"programs.initial_state": as_array(program)})
    message = f"its initial_state is not safe: it has a call of {CALLBACK}"
    with pytest.raises(ValueError, match=message):
        export.load(path)


@jax.tree_util.register_pytree_node_class
class Trap:
    """A type whose reader must not be called by the name in a file."""

    def tree_flatten(self):
        return (), ()

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls()


def spring(data):
    raise AssertionError("a file called a function by its name")


jax.export.register_pytree_node_serialization(
    Trap,
    serialized_name="tests.Trap",
    serialize_auxdata=lambda aux: b"",
    deserialize_auxdata=spring,
)


@pytest.mark.parametrize("trees", [((Trap(), 1.0), {}), ((1.0,), {"a": [Trap()]})])
def test_no_type_that_a_program_names_is_read(trees, tmp_path):
    path = tmp_path / "model"
    made("dense").save(path)
    program = dataclasses.replace(
        made("dense").programs["apply"], in_tree=jax.tree.structure(trees)
    )
    rewritten(path, **{"programs.apply": as_array(program)})
    with pytest.raises(ValueError, match="its apply names types"):
        export.load(path)


def test_a_gradient_in_a_file_is_refused():
    program = jax.export.export(jax.jit(jnp.tanh))(1.0)
    flat = dataclasses.replace(program, out_tree=jax.tree.structure((0,)))
    assert _safety.is_flat(flat.serialize())
    assert not _safety.is_flat(flat.serialize(vjp_order=1))


def test_files_of_checkpoints_say_who_reads_them(tmp_path):
    path = tmp_path / "file"
    checkpoint.save_model(path, LAYER, PARAMS)
    with pytest.raises(ValueError, match="but by save_model: read it with load_model"):
        export.load(path)
    made("lstm").save(path)
    message = "but by jaxrnn.export: read it with jaxrnn.export.load"
    with pytest.raises(ValueError, match=message):
        checkpoint.load_params(path, PARAMS)
    with pytest.raises(ValueError, match=r"no model; read it with jaxrnn\.export.load"):
        checkpoint.load_model(path)
    safetensors.numpy.save_file({"w": np.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"was not written by jaxrnn\.export"):
        export.load(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        export.load(tmp_path / "missing")


def test_64_bits_must_be_on_to_read_them(tmp_path):
    made("lstm").save(tmp_path / "wide")
    narrow = export.export(LAYER, jaxrnn.cast(PARAMS, jnp.float32), I)
    narrow.save(tmp_path / "narrow")
    xs = XS.astype(np.float32)
    expected = narrow.apply(xs)
    with jax.enable_x64(False):
        with pytest.raises(
            ValueError, match=r"float64, which is off: call jax\.config"
        ):
            export.load(tmp_path / "wide")
        assert_close(export.load(tmp_path / "narrow").apply(xs), expected, 1e-6)
