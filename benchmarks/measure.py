"""Compile programs, time them in turns, and describe the machine."""

import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax

from jaxrnn import kernels

PACKAGES = ["jaxrnn", "jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch"]
TURN = 0.01  # seconds that a short program runs in its turn
FLAGS = ["XLA_FLAGS", "LD_PRELOAD", "GLIBC_TUNABLES", "OMP_NUM_THREADS"]


class Program(NamedTuple):
    """A program to time: ``run()`` returns when its result is ready."""

    run: Callable[[], Any]
    compile_seconds: float | None = None
    memory_bytes: int | None = None  # arguments, outputs and temporaries


class Times(NamedTuple):
    """Run times of one program, in seconds."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    rounds: int


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Program:
    """Compile ``function`` for ``arguments``; record compile time and memory."""
    start = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = executable.memory_analysis()
    return Program(
        lambda: jax.block_until_ready(executable(*arguments)),
        seconds,
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes,
    )


def in_turns(
    programs: dict[str, Program], *, budget: float, least: int = 5, most: int = 60
) -> dict[str, Times]:
    """Time programs one after the other, repeatedly, for ``budget`` seconds.

    Each round has its own order. Busy-waiting threads of one library slow down the
    program that runs next, for longer than the pause before each program. A short
    program runs several times in its turn, for ``TURN`` seconds, like the steps of a
    training loop: after the pause, threads need longer to wake than the program runs.
    """
    order = random.Random(0)
    seconds = {name: [] for name in programs}
    counts = dict.fromkeys(programs, 1)
    once = 0.0
    for index in range(2):  # the second round determines the numbers
        begun = time.perf_counter()
        for name, program in programs.items():
            start = time.perf_counter()
            program.run()
            counts[name] = 1 + int(TURN / (time.perf_counter() - start))
        once = time.perf_counter() - begun
        if index == 0 and once > budget / 2:
            break
    once += sum(TURN for count in counts.values() if count > 1)
    for _ in range(max(least, min(most, int(budget / once)))):
        for name in order.sample(list(programs), len(programs)):
            time.sleep(0.003)
            run, count = programs[name].run, counts[name]
            if count > 1:
                run()
            start = time.perf_counter()
            for _ in range(count):
                run()
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: summary(each) for name, each in seconds.items()}


def summary(seconds: list[float]) -> Times:
    """Compute median and quartiles."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Times(median, low, high, len(seconds))


def machine() -> dict[str, Any]:
    """Describe the device, cores, versions and flags that affect the timings."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else _processor(),
        "platform": device.platform,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "kernels": kernels.status(),
        "flags": {name: os.environ[name] for name in FLAGS if os.environ.get(name)},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line for line in file if line.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
