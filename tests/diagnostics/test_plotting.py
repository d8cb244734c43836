"""Pictures of the diagnostics."""

import importlib
import sys

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from cases import BATCHES, B, H, T

from jaxrnn import diagnostics, plotting

matplotlib.use("Agg")


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
def test_plots_name_what_is_no_result(plot, axes):
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
