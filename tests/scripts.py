"""Run an example as a user would: another process, a command line."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def command(script, *arguments):
    """The command line of ``examples/<script>.py``; a warning is an error."""
    path = ROOT / "examples" / f"{script}.py"
    return [sys.executable, "-W", "error", str(path), *map(str, arguments)]


def environment():
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **settings}


def run(script, *arguments, stdin=None, cwd=None):
    """The finished process, with ``stdout`` and ``stderr`` as text."""
    return subprocess.run(
        command(script, *arguments),
        env=environment(),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def run_well(script, *arguments, stdin=None):
    """What a run prints that must end well and say nothing on standard error."""
    result = run(script, *arguments, stdin=stdin)
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
