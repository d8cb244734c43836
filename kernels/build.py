"""Compile the kernels of jaxrnn: ``python kernels/build.py``.

The build of the package (``hatch_build.py``) does the same when it is installed. The
compiler is g++, or what the environment variable ``CXX`` names.
"""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
TARGET = HERE.parent / "jaxrnn" / "_native"

FLAGS = (
    *("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden"),
    *("-ffp-contract=fast", "-fno-math-errno"),  # a * b + c is one instruction
    *("-Wall", "-Wextra"),  # errors in the tests only: compilers learn new ones
    # Vectors stay within a variant, so it is all the same how they are passed.
    "-Wno-psabi",
)


class Variant(NamedTuple):
    """One compilation of ``variant.cc``."""

    vector_bytes: int
    registers: int  # vectors that the processor holds
    flags: tuple[str, ...] = ()


VARIANTS = {
    "x86_64": {
        "baseline": Variant(16, 16),
        "avx2": Variant(32, 16, ("-mavx2", "-mfma")),
        "avx512": Variant(
            64,
            32,
            (
                *("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"),
                *("-mavx2", "-mfma", "-mprefer-vector-width=512"),
            ),
        ),
    },
    "arm64": {"baseline": Variant(16, 32)},
}
MACHINES = {"amd64": "x86_64", "aarch64": "arm64"}


class CannotBuildError(Exception):
    """There is no compiler, or it fails; the message is for the user."""


def build(
    target: Path = TARGET, *, machine: str | None = None, more: Iterable[str] = ()
) -> Path:
    """Compile the library ``libkernels.so``, unless it is up to date.

    Args:
        target: folder to put it in.
        machine: architecture to compile for, such as x86_64; None compiles for the
            machine that runs this.
        more: further arguments for the compiler.

    Returns:
        The path of the library.

    Raises:
        CannotBuildError: it cannot be done here.
    """
    machine = (machine or platform.machine()).lower()
    variants = VARIANTS.get(MACHINES.get(machine, machine))
    if variants is None or os.name != "posix":
        raise CannotBuildError(
            f"there are no kernels for {platform.system()} on {machine}"
        )
    compiler = _compiler()
    library = target / "libkernels.so"
    version = metadata.version("jaxlib")
    made_of = _digest([*compiler, machine, version, *more])
    if library.exists() and _note(target).get("made_of") == made_of:
        return library
    sources = [
        (f"{name}.o", "variant.cc", (*variant.flags, *_defines(name, variant)))
        for name, variant in variants.items()
    ]
    sources += [(f"{name}.o", f"{name}.cc", ()) for name in ("variants", "check")]
    sources.append(("handlers.o", "handlers.cc", ("-isystem", _headers())))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:

        def compile_one(source: tuple[str, str, tuple[str, ...]]) -> Path:
            name, file, flags = source
            made = Path(folder) / name
            _run([*compiler, *FLAGS, *flags, *more, "-c", HERE / file, "-o", made])
            return made

        made = list(pool.map(compile_one, sources))
        linked = Path(folder) / "libkernels.so"
        _run([*compiler, "-shared", *more, "-o", linked, *made, "-lpthread"])
        target.mkdir(parents=True, exist_ok=True)
        # A process that has loaded the old library keeps it: the new one is another
        # file.
        new = target / f"libkernels.so.{os.getpid()}"
        shutil.copy(linked, new)
        os.replace(new, library)
    _write_note(target, jaxlib=version, made_of=made_of)
    return library


def build_or_say_why_not(target: Path = TARGET) -> None:
    """Compile the library, or leave a note there that says why it is missing."""
    try:
        build(target)
    except CannotBuildError as error:
        (target / "libkernels.so").unlink(missing_ok=True)
        _write_note(target, why_not=str(error))
        print(f"jaxrnn is installed without its kernels: {error}", file=sys.stderr)


def _write_note(target: Path, **words: str) -> None:
    (target / "built.json").write_text(json.dumps(words) + "\n")


def _note(target: Path) -> dict[str, str]:
    try:
        return json.loads((target / "built.json").read_text())
    except (OSError, ValueError):
        return {}


def _digest(words: Iterable[str]) -> str:
    """Name what the library is made of: sources, compiler, and versions."""
    digest = hashlib.sha256("\n".join(words).encode())
    for path in sorted(HERE.iterdir()):
        if path.suffix in (".h", ".cc", ".py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _defines(name: str, variant: Variant) -> tuple[str, ...]:
    return (
        f"-DVARIANT={name}",
        f"-DVECTOR_BYTES={variant.vector_bytes}",
        f"-DREGISTERS={variant.registers}",
    )


def _compiler() -> list[str]:
    wanted = os.environ.get("CXX")
    for command in (wanted,) if wanted else ("g++", "clang++", "c++"):
        words = shlex.split(command)
        if shutil.which(words[0]):
            return words
    raise CannotBuildError(
        f"there is no C++17 compiler ({wanted or 'g++, clang++ or c++'}): install one, "
        "then install jaxrnn again"
    )


def _headers() -> str:
    """The folder of XLA's headers, which jaxlib brings."""
    found = util.find_spec("jaxlib")
    if found is None or not found.submodule_search_locations:
        raise CannotBuildError("jaxlib, which has the headers, is not installed")
    return str(Path(found.submodule_search_locations[0]) / "include")


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        errors = (
            [line for line in lines if "error" in line] or lines[-1:] or ["no output"]
        )
        raise CannotBuildError(f"the compiler {command[0]} failed: {errors[0]}")


if __name__ == "__main__":
    print(build(*map(Path, sys.argv[1:])))
