"""Docstrings of installed Python code: names, parameters, summaries and text."""

import ast
import collections
import importlib.util
import pathlib
import re
import sysconfig
from typing import NamedTuple

import numpy as np

from jaxrnn import data

# The packages of the extra ``examples``, and the standard library. Missing packages are
# skipped. Reading takes most of the time, so large packages with few summaries are out.
PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "sktime", "optax")
SKIPPED = {"test", "tests", "testing", "site-packages", "idlelib", "lib2to3", "_pyrepl"}
SHORTEST, LONGEST = 3, 14  # words of a summary
BODY = 10, 60  # minimum and maximum number of words of the text below the summary
PARAMETERS = 8  # maximum number of words of parameter names


class Docstring(NamedTuple):
    """Docstring of one function or class, in lower-case words."""

    group: str  # package and subpackage
    name: list[str]
    parameters: list[str]
    body: list[str]
    summary: list[str]


def read(limit=None):
    """Load docstrings with distinct summaries, from ``limit`` files per package."""
    folders = {"python": pathlib.Path(sysconfig.get_path("stdlib"))}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            folders[package] = pathlib.Path(spec.submodule_search_locations[0])
    found = {}
    for package, folder in folders.items():
        paths = [
            path.relative_to(folder)
            for path in sorted(folder.rglob("*.py"))
            if not SKIPPED & set(path.relative_to(folder).parts)
        ]
        for path in paths[:limit]:
            group = f"{package}.{path.parts[0].removesuffix('.py')}"
            for docstring in of_file(folder / path, group):
                found.setdefault(" ".join(docstring.summary), docstring)
    return list(found.values())


def of_file(path, group):
    """Parse the docstrings of functions and classes of a file, without running it."""
    try:
        text = path.read_text(encoding="utf-8")
        if '"""' not in text:
            return
        tree = ast.parse(text)
    except (OSError, SyntaxError, UnicodeDecodeError):  # some are invalid on purpose
        return
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop(0)
        if isinstance(node, ast.ClassDef):
            nodes.extend(node.body)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = of_node(node, group)
        if docstring is not None:
            yield docstring


def of_node(node, group):
    summary, _, body = (ast.get_docstring(node) or "").partition("\n\n")
    if ">>>" in summary:  # an example instead of a summary
        return None
    summary, body = words(summary), words(body)
    if not SHORTEST <= len(summary) <= LONGEST or len(body) < BODY[0]:
        return None
    parameters = []
    if not isinstance(node, ast.ClassDef):
        named = [each.arg for each in node.args.posonlyargs + node.args.args]
        named = [each for each in named if each not in ("self", "cls")]
        parameters = [word for each in named for word in name_words(each)]
    return Docstring(
        group=group,
        name=name_words(node.name),
        parameters=parameters[:PARAMETERS],
        body=body[: BODY[1]],
        summary=summary,
    )


def words(text):
    """Split text into lower-case words, without punctuation."""
    split = data.split_words(text.lower())
    return [without_digits(word) for word in split if word[0].isalnum()]


def name_words(name):
    """Split a name into words: ``read_csvFile`` is ``read``, ``csv``, ``file``."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return [without_digits(part.lower()) for part in parts]


def without_digits(word):
    """Replace every number by one common word."""
    return "0" if word.isdigit() else word


def split(found, held_out, seed):
    """Split into training, validation and test by subpackage: ``scipy.signal``."""
    rng = np.random.default_rng(seed)
    count = min(held_out, len(found) // 10)
    groups = collections.defaultdict(list)
    for each in found:
        groups[each.group].append(each)
    test, validation, training = [], [], []
    for group in rng.permutation(sorted(groups)):
        short = [part for part in (test, validation) if len(part) < count]
        (short or [training])[0].extend(groups[group])
    for part in (test, validation, training):
        rng.shuffle(part)
    return training, validation, test
