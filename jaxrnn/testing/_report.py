"""Errors that a check of a cell found, leaf by leaf."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._problem import Comparison


class LeafError(NamedTuple):
    """The largest error of one leaf in one property."""

    property_name: str
    leaf: str  # "da_x", "dparams.w_h"
    absolute: float  # largest difference
    relative: float  # to the largest entry of the leaf
    tolerance: float  # for the relative error
    index: tuple[int, ...]  # of the entry that differs most
    got: float
    expected: float
    options: str  # which of the runs of this property differs most

    @property
    def passed(self) -> bool:
        """Test whether the error is within the tolerance; NaN is not."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        """Describe the error in one sentence."""
        where = f"{self.leaf}{list(self.index)}" if self.index else self.leaf
        options = f" ({self.options})" if self.options else ""
        return (
            f"{self.property_name}{options}: {where}: got {self.got:.6g}, expected "
            f"{self.expected:.6g}, relative error {self.relative:.1e}, tolerance "
            f"{self.tolerance:.0e}"
        )


class Report(NamedTuple):
    """Result of :func:`check_cell`; ``print`` shows it as a table."""

    errors: tuple[LeafError, ...]  # one for each property and leaf
    left_out: tuple[str, ...]  # properties that need an adjoint, where there is none

    @property
    def failures(self) -> tuple[LeafError, ...]:
        """Return the errors beyond their tolerances, in the order of the properties."""
        return tuple(error for error in self.errors if not error.passed)

    def __str__(self) -> str:
        """Return a table of the largest errors by property and leaf."""
        head = ("property", "leaf", "absolute", "relative", "tolerance", "")
        rows = [head] + [
            (
                error.property_name,
                error.leaf,
                f"{error.absolute:.1e}",
                f"{error.relative:.1e}",
                f"{error.tolerance:.0e}",
                "" if error.passed else "FAILS",
            )
            for error in self.errors
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                entry.ljust(width) for entry, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        lines += [f"{name}: not checked, needs an adjoint" for name in self.left_out]
        return "\n".join(lines)


def largest(name: str, comparisons: Iterable[Comparison]) -> list[LeafError]:
    """Return the largest error of each leaf over all runs of a property."""
    largest: dict[str, LeafError] = {}
    for error in (e for c in comparisons for e in _leaf_errors(name, c)):
        known = largest.get(error.leaf)
        if known is None or not error.relative <= known.relative:
            largest[error.leaf] = error
    return list(largest.values())


def _leaf_errors(name: str, comparison: Comparison) -> list[LeafError]:
    """Return the errors of one run of a property, leaf by leaf."""
    got, expected = comparison.got, comparison.expected
    structures = jax.tree.structure(got), jax.tree.structure(expected)
    if structures[0] != structures[1]:
        raise AssertionError(
            f"{name}: {comparison.leaf} must have the structure {structures[1]}, got "
            f"{structures[0]}"
        )
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    names = [comparison.leaf + jax.tree_util.keystr(path) for path, _ in leaves]
    pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True))
    for leaf, pair in zip(names, pairs, strict=True):
        a, e = (f"{jnp.result_type(v).name}{list(jnp.shape(v))}" for v in pair)
        if a != e:
            raise AssertionError(f"{name}: {leaf} must be {e}, got {a}")
    values = [tuple(map(_numbers, pair)) for pair in pairs]
    largest = max((np.abs(e).max(initial=0) for _, e in values), default=0)
    return [
        _worst_entry(name, comparison, leaf, a, e, 1e-3 * largest)
        for leaf, (a, e) in zip(names, values, strict=True)
    ]


def _numbers(leaf: Any) -> np.ndarray:
    """Return a leaf in float64; an empty array if only its shape is compared."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return np.zeros(0)
    return np.asarray(leaf).astype(np.float64)


def _worst_entry(
    name: str, comparison: Comparison, leaf: str, a: np.ndarray, e: np.ndarray, least
) -> LeafError:
    """Return the largest error of one leaf, relative to its largest entry."""
    difference = np.abs(a - e)
    difference = np.where(np.isnan(difference), np.inf, difference)
    if not difference.size:
        difference = a = e = np.zeros(())
    index = np.unravel_index(difference.argmax(), difference.shape)
    absolute = difference[index]
    scale = max(np.abs(e).max(), least)
    relative = np.inf
    if absolute == 0:
        relative = 0.0
    elif 0 < scale < np.inf:
        relative = absolute / scale
    return LeafError(
        property_name=name,
        leaf=leaf,
        absolute=float(absolute),
        relative=float(relative),
        tolerance=comparison.tolerance,
        index=tuple(map(int, index)),
        got=float(a[index]),
        expected=float(e[index]),
        options=comparison.options,
    )
