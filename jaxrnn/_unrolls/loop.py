"""The contract of a loop: one way to run a cell over time, and to run back."""

from typing import Any, NamedTuple, Protocol, TypeAlias

from .._typing import Array, Params, State
from .arguments import Inputs, Run

Gradients: TypeAlias = tuple[Params, Array, State, State]
"""``(dparams, dxs, dstate, dfresh)``: of the parameters, the inputs, the first state
and the state that resets restore."""


class Saved(NamedTuple):
    """What the backward pass needs of the forward pass."""

    params: Params
    inputs: Inputs
    kept: Any  # a function of the other two, and so without a tangent of its own


class Loop(Protocol):
    """Fast forward and backward passes over time, built on the adjoint of a cell.

    It need not be differentiable: JAX differentiates :mod:`jaxrnn._unrolls.reference`
    in its place. A loop is static under ``jax.jit``, so it has a hash, and equals
    another one that does the same.
    """

    def forward_pass(
        self, run: Run, params: Params, inputs: Inputs
    ) -> tuple[tuple[State, Array], Any]:
        """Return ``((state, ys), kept)``; ``kept`` is for the backward pass."""
        ...

    def backward_pass(
        self, run: Run, saved: Saved, cotangents: tuple[State, Array]
    ) -> Gradients:
        """Return the gradients, given the cotangents ``(dstate, dys)``."""
        ...
