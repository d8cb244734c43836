"""Code of the pages: which needs other libraries, and which is left to ``-m slow``."""

import importlib.util
import pathlib

import jax
import pytest

HERE = pathlib.Path(__file__).parent
NEEDS = {  # the page, and the packages that its code imports
    "guides/other_libraries.md": ("flax", "orbax", "sacrebleu"),
    "coming_from/pytorch.md": ("torch",),
    "coming_from/keras.md": ("keras", "torch"),
    "coming_from/flax.md": ("flax",),
    "coming_from/haiku.md": ("haiku",),
    "coming_from/equinox.md": ("equinox",),
}
QUICK = ("guides", "theory")  # pages of these folders are in the default suite
collect_ignore = [
    page
    for page, packages in NEEDS.items()
    if not all(importlib.util.find_spec(package) for package in packages)
]


def pytest_collection_modifyitems(items):
    for item in items:
        path = item.path.relative_to(HERE) if item.path.is_relative_to(HERE) else None
        if path and path.parts[0] not in QUICK and str(path) not in NEEDS:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def standard_promotion():
    """As users have it; Optax needs it."""
    with jax.numpy_dtype_promotion("standard"):
        yield
