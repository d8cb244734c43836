"""The code in README and pages runs, and the source lines they quote exist."""

import pathlib
import re
import subprocess
import sys

import jax
import pytest
from covering import quick

ROOT = pathlib.Path(__file__).parents[2]


def code_blocks(document):
    text = (ROOT / document).read_text()
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


PAGES = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))]


@quick(
    "document",
    [page for page in ["README.md", *PAGES] if code_blocks(page)],
    by_default=["README.md"],
)
def test_code_in_documents_runs(document):
    scope = {"__name__": "document"}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for block in code_blocks(document):
            exec(compile(block, document, "exec"), scope)


def test_the_readme_has_its_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert 'pip install -e ".[examples]" && python examples/char_lm.py' in readme
    assert 'pip install -e ".[test]" && pytest' in readme


def formulas(document):
    """Rows of its tables of formulas and lines of code, with the file of the lines."""
    file = None
    for line in (ROOT / document).read_text().splitlines():
        if head := re.match(r"\| formula \| `(.+)` \|", line):
            file = head[1]
        elif not line.startswith("|"):
            file = None
        elif file and (code := re.search(r"\| `([^|]+)` \|$", line)):
            yield pytest.param(file, code[1], id=code[1])


@pytest.mark.parametrize(("file", "code"), list(formulas("docs/theory/bptt.md")))
def test_each_formula_stands_beside_its_line(file, code):
    source = " ".join((ROOT / file).read_text().split())
    # The formatter may break a line.
    written = re.sub(r"(?<=[(\[]) | (?=[)\]])|,(?= ?[)\]])", "", source)
    assert code in source or code in written


def test_there_are_formulas():
    assert len(list(formulas("docs/theory/bptt.md"))) > 50


def test_the_page_of_cells_is_current_and_has_them_all():
    page = (ROOT / "docs" / "cells.md").read_text()
    for path in (ROOT / "jaxrnn" / "_cells").glob("[a-z]*.py"):
        assert f"\n## {path.stem}\n" in page
    script = ROOT / "benchmarks" / "cells_page.py"
    result = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
