"""Weights that are computed from the parameters, once for all steps of an unroll."""

from collections.abc import Callable

import jax

from .._base import Adjoint, Cell, Derived
from .._checks import check_cell, check_like
from .._descriptions.spec import described
from .._typing import Params, Shape, State


@described
def reparametrized(cell: Cell, transform: Callable[[Params], Params]) -> Cell:
    """Compute the weights of a cell from its parameters by ``transform``.

    This enforces a constraint on weights whatever an optimiser does, for instance that
    a matrix is orthogonal, antisymmetric, sparse or non-negative, or weight
    normalisation. An unroll transforms once, before its loop, and JAX differentiates
    the transformation. Only ``step``, for streaming, transforms at each step.

    Args:
        cell: cell to wrap. Its ``init`` draws the parameters before the transformation.
        transform: function of parameters to parameters of the same structure, shapes
            and dtypes.

    Returns:
        A :class:`Cell`, with the noise of ``cell`` if that has any.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, ``transform`` is not a function, or
            its result has another structure, shape or dtype.

    >>> import jax.numpy as jnp, jaxrnn
    >>> def without_self(params):  # no unit sees its own past
    ...     return params._replace(w_h=params.w_h * (1 - jnp.eye(5)))
    >>> cell = reparametrized(jaxrnn.elman(5), without_self)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> jaxrnn.unroll(cell, params, jnp.ones((7, 3, 2)))[1].shape
    (7, 3, 5)
    """
    check_cell("cell", cell)
    if not callable(transform):
        raise TypeError(f"transform must be a function, got {transform!r}")

    def weights(params: Params) -> Params:
        made = transform(params)
        try:
            return check_like("transform(params)", made, params)
        except ValueError as error:
            raise TypeError(
                f"transform must return parameters like those it gets: {error}"
            ) from error

    def initial_state(params: Params, batch_shape: Shape = ()) -> State:
        return cell.initial_state(weights(params), batch_shape)

    # Every function is right by itself, also where nobody looks at ``derived``: a
    # single step, an initial state, noise.
    coefficients, noise = cell.coefficients, cell.noise
    if coefficients is not None:
        inner = coefficients

        def coefficients(params, a_xs):
            return inner(weights(params), a_xs)

    if noise is not None:
        drawn = noise
        noise = drawn._replace(
            draw=lambda key, params, steps: drawn.draw(key, weights(params), steps),
            cell=reparametrized(drawn.cell, transform),
        )
    return cell._replace(
        initial_state=initial_state,
        project=lambda params, xs: cell.project(weights(params), xs),
        step=lambda params, state, a_x: cell.step(weights(params), state, a_x),
        adjoint=None if cell.adjoint is None else _adjoint(cell.adjoint, weights),
        noise=noise,
        coefficients=coefficients,
        derived=Derived(weights, cell),
    )


def _adjoint(inner: Adjoint, weights: Callable[[Params], Params]) -> Adjoint:
    """Make the adjoint for single steps; unrolls use the inner cell's adjoint."""

    def forward(params, state, a_x, **options):
        return inner.forward(weights(params), state, a_x, **options)

    def backward(params, residual, dstate, dy, **options):
        return inner.backward(weights(params), residual, dstate, dy, **options)

    def accumulate(params, xs, residuals, da_xs):
        # The gradient of the weights goes on to the parameters by JAX: the one place
        # where an adjoint of the library is not all by hand.
        made, pull = jax.vjp(weights, params)
        dmade, dxs = inner.accumulate(made, xs, residuals, da_xs)
        return pull(dmade)[0], dxs

    return Adjoint(forward, backward, accumulate)
