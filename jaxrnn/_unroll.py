"""``unroll``: project once, scan the step; JAX differentiates it."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from jax import lax

from ._base import Cell
from ._checks import check_cell, check_flags, check_like, check_sequence
from ._descriptions.known import known
from ._eager import compiled
from ._numerics.placement import placed_like
from ._numerics.precision import narrow, widen
from ._options import check_bool
from ._params import check_cell_params
from ._scan import masked_scan, masked_step, segment_resets
from ._tree import select, zeros_like
from ._typing import Array, ArrayLike, Params, Shape, State


class Sequence(NamedTuple):
    """The arguments of an unroll, checked and ready for the scan."""

    xs: Array  # (T, *B, I), zero where masked
    state: State  # before the first step taken
    fresh: State  # what a reset restores
    mask: Array | None  # (T, *B)
    resets: Array | None  # (T, *B), in the order of the scan


@contextlib.contextmanager
def naming_forward_mode() -> Iterator[None]:
    """Says where to go if a backward pass derived by hand meets forward mode."""
    try:
        yield
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        raise TypeError(
            "unroll_fn must allow forward-mode differentiation (jvp) here, got one "
            "with a backward pass derived by hand: pass unroll_fn=jaxrnn.unroll to the "
            "layer, or call jaxrnn.unroll"
        ) from error


def hoisted(cell: Cell, params: Params) -> tuple[Cell, Params]:
    """A cell and parameters of the same steps, without what each step would repeat."""
    check_cell("cell", cell)
    check_cell_params(cell, params)
    if cell.derived is None:
        return cell, params
    return hoisted(cell.derived.cell, cell.derived.weights(params))


def batch_shape(cell: Cell, inputs: Array) -> Shape:
    """What is in front of the features, and of the axes of space, of the inputs."""
    return inputs.shape[: inputs.ndim - 1 - len(cell.spatial_shape)]


def prepare(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None,
    mask: ArrayLike | None,
    resets: ArrayLike | None,
    reverse: bool,
) -> Sequence:
    """Check the arguments of an unroll and give each its final form."""
    check_cell("cell", cell)
    check_cell_params(cell, params)
    check_bool("reverse", reverse)
    inputs = check_sequence("xs", xs, cell.spatial_shape)
    steps = batch_shape(cell, inputs)
    valid = check_flags("mask", mask, steps)
    starts = check_flags("resets", resets, steps)
    fresh = cell.initial_state(params, steps[1:])
    state = fresh if state is None else check_like("state", state, fresh)
    if valid is not None:
        # Garbage times a zero cotangent is garbage: it must not enter the products.
        inputs = select(valid, inputs, zeros_like(inputs))
    if starts is not None:
        starts = segment_resets(starts, reverse=reverse)
    data = (inputs, valid, starts)
    state, fresh = placed_like((state, fresh), data, len(steps) - 1)
    return Sequence(xs=inputs, state=state, fresh=fresh, mask=valid, resets=starts)


def transition(
    cell: Cell,
    params: Params,
    state: State,
    inputs: tuple[Array, Array | None, Array | None],
) -> tuple[State, Array]:
    """One step of :func:`unroll` as a function of all that it depends on.

    For what looks at one step at a time: its Jacobians, its vector products.

    Args:
        cell, params: as of the unroll.
        state: the state that enters the step.
        inputs: ``(x, valid, reset)``, one step of the inputs, mask and resets of a
            :class:`Sequence`.

    Returns:
        ``(state, y)``.
    """
    fresh = cell.initial_state(params, batch_shape(cell, inputs[0]))

    def step(state, x):
        return *cell.step(params, state, cell.project(params, x)), None

    state, (y, _) = masked_step(step, fresh)(state, inputs)
    return state, y


@compiled(num_static=2)
def entering_states(
    cell: Cell, reverse: bool, params: Params, sequence: Sequence
) -> tuple[State, State, Array]:
    """The states ``(T, *B, ...)`` that enter each step, the last state and outputs."""

    def step(state, inputs):
        new_state, y = transition(cell, params, state, inputs)
        return new_state, (state, y)

    inputs = (sequence.xs, sequence.mask, sequence.resets)
    last, (states, ys) = lax.scan(step, sequence.state, inputs, reverse=reverse)
    return states, last, ys


@known
def unroll(
    cell: Cell,
    params: Params,
    xs: ArrayLike,
    state: State | None = None,
    *,
    mask: ArrayLike | None = None,
    resets: ArrayLike | None = None,
    reverse: bool = False,
) -> tuple[State, Array]:
    """Run a cell over time.

    Equal to this loop, whatever the number of batch dimensions::

        for t in range(T):                        # reversed(range(T)) if reverse
            if resets is not None and resets[t]:  # reverse: if resets[t + 1]
                state = cell.initial_state(params, batch_shape)
            if mask is None or mask[t]:
                state, ys[t] = cell.step(params, state, cell.project(params, xs[t]))
            else:
                ys[t] = 0                         # and the state is held

    The input projection is one product over the whole sequence; only the recurrent
    product and the gates are in the loop. JAX differentiates it: ``grad``, ``jvp``,
    ``vmap``, Hessians and checkpointing all apply. For reverse mode alone
    :func:`unroll_bptt` gives the same values and gradients.

    Args:
        cell: what to run.
        params: parameters of ``cell``.
        xs: inputs ``(T, *B, I)``, in the dtype of ``params``.
        state: state before the first step taken; None takes the initial state.
        mask: bool ``(T, *B)``. Where False the state is held, the output is zero
            and the input reaches nothing, whatever it holds, NaN included.
        resets: bool ``(T, *B)``, True at the first step of each segment. The state
            is replaced by the initial state before that input is consumed, and no
            gradient crosses; at a masked step too. In reverse, each segment starts
            afresh at its last step, so that packed segments equal segments alone. A
            reversed run in chunks must itself hand the initial state to a chunk where
            the later one starts a segment: its ``resets[0]`` lies outside both.
        reverse: take the steps from the last to the first; outputs stay at their
            own time, and padding needs no flips: the state waits through it.

    Returns:
        ``(state, ys)``: the state after the last step taken and the outputs
        ``(T, *B, O)``.

    Raises:
        ValueError: a shape or the structure of ``state`` does not fit.
        TypeError: a dtype does not fit; ``mask`` or ``resets`` is not boolean; ``cell``
            is not a :class:`Cell`.

    Differs from torch: time leads, and a mask replaces packed sequences; from Keras:
    a reversed scan does not reverse its outputs.

    >>> import jax, jaxrnn
    >>> cell = jaxrnn.gru(5)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> state, ys = jaxrnn.unroll(cell, params, jax.numpy.ones((7, 3, 2)))
    >>> state.shape, ys.shape
    ((3, 5), (7, 3, 5))
    """
    cell, params = hoisted(cell, params)
    sequence = prepare(cell, params, xs, state, mask, resets, reverse)
    return unroll_sequence(cell, reverse, 1, params, sequence)


@compiled(num_static=3)
def unroll_sequence(
    cell: Cell,
    reverse: bool,
    steps_at_once: int,
    params: Params,
    sequence: Sequence,
) -> tuple[State, Array]:
    """:func:`unroll` of arguments that are checked already.

    ``steps_at_once`` steps are one iteration of the loop.
    """
    wide = widen(params)

    def step(state, a_x):
        return *cell.step(narrow(wide, params), state, a_x), None

    state, ys, _ = masked_scan(
        step,
        sequence.state,
        cell.project(params, sequence.xs),
        fresh=sequence.fresh,
        mask=sequence.mask,
        resets=sequence.resets,
        reverse=reverse,
        unroll=steps_at_once,
    )
    return state, ys
