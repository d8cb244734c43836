"""Every public name is listed and documented."""

import importlib
import inspect
import re

import pytest

import jaxrnn

SUBMODULES = [
    "data",
    "decode",
    "diagnostics",
    "initializers",
    "losses",
    "metrics",
    "normalization",
    "optimizers",
    "pooling",
    "quantization",
    "seq2seq",
    "train",
    "truncated",
    "checkpoint",
    "export",
    "convert",
    "plotting",
    "testing",
]


def public_objects():
    for name in jaxrnn.__all__:
        yield f"jaxrnn.{name}", getattr(jaxrnn, name)
    for submodule in SUBMODULES:
        module = importlib.import_module(f"jaxrnn.{submodule}")
        yield f"jaxrnn.{submodule}", module
        for name in module.__all__:
            yield f"jaxrnn.{submodule}.{name}", getattr(module, name)


@pytest.mark.parametrize(("name", "value"), list(public_objects()))
def test_public_names_are_documented(name, value):
    if not (
        inspect.isfunction(value) or inspect.isclass(value) or inspect.ismodule(value)
    ):
        return  # an alias or a partial, documented where it is defined
    doc = inspect.getdoc(value)
    assert doc, name
    if isinstance(value, type) and issubclass(value, tuple):
        # NamedTuple generates a docstring for a class without one.
        assert not doc.startswith(f"{value.__name__}("), name
    if inspect.isfunction(value):
        parameters = [p for p in inspect.signature(value).parameters if p != "self"]
        for parameter in parameters:
            assert re.search(rf"\b{parameter}\b", doc), (
                f"{name} does not say {parameter}"
            )


def test_all_lists_every_public_name():
    public = {name for name in vars(jaxrnn) if not name.startswith("_")}
    assert set(jaxrnn.__all__) <= public
    left_out = {"checkpoint", "convert", "export", "plotting"}
    assert public - set(jaxrnn.__all__) <= left_out
    for name in ("elman", "lstm", "gru", "unroll", "unroll_bptt", "bptt", "layer"):
        assert name in jaxrnn.__all__
