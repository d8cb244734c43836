"""Check the contract of a cell in one call."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, UnrollFn
from .._checks import check_cell as _check_is_cell
from .._checks import check_size
from .._typing import Params
from .._unrolls.unroll import unroll
from ._problem import Comparison, draw, with_state
from ._properties import PROPERTIES


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
        """Whether the error is within the tolerance; NaN is not."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        """One sentence."""
        where = f"{self.leaf}{list(self.index)}" if self.index else self.leaf
        options = f" ({self.options})" if self.options else ""
        return (
            f"{self.property_name}{options}: {where}: got {self.got:.6g}, expected "
            f"{self.expected:.6g}, relative error {self.relative:.1e}, tolerance "
            f"{self.tolerance:.0e}"
        )


class Report(NamedTuple):
    """What :func:`check_cell` found; prints as a table."""

    errors: tuple[LeafError, ...]  # one for each property and leaf
    left_out: tuple[str, ...]  # properties that need an adjoint, where there is none

    @property
    def failures(self) -> tuple[LeafError, ...]:
        """The errors beyond their tolerances, in the order of the properties."""
        return tuple(error for error in self.errors if not error.passed)

    def __str__(self) -> str:
        """A table of the largest errors by property and leaf."""
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


def cell_properties(cell: Cell) -> tuple[str, ...]:
    """The names of the properties that :func:`check_cell` can check of a cell.

    Args:
        cell: what to check; without an adjoint there are fewer.

    Raises:
        TypeError: ``cell`` is not a :class:`jaxrnn.Cell`.
    """
    _check_is_cell("cell", cell)
    return tuple(
        name
        for name, p in PROPERTIES.items()
        if p.needs is None or getattr(cell, p.needs) is not None
    )


def check_cell(
    cell: Cell,
    *,
    params: Params | None = None,
    input_size: int = 2,
    num_steps: int = 6,
    batch_size: int = 3,
    unroll_fn: UnrollFn = unroll,
    properties: Iterable[str] | None = None,
    seed: int = 0,
) -> Report:
    """Check a cell, its adjoint and an unroll against independent computations.

    For cells whose state and parameters are real numbers. All in float64, on random
    parameters, inputs, states and cotangents:

    - ``contract``: structures, shapes and dtypes of what the functions return;
    - ``batch rows``: a step of a batch is a step of each of its rows;
    - ``forward against step``: the adjoint's forward pass, for one step and for all
      steps at once;
    - ``backward against jax.vjp of step``, ``accumulate against jax.vjp of project and
      step``: the two halves of the transpose, each on its own;
    - ``streaming``, ``masks``, ``resets``, ``masks and resets``: values and gradients
      of ``unroll_fn`` against a loop over time and rows in Python, in both directions,
      with NaN in the padding and before a reset; in chunks, with no batch dimension and
      with two, and with no state given;
    - ``bptt against jax.grad``: with and without mask and resets, both directions;
    - ``finite differences``: the gradients of ``unroll_fn`` against central differences
      along a random direction in each leaf, extrapolated to a step size of zero, so
      that what is reported is as near to the floor of the method as it gets.

    With ``unroll_fn=jaxrnn.unroll_bptt`` the adjoint takes part in all of these.

    An error is relative to the largest entry of its leaf, or to a thousandth of the
    largest entry of all leaves it comes with, if that is more. The first property to
    fail is the nearest to the mistake.

    Args:
        cell: what to check. The hidden size should be small, and none of the sizes
            below, so that a swapped axis fails.
        params: parameters to check at, for inputs of ``input_size``; None draws them
            and adds noise, so that no bias is zero.
        input_size: I.
        num_steps: T, at least 3. Keep it small: where the state is chaotic, rounding
            grows with every step, and what is right fails.
        batch_size: B, at least 3: one row starts with a reset, one is masked entirely.
        unroll_fn: the unroll to check with it: of the signature of
            :func:`jaxrnn.unroll`.
        properties: names from :func:`cell_properties`; None checks all of them.
        seed: of the random numbers.

    Returns:
        A :class:`Report`. Without an adjoint, it says what was left out.

    Raises:
        AssertionError: a property fails. The message names it, the leaf and the index
            of the worst entry, and has the whole table.
        ValueError: a size is too small, or a property is unknown.
        TypeError: ``cell`` is not a :class:`jaxrnn.Cell`.

    >>> import jaxrnn
    >>> report = check_cell(jaxrnn.elman(4), properties=["masks"])
    >>> [error.leaf for error in report.errors][:3]
    ['state', 'ys', 'dparams.w_x']
    """
    available = cell_properties(cell)
    if isinstance(properties, str):
        raise TypeError(f"properties must be a list of names, got {properties!r}")
    chosen = tuple(available if properties is None else properties)
    if not callable(unroll_fn):
        raise TypeError(f"unroll_fn must be an unroll, got {unroll_fn!r}")
    for name in chosen:
        if name not in available:
            raise ValueError(
                f"properties must be among {available} for this cell, got {name!r}"
            )
    left_out = [
        name
        for name, p in PROPERTIES.items()
        if p.needs == "adjoint" and name not in available
    ]
    errors = []
    with jax.enable_x64(True), jax.debug_nans(False):
        if params is not None:
            params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
        problem = draw(
            check_size("seed", seed, least=0),
            cell,
            unroll_fn,
            params,
            check_size("input_size", input_size),
            check_size("num_steps", num_steps, least=3),
            check_size("batch_size", batch_size, least=3),
        )
        for name in chosen:
            try:
                if name != "contract" and problem.state is None:
                    problem = with_state(problem)
                errors += _largest(name, PROPERTIES[name].compare(problem))
            except Exception as error:
                error.add_note(f"raised while checking {name!r}")
                raise
    report = Report(tuple(errors), tuple(left_out) if properties is None else ())
    if report.failures:
        failed = dict.fromkeys(error.property_name for error in report.failures)
        lines = [f"{len(failed)} of {len(chosen)} properties fail", ""]
        lines += [f"- {error}" for error in report.failures]
        raise AssertionError("\n".join([*lines, "", str(report)]))
    return report


def _largest(name: str, comparisons: Iterable[Comparison]) -> list[LeafError]:
    """The largest error of each leaf, over all the runs of a property."""
    largest: dict[str, LeafError] = {}
    for error in (e for c in comparisons for e in _leaf_errors(name, c)):
        known = largest.get(error.leaf)
        if known is None or not error.relative <= known.relative:
            largest[error.leaf] = error
    return list(largest.values())


def _leaf_errors(name: str, comparison: Comparison) -> list[LeafError]:
    """The errors of one run of a property, leaf by leaf."""
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
    """A leaf in float64; nothing where only its shape was to compare."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return np.zeros(0)
    return np.asarray(leaf).astype(np.float64)


def _worst_entry(
    name: str, comparison: Comparison, leaf: str, a: np.ndarray, e: np.ndarray, least
) -> LeafError:
    """The largest error of one leaf, relative to its largest entry or to ``least``."""
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
