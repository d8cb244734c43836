"""Properties of a cell and its adjoint, one step at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Adjoint, Cell
from .._cell_wrappers.recurrent_dropout import (
    candidate_dropout,
    recurrent_dropout,
    takes,
)
from .._checks import check_cotangents
from .._numerics.precision import dot
from .._typing import Params
from .._unrolls.arguments import batch_shape
from ._problem import STEP, Comparison, Problem, compare_all, quick_jit, random_like


def adjoint_of(problem: Problem) -> Adjoint:
    """Return the adjoint of a problem's cell, which the property requires."""
    assert problem.cell.adjoint is not None
    return problem.cell.adjoint


def _shapes(tree: Any, batch_shape: tuple[int, ...] = ()) -> Any:
    def shape(leaf):
        return jax.ShapeDtypeStruct((*batch_shape, *leaf.shape), leaf.dtype)

    return jax.tree.map(shape, tree)


def _in_float64(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), tree
    )


def contract(problem: Problem) -> Iterator[Comparison]:
    """All functions return the structures, shapes and dtypes of the contract."""
    cell, steps = problem.cell, batch_shape(problem.cell, problem.xs)
    batch = steps[1:]
    params = jax.eval_shape(
        lambda: cell.init(jax.random.key(0), problem.xs.shape[-1], jnp.float64)
    )
    yield Comparison("params", params, _in_float64(params), STEP)
    yield Comparison("params", _shapes(problem.params), params, STEP)
    one = jax.eval_shape(lambda p: cell.initial_state(p), params)
    yield Comparison("initial_state", one, _in_float64(one), STEP)
    state = jax.eval_shape(lambda p: cell.initial_state(p, batch), params)
    yield Comparison("initial_state", state, _shapes(one, batch), STEP)
    # project must act on the last axis only, so it is given one input and all of them.
    a_x = jax.eval_shape(cell.project, params, problem.xs[0, 0])
    a_xs = jax.eval_shape(cell.project, params, problem.xs)
    yield Comparison("a_xs", a_xs, _shapes(a_x, steps), STEP)
    stepped = jax.eval_shape(cell.step, params, state, _shapes(a_x, batch))
    y = jax.ShapeDtypeStruct(
        (*batch, *cell.spatial_shape, cell.output_size), jnp.float64
    )
    yield from compare_all(("state", "y"), stepped, (state, y), STEP)


def batch_rows(problem: Problem) -> Iterator[Comparison]:
    """A step of a batch is a step of each batch entry."""
    cell, params, x = problem.cell, problem.params, problem.xs[0]

    def step(entry):
        state, x = entry
        return cell.step(params, state, cell.project(params, x))

    @quick_jit
    def run(batch):
        return step(batch), jax.lax.map(step, batch)

    together, alone = run((problem.state, x))
    yield from compare_all(("state", "y"), together, alone, STEP)


def _each_step(fn: Callable[..., Any], params: Params, *steps: Any) -> Any:
    """Compute ``fn(params, ...)`` for each of T steps on its own."""
    return jax.vmap(lambda *step: fn(params, *step))(*steps)


def forward_against_step(problem: Problem) -> Iterator[Comparison]:
    """``forward`` gives what ``step`` gives, for one step and for all at once."""
    cell, adjoint = problem.cell, adjoint_of(problem)

    @quick_jit
    def run(params):
        steps = problem.states, cell.project(params, problem.xs)
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
        states, a_xs = problem.states, cell.project(params, problem.xs)
        dstates = random_like(np.random.default_rng(2), states)

        def by_jax(params, state, a_x, dstate, dy):
            _, pull = jax.vjp(lambda s, a: cell.step(params, s, a), state, a_x)
            return pull((dstate, dy))

        def by_hand(params, state, a_x, dstate, dy):
            _, _, residual = adjoint.forward(params, state, a_x)
            dstate_prev, da = check_cotangents(
                adjoint.backward(params, residual, dstate, dy)
            )
            return dstate_prev, da[0]

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
    those of JAX: a mistake in ``backward`` does not show here. Only what it returns
    beside them is its own.
    """
    cell, adjoint = problem.cell, adjoint_of(problem)

    @quick_jit
    def run(params, xs):
        states, a_xs = problem.states, cell.project(params, xs)
        cotangents = random_like(np.random.default_rng(2), states), problem.dys

        def steps(params, a_xs):
            return _each_step(cell.step, params, states, a_xs)

        _, pull_steps = jax.vjp(steps, params, a_xs)
        implicit, da_xs = pull_steps(cotangents)
        _, pull_project = jax.vjp(cell.project, params, xs)
        explicit, dxs = pull_project(da_xs)
        by_jax = jax.tree.map(jnp.add, implicit, explicit), dxs
        _, _, residuals = _each_step(adjoint.forward, params, states, a_xs)
        _, das = _each_step(adjoint.backward, params, residuals, *cotangents)
        sequence = (xs, residuals, (da_xs, *das[1:]))
        by_hand = adjoint.accumulate(params, *sequence)
        # With one more batch dimension, and with one less: a sum over fixed axes is
        # right for one number of dimensions only.
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
    total = jax.tree.map(
        lambda *leaves: np.sum(leaves, axis=0), *(r[0] for r in of_rows)
    )
    dxs = np.stack([r[1] for r in of_rows], axis=1)
    yield from compare_all(names, (total, dxs), by_jax, STEP, "no batch dimension")


def _dropped_inside(cell: Cell) -> dict[str, Cell]:
    """Wrap a cell by each kind of dropout in the step that its adjoint allows."""
    wrapped = {}
    if takes(cell, recurrent_dot=dot):
        wrapped["recurrent dropout"] = recurrent_dropout(cell, 0.4)
    if takes(cell, candidate_scale=jnp.ones((cell.output_size,))):
        wrapped["candidate dropout"] = candidate_dropout(cell, 0.4)
    return wrapped


def allows_dropout(cell: Cell) -> bool:
    """Test whether the adjoint of a cell takes the options of dropout in a step."""
    return bool(_dropped_inside(cell))


def _as_constant(cell: Cell, noise_size: int) -> Cell:
    """Stop the gradient of the noise in a cell's step, as the adjoint does."""

    def step(params, state, a_x):
        a_x, noise = a_x[..., :-noise_size], a_x[..., -noise_size:]
        noise = jax.lax.stop_gradient(noise)
        return cell.step(params, state, jnp.concatenate([a_x, noise], axis=-1))

    return cell._replace(step=step, adjoint=cell.adjoint)


def dropout_against_vjp(problem: Problem) -> Iterator[Comparison]:
    """With dropout in the step, both halves of the adjoint are its transpose."""
    for name, wrapped in _dropped_inside(problem.cell).items():
        assert wrapped.noise is not None
        steps = problem.xs.shape[:-1]
        drawn = wrapped.noise.draw(jax.random.key(0), problem.params, steps)
        xs = jnp.concatenate([problem.xs, drawn.astype(problem.xs.dtype)], axis=-1)
        # jax.vjp would also give the noise a gradient, which the adjoint leaves out.
        dropped = _as_constant(wrapped.noise.cell, drawn.shape[-1])
        dropped = problem._replace(cell=dropped, xs=xs)
        for compare in (backward_against_vjp, accumulate_against_vjp):
            for comparison in compare(dropped):
                yield comparison._replace(options=name)
