"""How an unroll cuts time into chunks: the one place where shapes decide.

The rules were tuned on CPUs, with ``benchmarks/compare.py`` and ``choices.py``;
docs/performance.md says why there are any. On other backends a fast run is whole.
"""

import math
from typing import NamedTuple

import jax

from ._typing import State

# Up to this many projected numbers (T B A) a run stays in the caches, and is whole.
WHOLE = 2**20

# Projected numbers (K B A) of a chunk, and the bounds of its rows (K B): enough for an
# efficient product, few enough for the caches.
CHUNK = 3 * 2**17
LEAST_ROWS, MOST_ROWS = 640, 2048

# From this many projected numbers of a step (B A) on, reading ahead pays.
AHEAD = 512

# Up to this many entries a matrix is transposed before the loop that multiplies by its
# transpose; beyond, that costs the product more than it gains.
TRANSPOSED = 2**17


class Plan(NamedTuple):
    """How to run over time."""

    chunk_size: int  # K, steps whose inputs are projected at once
    recompute: bool  # keep the states between chunks, not the residuals of all steps

    ahead: bool = False  # read the projected input of the next step in this one


def fast_plan(num_steps: int, batch_size: int, width: int) -> Plan:
    """The fastest plan, for ``width`` A projected numbers a step and row."""
    on_cpu = jax.default_backend() == "cpu"
    if num_steps * batch_size * width <= WHOLE or not on_cpu:
        return Plan(max(num_steps, 1), recompute=False)
    rows = min(max(CHUNK // width, LEAST_ROWS), MOST_ROWS)
    return Plan(_even(num_steps, max(rows // batch_size, 1)), recompute=False)


def small_plan(num_steps: int, chunk_size: int | None) -> Plan:
    """A plan that keeps little: about ``sqrt(T)`` steps a chunk if none is given."""
    if chunk_size is None:
        chunk_size = _even(num_steps, max(math.isqrt(num_steps), 1))
    return Plan(min(chunk_size, max(num_steps, 1)), recompute=True)


def reads_ahead(state: State, batch_size: int, width: int) -> bool:
    """Whether a run that keeps no residuals should read its inputs a step ahead.

    Where one array is all that a step makes, XLA's CPU backend puts the whole step into
    one loop, in which it looks up each part of an input that is split into gates by its
    index in time, element by element. Such a cell, a GRU, takes half the time if each
    input has been read before its step.
    """
    made = jax.tree.leaves(state)
    split = len(made) == 1 and width * batch_size > made[0].size
    return split and batch_size * width >= AHEAD


def _even(num_steps: int, chunk_size: int) -> int:
    """A chunk size near the one asked for, that leaves no remainder if there is one.

    A remainder is a second copy of the loop to compile.
    """
    if chunk_size >= num_steps:
        return max(num_steps, 1)
    least = -(-num_steps // chunk_size)
    for count in range(least, 2 * least):
        if num_steps % count == 0:
            return num_steps // count
    return -(-num_steps // least)
