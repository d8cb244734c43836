"""A run that is killed at any moment resumes, and ends as one that was not."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import safetensors.numpy

from jaxrnn import checkpoint

SCRIPT = pathlib.Path(__file__).parent / "resumable.py"
STEPS = 22  # saved after 4, 8, 12, 16, 20 and 22


CACHE = SCRIPT.parents[2] / ".jax_cache"
ENVIRONMENT = {
    **os.environ,
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
}


def command(path, *moment):
    return [sys.executable, str(SCRIPT), str(path), str(STEPS), *moment]


def run(path, *moment):
    return subprocess.run(
        command(path, *moment), capture_output=True, text=True, env=ENVIRONMENT
    )


def contents(path):
    """Every bit of it; safetensors does not order its metadata."""
    arrays = safetensors.numpy.load_file(path)
    bits = {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays.items()}
    return bits, checkpoint.load_metadata(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run.safetensors"
    done = run(path)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    return contents(path)


def test_killed_again_and_again(tmp_path, uninterrupted):
    path = tmp_path / "run.safetensors"
    starts = []
    for moment in (
        "step 2",  # before the first file
        "write 1",  # in the middle of the first file
        "step 7",  # between two files
        "write 2",  # in the middle of one that replaces another
        "replace 1",  # when it is whole and not yet in its place
    ):
        killed = run(path, moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        starts.append(int(killed.stdout))
    starts.append(int(run(path).stdout))
    assert starts == [0, 0, 0, 4, 8, 8]
    assert contents(path) == uninterrupted


def test_killed_from_outside(tmp_path, uninterrupted):
    path = tmp_path / "run.safetensors"
    process = subprocess.Popen(command(path), stdout=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.readline()
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    process.stdout.close()
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in (0, 4, 8, 12, 16, 20, 22)
    assert contents(path) == uninterrupted
