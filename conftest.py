"""Settings of every test and doctest."""

import gc
import importlib.util
import itertools
import os
import pathlib

import jax
import pytest

from jaxrnn import kernels

# The suite is bound by compilation, so compile cheaply: with few optimisations and, on
# jax 0.10, by the older of two code generators for fused loops, which takes half the
# time (docs/development.md, "Where the time goes"). Later versions do not have it, and
# abort at a flag that they do not know. With XLA_FLAGS set, even to nothing, the suite
# compiles as users do.
CHEAP_FLAGS = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
COMPILE_CHEAPLY = os.environ.get("XLA_FLAGS") in (None, CHEAP_FLAGS)  # workers inherit
if COMPILE_CHEAPLY and jax.__version_info__ < (0, 11):
    os.environ["XLA_FLAGS"] = CHEAP_FLAGS
jax.config.update("jax_disable_most_optimizations", COMPILE_CHEAPLY)
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads them

# What one test or run compiled, the next one reads, small programs as well.
ROOT = pathlib.Path(__file__).parent
CACHE = os.environ.get("JAXRNN_TEST_CACHE", str(ROOT / ".jax_cache"))
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

# Elsewhere than on a CPU, float32 products may round their operands to fewer bits.
jax.config.update("jax_default_matmul_precision", "highest")

# Float64 where a test asks for it, and no silent promotion.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")

# All that JAX can be strict about (.ci/run): what is right there is right for users who
# ask for it.
if os.environ.get("JAXRNN_TEST_STRICT"):
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_debug_nans", True)
    jax.config.update("jax_check_tracer_leaks", True)

# What is imported stays: the collector need not look through it again and again.
gc.freeze()
gc.set_threshold(10_000, 20, 20)

MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 40_000  # of the 65 530 that Linux allows a process by default

_tests_run = itertools.count(1)


def pytest_xdist_auto_num_workers(config):
    """Run named files and tests in this process: ``-s`` and a debugger work then."""
    if all("::" in argument or os.path.isfile(argument) for argument in config.args):
        return 0
    return None  # one worker for each core


CONVERTERS = ROOT / "jaxrnn" / "convert"
FRAMEWORKS = {"nnx": "flax"}  # where it is not the file's name


def pytest_collection_modifyitems(items):
    """Skip the examples of a converter where its framework is missing."""
    for item in items:
        if item.path.parent == CONVERTERS:
            name = item.path.stem.rpartition("_")[2]  # of _from_torch, for instance
            name = FRAMEWORKS.get(name, name)
            if importlib.util.find_spec(name) is None:
                reason = f"{name} is not installed: pip install -e '.[compare]'"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def bounded_memory_maps():
    """Forget the compiled programs before their memory maps are too many."""
    yield
    if next(_tests_run) % 100 == 0 and MAPS.exists():
        with MAPS.open() as maps:
            if sum(1 for _ in maps) > MOST_MAPS:
                jax.clear_caches()


@pytest.fixture
def standard_promotion():
    """Promote as JAX does by default: Optax has Python scalars and counters."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def without_kernels():
    """Run cells by XLA alone."""
    with kernels.using("xla"):
        yield


@pytest.fixture
def optimized():
    """Compile with every optimisation."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", COMPILE_CHEAPLY)
