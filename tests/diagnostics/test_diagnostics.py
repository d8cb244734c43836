"""All diagnostics: rows of a batch, narrow dtypes, mistakes, the page about them."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import B, H, T, assert_close, problem

import jaxrnn
from jaxrnn import diagnostics

DOCUMENT = "docs/theory/vanishing_gradients.md"


def every_diagnostic(cell, params, xs, dys, state, mask):
    flags = {"mask": mask}
    return (
        diagnostics.state_gradient_norms(cell, params, xs, dys, state, **flags),
        diagnostics.jacobian_spectrum(cell, params, xs, state, window=2, **flags)[1:],
        diagnostics.lyapunov_exponents(cell, params, xs, state, **flags),
        diagnostics.residuals(cell, params, xs, state, **flags),
    )


def test_rows_of_a_batch_are_runs_alone():
    """And all diagnostics can be jitted, and mapped."""
    cell = jaxrnn.lstm(H)
    batch = (2, B)
    case = problem(cell, batch)
    run = functools.partial(every_diagnostic, cell, case.params)
    mask = np.array(case.mask)
    mask[-1] = True  # a loss for every lag
    arguments = (case.xs, case.dys, case.state, mask)
    together = jax.jit(run)(*arguments)
    time_second = diagnostics.LyapunovExponents(exponents=0, growth=1)
    for _ in batch:
        run = jax.vmap(run, (1, 1, 0, 1), (1, 1, time_second, 1))
    assert_close(jax.jit(run)(*arguments), together, 1e-10)


def test_narrow_parameters_have_norms_in_float32():
    cell = jaxrnn.gru(H)
    case = problem(cell, dtype=jnp.bfloat16, resets=False)
    arguments = case.params, case.xs, case.dys, case.state
    mask = np.array(case.mask)
    mask[-1] = True  # a loss for every lag
    run = functools.partial(every_diagnostic, cell, mask=mask)
    narrow = jax.jit(run)(*arguments)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), arguments)
    # Bfloat16 has 8 bits of significand, and vectors are rounded to it once a step.
    tolerance = 30 * float(jnp.finfo(jnp.bfloat16).eps)
    for actual, expected in zip(narrow[:3], jax.jit(run)(*wide)[:3], strict=True):
        assert_close(actual, expected, tolerance)


def test_mistakes_are_named():
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    params, xs, dys = case.params, case.xs, case.dys
    gates = {"f": jnp.ones((T, B, H))}
    for call, error, message in [
        (
            lambda: diagnostics.jacobian_spectrum(cell, params, xs, window=T + 1),
            ValueError,
            "window must be at most the number of steps, 7, got 8",
        ),
        (
            lambda: diagnostics.jacobian_spectrum(cell, params, xs, window=0),
            ValueError,
            "window must be at least 1, got 0",
        ),
        (
            lambda: diagnostics.jacobian_spectrum(cell, params, xs, window=2.0),
            TypeError,
            "window must be an int, got 2.0",
        ),
        (
            lambda: diagnostics.lyapunov_exponents(cell, params, xs, num_exponents=11),
            ValueError,
            "num_exponents must be at most the size of the state, 10, got 11",
        ),
        (
            lambda: diagnostics.lyapunov_exponents(cell, params, xs, num_exponents=0),
            ValueError,
            "num_exponents must be at least 1, got 0",
        ),
        (
            lambda: diagnostics.state_gradient_norms(cell, params, xs, dys[..., :1]),
            ValueError,
            r"dys must have shape \(7, 3, 5\), got shape \(7, 3, 1\)",
        ),
        (
            lambda: diagnostics.residuals(cell._replace(adjoint=None), params, xs),
            ValueError,
            "cell must have an adjoint",
        ),
        (
            lambda: diagnostics.residuals(jaxrnn.layer(cell), params, xs),
            TypeError,
            "cell must be a Cell, got Layer",
        ),
        (
            lambda: diagnostics.saturation(gates, mask=case.mask[0]),
            ValueError,
            r"mask must have shape \(T, \*B\) = \(7, 3\), got shape \(3,\)",
        ),
        (
            lambda: diagnostics.saturation({"f": jnp.ones(T)}),
            ValueError,
            r"gates\['f'\] must have shape \(T, \*B, F\)",
        ),
        (
            lambda: diagnostics.saturation({"f": jnp.ones((T, H), int)}),
            TypeError,
            r"gates\['f'\] must be a floating dtype, got int64",
        ),
        (
            lambda: diagnostics.saturation(gates, low=0.9, high=0.1),
            ValueError,
            "low must be at most high, got 0.9 and 0.1",
        ),
        (
            lambda: diagnostics.gradient_norms(()),
            ValueError,
            "dparams must have at least one array",
        ),
        (
            lambda: diagnostics.gradient_norms({"w": jnp.ones(3, int)}),
            TypeError,
            r"dparams\['w'\] must be a floating dtype, got int64",
        ),
    ]:
        with pytest.raises(error, match=message):
            jax.eval_shape(call)


def test_code_in_the_document_runs():
    text = (pathlib.Path(__file__).parents[2] / DOCUMENT).read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    scope = {"__name__": "document"}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        exec(compile(block, DOCUMENT, "exec"), scope)
    # As it says: the exponent predicts how the gradient shrinks.
    predicted = np.exp(scope["lyapunov"].exponents[:, 0])
    np.testing.assert_allclose(scope["factor"], predicted, rtol=0.03)
