"""The contract: what a cell, its adjoint and a layer are.

::

    forward     project (all steps at once)    ->  step (one step, in order)
    backward    accumulate (all steps at once) <-  backward (one step, reversed)

Only the recurrent product and the gates are sequential. Everything else, the
input projection and every weight gradient, is one large matrix product over many
steps, the whole sequence or a chunk of it, outside the loop over steps.

A cell, an adjoint and a layer are NamedTuples of pure functions. They hold
functions and ints, no arrays: build them once, close over them, and never pass
them to ``jax.jit`` as data. Each field has a Protocol below that says what the
function gets and returns; the argument names are part of the contract.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ._descriptions.spec import Described, Spec
from ._typing import (
    Array,
    ArrayLike,
    Cotangents,
    DTypeLike,
    Key,
    Params,
    Residual,
    Shape,
    State,
)


class InitFn(Protocol):
    """``init`` of a cell or layer: draw the parameters."""

    def __call__(
        self, key: Key, input_size: int, dtype: DTypeLike | None = None
    ) -> Params:
        """Draw parameters.

        Args:
            key: a ``jax.random`` key.
            input_size: number of input features I.
            dtype: floating dtype of the parameters; None takes JAX's default.

        Returns:
            A pytree of arrays, and of nothing else.
        """
        ...


class InitialStateFn(Protocol):
    """``initial_state`` of a cell or layer: the state before the first step."""

    def __call__(self, params: Params, batch_shape: Shape = ()) -> State:
        """Make the state that an unroll starts from, and that a reset restores.

        Args:
            params: parameters; sizes and dtype are read off them, and gradients
                flow into them if the initial state is learned.
            batch_shape: the batch dimensions ``*B``.

        Returns:
            A state with leaves ``(*B, ...)``, in float32 for 16-bit parameters.
        """
        ...


class ProjectFn(Protocol):
    """``project`` of a cell: the part of a step that no state enters."""

    def __call__(self, params: Params, xs: Array) -> Array:
        """Multiply the inputs of any number of steps by the input weights.

        Args:
            params: parameters of the cell.
            xs: inputs ``(..., I)``; the leading dimensions are free.

        Returns:
            Pre-activations ``(..., A)``, in float32 for 16-bit parameters.

        Raises:
            ValueError: the last axis of ``xs`` is not the input size.
            TypeError: the dtype of ``xs`` is not that of the parameters.
        """
        ...


class StepFn(Protocol):
    """``step`` of a cell: one step of time, given the projected input."""

    def __call__(self, params: Params, state: State, a_x: Array) -> tuple[State, Array]:
        """Advance the state.

        Args:
            params: parameters of the cell.
            state: state before the step.
            a_x: one slice ``(*B, A)`` of what ``project`` returned.

        Returns:
            ``(state, y)``: the state after the step and the output ``(*B, O)``.
        """
        ...


class AdjointForwardFn(Protocol):
    """``forward`` of an adjoint: ``step``, keeping what its transpose needs.

    Dropout inside a step needs keyword options. A cell that offers it takes one or both
    of these:

    - For :func:`jaxrnn.recurrent_dropout`: ``recurrent_dot(h, w)`` in ``forward`` and
      ``recurrent_dot_transposed(da, w)`` in ``backward``, which compute the products of
      the state with the recurrent weights. The residual must have a field ``h_prev``,
      the state that entered those products.
    - For :func:`jaxrnn.candidate_dropout`: ``candidate_scale (*B, H)`` or None, in
      ``forward`` and ``backward``, by which the candidate is multiplied before it
      enters the state.

    :func:`jaxrnn.testing.check_cell` checks the options that a cell takes.
    """

    def __call__(
        self, params: Params, state: State, a_x: Array
    ) -> tuple[State, Array, Residual]:
        """Compute ``step`` and a residual.

        Acts on spatial axes and features only, so that it also takes all steps at once:
        states and pre-activations with leading dimensions ``(T, *B)``. An unroll may
        keep the residuals of its loop or recompute them from the states in one call.

        Returns:
            ``(state, y, residual)``; the first two equal those of ``step``.
        """
        ...


class AdjointBackwardFn(Protocol):
    """``backward`` of an adjoint: the transpose of one step."""

    def __call__(
        self, params: Params, residual: Residual, dstate: State, dy: Array
    ) -> tuple[State, Cotangents]:
        """Pull cotangents back through one step.

        Args:
            params: parameters of the cell.
            residual: what ``forward`` kept of this step.
            dstate: cotangent of the state after the step.
            dy: cotangent of the output ``(*B, O)``.

        Returns:
            ``(dstate_prev, (da_x, ...))``: the cotangent of the state before the step,
            and a tuple of the arrays that ``accumulate`` needs. The first of them is
            the cotangent ``da_x (*B, A)`` of the projected input. Others follow,
            ``(*B, ...)``, if parameters act elsewhere in the step.
        """
        ...


class AccumulateFn(Protocol):
    """``accumulate`` of an adjoint: every weight gradient, outside the loop."""

    def __call__(
        self, params: Params, xs: Array, residuals: Residual, da_xs: Cotangents
    ) -> tuple[Params, Array]:
        """Sum the parameter gradients of some steps, and transpose ``project``.

        An unroll may call it once, with all steps, or once for each chunk of steps. It
        adds the ``dparams`` and joins the ``dxs`` along time. So ``dparams`` must be a
        plain sum over the given steps, and each ``dx`` must depend on its step alone.

        Args:
            params: parameters of the cell.
            xs: inputs ``(K, *B, I)`` of K steps.
            residuals: residuals of these steps, stacked along time.
            da_xs: the tuples that ``backward`` returned at these steps, stacked along
                time: ``(da_x (K, *B, A), ...)``; zero at masked steps.

        Returns:
            ``(dparams, dxs)`` with the shapes and dtypes of ``params`` and ``xs``.
        """
        ...


class CoefficientsFn(Protocol):
    """``coefficients`` of a cell: its step as a linear map of the state."""

    def __call__(self, params: Params, a_xs: Array) -> tuple[Array, Array]:
        """Compute decay and drive of steps ``state = decay * state_prev + drive``.

        Args:
            params: parameters of the cell.
            a_xs: what ``project`` returned, ``(..., A)``.

        Returns:
            ``(decay, drive)``: ``drive (..., H)``, and ``decay`` that broadcasts to it;
            the state is one array ``(..., H)``, and the output is the state. Both may
            be complex: then the state is real, ``(..., 2H)``, real parts first.
        """
        ...


class Adjoint(NamedTuple):
    """The transpose of a cell, derived by hand."""

    forward: AdjointForwardFn
    backward: AdjointBackwardFn
    accumulate: AccumulateFn


class DrawFn(Protocol):
    """``draw`` of noise: the random numbers of a whole run, drawn before its loop."""

    def __call__(self, key: Key, params: Params, steps: Shape) -> Array:
        """Draw the noise of a whole sequence.

        Args:
            key: a ``jax.random`` key.
            params: parameters of the cell.
            steps: the shape ``(T, *B)``.

        Returns:
            ``(T, *B, N)``, numbers or bools; they are cast to the dtype of the inputs.
        """
        ...


class Noise(NamedTuple):
    """How to draw a cell's random numbers, and the variant of the cell that takes them.

    Noise is an input: ``cell`` takes inputs ``(*B, I + N)``, which concatenate the
    inputs of a step and the numbers drawn for it. So masks, resets, chunks of time and
    both directions treat it like any input, and no key enters a loop.
    """

    draw: DrawFn
    cell: "Cell"


class Derived(NamedTuple):
    """Weights that are computed from the parameters, and the cell that takes them.

    In all its functions the derived cell is ``cell`` with the parameters
    ``weights(params)``.
    """

    weights: Callable[[Params], Params]
    cell: "Cell"


class Kernel(NamedTuple):
    """The compiled loop that computes what a cell computes; see ``docs/kernels.md``.

    The parameters have fields ``w_x``, ``w_h``, ``b``, and perhaps ``b_h``; the state
    is h, or h and c.
    """

    name: str  # in kernels/variant.cc
    num_kept: int  # numbers of each unit and step that its backward pass needs
    option: float = 0.0  # an argument of the cell, for those that have one


class _CellFields(NamedTuple):
    init: InitFn
    initial_state: InitialStateFn
    project: ProjectFn
    step: StepFn
    output_size: int
    adjoint: Adjoint | None = None
    noise: Noise | None = None
    coefficients: CoefficientsFn | None = None
    derived: Derived | None = None
    spatial_shape: Shape = ()
    kernel: Kernel | None = None
    spec: Spec | None = None


# These describe the other fields, so a change of another field makes them wrong. init
# is an exception: it draws other numbers of the same structure.
_OFFERS = ("adjoint", "noise", "coefficients", "derived", "kernel")
_KEEP_OFFERS = {"init", "spec", *_OFFERS}


class Cell(Described, _CellFields):
    """One step of a recurrence, split into a sequential and a parallel part.

    ``project`` is the part that runs for all time steps at once, ``step`` is the
    sequential part. Together they are the whole cell: stepping it by hand, in chunks or
    with :func:`jaxrnn.unroll` gives the same states, outputs and gradients.

    ``init``, ``initial_state`` and ``output_size`` are required too. The other fields
    are optional:

    - ``adjoint`` is the backward pass by hand. With None, ``unroll`` works and
      ``unroll_bptt`` raises ValueError.
    - ``noise`` says how a layer that gets a key draws random numbers for the cell.
      Unrolls do not look at it.
    - ``coefficients`` are set if the step is linear in the state, element by element.
      :func:`jaxrnn.unroll_associative` uses them.
    - ``derived`` is set if the weights are computed from the parameters. An unroll
      computes them once, before its loop.
    - ``spatial_shape`` S stands in inputs, pre-activations and outputs before the
      features: ``(*B, *S, I)``. Masks and resets do not have these axes.
    - ``kernel`` names a compiled loop that computes the same, on a CPU.
    - ``spec`` describes a cell that a factory of this library made. Cells with equal
      descriptions are equal, and share compiled programs.
    """

    __slots__ = ()

    def _replace(self, **changes: Any) -> "Cell":
        """Return a copy with other fields.

        ``adjoint``, ``noise``, ``coefficients``, ``derived`` and ``kernel`` describe
        the other fields. If a field other than these, ``init`` or ``spec`` changes,
        those that are not given too become None. So a description that no longer holds
        cannot give a wrong gradient: without ``adjoint``, ``unroll_bptt`` raises;
        without ``noise``, nothing is drawn. ``kernel`` describes the adjoint too, and
        becomes None if that changes.
        """
        if not changes.keys() <= _KEEP_OFFERS:
            changes = dict.fromkeys(_OFFERS) | changes
        elif "adjoint" in changes:
            changes = {"kernel": None} | changes
        return super()._replace(**changes)


class UnrollFn(Protocol):
    """The signature of ``unroll``, ``unroll_bptt`` and every other unroll."""

    def __call__(
        self,
        cell: Cell,
        params: Params,
        xs: ArrayLike,
        state: State | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        reverse: bool = False,
    ) -> tuple[State, Array]:
        """Run ``cell`` over time; see :func:`jaxrnn.unroll`."""
        ...


class ApplyFn(Protocol):
    """``apply`` of a layer: a whole sequence."""

    def __call__(
        self,
        params: Params,
        xs: ArrayLike,
        state: State | None = None,
        *,
        mask: ArrayLike | None = None,
        resets: ArrayLike | None = None,
        key: Key | None = None,
    ) -> tuple[State, Array]:
        """Map a sequence to a sequence.

        Args:
            params: parameters of the layer.
            xs: inputs ``(T, *B, I)``.
            state: state before the first step; None takes the initial state.
            mask: bool ``(T, *B)``; where False the state is held, the output is
                zero, and the input has no effect.
            resets: bool ``(T, *B)``; where True the state is replaced by the
                initial state before the input of that step is consumed.
            key: randomness for layers that draw any; None evaluates without.

        Returns:
            ``(state, ys)``: the final state and the outputs ``(T, *B, O)``.
        """
        ...


class LayerStepFn(Protocol):
    """``step`` of a layer: streaming, one input at a time."""

    def __call__(
        self, params: Params, state: State, x: ArrayLike
    ) -> tuple[State, Array]:
        """Advance by one input.

        To mask or reset while streaming, call ``apply`` with one step instead:
        ``state, ys = layer.apply(params, x[None], state, resets=resets[None])``.

        Args:
            params: parameters of the layer.
            state: from ``initial_state(params, batch_shape)`` or the step before.
            x: one input ``(*B, I)``; integers ``(*B)`` for an embedding.

        Returns:
            ``(state, y)`` as ``apply`` would return for this step; ``y`` is ``(*B,
            O)``.

        Raises:
            ValueError: the layer needs inputs from the future.
        """
        ...


class _LayerFields(NamedTuple):
    init: InitFn
    initial_state: InitialStateFn
    apply: ApplyFn
    step: LayerStepFn
    output_size: int
    spec: Spec | None = None


class Layer(Described, _LayerFields):
    """A map from sequences to sequences: recurrent, stacked, or time-distributed.

    ``spec`` describes a layer that a factory of this library made. Layers with equal
    descriptions are equal, and share compiled programs.
    """

    __slots__ = ()
