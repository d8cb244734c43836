"""Snippets that need other libraries run where those are installed: in CI they are."""

import importlib.util

import jax
import pytest

NEEDED = ("flax", "orbax", "sacrebleu")
missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
collect_ignore = ["other_libraries.md"] if missing else []


@pytest.fixture(autouse=True)
def standard_promotion():
    """As users have it; Optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
