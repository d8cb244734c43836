"""Batches on two devices, from the state that a layer begins with by default."""

import pathlib
import subprocess
import sys

import pytest
import scripts

SCRIPT = pathlib.Path(__file__).parent / "sharded.py"


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["model", "conv-gru-2d"], id="some"),
        pytest.param([], id="all", marks=pytest.mark.slow),
    ],
)
def test_sharded_batches_have_the_gradient_of_one_device(names):
    done = subprocess.run(
        [sys.executable, SCRIPT, *names],
        capture_output=True,
        text=True,
        env={**scripts.environment(), "JAX_NUM_CPU_DEVICES": "2"},
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.rsplit(": ", 1) for line in done.stdout.splitlines())
    assert len(lines) == 2 * len(names) or len(lines) > 100
    for case, difference in lines.items():
        assert float(difference) < 1e-12, case
