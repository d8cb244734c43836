"""Run an example as a user would: by its command line."""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import runpy
import subprocess
import sys
import traceback
import warnings
from typing import NamedTuple
from unittest import mock

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

SENTENCES = [
    "In the beginning was the word.",
    "And it came to pass that the king said unto the people, let there be light.",
    "The servants of the king went into the city.",
    "Is there a word? The people said, there was light!",
]
"""A text of few words, for examples on language."""


class Finished(NamedTuple):
    """What a run that ended left behind."""

    returncode: int
    stdout: str
    stderr: str


def needs(*packages):
    """Skip tests of examples whose packages are missing, and say what installs them."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    reason = f'{", ".join(missing)} not installed: pip install -e ".[examples]"'
    return pytest.mark.skipif(bool(missing), reason=reason)


def run(script, *arguments, stdin=""):
    """Run ``examples/<script>.py`` in this process, and catch what it prints.

    A process of its own would import JAX for every run.
    """
    path = str(EXAMPLES / f"{script}.py")
    out, err = io.StringIO(), io.StringIO()
    returncode = 0
    with (
        mock.patch.object(sys, "argv", [path, *map(str, arguments)]),
        mock.patch.object(sys, "path", [str(EXAMPLES), *sys.path]),
        mock.patch.object(sys, "excepthook", sys.excepthook),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        warnings.catch_warnings(action="error"),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            returncode = 0 if end.code is None else end.code
        except Exception:
            traceback.print_exc()
            returncode = 1
    if isinstance(returncode, str):
        print(returncode, file=err)
        returncode = 1
    return Finished(returncode, out.getvalue(), err.getvalue())


# Where the caller ignores SIGINT, as under nohup, so would a program that it starts.
_HEARS_CTRL_C = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(script, *arguments):
    """The command line of ``examples/<script>.py``; a warning is an error."""
    path = (EXAMPLES / f"{script}.py").as_posix()
    shared = "ignore:Error reading persistent compilation cache entry"  # pyproject.toml
    start = [sys.executable, "-W", "error", "-W", shared, "-c", _HEARS_CTRL_C]
    return [*start, path, *map(str, arguments)]


def environment():
    """The environment of a process that reads and writes the suite's programs."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **settings}


@contextlib.contextmanager
def started(script, *arguments):
    """Start an example as a process, and kill it if it has not ended by itself."""
    with subprocess.Popen(
        command(script, *arguments),
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_well(script, *arguments, stdin=""):
    """What a run prints that must end well and say nothing on standard error."""
    result = run(script, *arguments, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def run_apart(script, *arguments):
    """As :func:`run_well`, in a process of its own: for what changes its process."""
    result = subprocess.run(
        command(script, *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    return result.stdout


def table(output, title):
    """``{name: number}`` of what ``results.print_table`` printed under a title."""
    _, _, rest = output.partition(f"{title}\n")
    rows = {}
    for line in rest.splitlines():
        row = re.fullmatch(r"  (.+?)  +(-?[\d.]+|nan|inf)", line)
        if row is None:
            break
        rows[row[1]] = float(row[2])
    assert rows, f"no table {title!r} in:\n{output}"
    return rows


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG")


def refused(module, capsys, monkeypatch, *arguments):
    """What a script says of arguments that it does not take."""
    monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        module.main()
    assert error.value.code != 0
    return f"{capsys.readouterr().err}{error.value.code}"
