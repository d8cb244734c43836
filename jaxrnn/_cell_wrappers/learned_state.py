"""A cell whose initial state is a parameter."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Adjoint, Cell, Derived, Noise
from .._checks import check_cell
from .._descriptions.spec import described
from .._numerics.precision import widen
from .._tree import zeros_like
from .._typing import Array, Params, State


class LearnedStateParams(NamedTuple):
    """Parameters of :func:`learned_state`."""

    cell: Params
    state: State  # leaves (H,), in the dtype of the parameters


@described
def learned_state(cell: Cell) -> Cell:
    """Make the initial state of a cell a parameter, so that it is learned.

    At first it is the initial state of the cell. Every batch entry starts from it, and
    every reset restores it; its gradient is the sum over all of them. In a state of
    :func:`jaxrnn.slstm` only ``h`` can be learned: the normaliser is zero at first, so
    the other fields have no effect.

    Args:
        cell: cell to wrap; its state must be floating.

    Returns:
        A :class:`Cell` with parameters :class:`LearnedStateParams`.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`.

    >>> import jaxrnn
    >>> cell = learned_state(jaxrnn.lstm(5))
    >>> params = cell.init(jax.random.key(0), 2)
    >>> def loss(params):
    ...     return jaxrnn.unroll_bptt(cell, params, jnp.ones((7, 3, 2)))[1].sum()
    >>> bool((jax.grad(loss)(params).state.h != 0).all())
    True
    """
    check_cell("cell", cell)

    def init(key, input_size, dtype=None):
        own = cell.init(key, input_size, dtype)
        # Stored like the other parameters, and widened again by initial_state.
        float_dtype = jnp.zeros((), dtype).dtype
        start = jax.tree.map(lambda s: s.astype(float_dtype), cell.initial_state(own))
        return LearnedStateParams(own, start)

    def initial_state(params, batch_shape=()):
        def everywhere(leaf: Array) -> Array:
            # A copy: a caller who donates the state must not lose the parameter.
            return jnp.array(jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)))

        return jax.tree.map(everywhere, widen(params.state))

    own = cell.noise
    noise = None
    if own is not None:
        # Wrapped as well, so that training starts from the same learned state.
        noise = Noise(
            draw=lambda key, params, steps: own.draw(key, params.cell, steps),
            cell=learned_state(own.cell),
        )

    def coefficients(params, a_xs):
        assert cell.coefficients is not None
        return cell.coefficients(params.cell, a_xs)

    return cell._replace(
        init=init,
        initial_state=initial_state,
        project=lambda params, xs: cell.project(params.cell, xs),
        step=lambda params, state, a_x: cell.step(params.cell, state, a_x),
        adjoint=None if cell.adjoint is None else _adjoint(cell.adjoint),
        noise=noise,
        coefficients=None if cell.coefficients is None else coefficients,
        derived=None if cell.derived is None else _derived(cell.derived),
    )


def _derived(inner: Derived) -> Derived:
    def weights(params):
        return params._replace(cell=inner.weights(params.cell))

    return Derived(weights, learned_state(inner.cell))


def _adjoint(inner: Adjoint) -> Adjoint:
    def forward(params, state, a_x, **options):
        return inner.forward(params.cell, state, a_x, **options)

    def backward(params, residual, dstate, dy, **options):
        return inner.backward(params.cell, residual, dstate, dy, **options)

    def accumulate(params, xs, residuals, da_xs):
        own, dxs = inner.accumulate(params.cell, xs, residuals, da_xs)
        # The engine adds the gradient that comes through the initial state.
        return LearnedStateParams(own, zeros_like(params.state)), dxs

    return Adjoint(forward, backward, accumulate)
