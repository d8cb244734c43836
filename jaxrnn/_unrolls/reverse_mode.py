"""Reverse mode: a fast loop over time, and what JAX differentiates in its place.

``jax.grad`` of a run takes the loop's own backward pass (``custom_vjp``). A second
derivative would have to differentiate the loop, which writes in place. Instead each of
its two passes has a rule (``custom_jvp``) that differentiates the scans of
``reference.py``, so second derivatives work, in the memory of plain scans.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import naming_forward_mode
from .._descriptions.captured import holds_tracer
from .._eager import compiled
from .._numerics.placement import is_placed
from .._typing import Array, Params, State
from .arguments import Inputs, Run
from .loop import Gradients, Loop, Saved
from .plan import Loops, Size, size_of
from .reference import scan_forward, scan_gradients
from .unroll import plain_scan


def run_fast(
    run: Run, choose: Callable[[Run, Size], Loops], params: Params, inputs: Inputs
) -> tuple[State, Array]:
    """Run over time by the loops that ``choose`` returns.

    Raises:
        TypeError: JAX asks for forward mode; the message says what to do instead.
    """
    if _needs_one_scan(run, params, inputs):
        return plain_scan(run, params, inputs)
    loops = choose(run, size_of(run, params, inputs))
    with naming_forward_mode():
        return _run_loops(run, loops, params, inputs)


def _needs_one_scan(run: Run, params: Params, inputs: Inputs) -> bool:
    """Decide whether JAX must see one scan, and differentiate it itself."""
    # On a mesh, what is written and where it goes must have the same type; JAX sees to
    # that in a scan. Loops are chosen by numbers, and an exported program may have
    # symbols for sizes. A custom backward pass cannot give a gradient to a value that
    # the cell closes over.
    symbolic = not all(isinstance(size, int) for size in inputs.xs.shape)
    return is_placed((params, inputs)) or symbolic or holds_tracer(run.cell)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _forward_pass(
    run: Run, loop: Loop, params: Params, inputs: Inputs
) -> tuple[tuple[State, Array], Any]:
    return loop.forward_pass(run, params, inputs)


@_forward_pass.defjvp
def _forward_jvp(run, loop, primals, tangents):
    values, kept = _forward_pass(run, loop, *primals)

    def reference(params, inputs):
        return scan_forward(run, params, inputs)[0]

    _, dvalues = jax.jvp(reference, primals, tangents)
    return (values, kept), (dvalues, jax.tree.map(_no_tangent, kept))


def _no_tangent(leaf: Array) -> Array | np.ndarray:
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros_like(leaf)
    return np.zeros(leaf.shape, jax.dtypes.float0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _backward_pass(
    run: Run, loop: Loop, saved: Saved, cotangents: tuple[State, Array]
) -> Gradients:
    return loop.backward_pass(run, saved, cotangents)


@_backward_pass.defjvp
def _backward_jvp(run, loop, primals, tangents):
    gradients = _backward_pass(run, loop, *primals)
    (saved, cotangents), (dsaved, dcotangents) = primals, tangents
    _, dgradients = jax.jvp(
        functools.partial(scan_gradients, run),
        (saved.params, saved.inputs, cotangents),
        (dsaved.params, dsaved.inputs, dcotangents),
    )
    return gradients, dgradients


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run_loops(
    run: Run, loops: Loops, params: Params, inputs: Inputs
) -> tuple[State, Array]:
    """Run over time; under reverse mode, by the loop that keeps residuals."""
    # This body runs only if no gradient is asked for.
    return loops.without_gradient.forward_pass(run, params, inputs)[0]


def _run_loops_forward(run, loops, params, inputs):
    values, kept = _forward_pass(run, loops.with_gradient, params, inputs)
    return values, Saved(params, inputs, kept)


def _run_loops_backward(run, loops, saved, cotangents):
    gradients = _backward_pass(run, loops.with_gradient, saved, cotangents)
    dparams, dxs, dstate, dfresh = gradients
    return dparams, Inputs(dxs, dstate, dfresh, mask=None, resets=None)


run_loops.defvjp(_run_loops_forward, _run_loops_backward)

_run_loops = compiled(num_static=2)(run_loops)
run_forward = compiled(num_static=2)(_forward_pass)
run_backward = compiled(num_static=2)(_backward_pass)
