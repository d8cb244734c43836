"""Representations of the derivative of a state with respect to the parameters.

One step takes the influence of its state to that of the next::

    ds/dW = d+s/dW + (ds/ds_prev) ds_prev/dW

Dense, that is a matrix product with the Jacobian of the step. If the Jacobian is
diagonal, each column of a parameter matters to one unit only, and the product is
elementwise.
"""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .._base import Cell, InitialStateFn
from .._descriptions.captured import held_values, holds_tracer
from .._numerics.precision import widen
from .._params import input_size_of
from .._typing import Array, Params, Shape, State
from .rows import flat, over_rows


class StateFn(Protocol):
    """The step function that an influence advances over."""

    def __call__(self, params: Params, state: State, x: Array) -> State:
        """Return the state after a step from ``state (*B, ...)`` with ``x (*B, I)``."""
        ...


class StartFn(Protocol):
    """``start`` of an :class:`Influence`: the derivative of the initial state."""

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
        """Return the explicit derivative plus the state Jacobian times ``influence``.

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
        """Multiply the cotangent ``dstate (*B, ...)`` by ``influence``.

        Returns:
            A gradient like ``params``, summed over the batch.
        """
        ...


class Influence(NamedTuple):
    """Representation of the derivative of a state with respect to the parameters.

    :data:`dense_influence` is exact for every cell. :data:`diagonal_influence` is fast,
    and exact if the state is one array ``(*B, H)`` whose unit j depends, in one step,
    on no other unit and only on the columns j, H + j, 2H + j, ... of each parameter.
    You can make an approximation of your own.
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
    """Repeat ``units (*B, U)`` for each block of U columns of a parameter."""
    repeated = jnp.tile(units, parameter.shape[-1] // units.shape[-1])
    middle = (1,) * (parameter.ndim - 1)
    return repeated.reshape(*units.shape[:-1], *middle, parameter.shape[-1])


def _misfit(state: State, parts: int, params: Params) -> str | None:
    """Describe why shapes do not allow a diagonal influence; None if they do."""
    if not jax.tree_util.all_leaves([state]) or state.ndim < 1:
        return (
            "influence must be jaxrnn.dense_influence for a state that is not one "
            f"array (*B, H), got diagonal_influence for {jax.tree.structure(state)}"
        )
    num_units, rest = divmod(state.shape[-1], parts)
    for leaf in jax.tree.leaves(params):
        if rest or not leaf.ndim or not leaf.shape[-1] or leaf.shape[-1] % num_units:
            return (
                "influence must be jaxrnn.dense_influence for parameters whose last "
                f"axis is not a multiple of the {num_units} units, got "
                f"diagonal_influence and a parameter of shape {leaf.shape}"
            )
    return None


def _part(part: int, like: Array, parts: int) -> Array:
    """Return ones at one part of a state ``(*B, parts * U)`` and zeros elsewhere."""
    chosen = jnp.arange(like.shape[-1]) // (like.shape[-1] // parts) == part
    return jnp.broadcast_to(chosen.astype(like.dtype), like.shape)


def _stacked(trees: list[Params], parts: int, axis: int = 0) -> Params:
    """Stack the trees of all parts along an axis; a single part gets no axis."""
    if parts == 1:
        return trees[0]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def _of_part(influence: Params, part: int, parts: int) -> Params:
    return influence if parts == 1 else jax.tree.map(lambda x: x[part], influence)


def _diagonal(parts: int) -> Influence:
    """Diagonal influence for units whose state is ``parts`` numbers, 1 or 2."""

    def start(initial_state, params, batch_shape):
        units, pull = jax.vjp(initial_state, params)
        each = [pull(_part(k, units, parts))[0] for k in range(parts)]
        return _broadcast(_stacked(each, parts), batch_shape)

    def advance(step, params, state, x, influence):
        def one(params, state, x, influence):
            new, pull = jax.vjp(lambda p, s: step(p, s, x), params, state)
            each = []
            for k in range(parts):
                # Units are independent, so a sum over units has the derivatives of
                # each.
                total, row = pull(_part(k, new, parts))
                for m, diagonal in enumerate(jnp.split(row, parts)):
                    total = jax.tree.map(
                        lambda t, past, d=diagonal: t + _columns(d, t) * past,
                        total,
                        _of_part(influence, m, parts),
                    )
                each.append(total)
            return _stacked(each, parts)

        run = over_rows(one, x.ndim - 1, (None, 0, 0, 0))
        return run(params, state, x, influence)

    def pull(dstate, influence, params):
        batch = tuple(range(dstate.ndim - 1))

        def gradient(like, leaf):
            shares = [leaf] if parts == 1 else jnp.unstack(leaf, axis=len(batch))
            cotangents = jnp.split(dstate, parts, axis=-1)
            pairs = zip(cotangents, shares, strict=True)
            return sum((_columns(d, like) * share).sum(batch) for d, share in pairs)

        return jax.tree.map(gradient, params, influence)

    return Influence(start, advance, pull)


diagonal_influence = _diagonal(1)
"""For elementwise recurrences, leaves ``(*B, *parameter.shape)``.

Exact if the state is one array ``(*B, H)`` of which unit j sees, in one step, no other
unit and only the columns j, H + j, 2H + j, ... of each parameter. A unit may be a pair
of numbers, entries j and H + j of a state ``(*B, 2H)``, as the complex numbers of
:func:`jaxrnn.lru` are: the leaves are ``(*B, 2, *parameter.shape)`` then. A cell that
is no such recurrence is refused. A step costs O(B P) operations and memory.

References:
    Mozer, A focused backpropagation algorithm for temporal pattern recognition, 1989;
    Zucchet et al., Online learning of long-range dependencies, 2023.
"""

_of_pairs = _diagonal(2)


def influence_for(cell: Cell, params: Params, influence: Influence) -> Influence:
    """Choose the influence for a cell, and check that it is exact there.

    Raises:
        TypeError: ``influence`` is not an :class:`Influence`.
        ValueError: it is diagonal, and the units of the cell depend on each other.
    """
    if not isinstance(influence, Influence):
        raise TypeError(
            "influence must be an Influence, such as jaxrnn.dense_influence, got "
            f"{influence!r:.80}"
        )
    if influence is not diagonal_influence:
        return influence
    state = jax.eval_shape(cell.initial_state, params)
    for parts, found in ((1, diagonal_influence), (2, _of_pairs)):
        if not _misfit(state, parts, params) and _is_diagonal(cell, params, parts):
            return found
    misfit = _misfit(state, 1, params)
    if misfit:
        raise ValueError(misfit)
    raise ValueError(
        "influence must be jaxrnn.dense_influence for a cell whose units depend on "
        f"each other, got diagonal_influence for {cell!r:.80}"
    )


def _is_diagonal(cell: Cell, params: Params, parts: int) -> bool:
    """Test at a random point that unit j depends on itself and its columns alone.

    Of a diagonal Jacobian J, the product J v is ``(J^T 1) v``, entry by entry. With v
    drawn at random, no other matrix passes.
    """
    size = input_size_of(cell, params)
    if size is None or holds_tracer(cell):
        return True  # there is no way to look
    held = held_values(cell)
    if held is None:  # it may change until the next call
        return _is_diagonal_at_random.__wrapped__(held, cell, size, parts)
    return _is_diagonal_at_random(held, cell, size, parts)


@functools.lru_cache(maxsize=256)
def _is_diagonal_at_random(held: Any, cell: Cell, size: int, parts: int) -> bool:
    rng = np.random.default_rng(0)

    def like(tree):
        return jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), tree
        )

    def agrees():
        # Near parameters that init draws: a step that takes a logarithm is defined
        # there.
        drawn = widen(cell.init(jax.random.key(0), size))
        params = jax.tree.map(lambda p, noise: p + 0.1 * noise, drawn, like(drawn))
        state = like(jax.eval_shape(cell.initial_state, params))
        x = like(jax.ShapeDtypeStruct((size,), jax.tree.leaves(params)[0].dtype))

        def step(params, state):
            return cell.step(params, state, cell.project(params, x))[0]

        new, pull = jax.vjp(step, params, state)
        v = like(new)
        _, pushed = jax.jvp(lambda s: step(params, s), (state,), (v,))
        close = []
        for k, found in enumerate(jnp.split(pushed, parts)):
            dparams, row = pull(_part(k, new, parts))
            pairs = zip(jnp.split(row, parts), jnp.split(v, parts), strict=True)
            expected = sum((diagonal * part for diagonal, part in pairs), 0 * found)
            close.append(_close(found, expected))
            weights = like(jax.ShapeDtypeStruct(found.shape, found.dtype))
            weighted, _ = pull(_part(k, new, parts) * jnp.tile(weights, parts))
            close += [
                _close(other, _columns(weights, leaf) * leaf)
                for leaf, other in zip(
                    *map(jax.tree.leaves, (dparams, weighted)), strict=True
                )
            ]
        return jnp.stack(close).all()

    # A compiled program runs now, even if an outer function is being traced.
    return bool(jax.jit(agrees).lower().compile()())


def _close(a: Array, b: Array) -> Array:
    scale = jnp.abs(b).max(initial=1)
    return (jnp.abs(a - b) <= 1e-4 * scale).all()
