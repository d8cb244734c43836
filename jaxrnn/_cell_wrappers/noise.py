"""Noise as an input: random numbers are concatenated to the inputs of a step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, DrawFn, Noise
from .._tree import state_fields
from .._typing import Array, Key, Params, Residual, Shape


def training(cell: Cell) -> Cell:
    """Return the variant of a cell that takes noise, or the cell if it has none."""
    return cell if cell.noise is None else cell.noise.cell


def keep(key: Key, rate: float, shape: Shape, *, variational: bool) -> Array:
    """Draw a mask that keeps each entry with probability ``1 - rate``."""
    drawn = (1, *shape[1:]) if variational else shape
    kept = jax.random.bernoulli(key, 1 - rate, drawn)
    return jnp.broadcast_to(kept, shape)


def state_sizes(cell: Cell, params: Params) -> dict[str, int]:
    """Return the size of the last axis of each field of a state, by name."""
    fields = state_fields(jax.eval_shape(cell.initial_state, params))
    return {name: field.shape[-1] for name, field in fields.items()}


class NoisyResidual(NamedTuple):
    """Residual of a step with noise: what its backward pass needs."""

    cell: Residual
    noise: Array  # (*B, N)


def add_noise(
    cell: Cell,
    *,
    size: Callable[[Params], int],
    draw: DrawFn,
    given: Callable[[Cell, Params, Array], Cell],
) -> Noise:
    """Make the ``noise`` of a cell that draws more numbers than it does now.

    Args:
        cell: cell to wrap, with or without noise of its own.
        size: N, a function of the parameters to the number of random numbers that a
            step of one batch entry takes.
        draw: function that draws them, ``(T, *B, N)``.
        given: function ``(cell, params, noise)`` to a cell with the same inputs, whose
            step and adjoint use noise that was drawn.
    """
    # What the cell draws already, for instance in another kind of dropout, stays.
    inner = training(cell)

    def split(params: Params, values: Array) -> tuple[Array, Array]:
        own = values.shape[-1] - size(params)
        return values[..., :own], values[..., own:]

    def draw_all(key, params, steps):
        if cell.noise is None:
            return draw(key, params, steps)
        # Two keys, as the same one would make the two masks depend on each other.
        before, own = jax.random.split(key)
        parts = cell.noise.draw(before, params, steps), draw(own, params, steps)
        return jnp.concatenate(parts, axis=-1)

    # Noise travels through project beside the pre-activations, as the step sees only
    # what project returned.
    def project(params, xs):
        inputs, noise = split(params, xs)
        a_xs = inner.project(params, inputs)
        return jnp.concatenate([a_xs, noise.astype(a_xs.dtype)], axis=-1)

    def step(params, state, a_x):
        a_x, noise = split(params, a_x)
        return given(inner, params, noise).step(params, state, a_x)

    def adjoint_given(params: Params, noise: Array) -> Adjoint:
        adjoint = given(inner, params, noise).adjoint
        assert adjoint is not None
        return adjoint

    def forward(params, state, a_x, **options):
        a_x, noise = split(params, a_x)
        run = adjoint_given(params, noise).forward
        state, y, residual = run(params, state, a_x, **options)
        return state, y, NoisyResidual(residual, noise)

    def backward(params, residual, dstate, dy, **options):
        residual, noise = residual
        run = adjoint_given(params, noise).backward
        dstate, da = run(params, residual, dstate, dy, **options)
        # Noise depends on no parameter, so its cotangent ends here.
        da_x = jnp.concatenate([da[0], jnp.zeros_like(noise)], axis=-1)
        return dstate, (da_x, *da[1:])

    def accumulate(params, xs, residuals, da_xs):
        inputs, drawn = split(params, xs)
        da_xs = (split(params, da_xs[0])[0], *da_xs[1:])
        residuals, noise = residuals
        run = adjoint_given(params, noise).accumulate
        dparams, dxs = run(params, inputs, residuals, da_xs)
        return dparams, jnp.concatenate([dxs, jnp.zeros_like(drawn)], axis=-1)

    adjoint = None if inner.adjoint is None else Adjoint(forward, backward, accumulate)
    return Noise(draw_all, inner._replace(project=project, step=step, adjoint=adjoint))
