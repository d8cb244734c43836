"""Plots of the results of :mod:`jaxrnn.diagnostics`.

Needs matplotlib (extra ``plot``), and ``import jaxrnn`` leaves it out: import
``jaxrnn.plotting`` explicitly.

Each function draws on the Axes given, or on those of a new figure, and returns them;
call it again on the same ones, with another ``label``, to compare. Over a batch it
draws the median, and a band that holds four rows in five: the quantiles 0.1 to 0.9.
Values that an axis cannot show, such as zero on a log axis, are left out.
"""

import warnings
from typing import Any

import jax
import numpy as np

from . import diagnostics
from ._typing import ArrayLike

try:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
except ImportError as error:
    raise ImportError(
        'jaxrnn.plotting needs matplotlib: pip install "jaxrnn[plot]"'
    ) from error

__all__ = [
    "plot_gradient_norms",
    "plot_jacobian_spectrum",
    "plot_lyapunov_exponents",
    "plot_over_time",
    "plot_saturation",
    "plot_state_gradient_norms",
]

_QUANTILES = (0.1, 0.5, 0.9)
# Beyond these the margins of a log axis are out of the range of floats.
_SMALLEST, _LARGEST = 1e-270, 1e270


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(
            f"{name} must be {expected.__name__}, got {type(value).__name__}"
        )


def _with_grid(axes: Axes | None) -> Axes:
    """Return the Axes, or those of a new figure, with a grid."""
    if axes is None:
        _, axes = plt.subplots(layout="constrained")
    axes.set_axisbelow(True)
    axes.grid(alpha=0.3)
    return axes


def _band(values: Any, *, log: bool) -> np.ndarray:
    """Return quantiles ``(3, n)`` of ``values (n, *B)``."""
    rows = np.asarray(values, np.float64).reshape(len(values), -1).T
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        # Quantiles that occur as values: a mean with infinity could not be drawn.
        band = np.nanquantile(rows, _QUANTILES, axis=0, method="inverted_cdf")
    if log:
        # On a log axis a band that begins at zero begins at the smallest value.
        least = rows[(rows > _SMALLEST) & (rows < _LARGEST)].min(initial=np.inf)
        band[0] = np.maximum(band[0], least)
        band = np.where(band > _SMALLEST, band, np.nan)
    return np.where(np.abs(band) < _LARGEST, band, np.nan)


def _curve(axes: Axes, x: np.ndarray, values: Any, label: str | None) -> None:
    """Draw ``values (len(x), *B)``: the median and, with a batch, the band."""
    low, middle, high = _band(values, log=axes.get_yscale() == "log")
    marker = "o" if len(x) <= 30 else None
    (line,) = axes.plot(x, middle, marker=marker, ms=4, label=label)
    if np.ndim(values) > 1:
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, lw=0)
    if label is not None:
        axes.legend()


def _name(path: Any, otherwise: str) -> str:
    """Return the path of a leaf as text, such as ``1.w_h``."""
    return jax.tree_util.keystr(path, simple=True, separator=".") or otherwise


def plot_state_gradient_norms(
    norms: diagnostics.StateGradientNorms,
    axes: Axes | None = None,
    *,
    label: str | None = None,
) -> Axes:
    """Plot ``by_lag``: how the gradient falls or grows on its way back from the loss.

    To plot ``by_time``, use :func:`plot_over_time`.

    Args:
        norms: result of :func:`jaxrnn.diagnostics.state_gradient_norms`.
        axes: Axes of matplotlib to draw on; None makes a new figure.
        label: name of the curve in the legend.

    Returns:
        The Axes. A straight line on its log axis is exponential.

    Raises:
        TypeError: ``norms`` is of another type.
    """
    _check_type("norms", norms, diagnostics.StateGradientNorms)
    axes = _with_grid(axes)
    axes.set_yscale("log")
    # Lag 0 is the state that enters the step of the loss, one step back.
    steps = np.arange(1, len(norms.by_lag) + 1)
    _curve(axes, steps, norms.by_lag, label)
    axes.set(xlabel="steps back from the loss", ylabel="norm of dL/ds")
    return axes


def plot_over_time(
    values: ArrayLike, axes: Axes | None = None, *, label: str | None = None
) -> Axes:
    """Plot values ``(T, *B)`` over time: norms, growth or a loss.

    Args:
        values: ``(T, *B)``.
        axes: Axes of matplotlib to draw on; None makes a new figure. A log axis is
            respected.
        label: name of the curve in the legend.

    Returns:
        The Axes.

    Raises:
        ValueError: ``values`` has no time axis.
    """
    array = np.asarray(values, np.float64)
    if array.ndim < 1:
        raise ValueError(
            f"values must have shape (T, *B), time first, got {array.shape}"
        )
    axes = _with_grid(axes)
    _curve(axes, np.arange(len(array)), array, label)
    axes.set_xlabel("step")
    return axes


def plot_jacobian_spectrum(
    spectrum: diagnostics.JacobianSpectrum,
    axes: Axes | None = None,
    *,
    label: str | None = None,
) -> Axes:
    """Plot the singular values, from the largest to the smallest.

    Args:
        spectrum: result of :func:`jaxrnn.diagnostics.jacobian_spectrum`.
        axes: Axes of matplotlib to draw on; None makes a new figure.
        label: name of the curve in the legend.

    Returns:
        The Axes, with a log axis and a line at 1, where nothing grows or shrinks.
        Values below the rounding error of the largest one count as zero.

    Raises:
        TypeError: ``spectrum`` is of another type.
    """
    _check_type("spectrum", spectrum, diagnostics.JacobianSpectrum)
    axes = _with_grid(axes)
    axes.set_yscale("log")
    values = np.moveaxis(np.asarray(spectrum.singular_values), -1, 0)
    rounding = len(values) * np.finfo(values.dtype).eps * values[:1]
    values = np.where(values > rounding, values, 0)
    axes.axhline(1, color="0.3", lw=0.8)
    _curve(axes, np.arange(1, len(values) + 1), values, label)
    axes.set(
        xlabel="singular value, from the largest", ylabel="size of the singular value"
    )
    return axes


def plot_lyapunov_exponents(
    lyapunov: diagnostics.LyapunovExponents,
    axes: Axes | None = None,
    *,
    label: str | None = None,
) -> Axes:
    """Plot the Lyapunov exponents, from the largest to the smallest.

    Args:
        lyapunov: result of :func:`jaxrnn.diagnostics.lyapunov_exponents`.
        axes: Axes of matplotlib to draw on; None makes a new figure.
        label: name of the curve in the legend.

    Returns:
        The Axes, with a line at 0, above which gradients explode.

    Raises:
        TypeError: ``lyapunov`` is of another type.
    """
    _check_type("lyapunov", lyapunov, diagnostics.LyapunovExponents)
    axes = _with_grid(axes)
    values = np.moveaxis(np.asarray(lyapunov.exponents), -1, 0)
    axes.axhline(0, color="0.3", lw=0.8)
    _curve(axes, np.arange(1, len(values) + 1), values, label)
    axes.set(
        xlabel="exponent, from the largest", ylabel="Lyapunov exponent, nats per step"
    )
    return axes


def plot_saturation(
    saturation: diagnostics.Saturation, axes: Axes | None = None
) -> Axes:
    """Plot each unit as a point: how often it is saturated low and high.

    A gate that is always open lies at the lower right, a gate that is always shut at
    the upper left, and a gate that is never saturated at the origin. No point lies
    above the line.

    Args:
        saturation: result of :func:`jaxrnn.diagnostics.saturation`; each leaf gets a
            colour. Leaves may have more axes than ``(H,)``.
        axes: Axes of matplotlib to draw on; None makes a new figure.

    Returns:
        The Axes.

    Raises:
        TypeError: ``saturation`` is of another type.

    References:
        Karpathy, Johnson and Li, Visualizing and understanding recurrent networks,
        2015.
    """
    _check_type("saturation", saturation, diagnostics.Saturation)
    axes = _with_grid(axes)
    axes.plot([0, 1], [1, 0], color="0.3", lw=0.8)
    lows = jax.tree_util.tree_leaves_with_path(saturation.low)
    highs = jax.tree.leaves(saturation.high)
    for index, ((path, low), high) in enumerate(zip(lows, highs, strict=True)):
        x, y = (np.asarray(v, np.float64).ravel() for v in (high, low))
        label = _name(path, otherwise="unit")
        # Rings of different sizes, because many points lie on each other in a corner.
        size = max(11 - 2 * index, 2)
        axes.plot(x, y, "o", ms=size, mfc="none", clip_on=False, label=label)
    axes.set(
        xlabel="fraction of steps saturated high",
        ylabel="fraction of steps saturated low",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    if lows:
        axes.legend(loc="upper right")
    return axes


def plot_gradient_norms(
    norms: diagnostics.GradientNorms,
    axes: Axes | None = None,
    *,
    label: str | None = None,
) -> Axes:
    """Plot the norm of each parameter's gradient, and the total.

    Args:
        norms: result of :func:`jaxrnn.diagnostics.gradient_norms`. Leaves may have
            axes, as from ``jax.vmap`` or from many updates: the point is the median,
            and the whisker reaches from the quantile 0.1 to 0.9.
        axes: Axes of matplotlib to draw on; None makes a new figure.
        label: name of the points in the legend.

    Returns:
        The Axes. A parameter whose gradient is zero keeps its row, without a point.

    Raises:
        TypeError: ``norms`` is of another type.
        ValueError: the Axes already show other parameters.
    """
    _check_type("norms", norms, diagnostics.GradientNorms)
    axes = _with_grid(axes)
    axes.set_xscale("log")
    parts = jax.tree_util.tree_leaves_with_path(norms.by_parameter)
    names = ["total", *(_name(path, otherwise="parameter") for path, _ in parts)]
    earlier = len(axes.containers)
    drawn = [tick.get_text() for tick in axes.get_yticklabels()]
    if earlier and drawn != names:
        raise ValueError(
            "norms must have the same parameters as those already on axes, "
            f"{drawn}, got {names}"
        )
    leaves = [norms.total, *(leaf for _, leaf in parts)]
    low, middle, high = _band(np.stack(leaves), log=True)
    rows = np.arange(len(names))
    axes.errorbar(
        middle,
        rows + 0.15 * earlier,  # a little below the points of the call before
        xerr=np.stack([middle - low, high - middle]),
        fmt="o",
        ms=4,
        capsize=2,
        label=label,
    )
    axes.set_yticks(rows, names)
    axes.set_ylim(len(names) - 0.2, -0.3)
    axes.set_xlabel("L2 norm of the gradient")
    if label is not None:
        # The legend stands above, because the whiskers leave no corner free.
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return axes
