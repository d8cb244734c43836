"""Random problems on which ``check_cell`` runs a cell, and comparisons of results."""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, UnrollFn
from .._gradients.transition import entering_states
from .._typing import Array, Params, State
from .._unrolls.arguments import Inputs, Run, batch_shape

STEP, SEQUENCE, DIFFERENCES = 1e-12, 1e-10, 1e-7
"""Tolerances in float64: for one step, for sequences, for finite differences."""


# Every program runs once, so less optimisation is faster in all.
quick_jit = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


class Comparison(NamedTuple):
    """Two pytrees that should be equal."""

    leaf: str  # what the pytrees are
    got: Any
    expected: Any
    tolerance: float
    options: str = ""


class OneStep(NamedTuple):
    """A step of one batch entry, and the pullbacks that JAX derives, compiled."""

    start: Any  # params -> state
    pull_start: Any  # (params, dstate) -> dparams
    step: Any  # (params, state, x) -> (state, y)
    pull_step: Any  # (params, state, x, dstate, dy) -> (dparams, dstate, dx)


def one_step(cell: Cell) -> OneStep:
    """Compile a single step of a cell, for loops in Python."""

    def step(params, state, x):
        return cell.step(params, state, cell.project(params, x))

    def pull_start(params, dstate):
        return jax.vjp(cell.initial_state, params)[1](dstate)[0]

    def pull_step(params, state, x, dstate, dy):
        return jax.vjp(step, params, state, x)[1]((dstate, dy))

    functions = (cell.initial_state, pull_start, step, pull_step)
    return OneStep(*(quick_jit(function) for function in functions))


class Problem(NamedTuple):
    """Random arguments of an unroll, and cotangents of what it returns."""

    cell: Cell
    unroll_fn: UnrollFn
    params: Params
    xs: Array  # (T, B, I)
    mask: np.ndarray  # (T, B), the last row masked entirely
    resets: np.ndarray  # (T, B), the first row reset at once
    state: State = None  # the fields from here on are filled in by :func:`with_state`
    states: State = None  # (T, B, ...), one for each step to start from
    dstate: State = None
    dys: Any = None  # (T, B, O)
    one_step: Any = None  # OneStep


def random_like(rng: np.random.Generator, tree: Any) -> Any:
    """Draw normal numbers with the shapes and dtypes of ``tree``."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), tree
    )


def draw(
    seed: int,
    cell: Cell,
    unroll_fn: UnrollFn,
    params: Params | None,
    input_size: int,
    num_steps: int,
    batch_size: int,
) -> Problem:
    """Draw a problem in float64."""
    rng = np.random.default_rng(seed)
    if params is None:
        init = quick_jit(lambda key: cell.init(key, input_size, jnp.float64))
        params = init(jax.random.key(seed))
        # A bias of zero would hide a mistake.
        noise = random_like(rng, params)
        params = jax.tree.map(
            lambda p, n: jnp.asarray(np.asarray(p) + 0.3 * np.asarray(n)), params, noise
        )
    shape = (num_steps, batch_size)
    xs = jnp.asarray(rng.standard_normal((*shape, *cell.spatial_shape, input_size)))
    mask, resets = rng.random(shape) < 0.6, rng.random(shape) < 0.4
    # A reset at the first step, and one at a masked step with a valid one behind it.
    mask[0, 0] = resets[0, 0] = True
    mask[:3, 1], resets[1, 1] = (True, False, True), True
    mask[:, -1] = False
    return Problem(cell, unroll_fn, params, xs, mask, resets)


def with_state(problem: Problem) -> Problem:
    """Add a state that the cell has reached, and cotangents, to a problem."""
    cell = problem.cell

    @quick_jit
    def run(params, xs):
        start = cell.initial_state(params, batch_shape(cell, xs)[1:])
        inputs = Inputs(xs[::-1], start, start, mask=None, resets=None)
        return entering_states(Run(cell, reverse=False), params, inputs)

    states, state, ys = run(problem.params, problem.xs)
    dstate, dys = random_like(np.random.default_rng(1), (state, ys))
    return problem._replace(
        states=states, state=state, dstate=dstate, dys=dys, one_step=one_step(cell)
    )


def compare_all(
    leaves: Iterable[str],
    got: tuple[Any, ...],
    expected: Iterable[Any],
    tolerance: float,
    options: str = "",
) -> Iterator[Comparison]:
    """Yield one comparison for each of several named pytrees."""
    leaves = tuple(leaves)
    if not isinstance(got, tuple) or len(got) != len(leaves):
        found = f"{len(got)} values" if isinstance(got, tuple) else type(got).__name__
        raise AssertionError(f"expected ({', '.join(leaves)}), got {found}")
    for leaf, a, e in zip(leaves, got, expected, strict=True):
        yield Comparison(leaf, a, e, tolerance, options)
