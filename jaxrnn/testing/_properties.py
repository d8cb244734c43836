"""What :func:`jaxrnn.testing.check_cell` checks: one function for each property.

A property yields comparisons of what a cell gives with what something independent of
it gives. They are ordered from one step to whole sequences, so that the first one to
fail is the nearest to the mistake.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from .._base import Cell
from ._problem import Comparison, Problem
from ._sequence_properties import (
    associative,
    bptt_against_grad,
    finite_differences,
    masks,
    masks_and_resets,
    resets,
    streaming,
)
from ._step_properties import (
    accumulate_against_vjp,
    allows_dropout,
    backward_against_vjp,
    batch_rows,
    contract,
    dropout_against_vjp,
    forward_against_step,
)


class Property(NamedTuple):
    """A property and its requirements on a cell."""

    compare: Callable[[Problem], Iterator[Comparison]]
    needs: str | None = None  # the field of the cell that must not be None
    allowed: Callable[[Cell], bool] | None = None  # asked of cells with that field

    def holds_for(self, cell: Cell) -> bool:
        """Test whether the property can be checked of a cell."""
        if self.needs is not None and getattr(cell, self.needs) is None:
            return False
        return self.allowed is None or self.allowed(cell)


PROPERTIES = {
    "contract": Property(contract),
    "batch rows": Property(batch_rows),
    "forward against step": Property(forward_against_step, needs="adjoint"),
    "backward against jax.vjp of step": Property(backward_against_vjp, needs="adjoint"),
    "accumulate against jax.vjp of project and step": Property(
        accumulate_against_vjp, needs="adjoint"
    ),
    "dropout in the step against jax.vjp": Property(
        dropout_against_vjp, needs="adjoint", allowed=allows_dropout
    ),
    "streaming": Property(streaming),
    "masks": Property(masks),
    "resets": Property(resets),
    "masks and resets": Property(masks_and_resets),
    "bptt against jax.grad": Property(bptt_against_grad, needs="adjoint"),
    "associative scan against unroll": Property(associative, needs="coefficients"),
    "finite differences": Property(finite_differences),
}
