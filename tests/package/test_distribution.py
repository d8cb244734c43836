"""The wheel and the source distribution that would be released."""

import email
import importlib.util
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

import jaxrnn

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "jaxrnn").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build both, and return their paths: wheel, source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True
    )
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_has_the_package_and_its_type_marker_alone(distributions):
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = set(wheel.namelist())
    assert "jaxrnn/py.typed" in names
    assert {name for name in names if ".dist-info/" not in name} == PACKAGE


def test_source_distribution_has_no_tests_and_no_benchmarks(distributions):
    with tarfile.open(distributions[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    sources = PACKAGE - {"jaxrnn/_native/libkernels.so", "jaxrnn/_native/built.json"}
    assert names >= sources | {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
    assert {"kernels/build.py", "kernels/cells.h", "hatch_build.py"} <= names
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {"jaxrnn", "kernels"}


def test_metadata_is_complete(distributions):
    with zipfile.ZipFile(distributions[0]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(name))
    assert metadata["Name"] == "jaxrnn"
    assert metadata["Version"] == jaxrnn.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = metadata.get_payload()
    assert readme.startswith("# jaxrnn")
    assert not re.search(r"\]\((?!https:)", readme)  # on PyPI it leads nowhere
    for field in ("Author", "Keywords", "Summary"):
        assert metadata[field], field
    classifiers = metadata.get_all("Classifier")
    assert "Typing :: Typed" in classifiers
    required = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    names = sorted(requirement.partition(">=")[0] for requirement in required)
    assert names == ["jax", "jaxlib", "optax", "tqdm"]


@pytest.mark.skipif(
    importlib.util.find_spec("twine") is None, reason='pip install -e ".[dev]"'
)
def test_twine_accepts_both(distributions):
    command = [sys.executable, "-m", "twine", "check", "--strict", *distributions]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
