"""Which loop runs a cell: the one place where sizes and the platform decide.

The rules were tuned on CPUs, with ``benchmarks/compare.py`` and
``benchmarks/choices.py``; docs/performance.md explains them. On other backends a run is
one scan. Shapes and columns named below are those of its tables.
"""

import dataclasses
import math
from typing import NamedTuple

import jax

from .._native import library
from .._native.loop import Native
from .._numerics.tuning import on_cpu
from .._typing import Params, State
from .arguments import Inputs, Run
from .chunks import Chunks
from .entry_by_entry import EntryByEntry
from .loop import Loop
from .stretch import Scanned, in_place

# A run is one chunk if its pre-activations (T B A numbers) stay in the caches, or if it
# has no more rows (T B) than the largest chunk. Shape L2 (T B A = 1.8 M, T B = 700) is
# one chunk by the second rule. Column "whole" shows what one chunk costs at other
# shapes, most at S4 and R1.
WHOLE = 2**20

# Pre-activations (K B A numbers) of a chunk, and the bounds of its rows (K B): enough
# for an efficient product, few enough for the caches. Shapes S4, R1 and A1.
CHUNK = 3 * 2**17
MIN_ROWS, MAX_ROWS = 640, 2048

# From version 0.12 of jax on, XLA's CPU backend makes one kernel of a loop that touches
# little memory, if its products are of vectors with matrices. Batch entries therefore
# run one by one if there are few of them (B, with and without a gradient), if the size
# of the largest state array times the pre-activations of an entry (B H A) is small, if
# states are float32 or float64, and if the loop is long enough (T) to pay for the
# compilation of more loops. Shapes S1 and "two rows", paragraph "rows".
LOOPS_ARE_KERNELS = jax.__version_info__ >= (0, 12)
ENTRIES_WITH_GRADIENT, ENTRIES_WITHOUT, SMALL, MIN_STEPS = 4, 2, 2**14, 32

# Steps in one iteration of a loop where each kernel is launched by itself, as on a GPU:
# the steps of an iteration read and write their part of a sequence together.
STEPS_AT_ONCE = 4


class Size(NamedTuple):
    """The sizes on which the choice of a loop depends."""

    num_steps: int  # T
    batch: int  # B, entries of the batch, times the spatial positions
    width: int  # A, pre-activations of an entry
    state: State  # leaves (*B, ...)
    num_inputs: int = 1  # I
    dtype: str | None = None  # of the parameters and inputs; None if there are several


class Loops(NamedTuple):
    """The loops that a run may take."""

    with_gradient: Loop
    without_gradient: Loop  # nothing need be kept


def size_of(run: Run, params: Params, inputs: Inputs) -> Size:
    """Return the sizes of a run."""
    xs = inputs.xs
    width = jax.eval_shape(run.cell.project, params, xs).shape[-1]
    dtypes = {leaf.dtype.name for leaf in (*jax.tree.leaves(params), xs)}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    batch = math.prod(xs.shape[1:-1])
    return Size(len(xs), batch, width, inputs.state, xs.shape[-1], dtype)


def fast_loops(run: Run, size: Size) -> Loops:
    """Choose the fastest loops for a run, by its cell, its sizes and the platform."""
    loops = _chunk_loops(size, _fast_chunk_size(size), recompute=False)
    if not _runs_natively(run, size):
        return loops
    return Loops(
        with_gradient=Native(loops.with_gradient, keep=True),
        without_gradient=Native(loops.without_gradient, keep=False),
    )


def _runs_natively(run: Run, size: Size) -> bool:
    """Decide whether the compiled kernel of a cell runs it."""
    if run is None or run.cell.kernel is None or not on_cpu():
        return False
    sizes = (size.num_steps, size.batch, size.num_inputs)
    if size.dtype not in ("float32", "float64") or not all(sizes):
        return False
    # XLA gathers the operands of a custom call, which may be sharded over devices.
    return jax.device_count() == 1 and library.selected() is not None


def small_loops(run: Run, size: Size, chunk_size: int | None = None) -> Loops:
    """Choose loops that keep little: about ``sqrt(T)`` states by default."""
    num_steps = max(size.num_steps, 1)
    if chunk_size is None:
        chunk_size = _even(num_steps, max(math.isqrt(num_steps), 1))
    return _chunk_loops(size, min(chunk_size, num_steps), recompute=True)


def _chunk_loops(size: Size, chunk_size: int, *, recompute: bool) -> Loops:
    take_steps = in_place if on_cpu() else Scanned(STEPS_AT_ONCE)
    chunks = Chunks(chunk_size, recompute, take_steps)
    bare_size = 1 if _projects_in_its_step(size) else chunk_size
    # No backward pass follows: with recompute=True no residual is stored, and the few
    # states between chunks are dropped.
    bare = dataclasses.replace(chunks, chunk_size=bare_size, recompute=True)
    return Loops(
        with_gradient=_by_entry(chunks, size, ENTRIES_WITH_GRADIENT),
        without_gradient=_by_entry(bare, size, ENTRIES_WITHOUT),
    )


def _fast_chunk_size(size: Size) -> int:
    num_steps, batch, width = size.num_steps, size.batch, size.width
    in_cache = num_steps * batch * width <= WHOLE
    if in_cache or num_steps * batch <= MAX_ROWS or not on_cpu():
        return max(num_steps, 1)
    rows = min(max(CHUNK // width, MIN_ROWS), MAX_ROWS)
    return _even(num_steps, max(rows // batch, 1))


def _by_entry(loop: Chunks, size: Size, max_entries: int) -> Loop:
    """Run the entries of the batch one by one if that is faster."""
    leaves = jax.tree.leaves(size.state)
    few = 1 <= size.batch <= max_entries and size.num_steps >= MIN_STEPS
    if not (LOOPS_ARE_KERNELS and on_cpu() and few and leaves):
        return loop
    largest = max(leaf.size for leaf in leaves)  # B H
    wide = {leaf.dtype.name for leaf in leaves} <= {"float32", "float64"}
    return EntryByEntry(loop) if wide and largest * size.width <= SMALL else loop


def _projects_in_its_step(size: Size) -> bool:
    """Decide whether a run without a gradient projects each input in its own step.

    If the state is one array, XLA's CPU backend puts the whole step into one kernel. If
    the input was projected with its chunk and is then split into gates, that kernel
    looks up its place in the chunk again for every element. Such a cell, a GRU, takes
    half the time if the step makes the product itself (column "chunks, GRU forward").
    """
    leaves = jax.tree.leaves(size.state)
    split = len(leaves) == 1 and size.batch * size.width > leaves[0].size
    return split and on_cpu()


def _even(num_steps: int, chunk_size: int) -> int:
    """Find a chunk size near the given one that divides the number of steps.

    The remaining steps would be a second copy of the loop to compile. If no size from
    half of the given one to the given one divides the number of steps, the smallest
    size that needs no more chunks is returned.
    """
    if chunk_size >= num_steps:
        return max(num_steps, 1)
    fewest = -(-num_steps // chunk_size)
    for count in range(fewest, 2 * fewest):
        if num_steps % count == 0:
            return num_steps // count
    return -(-num_steps // fewest)
