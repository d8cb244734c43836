"""What :func:`jaxrnn.testing.check_cell` checks: one function for each property.

A property yields comparisons of what a cell gives with what something independent of
it gives. They are ordered from one step to whole sequences, so that the first one to
fail is the nearest to the mistake.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._base import Adjoint, Cell, UnrollFn
from ._bptt import bptt
from ._finite_differences import directional_derivatives
from ._typing import Array, Params, State
from ._unroll import Sequence, entering_states, unroll

STEP, SEQUENCE, DIFFERENCES = 1e-12, 1e-10, 1e-7
"""Tolerances in float64: for one step, for sequences, for finite differences."""


# Every program runs once.
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


class Problem(NamedTuple):
    """Random arguments of an unroll, and cotangents of what it returns."""

    cell: Cell
    unroll_fn: UnrollFn
    params: Params
    xs: Array  # (T, B, I)
    mask: np.ndarray  # (T, B), the last row masked entirely
    resets: np.ndarray  # (T, B), the first row reset at once
    state: State = None  # this and what follows is for :func:`with_state` to fill in
    dstate: State = None
    dys: Any = None  # (T, B, O)


class Property(NamedTuple):
    """A property and what it asks of a cell."""

    compare: Callable[[Problem], Iterator[Comparison]]
    needs_adjoint: bool = False


def random_like(rng: np.random.Generator, tree: Any) -> Any:
    """A pytree of normal numbers with the shapes and dtypes of ``tree``."""
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
        params = cell.init(jax.random.key(seed), input_size, jnp.float64)
        # A bias of zero would hide a mistake.
        noise = random_like(rng, params)
        params = jax.tree.map(lambda p, n: p + 0.3 * n, params, noise)
    shape = (num_steps, batch_size)
    xs = jnp.asarray(rng.standard_normal((*shape, input_size)))
    mask, resets = rng.random(shape) < 0.6, rng.random(shape) < 0.4
    # A reset at the first step, and one at a masked step with a valid one behind it.
    mask[0, 0] = resets[0, 0] = True
    mask[:3, 1], resets[1, 1] = (True, False, True), True
    mask[:, -1] = False
    return Problem(cell, unroll_fn, params, xs, mask, resets)


def with_state(problem: Problem) -> Problem:
    """The problem with a state that its cell has reached, and with cotangents."""
    run = quick_jit(functools.partial(unroll, problem.cell))
    state, ys = run(problem.params, problem.xs[::-1])
    dstate, dys = random_like(np.random.default_rng(1), (state, ys))
    return problem._replace(state=state, dstate=dstate, dys=dys)


def adjoint_of(problem: Problem) -> Adjoint:
    """The adjoint that a property which needs one is given."""
    assert problem.cell.adjoint is not None
    return problem.cell.adjoint


def compare_all(
    leaves: Iterable[str],
    got: tuple[Any, ...],
    expected: Iterable[Any],
    tolerance: float,
    options: str = "",
) -> Iterator[Comparison]:
    """One comparison for each of several named pytrees."""
    leaves = tuple(leaves)
    if not isinstance(got, tuple) or len(got) != len(leaves):
        found = f"{len(got)} values" if isinstance(got, tuple) else type(got).__name__
        raise AssertionError(f"expected ({', '.join(leaves)}), got {found}")
    for leaf, a, e in zip(leaves, got, expected, strict=True):
        yield Comparison(leaf, a, e, tolerance, options)


def _shapes(tree: Any, batch_shape: tuple[int, ...] = ()) -> Any:
    def shape(leaf):
        return jax.ShapeDtypeStruct((*batch_shape, *leaf.shape), leaf.dtype)

    return jax.tree.map(shape, tree)


def _in_float64(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), tree
    )


def contract(problem: Problem) -> Iterator[Comparison]:
    """Structures, shapes and dtypes."""
    cell, batch = problem.cell, problem.xs.shape[1:-1]
    params = jax.eval_shape(
        lambda: cell.init(jax.random.key(0), problem.xs.shape[-1], jnp.float64)
    )
    yield Comparison("params", params, _in_float64(params), STEP)
    yield Comparison("params", _shapes(problem.params), params, STEP)
    one = jax.eval_shape(lambda p: cell.initial_state(p), params)
    yield Comparison("initial_state", one, _in_float64(one), STEP)
    state = jax.eval_shape(lambda p: cell.initial_state(p, batch), params)
    yield Comparison("initial_state", state, _shapes(one, batch), STEP)
    a_x = jax.eval_shape(cell.project, params, problem.xs[0, 0])
    a_xs = jax.eval_shape(cell.project, params, problem.xs)
    yield Comparison("a_xs", a_xs, _shapes(a_x, problem.xs.shape[:-1]), STEP)
    stepped = jax.eval_shape(cell.step, params, state, _shapes(a_x, batch))
    y = jax.ShapeDtypeStruct((*batch, cell.output_size), jnp.float64)
    yield from compare_all(("state", "y"), stepped, (state, y), STEP)


def batch_rows(problem: Problem) -> Iterator[Comparison]:
    """A step of a batch is a step of each row."""
    cell, params, x = problem.cell, problem.params, problem.xs[0]

    def step(state, x):
        return cell.step(params, state, cell.project(params, x))

    together = quick_jit(step)(problem.state, x)
    rows = [
        quick_jit(step)(jax.tree.map(lambda s, r=r: s[r], problem.state), x[r])
        for r in range(len(x))
    ]
    alone = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    yield from compare_all(("state", "y"), together, alone, STEP)


def _each_step(fn: Callable[..., Any], params: Params, *steps: Any) -> Any:
    """``fn(params, ...)`` for each of T steps on its own."""
    return jax.vmap(lambda *step: fn(params, *step))(*steps)


def _states_and_inputs(problem: Problem, params: Params) -> tuple[State, Array]:
    """States that enter T steps, and their projected inputs."""
    states, _, _ = entering_states(
        problem.cell,
        problem.params,
        Sequence(problem.xs, problem.state, problem.state, None, None),
        reverse=False,
    )
    return states, problem.cell.project(params, problem.xs)


def forward_against_step(problem: Problem) -> Iterator[Comparison]:
    """``forward`` gives what ``step`` gives, for one step and for all at once."""
    cell, adjoint = problem.cell, adjoint_of(problem)

    @quick_jit
    def run(params):
        steps = _states_and_inputs(problem, params)
        return (
            _each_step(cell.step, params, *steps),
            _each_step(adjoint.forward, params, *steps),
            adjoint.forward(params, *steps),
        )

    stepped, one_by_one, at_once = run(problem.params)
    names = ("state", "y", "residual")
    yield from compare_all(names, at_once, one_by_one, STEP, "all steps at once")
    yield from compare_all(names[:2], one_by_one[:2], stepped, STEP)


def backward_against_vjp(problem: Problem) -> Iterator[Comparison]:
    """``backward`` is the transpose of ``step``."""
    cell, adjoint = problem.cell, adjoint_of(problem)

    @quick_jit
    def run(params):
        states, a_xs = _states_and_inputs(problem, params)
        dstates = random_like(np.random.default_rng(2), states)

        def by_jax(params, state, a_x, dstate, dy):
            _, pull = jax.vjp(lambda s, a: cell.step(params, s, a), state, a_x)
            return pull((dstate, dy))

        def by_hand(params, state, a_x, dstate, dy):
            _, _, residual = adjoint.forward(params, state, a_x)
            return adjoint.backward(params, residual, dstate, dy)

        steps = (states, a_xs, dstates, problem.dys)
        return (
            _each_step(by_hand, params, *steps),
            by_hand(params, *steps),
            _each_step(by_jax, params, *steps),
        )

    by_hand, with_two_dims, by_jax = run(problem.params)
    names = ("dstate_prev", "da_x")
    yield from compare_all(names, by_hand, by_jax, STEP)
    yield from compare_all(names, with_two_dims, by_jax, STEP, "two batch dimensions")


def accumulate_against_vjp(problem: Problem) -> Iterator[Comparison]:
    """``accumulate`` is the transpose of ``project``, and sums what steps add.

    The states that enter the steps are held fixed, and the cotangents ``da_xs`` are
    those of JAX: a mistake in ``backward`` does not show here.
    """
    cell, adjoint = problem.cell, adjoint_of(problem)

    @quick_jit
    def run(params, xs):
        states, a_xs = _states_and_inputs(problem, params)
        cotangents = random_like(np.random.default_rng(2), states), problem.dys

        def steps(params, a_xs):
            return _each_step(cell.step, params, states, a_xs)

        _, pull_steps = jax.vjp(steps, params, a_xs)
        implicit, da_xs = pull_steps(cotangents)
        _, pull_project = jax.vjp(cell.project, params, xs)
        explicit, dxs = pull_project(da_xs)
        by_jax = jax.tree.map(jnp.add, implicit, explicit), dxs
        _, _, residuals = _each_step(adjoint.forward, params, states, a_xs)
        sequence = (xs, residuals, da_xs)
        by_hand = adjoint.accumulate(params, *sequence)
        # With a batch dimension more, and one less.
        more = jax.tree.map(lambda leaf: leaf[:, None], sequence)
        rows = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), sequence)
        of_rows = [
            adjoint.accumulate(params, *jax.tree.map(lambda leaf, r=r: leaf[r], rows))
            for r in range(xs.shape[1])
        ]
        return by_hand, adjoint.accumulate(params, *more), of_rows, by_jax

    by_hand, with_two_dims, of_rows, by_jax = run(problem.params, problem.xs)
    names = ("dparams", "dxs")
    yield from compare_all(names, by_hand, by_jax, STEP)
    expected = by_jax[0], by_jax[1][:, None]
    yield from compare_all(names, with_two_dims, expected, STEP, "two batch dimensions")
    for row in of_rows:
        shapes = _shapes((by_jax[0], by_jax[1][:, 0]))
        yield from compare_all(names, _shapes(row), shapes, STEP, "no batch dimension")
    total = jax.tree.map(lambda *leaves: sum(leaves), *(r[0] for r in of_rows))
    dxs = jnp.stack([r[1] for r in of_rows], axis=1)
    yield from compare_all(names, (total, dxs), by_jax, STEP, "no batch dimension")


def _loop(problem: Problem, mask: Any, resets: Any, reverse: bool) -> Callable:
    """The loop that :func:`jaxrnn.unroll` equals, over time and rows, in Python."""
    cell = problem.cell
    num_steps, num_rows = problem.xs.shape[:2]
    nothing = jnp.zeros_like(problem.dys[0, 0])
    step = jax.jit(lambda params, s, x: cell.step(params, s, cell.project(params, x)))

    def run(params, xs, state):
        states, columns = [], []
        for row in range(num_rows):
            s = jax.tree.map(lambda leaf, row=row: leaf[row], state)
            ys = [nothing] * num_steps
            for t in reversed(range(num_steps)) if reverse else range(num_steps):
                start = t + 1 if reverse else t
                if resets is not None and start < num_steps and resets[start, row]:
                    s = cell.initial_state(params)
                if mask is None or mask[t, row]:
                    s, ys[t] = step(params, s, xs[t, row])
            states.append(s)
            columns.append(jnp.stack(ys))
        last = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return last, jnp.stack(columns, axis=1)

    return run


def _values_and_gradients(problem: Problem, run: Callable, *args: Any) -> Any:
    values, pull = jax.vjp(run, *args)
    return *values, *pull((problem.dstate, problem.dys))


RESULTS = ("state", "ys", "dparams", "dxs", "dstate0")


_DIRECTIONS = ((False, "forward"), (True, "reverse"))


def _flags(problem: Problem, mask: bool, resets: bool) -> dict[str, Any]:
    return {
        "mask": problem.mask if mask else None,
        "resets": problem.resets if resets else None,
    }


def streaming(problem: Problem) -> Iterator[Comparison]:
    """One step at a time, in chunks, or all at once; with any batch dimensions."""
    yield from _against_loop(problem, mask=False, resets=False)
    unroll_fn = functools.partial(problem.unroll_fn, problem.cell)

    def chunks(params, xs, state):
        state, first = unroll_fn(params, xs[:1], state)
        state, second = unroll_fn(params, xs[1:], state)
        return state, jnp.concatenate([first, second])

    def two_dims(params, xs, state):
        state = jax.tree.map(lambda leaf: leaf[None], state)
        state, ys = unroll_fn(params, xs[:, None], state)
        return jax.tree.map(lambda leaf: leaf[0], state), ys[:, 0]

    def rows(params, xs, state):
        run = jax.vmap(unroll_fn, in_axes=(None, 1, 0), out_axes=(0, 1))
        return run(params, xs, state)

    def compare(actual, expected, *args):
        def both(*args):
            return tuple(
                _values_and_gradients(problem, f, *args) for f in (actual, expected)
            )

        return quick_jit(both)(*args)

    args = (problem.params, problem.xs, problem.state)
    others = {
        "in chunks": chunks,
        "two batch dimensions": two_dims,
        "no batch dimension": rows,
    }
    for options, run in others.items():
        got, expected = compare(run, unroll_fn, *args)
        yield from compare_all(RESULTS, got, expected, SEQUENCE, options)

    def initial(params, xs):
        batch = xs.shape[1:-1]
        return unroll_fn(params, xs, problem.cell.initial_state(params, batch))

    got, expected = compare(unroll_fn, initial, *args[:2])
    yield from compare_all(RESULTS[:4], got, expected, SEQUENCE, "no state given")


def masks(problem: Problem) -> Iterator[Comparison]:
    """A masked step holds the state and gives zero, though its input is NaN."""
    yield from _against_loop(problem, mask=True, resets=False)


def resets(problem: Problem) -> Iterator[Comparison]:
    """A reset restores the initial state, though the state before it is NaN."""
    yield from _against_loop(problem, mask=False, resets=True)


def masks_and_resets(problem: Problem) -> Iterator[Comparison]:
    """Both at once."""
    yield from _against_loop(problem, mask=True, resets=True)


def _against_loop(problem: Problem, mask: bool, resets: bool) -> Iterator[Comparison]:
    flags = _flags(problem, mask=mask, resets=resets)
    xs, state = problem.xs, problem.state
    if mask:
        xs = jnp.where(problem.mask[..., None], xs, jnp.nan)
    for reverse, direction in _DIRECTIONS:
        if resets and not reverse:
            # The first row is reset before its first step: its state must not matter.
            state = jax.tree.map(lambda s: s.at[0].set(jnp.nan), problem.state)
        else:
            state = problem.state
        args = (problem.params, xs, state)

        def unrolled(params, xs, state, reverse=reverse):
            return problem.unroll_fn(
                problem.cell, params, xs, state, **flags, reverse=reverse
            )

        run = functools.partial(_values_and_gradients, problem, unrolled)
        got = quick_jit(run)(*args)
        loop = _loop(problem, **flags, reverse=reverse)
        expected = _values_and_gradients(problem, loop, *args)
        yield from compare_all(RESULTS, got, expected, SEQUENCE, direction)


def _by_hand_and_by_jax(problem: Problem, **flags: Any) -> tuple[Any, Any]:
    cell, dstate, dys = problem.cell, problem.dstate, problem.dys

    def by_hand(params, xs, state):
        return bptt(cell, params, xs, dys, state, dstate=dstate, **flags)

    def by_jax(*args):
        _, pull = jax.vjp(lambda *a: unroll(cell, *a, **flags), *args)
        return pull((dstate, dys))

    args = (problem.params, problem.xs, problem.state)
    return quick_jit(by_hand)(*args), quick_jit(by_jax)(*args)


def bptt_against_grad(problem: Problem) -> Iterator[Comparison]:
    """The explicit backward pass gives the gradients that JAX derives."""
    for flagged, (reverse, direction) in itertools.product((False, True), _DIRECTIONS):
        flags = _flags(problem, mask=flagged, resets=flagged)
        got, expected = _by_hand_and_by_jax(problem, **flags, reverse=reverse)
        options = f"{direction}, mask and resets" if flagged else direction
        yield from compare_all(RESULTS[2:], got, expected, SEQUENCE, options)


def _loss(problem: Problem, flags: dict[str, Any], point: Any) -> Array:
    """The number whose gradient has the problem's cotangents."""
    values = problem.unroll_fn(problem.cell, *point, **flags)
    products = jax.tree.map(jnp.vdot, values, (problem.dstate, problem.dys))
    return jnp.stack(jax.tree.leaves(products)).sum()


def _along_random_directions(loss: Callable, point: Any, seed: int) -> Any:
    """Derivatives along one direction in each leaf: by JAX, and by differences."""
    leaves, treedef = jax.tree.flatten(random_like(np.random.default_rng(seed), point))
    directions = [
        jax.tree.unflatten(
            treedef, [v if i == j else jnp.zeros_like(v) for j, v in enumerate(leaves)]
        )
        for i in range(len(leaves))
    ]
    gradient = quick_jit(jax.grad(loss))(point)
    along = jax.tree.map(jnp.vdot, gradient, jax.tree.unflatten(treedef, leaves))
    slopes = list(directional_derivatives(loss, point, directions))
    return along, jax.tree.unflatten(treedef, slopes)


def _close(got: Any, expected: Any) -> bool:
    got, expected = (np.stack(jax.tree.leaves(tree)) for tree in (got, expected))
    return np.allclose(got, expected, rtol=DIFFERENCES, atol=0)


def finite_differences(problem: Problem) -> Iterator[Comparison]:
    """Derivatives along a random direction in each leaf, without derivatives."""
    point = (problem.params, problem.xs, problem.state)
    for flagged, reverse, options in (
        (False, False, "forward"),
        (True, True, "reverse, mask and resets"),
    ):
        flags = _flags(problem, mask=flagged, resets=flagged)
        flags["reverse"] = reverse
        loss = functools.partial(_loss, problem, flags)
        # A kink within the smallest step of one direction is not of the next ones.
        for seed in range(3):
            got, expected = _along_random_directions(loss, point, seed)
            if _close(got, expected):
                break
        yield from compare_all(RESULTS[2:], got, expected, DIFFERENCES, options)


PROPERTIES = {
    "contract": Property(contract),
    "batch rows": Property(batch_rows),
    "forward against step": Property(forward_against_step, needs_adjoint=True),
    "backward against jax.vjp of step": Property(
        backward_against_vjp, needs_adjoint=True
    ),
    "accumulate against jax.vjp of project and step": Property(
        accumulate_against_vjp, needs_adjoint=True
    ),
    "streaming": Property(streaming),
    "masks": Property(masks),
    "resets": Property(resets),
    "masks and resets": Property(masks_and_resets),
    "bptt against jax.grad": Property(bptt_against_grad, needs_adjoint=True),
    "finite differences": Property(finite_differences),
}
