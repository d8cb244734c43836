"""The compiled library: built, found, checked, chosen; what is said if it is not."""

import concurrent.futures
import ctypes
import functools
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from jaxrnn import kernels
from jaxrnn._native import library
from jaxrnn._numerics.activation import identity
from jaxrnn._unrolls.arguments import Inputs, Run
from jaxrnn._unrolls.reference import scan_forward, scan_gradients

ROOT = pathlib.Path(__file__).parents[2]
VARIANTS = kernels.variants()
built = pytest.mark.skipif(not VARIANTS, reason=kernels.status())

spec = importlib.util.spec_from_file_location("build", ROOT / "kernels" / "build.py")
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


# The known values of kernels/check.cc

STEPS, BATCH, INPUTS, UNITS = 5, 3, 2, 7
CHECKED = [
    jaxrnn.lstm(UNITS, cell_clip=0.5),
    jaxrnn.coupled_lstm(UNITS),
    jaxrnn.janet(UNITS, beta=0.5),
    jaxrnn.gru(UNITS),
    jaxrnn.gru(UNITS, reset_after=False),
    jaxrnn.mgu(UNITS),
    *(
        jaxrnn.elman(UNITS, activation=activation)
        for activation in (jnp.tanh, jax.nn.relu, jax.nn.leaky_relu, identity)
    ),
]


def numbers(shape, seed):
    n = np.arange(np.prod(shape))
    return (((n * 37 + seed * 101) % 64 - 32) / 64).reshape(shape)


def checksum(cell):
    """The sum that ``run`` in check.cc computes, by the reference in JAX."""
    params = cell.init(jax.random.key(0), INPUTS, jnp.float64)
    seeds = {"w_x": 2, "w_h": 3, "b": 4, "b_h": 5}
    drawn = {
        name: jnp.asarray(numbers(leaf.shape, seeds[name]))
        for name, leaf in params._asdict().items()
    }
    params = type(params)(**drawn)
    leaves, structure = jax.tree.flatten(cell.initial_state(params, (BATCH,)))

    def state(seed):
        drawn = [numbers(leaf.shape, seed + n) for n, leaf in enumerate(leaves)]
        return jax.tree.unflatten(structure, map(jnp.asarray, drawn))

    places = np.arange(STEPS * BATCH).reshape(STEPS, BATCH)
    mask, resets = places % 4 != 1, places % 5 == 2
    xs = np.where(mask[..., None], numbers((STEPS, BATCH, INPUTS), 1), 0)
    inputs = Inputs(
        jnp.asarray(xs), state(6), state(8), jnp.asarray(mask), jnp.asarray(resets)
    )
    run = Run(cell, reverse=False)
    (last, ys), _ = scan_forward(run, params, inputs)
    cotangents = state(11), jnp.asarray(numbers(ys.shape, 10))
    dparams, dxs, dstate, dfresh = scan_gradients(run, params, inputs, cotangents)

    def pair(state):
        return [*jax.tree.leaves(state), jnp.zeros(0)][:2]

    db_h = getattr(dparams, "b_h", jnp.zeros(0))
    arrays = [ys, *pair(last), dxs, dparams.w_x, dparams.w_h, dparams.b, db_h]
    arrays += [*pair(dstate), *pair(dfresh)]
    return sum(
        float((np.asarray(array).ravel() * numbers((array.size,), 20 + n)).sum())
        for n, array in enumerate(arrays)
    )


@built
@pytest.mark.parametrize("index", range(len(CHECKED)), ids=map(repr, CHECKED))
def test_the_known_values_are_those_of_jax(index):
    handle = library.library().handle
    handle.jaxrnn_checksum.restype = ctypes.c_double
    expected = checksum(CHECKED[index])
    for variant in VARIANTS:
        actual = handle.jaxrnn_checksum(variant.encode(), index)
        assert abs(actual - expected) < 1e-12


@built
def test_every_variant_checks_itself():
    handle = library.library().handle
    for variant in VARIANTS:
        assert handle.jaxrnn_check(variant.encode()) == 1
    assert handle.jaxrnn_check(b"unknown") == 0
    assert handle.jaxrnn_select(b"unknown") == 0


# Status and choice


@built
def test_using_says_what_runs_and_restores_the_choice():
    before = kernels.status()
    assert before.startswith("native ")
    for variant in VARIANTS:
        with kernels.using(variant):
            assert kernels.status().startswith("native ")
            with kernels.using("xla"):
                assert kernels.status() == "XLA (jaxrnn.kernels.using)"
            assert library.selected() == variant
    assert kernels.status() == before


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*xla here, got 'mmx'"):
        kernels.using("mmx").__enter__()


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """A library that is loaded anew, from a folder of the test."""
    monkeypatch.setattr(library, "library", functools.cache(_load_again))
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "libkernels.so")
    monkeypatch.setattr(library, "NOTE", tmp_path / "built.json")
    monkeypatch.delenv(library.VARIABLE, raising=False)
    return tmp_path


_load_again = library.library.__wrapped__


def runs(cell=None):
    cell = cell or jaxrnn.lstm(3)
    params = cell.init(jax.random.key(0), 2)
    return jaxrnn.unroll_bptt(cell, params, jnp.ones((4, 2)))[1].shape == (4, 3)


def test_without_a_library_cells_run_by_xla(fresh):
    assert "the kernels were not built" in kernels.status()
    assert kernels.variants() == ()
    assert runs()
    with kernels.using("xla"):
        assert runs()


def test_the_reason_is_kept_for_the_user(fresh):
    (fresh / "built.json").write_text(json.dumps({"why_not": "no compiler"}))
    assert kernels.status() == "XLA (no compiler)"


def test_a_broken_library_is_ignored_with_one_warning(fresh):
    (fresh / "libkernels.so").write_bytes(b"this is no library")
    with pytest.warns(UserWarning, match=r"without its kernels.*pip install"):
        assert "cannot be used" in kernels.status()
    assert runs()


@built
@pytest.mark.parametrize("version", [9000, 99_000])
def test_a_library_for_another_interface_is_ignored(fresh, version, monkeypatch):
    shutil.copy(library.FOLDER / "libkernels.so", fresh)
    monkeypatch.setattr(library, "_ffi_version", lambda: -version)
    (fresh / "built.json").write_text(json.dumps({"jaxlib": "9.9"}))
    with pytest.warns(UserWarning, match="built with jaxlib 9.9, running with"):
        assert kernels.variants() == ()


@built
def test_a_library_of_another_version_of_jaxrnn_is_ignored(fresh, monkeypatch):
    shutil.copy(library.FOLDER / "libkernels.so", fresh)
    monkeypatch.setattr(library, "INTERFACE", 0)
    with pytest.warns(UserWarning, match="another version of jaxrnn"):
        assert kernels.variants() == ()


def test_the_environment_can_turn_kernels_off(fresh, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "XLA")
    assert kernels.status() == "XLA (the environment variable JAXRNN_KERNELS is 'xla')"


@built
def test_the_environment_can_name_a_variant(fresh, monkeypatch):
    monkeypatch.setattr(library, "LIBRARY", library.FOLDER / "libkernels.so")
    monkeypatch.setenv(library.VARIABLE, VARIANTS[-1])
    assert kernels.variants()[0] == VARIANTS[-1]


@built
def test_an_unknown_variant_in_the_environment_is_named(fresh, monkeypatch):
    monkeypatch.setattr(library, "LIBRARY", library.FOLDER / "libkernels.so")
    monkeypatch.setenv(library.VARIABLE, "mmx")
    with pytest.raises(ValueError, match=r"JAXRNN_KERNELS must be one of .*got 'mmx'"):
        kernels.status()


# The build


def test_a_build_without_a_compiler_says_why(tmp_path, monkeypatch, capsys):
    (tmp_path / "libkernels.so").write_bytes(b"of an earlier build")
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.build_or_say_why_not(tmp_path)
    assert not (tmp_path / "libkernels.so").exists()
    note = json.loads((tmp_path / "built.json").read_text())
    assert "there is no C++17 compiler (no-such-compiler)" in note["why_not"]
    assert "without its kernels" in capsys.readouterr().err


def test_a_compiler_that_fails_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "false")
    build.build_or_say_why_not(tmp_path)
    note = json.loads((tmp_path / "built.json").read_text())
    assert "the compiler false failed" in note["why_not"]


def test_a_machine_without_kernels_is_named(tmp_path):
    with pytest.raises(build.CannotBuildError, match=r"no kernels for .* on sparc"):
        build.build(tmp_path, machine="sparc")


def compile_checks(folder, machine, compiler, *flags):
    """Compile all variants and tests/native/sanitized.cc into a program."""
    headers = ["-I", ROOT / "kernels"]
    line = [*compiler, *build.FLAGS, "-Werror", *flags]

    def compile_variant(name):
        variant = build.VARIANTS[machine][name]
        options = [*variant.flags, *build._defines(name, variant)]
        source, target = ROOT / "kernels" / "variant.cc", folder / f"{name}.o"
        subprocess.run([*line, *options, "-c", source, "-o", target], check=True)
        return target

    with concurrent.futures.ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_variant, build.VARIANTS[machine]))
    sources = [ROOT / "kernels" / f"{name}.cc" for name in ("variants", "check")]
    sources.append(pathlib.Path(__file__).with_name("sanitized.cc"))
    program = folder / "program"
    link = [*line, *headers, *sources, *objects, "-o", program, "-lpthread"]
    subprocess.run(link, check=True)
    return program


@built
@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_kernels_are_clean_under_sanitizers(tmp_path, sanitizers):
    flags = ["-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    machine = build.MACHINES.get(platform.machine(), platform.machine())
    program = compile_checks(tmp_path, machine, build._compiler(), *flags)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count("right") == len(VARIANTS)


@pytest.mark.slow
def test_neon_is_right_under_emulation(tmp_path):
    compiler, emulator = "aarch64-linux-gnu-g++", shutil.which("qemu-aarch64")
    if not shutil.which(compiler) or not emulator:
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    program = compile_checks(tmp_path, "arm64", [compiler], "-O2", "-static")
    done = subprocess.run([emulator, program], capture_output=True, text=True)
    assert done.stdout.split() == ["neon", "right"], done.stderr


@built
def test_the_format_of_the_sources():
    formatter = shutil.which("clang-format", path=os.path.dirname(sys.executable))
    if formatter is None:
        pytest.skip("needs clang-format, of the extra dev")
    sources = [*(ROOT / "kernels").glob("*.h"), *(ROOT / "kernels").glob("*.cc")]
    sources.append(pathlib.Path(__file__).with_name("sanitized.cc"))
    style = f"--style=file:{ROOT / 'kernels' / '.clang-format'}"
    subprocess.run([formatter, style, "--dry-run", "-Werror", *sources], check=True)


@built
@pytest.mark.slow
@pytest.mark.parametrize("name", ["variant", "variants", "check", "handlers"])
def test_the_linter_finds_nothing(name):
    linter = shutil.which("clang-tidy", path=os.path.dirname(sys.executable))
    if linter is None:
        pytest.skip("needs clang-tidy, of the extra dev")
    machine = build.MACHINES.get(platform.machine(), platform.machine())
    variant, options = list(build.VARIANTS[machine].items())[-1]
    flags = [*options.flags, *build._defines(variant, options)]
    flags += [*build.FLAGS, "-isystem", build._headers()]
    source = ROOT / "kernels" / f"{name}.cc"
    done = subprocess.run(
        [linter, "--quiet", source, "--", *flags], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
