"""The documentation as a site: what its reference has, and how long the README is."""

import importlib
import pathlib
import pkgutil
import re

import jaxrnn

ROOT = pathlib.Path(__file__).parents[2]
API = ROOT / "docs" / "api"


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
