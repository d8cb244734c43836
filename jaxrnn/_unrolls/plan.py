"""How an unroll cuts time into chunks: the one place where shapes decide.

The rules were tuned on CPUs, with ``benchmarks/compare.py`` and ``choices.py``;
docs/performance.md says why there are any. On other backends a fast run is one scan.
"""

import math
from typing import NamedTuple

import jax

from .._base import Cell
from .._numerics.tuning import on_cpu
from .._typing import Params, State
from .arguments import Sequence

# Up to this many projected numbers (T B A) a run stays in the caches, and is whole; so
# is a run whose rows (T B) a single chunk could have.
WHOLE = 2**20

# Projected numbers (K B A) of a chunk, and the bounds of its rows (K B): enough for an
# efficient product, few enough for the caches.
CHUNK = 3 * 2**17
LEAST_ROWS, MOST_ROWS = 640, 2048

# From 0.12 on, XLA's CPU backend makes one kernel of a loop that touches little memory,
# if its products are of vectors with matrices. So rows run one by one if there are few:
# up to so many with a gradient, and without; if their states and projected inputs are
# small (B S A); and if the loop is long enough (T) to be worth more compilation.
LOOPS_ARE_KERNELS = jax.__version_info__ >= (0, 12)
ROWS_WITH_GRADIENT, ROWS_WITHOUT, SMALL, LEAST_STEPS = 4, 2, 2**14, 32


# Where each kernel is launched, steps in one iteration of the loop: they read and write
# their part of a sequence together.
UNROLL = 4


class Plan(NamedTuple):
    """How to run over time."""

    chunk_size: int  # K, steps whose inputs are projected at once
    recompute: bool  # keep the states between chunks, not the residuals of all steps

    by_row: bool = False  # run row by row, so that each loop is one kernel
    unroll: int = 0  # steps in one iteration of a scan; 0: a loop that writes in place


class Size(NamedTuple):
    """What a plan depends on."""

    num_steps: int  # T
    rows: int  # B, of a step
    width: int  # A, projected numbers of a row
    state: State  # leaves (*B, ...)


def fast_plan(size: Size) -> Plan:
    """The fastest plan to take gradients by."""
    num_steps, rows, width, _ = size
    if not on_cpu():
        return Plan(max(num_steps, 1), recompute=False, unroll=UNROLL)
    by_row = _by_row(size, ROWS_WITH_GRADIENT)
    in_cache = num_steps * rows * width <= WHOLE
    if in_cache or num_steps * rows <= MOST_ROWS:
        return Plan(max(num_steps, 1), recompute=False, by_row=by_row)
    together = min(max(CHUNK // width, LEAST_ROWS), MOST_ROWS)
    chunk_size = _even(num_steps, max(together // rows, 1))
    return Plan(chunk_size, recompute=False, by_row=by_row)


def small_plan(size: Size, chunk_size: int | None) -> Plan:
    """A plan that keeps little: about ``sqrt(T)`` steps a chunk if none is given."""
    num_steps = size.num_steps
    if chunk_size is None:
        chunk_size = _even(num_steps, max(math.isqrt(num_steps), 1))
    chunk_size = min(chunk_size, max(num_steps, 1))
    by_row = _by_row(size, ROWS_WITH_GRADIENT)
    unroll = 0 if on_cpu() else UNROLL
    return Plan(chunk_size, recompute=True, by_row=by_row, unroll=unroll)


def without_gradient(plan: Plan, size: Size) -> Plan:
    """The plan for a run of which no gradient is asked, so that nothing is kept."""
    chunk_size = 1 if _fuses(size) else plan.chunk_size
    by_row = _by_row(size, ROWS_WITHOUT)
    return plan._replace(chunk_size=chunk_size, recompute=True, by_row=by_row)


def _by_row(size: Size, most_rows: int) -> bool:
    """Whether the rows should run one by one."""
    leaves = jax.tree.leaves(size.state)
    few = 1 <= size.rows <= most_rows and size.num_steps >= LEAST_STEPS
    if not (LOOPS_ARE_KERNELS and on_cpu() and few and leaves):
        return False
    largest = max(leaf.size for leaf in leaves)  # B S
    wide = {leaf.dtype.name for leaf in leaves} <= {"float32", "float64"}
    return wide and largest * size.width <= SMALL


def _fuses(size: Size) -> bool:
    """Whether a run that keeps no residuals should project each input in its own step.

    Where one array is all that a step makes, XLA's CPU backend puts the whole step into
    one kernel. An input that is split into gates is then looked up in a chunk by its
    index in time, element by element. A cell like that, a GRU, takes half the time if
    the input comes out of a product in the same step.
    """
    made = jax.tree.leaves(size.state)
    split = len(made) == 1 and size.rows * size.width > made[0].size
    return split and on_cpu()


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


def size_of(cell: Cell, params: Params, sequence: Sequence) -> Size:
    """What the plan of a run depends on."""
    xs = sequence.xs
    width = jax.eval_shape(cell.project, params, xs).shape[-1]
    return Size(len(xs), math.prod(xs.shape[1:-1]), width, sequence.state)
