"""How the derivative of a state by the parameters is represented, and advanced.

One step takes the influence of its state to that of the next::

    ds/dW = d+s/dW + (ds/ds_prev) ds_prev/dW

Dense, that is a matrix product with the Jacobian of the step. If the Jacobian is
diagonal, each column of a parameter matters to one unit only, and the product is
elementwise.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ._base import InitialStateFn
from ._rows import flat, over_rows
from ._typing import Array, Params, Shape, State


class StateFn(Protocol):
    """``step`` as an influence sees it."""

    def __call__(self, params: Params, state: State, x: Array) -> State:
        """The state after a step from ``state (*B, ...)`` with input ``x (*B, I)``."""
        ...


class StartFn(Protocol):
    """``start`` of an :class:`Influence`: that of the initial state."""

    def __call__(
        self, initial_state: InitialStateFn, params: Params, batch_shape: Shape
    ) -> Params:
        """Differentiate ``initial_state(params, batch_shape)`` by ``params``."""
        ...


class AdvanceFn(Protocol):
    """``advance`` of an :class:`Influence`: the recursion."""

    def __call__(
        self, step: StateFn, params: Params, state: State, x: Array, influence: Params
    ) -> Params:
        """Explicit part plus Jacobian times ``influence``.

        Args:
            step: ``(params, state, x) -> state``, with any batch dimensions.
            params: parameters, in accumulation dtype.
            state: the state ``(*B, ...)`` that enters the step.
            x: its input ``(*B, I)``.
            influence: that of ``state``.
        """
        ...


class PullFn(Protocol):
    """``pull`` of an :class:`Influence`: from a state back to the parameters."""

    def __call__(self, dstate: State, influence: Params, params: Params) -> Params:
        """Product of the cotangent ``dstate (*B, ...)`` with ``influence``.

        Returns:
            A gradient like ``params``, summed over the batch.
        """
        ...


class Influence(NamedTuple):
    """How the derivative of a state by the parameters is represented.

    :data:`dense_influence` is exact for every cell. :data:`diagonal_influence` is exact
    and fast if the state is one array ``(*B, H)`` of which unit j sees, in one step, no
    other unit and only the columns j, H + j, 2H + j, ... of each parameter; this is not
    checked. An approximation is one more of these.
    """

    start: StartFn
    advance: AdvanceFn
    pull: PullFn


def _broadcast(tree: Params, batch_shape: Shape) -> Params:
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*batch_shape, *leaf.shape)), tree
    )


def _dense_start(initial_state, params, batch_shape):
    one = jax.jacrev(lambda params: flat(initial_state(params)))(params)
    return _broadcast(one, batch_shape)


def _dense_advance(step, params, state, x, influence):
    def one(params, state, x, influence):
        vector, unravel = ravel_pytree(state)

        def vector_step(params, vector):
            return flat(step(params, unravel(vector), x))

        explicit, jacobian = jax.jacrev(vector_step, argnums=(0, 1))(params, vector)
        return jax.tree.map(
            lambda e, previous: e + jnp.tensordot(jacobian, previous, 1),
            explicit,
            influence,
        )

    return over_rows(one, x.ndim - 1, (None, 0, 0, 0))(params, state, x, influence)


def _dense_pull(dstate, influence, params):
    def one(dstate, influence):
        return jax.tree.map(
            lambda leaf: jnp.tensordot(flat(dstate), leaf, 1), influence
        )

    leaf, like = jax.tree.leaves(influence)[0], jax.tree.leaves(params)[0]
    num_batch_dims = leaf.ndim - like.ndim - 1
    rows = over_rows(one, num_batch_dims, 0)(dstate, influence)
    return jax.tree.map(lambda leaf: leaf.sum(tuple(range(num_batch_dims))), rows)


dense_influence = Influence(_dense_start, _dense_advance, _dense_pull)
"""The whole Jacobian, leaves ``(*B, N, *parameter.shape)`` for N state entries.

For any cell. A step costs O(B N^2 P) operations and O(B N P) memory, P parameters:
O(H^4) and O(H^3) for H units with full recurrent weights.
"""


def _columns(units: Array, parameter: Array) -> Array:
    """Repeat ``units (*B, H)`` for each block of H columns of a parameter."""
    num_units, num_columns = (
        units.shape[-1],
        parameter.shape[-1] if parameter.ndim else 0,
    )
    if num_columns == 0 or num_columns % num_units:
        raise ValueError(
            f"a diagonal influence needs parameters whose last axis is a multiple of "
            f"the {num_units} units, got a parameter of shape {parameter.shape}"
        )
    repeated = jnp.tile(units, num_columns // num_units)
    middle = (1,) * (parameter.ndim - 1)
    return repeated.reshape(*units.shape[:-1], *middle, num_columns)


def _check_one_array(state: State) -> None:
    if not isinstance(state, jax.Array) or state.ndim < 1:
        raise ValueError(
            "a diagonal influence needs a state that is one array (*B, H), got "
            f"{jax.tree.structure(state)}"
        )


def _diagonal_start(initial_state, params, batch_shape):
    units, pull = jax.vjp(initial_state, params)
    _check_one_array(units)
    (one,) = pull(jnp.ones_like(units))
    return _broadcast(one, batch_shape)


def _diagonal_advance(step, params, state, x, influence):
    _check_one_array(state)

    def one(params, state, x, influence):
        # No unit sees another, so a sum over units has the derivatives of each.
        units, pull = jax.vjp(
            lambda params, state: step(params, state, x), params, state
        )
        explicit, diagonal = pull(jnp.ones_like(units))
        return jax.tree.map(
            lambda e, previous: e + _columns(diagonal, e) * previous,
            explicit,
            influence,
        )

    return over_rows(one, x.ndim - 1, (None, 0, 0, 0))(params, state, x, influence)


def _diagonal_pull(dstate, influence, params):
    batch = tuple(range(dstate.ndim - 1))
    return jax.tree.map(
        lambda leaf, like: (_columns(dstate, like) * leaf).sum(batch), influence, params
    )


diagonal_influence = Influence(_diagonal_start, _diagonal_advance, _diagonal_pull)
"""For elementwise recurrences, leaves ``(*B, *parameter.shape)``.

Exact if the state is one array ``(*B, H)`` of which unit j sees, in one step, no other
unit and only the columns j, H + j, 2H + j, ... of each parameter; this is not checked.
A step costs O(B P) operations and memory.

References:
    Mozer, A focused backpropagation algorithm for temporal pattern recognition, 1989;
    Zucchet et al., Online learning of long-range dependencies, 2023.
"""
