"""The compiled library: found, loaded and checked once, at its first use."""

import contextlib
import ctypes
import functools
import json
import os
import pathlib
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jaxlib

# Where the build puts the library, and a note on how it was made or why it was not.
FOLDER = pathlib.Path(__file__).parent
LIBRARY, NOTE = FOLDER / "libkernels.so", FOLDER / "built.json"
VARIABLE = "JAXRNN_KERNELS"
XLA = "xla"
AGAIN = "run `pip install` for jaxrnn again with a C++17 compiler"

_FULL_NAMES = {"avx512": "AVX-512", "avx2": "AVX2", "sse2": "SSE2", "neon": "NEON"}


class Library(NamedTuple):
    """Variants that run on this machine, fastest first, or why there are none."""

    handle: Any
    variants: tuple[str, ...]
    why_not: str


@functools.cache
def library() -> Library:
    """Load the library, register its calls with JAX and check its variants."""
    wanted = os.environ.get(VARIABLE, "").lower()
    if wanted == XLA:
        return _none(f"the environment variable {VARIABLE} is {XLA!r}")
    if not LIBRARY.exists():
        return _none(_note().get("why_not", "the kernels were not built: " + AGAIN))
    try:
        handle = _load()
        variants = _usable_variants(handle)
    except (OSError, AttributeError, RuntimeError, ValueError) as error:
        why_not = f"the compiled kernels cannot be used ({error}): {AGAIN}"
        warnings.warn(f"jaxrnn runs without its kernels: {why_not}", stacklevel=2)
        return _none(why_not)
    if wanted:
        if wanted not in variants:
            names = ", ".join((*variants, XLA))
            raise ValueError(
                f"the environment variable {VARIABLE} must be one of {names} here, "
                f"got {wanted!r}"
            )
        variants = (wanted, *(name for name in variants if name != wanted))
    handle.jaxrnn_select(variants[0].encode())
    return Library(handle, variants, "")


def _none(why_not: str) -> Library:
    return Library(None, (), why_not)


def _note() -> dict[str, Any]:
    try:
        return json.loads(NOTE.read_text())
    except (OSError, ValueError):
        return {}


def _load() -> Any:
    """Load the library and register its two calls.

    Raises:
        RuntimeError: it was built for another interface than jaxlib has.
    """
    handle = ctypes.CDLL(str(LIBRARY))
    handle.jaxrnn_variants.restype = ctypes.c_char_p
    if handle.jaxrnn_interface() != INTERFACE:
        raise RuntimeError("they belong to another version of jaxrnn")
    # JAX registers calls when it starts its backend, and that fails as a whole if a
    # call is made for a newer version of the interface.
    built, running = handle.jaxrnn_ffi_version(), _ffi_version()
    if built // 1000 != running // 1000 or built > running:
        raise RuntimeError(
            f"built with jaxlib {_note().get('jaxlib', 'of another version')}, running "
            f"with {jaxlib.__version__}"
        )
    for name in ("jaxrnn_forward", "jaxrnn_backward"):
        capsule = jax.ffi.pycapsule(getattr(handle, name))
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    return handle


def _ffi_version() -> int:
    """Return the version of jaxlib's interface for calls: 1000 * major + minor."""
    header = pathlib.Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    found = re.findall(r"define XLA_FFI_API_M(?:AJ|IN)OR (\d+)", header.read_text())
    major, minor = map(int, found)
    return 1000 * major + minor


# Counts changes of the operands, results and attributes of the two calls.
INTERFACE = 1


def _usable_variants(handle: Any) -> tuple[str, ...]:
    """Return the variants that this processor can run and that compute rightly."""
    names = handle.jaxrnn_variants().decode().split()
    usable = tuple(name for name in names if handle.jaxrnn_check(name.encode()))
    if usable != tuple(names):
        wrong = ", ".join(name for name in names if name not in usable)
        warnings.warn(
            f"jaxrnn does not use its kernels for {wrong}: they compute wrong values "
            "on this processor. Please report it",
            stacklevel=2,
        )
    if not usable:
        raise RuntimeError("no variant computes rightly on this processor")
    return usable


class _Choice:
    """Whether kernels are used: a switch that :func:`using` sets."""

    name: str | None = None  # None: the fastest variant


def selected() -> str | None:
    """Return the variant that runs, or None for XLA."""
    if _Choice.name == XLA:
        return None
    variants = library().variants
    if not variants:
        return None
    return _Choice.name or variants[0]


def status() -> str:
    """Say which loops run cells that have a kernel: see :mod:`jaxrnn.kernels`."""
    name = selected()
    if name is not None:
        return f"native {_FULL_NAMES.get(name, name)}"
    if _Choice.name == XLA:
        return "XLA (jaxrnn.kernels.using)"
    return f"XLA ({library().why_not})"


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """Choose a variant, or XLA, for a while: see :mod:`jaxrnn.kernels`."""
    known = (*library().variants, XLA)
    if name not in known:
        raise ValueError(f"name must be one of {', '.join(known)} here, got {name!r}")
    before = _Choice.name
    _set(name)
    try:
        yield
    finally:
        _set(before)


def _set(name: str | None) -> None:
    _Choice.name = name
    loaded = library()
    if loaded.variants and name != XLA:
        loaded.handle.jaxrnn_select((name or loaded.variants[0]).encode())
