"""Check the contract of a cell in one call."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from .._base import Cell, UnrollFn
from .._checks import check_cell as _check_is_cell
from .._checks import check_size
from .._typing import Params
from .._unrolls.unroll import unroll
from ._problem import draw, with_state
from ._properties import PROPERTIES
from ._report import Report, largest


def cell_properties(cell: Cell) -> tuple[str, ...]:
    """List the names of the properties that :func:`check_cell` can check of a cell.

    Args:
        cell: cell to check; without an adjoint there are fewer properties.

    Raises:
        TypeError: ``cell`` is not a :class:`jaxrnn.Cell`.
    """
    _check_is_cell("cell", cell)
    return tuple(name for name, p in PROPERTIES.items() if p.holds_for(cell))


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

    It is for cells whose state and parameters are real numbers. All checks are in
    float64, on random parameters, inputs, states and cotangents:

    - ``contract``: structures, shapes and dtypes of the results of all functions;
    - ``batch rows``: a step of a batch is a step of each batch entry;
    - ``forward against step``: the adjoint's forward pass, for one step and for all
      steps at once;
    - ``backward against jax.vjp of step``, ``accumulate against jax.vjp of project and
      step``: the two halves of the transpose, each on its own;
    - ``dropout in the step against jax.vjp``: both halves with the options that
      :func:`jaxrnn.recurrent_dropout` and :func:`jaxrnn.candidate_dropout` use, if the
      adjoint takes them;
    - ``streaming``, ``masks``, ``resets``, ``masks and resets``: values and gradients
      of ``unroll_fn`` against a loop over time and batch entries in Python, in both
      directions, with NaN in the padding and before a reset; in chunks, without and
      with two batch dimensions, and without a given state;
    - ``bptt against jax.grad``: with and without mask and resets, both directions;
    - ``finite differences``: the gradients of ``unroll_fn`` against central differences
      along a random direction in each leaf, extrapolated to a step size of zero.

    With ``unroll_fn=jaxrnn.unroll_bptt`` the adjoint takes part in all of these.

    An error is relative to the largest entry of its leaf, or to a thousandth of the
    largest entry of all leaves that are compared with it, if that is more. The first
    property to fail is the nearest to the mistake.

    Args:
        cell: cell to check. Choose a small hidden size that differs from
            ``input_size``, ``num_steps`` and ``batch_size``, so that a swapped axis
            fails.
        params: parameters to check at, for inputs of ``input_size``; None draws them
            and adds noise, so that no bias is zero.
        input_size: I.
        num_steps: T, at least 3. Keep it small: if the state is chaotic, rounding
            errors grow with every step, and a right cell fails.
        batch_size: B, at least 3, because one batch entry starts with a reset and one
            is masked entirely.
        unroll_fn: the unroll to check with the cell, a function with the signature of
            :func:`jaxrnn.unroll`.
        properties: names from :func:`cell_properties`; None checks all of them.
        seed: seed of the random numbers.

    Returns:
        A :class:`Report`. For a cell without an adjoint it lists the properties that
        were left out.

    Raises:
        AssertionError: a property fails. The message names the property, the leaf and
            the index of the worst entry, and contains the whole table.
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
        raise TypeError(
            "unroll_fn must be a function with the signature of jaxrnn.unroll, got "
            f"{unroll_fn!r}"
        )
    for name in chosen:
        if name not in available:
            raise ValueError(
                f"properties must be among {available} for this cell, got {name!r}"
            )
    left_out = [
        name
        for name, p in PROPERTIES.items()
        if p.needs == "adjoint" and cell.adjoint is None
    ]
    errors = []
    # NaN in masked inputs is part of the checks, so debug_nans would stop them.
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
                errors += largest(name, PROPERTIES[name].compare(problem))
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
