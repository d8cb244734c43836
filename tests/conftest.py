import itertools
import pathlib

import jax
import pytest

# The suite is bound by compilation: what one test or run compiled, the next one reads,
# small programs as well as large ones.
_CACHE = pathlib.Path(__file__).parent.parent / ".jax_cache"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# For the same reason programs are compiled with few optimisations.
jax.config.update("jax_disable_most_optimizations", True)

# Elsewhere than on a CPU, products of float32 may have operands of fewer bits.
jax.config.update("jax_default_matmul_precision", "highest")

# Float64 where a test asks for it, and nothing promoted behind its back.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

_tests_run = itertools.count(1)


@pytest.fixture(autouse=True)
def bounded_caches():
    """Forget compiled programs now and then: their memory maps are limited."""
    yield
    if next(_tests_run) % 100 == 0:
        jax.clear_caches()


@pytest.fixture
def standard_promotion():
    """Optax promotes its Python scalars and counters."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def optimized():
    """Compile as users do."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
