"""What several tests of examples ask for."""

import jax
import pytest
import scripts


@pytest.fixture
def as_users_run(monkeypatch):
    """The examples can be imported, and JAX is as it comes."""
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield
