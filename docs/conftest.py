"""Settings for the sessions in pages: ``pytest docs`` runs them."""

import importlib.util
import pathlib

import jax
import pytest

HERE = pathlib.Path(__file__).parent
NEEDS = {  # the page, and the packages that its code imports
    "coming_from/equinox.md": ["equinox"],
    "coming_from/flax.md": ["flax"],
    "coming_from/haiku.md": ["haiku"],
    "coming_from/keras.md": ["keras"],
    "coming_from/pytorch.md": ["torch"],
    "guides/conversion.md": ["onnxruntime", "torch"],
    "guides/other_libraries.md": ["flax", "orbax", "sacrebleu"],
    "inside/equinox.md": ["equinox"],
    "inside/flax_linen.md": ["flax", "orbax"],
    "inside/flax_nnx.md": ["flax", "orbax"],
    "inside/haiku.md": ["haiku"],
    "inside/safetensors.md": ["safetensors", "torch"],
    "inside/scanned_rnn.md": ["flax"],
}
collect_ignore = [
    page
    for page, packages in NEEDS.items()
    if not all(importlib.util.find_spec(package) for package in packages)
]

collect_ignore_glob = ["*.py", "tutorials/*.py"]  # the site's own code, and notebooks


@pytest.fixture(autouse=True)
def standard_promotion():
    """As users have it; Optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
