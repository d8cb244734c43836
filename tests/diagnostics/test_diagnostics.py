"""What the diagnostics measure, against the same found another way; their pictures."""

import functools
import importlib
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from cases import BATCHES, CELLS, B, H, I, T, assert_close, problem
from jax.flatten_util import ravel_pytree

import jaxrnn
from jaxrnn import diagnostics, plotting

matplotlib.use("Agg")
DOCUMENT = "docs/vanishing_gradients.md"
runs = pytest.mark.parametrize(
    ("name", "reverse"),
    [("elman", False), ("lstm", False), ("gru", False), ("lstm", True)],
)
reversals = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)


def row_norms(tree):
    """Norms over all axes of a state but ``(T, *B)``, here ``(T, B)``."""
    flat = np.concatenate([leaf.reshape(T, B, -1) for leaf in jax.tree.leaves(tree)], 2)
    return np.linalg.norm(flat, axis=-1)


@pytest.mark.parametrize("name", ["elman", "lstm"])
@reversals
def test_state_gradient_norms(name, reverse):
    """By time those of ``state_gradients``; by lag those of each loss alone."""
    cell = CELLS[name].cell
    case = problem(cell)
    dys = case.dys.at[2].set(0.0)  # a step without loss

    @jax.jit
    def both(dys):
        flags = {**case.flags, "reverse": reverse}

        def gradients(dys):
            return diagnostics.state_gradients(
                cell, case.params, case.xs, dys, case.state, **flags
            )

        alone = jax.vmap(lambda t: gradients(jnp.zeros_like(dys).at[t].set(dys[t])))
        norms = diagnostics.state_gradient_norms(
            cell, case.params, case.xs, dys, case.state, **flags
        )
        return norms, gradients(dys), alone(jnp.arange(T))

    norms, of_all, of_each = both(dys)
    np.testing.assert_allclose(norms.by_time, row_norms(of_all), rtol=1e-10)
    pairs = [row_norms(jax.tree.map(lambda g: g[t], of_each)) for t in range(T)]  # noqa: B023
    has_loss = np.array(case.mask) & (np.arange(T) != 2)[:, None]
    for lag in range(T):
        sign = -1 if reverse else 1
        steps = [(k, k + sign * lag) for k in range(T) if 0 <= k + sign * lag < T]
        for row in range(B):
            found = [pairs[t][k, row] for k, t in steps if has_loss[t, row]]
            expected = np.mean(found) if found else np.nan
            np.testing.assert_allclose(norms.by_lag[lag, row], expected, rtol=1e-10)


def test_norms_of_one_loss_at_the_last_step():
    cell = jaxrnn.gru(H)
    case = problem(cell, mask=False, resets=False)
    run = functools.partial(
        diagnostics.state_gradient_norms, cell, case.params, case.xs
    )
    run = jax.jit(run)
    norms = run(jnp.zeros_like(case.dys).at[-1].set(1.0))
    np.testing.assert_allclose(norms.by_lag, norms.by_time[::-1], rtol=1e-12)
    nothing = run(jnp.zeros_like(case.dys))
    assert not nothing.by_time.any()
    assert jnp.isnan(nothing.by_lag).all()


@runs
def test_jacobians_are_those_of_running_the_window(name, reverse):
    cell = CELLS[name].cell
    steps, window = 5, 3
    case = problem(cell, steps=steps)
    # The loop that the docstring of unroll shows, for one row.
    mask, resets = case.mask, case.resets
    if reverse:
        resets = jnp.concatenate([resets[1:], jnp.zeros((1, B), bool)])

    def run(state, times, xs, mask, resets):
        for t in times:
            fresh = cell.initial_state(case.params)
            entering = jax.tree.map(
                functools.partial(jnp.where, resets[t]), fresh, state
            )
            new, _ = cell.step(case.params, entering, cell.project(case.params, xs[t]))
            state = jax.tree.map(functools.partial(jnp.where, mask[t]), new, entering)
        return state

    def of_row(state, xs, mask, resets):
        found = []
        for first in range(steps - window + 1):
            times = range(first, first + window)
            before = range(first)
            if reverse:
                times, before = times[::-1], range(first + window, steps)[::-1]
            flat, unravel = ravel_pytree(run(state, before, xs, mask, resets))

            def end(flat, times=times, unravel=unravel):
                return ravel_pytree(run(unravel(flat), times, xs, mask, resets))[0]

            found.append(jax.jacobian(end)(flat))
        return jnp.stack(found)

    @jax.jit
    def both():
        actual = diagnostics.jacobian_spectrum(
            cell, *case.args, window=window, **case.flags, reverse=reverse
        )
        rows = jax.vmap(of_row, (0, 1, 1, 1), 1)
        return actual, rows(case.state, case.xs, mask, resets)

    actual, expected = both()
    assert_close(actual.jacobians, expected, 1e-10)
    values = np.linalg.svd(np.asarray(expected), compute_uv=False)
    assert_close(actual.singular_values, values, 1e-10)
    assert_close(actual.norms, np.linalg.norm(expected, 2, axis=(2, 3)), 1e-10)


@reversals
def test_windows_of_any_length(reverse):
    cell = jaxrnn.elman(H)
    case = problem(cell)
    windows = [1, 2, 3, 6, 7]

    @jax.jit
    def run():
        flags = {**case.flags, "reverse": reverse}
        return [
            diagnostics.jacobian_spectrum(cell, *case.args, window=w, **flags).jacobians
            for w in windows
        ]

    single, *longer = map(np.asarray, run())
    for window, jacobians in zip(windows[1:], longer, strict=True):
        for t in range(T - window + 1):
            steps = single[t : t + window]
            product = functools.reduce(np.matmul, steps if reverse else steps[::-1])
            assert_close(jacobians[t], product, 1e-12)


@reversals
def test_jacobians_of_masked_and_reset_steps(reverse):
    cell = jaxrnn.lstm(H)
    case = problem(cell)
    mask = jnp.ones((T, B), bool).at[1].set(False)
    resets = jnp.zeros((T, B), bool).at[4].set(True)
    flags = {"mask": mask, "resets": resets, "reverse": reverse}
    run = functools.partial(diagnostics.jacobian_spectrum, cell, **flags)
    jacobians = jax.jit(run)(*case.args).jacobians
    np.testing.assert_array_equal(
        jacobians[1], np.broadcast_to(np.eye(2 * H), (B, 2 * H, 2 * H))
    )
    entered = 3 if reverse else 4  # the first step of the next segment
    np.testing.assert_array_equal(
        (jacobians == 0).all((1, 2, 3)), np.arange(T) == entered
    )


def linear(weights):
    """A cell whose every Jacobian is the transpose of ``weights``."""
    cell = jaxrnn.elman(len(weights), activation=lambda a: a)
    params = cell.init(jax.random.key(0), I, jnp.float64)
    return cell, params._replace(w_h=jnp.asarray(weights))


@pytest.mark.parametrize("weights", ["diagonal", "full"])
def test_lyapunov_exponents_of_a_linear_cell(weights):
    values = np.array([1.5, -0.8, 0.3, 0.1])
    basis = np.random.default_rng(0).normal(size=(4, 4))
    matrices = {
        "diagonal": np.diag(values[[2, 0, 3, 1]]),
        "full": basis @ np.diag(values) @ np.linalg.inv(basis),
    }
    cell, params = linear(matrices[weights])
    exact = np.log(np.abs(values))
    steps = 200
    run = jax.jit(functools.partial(diagnostics.lyapunov_exponents, cell))
    exponents, growth = run(params, jnp.zeros((steps, I)))
    np.testing.assert_allclose(growth[-1], exact, rtol=1e-10)
    np.testing.assert_allclose(exponents.sum(), exact.sum(), rtol=1e-10)
    # The first steps, until the vectors have turned, weigh 1 / T.
    np.testing.assert_allclose(exponents, exact, atol=5 / steps)
    # No direction is lost if there are fewer vectors, and they are the same ones.
    fewer = diagnostics.lyapunov_exponents(
        cell, params, jnp.zeros((steps, I)), num_exponents=2
    )
    np.testing.assert_allclose(fewer.growth, growth[:, :2], rtol=1e-10)


@runs
def test_lyapunov_exponents_add_up_to_the_determinant(name, reverse):
    cell = CELLS[name].cell
    case = problem(cell, resets=False)

    @jax.jit
    def both():
        flags = {**case.flags, "reverse": reverse}
        spectrum = diagnostics.jacobian_spectrum(cell, *case.args, **flags)
        determinants = jnp.linalg.slogdet(spectrum.jacobians)[1]
        return diagnostics.lyapunov_exponents(cell, *case.args, **flags), determinants

    (exponents, growth), determinants = both()
    np.testing.assert_allclose(growth.sum(-1), determinants, rtol=1e-8, atol=1e-8)
    steps = case.mask.sum(0).astype(float)
    np.testing.assert_allclose(exponents.sum(-1), determinants.sum(0) / steps, 1e-8)
    np.testing.assert_allclose(exponents, growth.sum(0) / steps[:, None], rtol=1e-10)


def test_masked_steps_have_no_exponent_and_segments_are_runs():
    cell = jaxrnn.elman(H)
    case = problem(cell, batch=())
    run = functools.partial(diagnostics.lyapunov_exponents, cell, case.params)
    valid = jnp.arange(T) < 4
    padded = run(case.xs.at[4:].set(jnp.nan), mask=valid)
    first, second = run(case.xs[:4]), run(case.xs[4:])
    np.testing.assert_allclose(padded.exponents, first.exponents, rtol=1e-12)
    assert not padded.growth[4:].any()
    packed = run(case.xs, resets=jnp.arange(T) == 4)
    segments = jnp.concatenate([first.growth, second.growth])
    np.testing.assert_allclose(packed.growth, segments, rtol=1e-12)
    assert jnp.isnan(run(case.xs, mask=jnp.zeros(T, bool)).exponents).all()


def test_dead_units_have_no_growth():
    cell = jaxrnn.elman(H, activation=jax.nn.relu)
    params = cell.init(jax.random.key(0), I)
    params = params._replace(b=params.b - 100)
    result = diagnostics.lyapunov_exponents(cell, params, jnp.zeros((T, I)))
    np.testing.assert_array_equal(result.exponents, -np.inf)


@runs
def test_residuals_are_those_of_the_run(name, reverse):
    cell = CELLS[name].cell
    case = problem(cell, mask=False, resets=False)

    @jax.jit
    def both():
        kept = diagnostics.residuals(cell, *case.args, reverse=reverse)
        return kept, jaxrnn.unroll(cell, *case.args, reverse=reverse)[1]

    kept, ys = both()
    start = jax.tree.leaves(case.state)[0]
    before = [*ys[1:], start] if reverse else [start, *ys[:-1]]
    np.testing.assert_allclose(kept.h_prev, np.stack(before), rtol=1e-12)


def test_residuals_hold_the_gates():
    cell = jaxrnn.lstm(H, forget_bias=30.0)
    params = cell.init(jax.random.key(0), I)
    kept = diagnostics.residuals(cell, params, jnp.ones((T, B, I)))
    result = diagnostics.saturation({"forget": kept.f, "input": kept.i})
    np.testing.assert_array_equal(result.high["forget"], 1)
    np.testing.assert_array_equal(result.low["input"], 0)


def test_saturation_counts():
    # Two units, the first low once and high twice, the second low at masked steps.
    gate = jnp.array([[0.05, 0.05], [0.95, 0.5], [0.95, 0.5], [0.5, 0.05]])
    mask = jnp.array([False, True, True, True])
    result = diagnostics.saturation((gate, gate[:, :1]))
    np.testing.assert_array_equal(result.low[0], [0.25, 0.5])
    np.testing.assert_array_equal(result.high[0], [0.5, 0])
    np.testing.assert_array_equal(result.high[1], [0.5])
    masked = diagnostics.saturation(gate, mask=mask)
    np.testing.assert_allclose(masked.low, [0, 1 / 3])
    np.testing.assert_allclose(masked.high, [2 / 3, 0])
    # With batch dimensions, all rows count; a NaN under the mask does not.
    rows = jnp.stack([gate, gate[::-1]], axis=1)
    flags = jnp.stack([mask, mask[::-1]], axis=1)
    rows = jnp.where(flags[..., None], rows, jnp.nan)
    both = jax.jit(diagnostics.saturation)(rows, mask=flags)
    assert_close(both, masked, 1e-12)
    states = diagnostics.saturation(2 * gate - 1, low=-0.9, high=0.9)
    np.testing.assert_array_equal(states.low, [0, 0])  # -0.9 is not below -0.9
    assert jnp.isnan(diagnostics.saturation(gate, mask=jnp.zeros(4, bool)).low).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_gradient_norms(dtype):
    rng = np.random.default_rng(0)
    exact = {"w": rng.normal(size=(I, H)), "layers": [rng.normal(size=H), np.ones(())]}
    gradient = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), exact)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), gradient)
    norms = jax.jit(diagnostics.gradient_norms)(gradient)
    np.testing.assert_allclose(norms.total, optax.tree.norm(exact), rtol=1e-6)
    np.testing.assert_allclose(
        jax.tree.leaves(norms.by_parameter),
        [np.linalg.norm(leaf.ravel()) for leaf in jax.tree.leaves(exact)],
        rtol=1e-6,
    )
    assert norms.total.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30, np.inf])
def test_norms_whose_squares_have_no_float32(size):
    gradient = {"w": jnp.full((3, 3), size, jnp.float32)}
    norms = diagnostics.gradient_norms(gradient)
    np.testing.assert_allclose(norms.by_parameter["w"], 3 * size, rtol=1e-6)
    np.testing.assert_allclose(norms.total, 3 * size, rtol=1e-6)


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
    mask = case.mask.at[-1].set(True)  # a loss for every lag
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
    mask = case.mask.at[-1].set(True)  # a loss for every lag
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


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_norms_at_the_ends_of_the_range(dtype):
    """Eagerly too, where a quotient becomes a product with the reciprocal."""
    info = jnp.finfo(dtype)
    for largest in (float(info.max) / 4, float(info.tiny) * 4):
        norm = diagnostics.gradient_norms({"a": jnp.full((4,), largest, dtype)}).total
        np.testing.assert_allclose(norm, 2 * np.asarray(largest, dtype), rtol=1e-6)
    infinite = diagnostics.gradient_norms({"a": jnp.full((8,), info.max, dtype)}).total
    assert infinite == np.inf


@pytest.fixture
def axes():
    _, axes = plt.subplots()
    yield axes
    plt.close("all")


def random_results(batch):
    """One result of each kind, and how it is drawn."""
    rng = np.random.default_rng(0)
    steps = np.exp(rng.normal(size=(T, *batch)))
    values = np.sort(np.exp(rng.normal(size=(T, *batch, H))))[..., ::-1]
    spectrum = diagnostics.JacobianSpectrum(None, values, values[..., 0])
    fractions = {"i": rng.uniform(size=(*batch, H)) / 2, "f": np.zeros((*batch, H))}
    norms = {"w": steps[0], "b": jnp.asarray(steps[1], jnp.bfloat16)}
    return {
        plotting.plot_state_gradient_norms: diagnostics.StateGradientNorms(
            by_time=steps, by_lag=steps
        ),
        plotting.plot_over_time: steps,
        plotting.plot_jacobian_spectrum: spectrum,
        plotting.plot_lyapunov_exponents: diagnostics.LyapunovExponents(
            exponents=values[0], growth=values
        ),
        plotting.plot_saturation: diagnostics.Saturation(low=fractions, high=fractions),
        plotting.plot_gradient_norms: diagnostics.GradientNorms(
            total=steps[2], by_parameter=norms
        ),
    }


plots = pytest.mark.parametrize("plot", random_results(()), ids=lambda f: f.__name__)


@plots
@pytest.mark.parametrize("batch", BATCHES)
def test_plots_have_the_data(plot, batch, axes):
    result = random_results(BATCHES[batch])[plot]
    assert plot(result, axes) is axes
    label = {} if plot is plotting.plot_saturation else {"label": "again"}
    plot(result, axes, **label)
    plot(result).figure.canvas.draw()  # on Axes of its own
    axes.figure.canvas.draw()
    assert axes.get_xlabel()
    drawn = [line.get_ydata() for line in axes.lines]
    assert all(np.isfinite(np.asarray(y, float)).all() for y in drawn)
    if plot is plotting.plot_state_gradient_norms:
        rows = np.sort(result.by_lag.reshape(T, -1))
        np.testing.assert_allclose(drawn[0], rows[:, (rows.shape[1] - 1) // 2])
        assert len(axes.collections) == (2 if BATCHES[batch] else 0)
        assert axes.get_legend_handles_labels()[1] == ["again"]
    if plot is plotting.plot_gradient_norms:
        labels = [tick.get_text() for tick in axes.get_yticklabels()]
        assert labels == ["total", "b", "w"]
    if plot is plotting.plot_saturation:
        assert axes.get_legend_handles_labels()[1][:2] == ["f", "i"]


@pytest.mark.parametrize("value", [0.0, np.nan, 1e-300, 1e300])
@plots
def test_plots_leave_out_what_no_axis_can_show(plot, value, axes):
    result = random_results((B,))[plot]
    for case in (
        jax.tree.map(lambda leaf: np.array(leaf, float), result),
        jax.tree.map(lambda leaf: np.full(np.shape(leaf), value), result),
    ):
        for leaf in jax.tree.leaves(case):
            leaf[:1] = value
        plot(case, axes)
        axes.figure.canvas.draw()


@plots
def test_plots_of_something_else(plot, axes):
    with pytest.raises((TypeError, ValueError), match=r"must (be|have shape)"):
        plot(0.5, axes)


def test_norms_of_other_parameters_have_rows_of_their_own(axes):
    plotting.plot_gradient_norms(diagnostics.gradient_norms({"w": jnp.ones(2)}), axes)
    other = diagnostics.gradient_norms([jnp.ones(2), {"b": jnp.ones(2)}])
    with pytest.raises(ValueError, match=r"\['total', 'w'\], got .*'0', '1.b'"):
        plotting.plot_gradient_norms(other, axes)


def test_the_extra_is_named_where_matplotlib_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    monkeypatch.delitem(sys.modules, "jaxrnn.plotting")
    with pytest.raises(ImportError, match=r'needs matplotlib: .* "jaxrnn\[plot\]"'):
        importlib.import_module("jaxrnn.plotting")
