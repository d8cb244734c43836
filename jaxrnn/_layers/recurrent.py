"""Recurrent layers: a cell run over time, in one direction or in both."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._base import Cell, Layer, LayerStepFn, UnrollFn
from .._checks import check_array, check_cell, check_like
from .._descriptions.known import known
from .._descriptions.spec import described
from .._masks import zero_where_masked
from .._options import check_key, check_shape, split_key
from .._params import loop_params, step_params
from .._typing import Array, Params, State
from .._unrolls.arguments import batch_shape, draw_noise
from .._unrolls.bptt import unroll_bptt
from .._unrolls.unroll import unroll
from .stack import entries


@described
def layer(
    cell: Cell, *, reverse: bool = False, unroll_fn: UnrollFn | None = None
) -> Layer:
    """Make a layer that runs a cell over a whole sequence.

    Args:
        cell: cell to run. The layer has the parameters and the state of the cell.
        reverse: run from the last step to the first; such a layer cannot be stepped.
        unroll_fn: function with the signature of :func:`unroll` that runs the cell.
            None uses :func:`unroll_bptt`, or :func:`unroll` if the cell has no adjoint.
            Forward mode (``jax.jvp``, ``jax.jacfwd``) needs ``unroll``.

    Returns:
        A :class:`Layer`.

    Raises:
        TypeError: ``cell`` is not a :class:`Cell`, or ``unroll_fn`` is not a function.

    >>> import jaxrnn
    >>> model = layer(jaxrnn.gru(5))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)))[1].shape
    (7, 3, 5)
    """
    check_cell("cell", cell)
    run = unroll_fn
    if run is None:
        run = unroll if cell.adjoint is None else unroll_bptt
    if not callable(run):
        raise TypeError(
            f"unroll_fn must be a function, such as jaxrnn.unroll, got {run!r}"
        )

    def initial_state(params, batch_shape=()):
        params = step_params(cell, params)
        return cell.initial_state(params, check_shape("batch_shape", batch_shape))

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        if key is not None:
            check_key("key", key)
        params = loop_params(cell, params)  # before noise makes it another cell
        taken, xs = draw_noise(cell, params, xs, key)
        return run(taken, params, xs, state, mask=mask, resets=resets, reverse=reverse)

    def step(params, state, x):
        params = step_params(cell, params)
        x = jnp.asarray(x)
        a_x = cell.project(params, x)
        fresh = cell.initial_state(params, batch_shape(cell, x))
        return cell.step(params, check_like("state", state, fresh), a_x)

    return Layer(
        init=cell.init,
        initial_state=initial_state,
        apply=apply,
        step=_refuse_step("a reversed layer") if reverse else step,
        output_size=cell.output_size,
    )


def _refuse_step(what: str) -> LayerStepFn:
    def step(params, state, x):
        raise ValueError(
            f"layer must be causal to be stepped, got {what}: its output at a step "
            "depends on later inputs; call apply with the whole sequence"
        )

    return step


class BidirectionalParams(NamedTuple):
    """Parameters of :func:`bidirectional`, one entry for each direction."""

    forward: Params
    backward: Params


class BidirectionalState(NamedTuple):
    """State of :func:`bidirectional`, one entry for each direction."""

    forward: State
    backward: State


@known
def _concatenate(forward: Array, backward: Array) -> Array:
    return jnp.concatenate([forward, backward], axis=-1)


@known
def _average(forward: Array, backward: Array) -> Array:
    """Average the outputs: a merge that :mod:`jaxrnn.convert` needs, with a name."""
    return (forward + backward) / 2


def _merged_size(
    merge: Callable[[Array, Array], Array], forward: int, backward: int
) -> int:
    """Return the output size of ``merge``."""
    if not callable(merge):
        raise TypeError(
            f"merge must be a function of two arrays, such as jnp.add, got {merge!r}"
        )
    shapes = [
        jax.ShapeDtypeStruct((size,), jnp.float32) for size in (forward, backward)
    ]
    try:
        merged = jax.eval_shape(merge, *shapes)
    except TypeError as error:
        raise ValueError(
            "merge must take the outputs of both directions, got an error for output "
            f"sizes {forward} and {backward}: {error}"
        ) from error
    if not jax.tree_util.all_leaves([merged]) or not merged.ndim:
        shape = merged.shape if hasattr(merged, "shape") else type(merged).__name__
        raise ValueError(
            f"merge must return one array with features on its last axis, got {shape}"
        )
    return merged.shape[-1]


@described
def bidirectional(
    forward: Cell,
    backward: Cell,
    *,
    merge: Callable[[Array, Array], Array] = _concatenate,
    unroll_fn: UnrollFn | None = None,
) -> Layer:
    """Make a layer that runs two cells, one in each direction of time.

    Outputs are concatenated, or merged. Padded sequences need no reversal: with a mask,
    the reversed direction holds its state through the padding.

    Args:
        forward: cell that runs from the first step to the last.
        backward: cell that runs from the last step to the first.
        merge: function of the outputs of both directions, ``(T, *B, O_forward)`` and
            ``(T, *B, O_backward)``, that acts on the last axis, such as ``jnp.add``,
            ``jnp.multiply`` or ``lambda f, b: (f + b) / 2``. The default concatenates.
        unroll_fn: function that runs the cells; see :func:`layer`.

    Returns:
        A :class:`Layer` with outputs ``(T, *B, O_forward + O_backward)``, or the result
        of ``merge``, each at its own time. Its ``step`` raises ValueError, because it
        would need the future.

    Raises:
        TypeError: an argument is not a :class:`Cell`, for instance a layer, or
            ``merge`` is not a function.
        ValueError: ``merge`` does not take outputs of these sizes.

    Differs from Keras in taking a function for ``merge`` instead of a name.

    References:
        Schuster and Paliwal, Bidirectional recurrent neural networks, 1997.

    >>> import jaxrnn
    >>> model = bidirectional(jaxrnn.gru(5), jaxrnn.gru(4))
    >>> params = model.init(jax.random.key(0), 2)
    >>> model.apply(params, jnp.ones((7, 3, 2)))[1].shape
    (7, 3, 9)
    """
    check_cell("forward", forward)
    check_cell("backward", backward)
    directions = (
        layer(forward, unroll_fn=unroll_fn),
        layer(backward, reverse=True, unroll_fn=unroll_fn),
    )
    output_size = _merged_size(merge, forward.output_size, backward.output_size)

    def init(key, input_size, dtype=None):
        keys = split_key(key, 2)
        return BidirectionalParams(
            *(
                each.init(k, input_size, dtype)
                for each, k in zip(directions, keys, strict=True)
            )
        )

    def initial_state(params, batch_shape=()):
        params = entries("params", params, 2, part="direction")
        return BidirectionalState(
            *(
                each.initial_state(p, batch_shape)
                for each, p in zip(directions, params, strict=True)
            )
        )

    def apply(params, xs, state=None, *, mask=None, resets=None, key=None):
        states = entries("state", state, 2, optional=True, part="direction")
        params = entries("params", params, 2, part="direction")
        keys = (None, None) if key is None else split_key(key, 2)
        results = [
            each.apply(p, xs, s, mask=mask, resets=resets, key=k)
            for each, p, s, k in zip(directions, params, states, keys, strict=True)
        ]
        new_states, ys = zip(*results, strict=True)
        for name, each in zip(("forward", "backward"), ys, strict=True):
            check_array(f"outputs of {name}", each)
        merged = merge(*ys)
        if mask is not None:  # which both have checked
            merged = zero_where_masked(merged, jnp.asarray(mask))
        return BidirectionalState(*new_states), merged

    return Layer(
        init=init,
        initial_state=initial_state,
        apply=apply,
        step=_refuse_step("a bidirectional layer"),
        output_size=output_size,
    )
