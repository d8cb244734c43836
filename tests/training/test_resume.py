"""A run that is killed at any moment resumes, and ends as one that was not."""

import pathlib
import signal
import subprocess
import sys
import time

import pytest
import safetensors.numpy
import scripts

from jaxrnn import checkpoint

SCRIPT = pathlib.Path(__file__).parent / "resumable.py"
STEPS = 22  # saved after 4, 8, 12, 16, 20 and 22


def command(path, *moment):
    return [sys.executable, str(SCRIPT), str(path), str(STEPS), *moment]


def run(path, *moment):
    return subprocess.run(
        command(path, *moment),
        capture_output=True,
        text=True,
        env=scripts.environment(),
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


MOMENTS = {
    "twice": {
        "write 1": 0,  # in the middle of the first file
        "replace 2": 0,  # when the second is whole and not yet in its place
        "": 4,
    },
    "five times": {
        "step 2": 0,  # before the first file
        "write 1": 0,
        "step 7": 0,  # between two files
        "write 2": 4,  # in the middle of one that replaces another
        "replace 1": 8,
        "": 8,
    },
}


@pytest.mark.slow  # a process for each life of the run
@pytest.mark.parametrize("name", MOMENTS)
def test_a_run_killed_at_some_moments_ends_as_if_it_was_not(
    tmp_path, uninterrupted, name
):
    path = tmp_path / "run.safetensors"
    for moment, start in MOMENTS[name].items():
        ended = run(path, moment)
        assert ended.returncode == (-signal.SIGKILL if moment else 0), ended.stderr
        assert int(ended.stdout) == start, moment
    assert contents(path) == uninterrupted
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_run_killed_from_outside_ends_as_if_it_was_not(tmp_path, uninterrupted):
    path = tmp_path / "run.safetensors"
    process = subprocess.Popen(
        command(path), stdout=subprocess.PIPE, env=scripts.environment()
    )
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
