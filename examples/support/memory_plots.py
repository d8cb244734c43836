"""The pictures of long_memory.py."""

import matplotlib.pyplot as plt
import numpy as np

from . import plots

POINTS = 50  # points of a learning curve, each a mean over some updates


def draw_memory(path, distances, accuracies, longest, adding, copy):
    """Draw accuracy by distance, and learning curves beside a naive loss.

    Args:
        path: path of the file.
        distances, accuracies: ``(N,)`` and ``{name: (N,)}``.
        longest: longest distance in training.
        adding, copy: results of ``long_memory.learn``, and ``{name: naive loss}``.
    """
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
    baselines = iter(("k--", "k:"))
    for name, curve in accuracies.items():
        style = "o-" if name.startswith("jaxrnn") else next(baselines)
        axes[0].plot(distances, curve, style, ms=4, label=name)
    axes[0].axvline(longest, color="0.5", lw=1, label="longest in training")
    axes[0].set(xlabel="words from the country to the blank", ylabel="accuracy")
    axes[0].set(title="I grew up in <country> ...", ylim=(-0.03, 1.03))
    draw_learning(axes[1], *adding)
    axes[1].set(title=f"adding, {adding[0].length} numbers", ylabel="squared error")
    draw_learning(axes[2], *copy)
    axes[2].set(title=f"copy, {copy[0].length} blanks", ylabel="loss, nats a step")
    for each in axes:
        each.grid(alpha=0.3)
        # Legend below the axes: the curves leave no corner free.
        each.legend(
            fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14)
        )
    plots.save(figure, path, dpi=85)


def draw_learning(axes, learned, naive):
    for label, run in learned.runs.items():
        parts = np.array_split(run.loss, min(POINTS, len(run.loss)))
        steps = np.cumsum([len(part) for part in parts])
        axes.plot(steps, [part.mean() for part in parts], label=label)
    for label, level in naive.items():
        axes.axhline(level, color="black", ls="--", label=label)
        axes.set(xlabel="update", ylim=(0, 1.6 * level))


def draw_gradients(path, norms):
    """Draw ``{name: (before, after)}``: the norm of each part by lag."""
    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4), sharey=True, layout="constrained"
    )
    for name, pair in norms.items():
        for each, curve in zip(axes, pair, strict=True):
            each.semilogy(np.where(curve > 0, curve, np.nan), label=name)
    axes[0].set(title="before training", ylabel="norm of that part of the gradient")
    axes[1].set(title="after training")
    for each in axes:
        each.set_xlabel("steps back from the loss of the adding problem")
        each.grid(alpha=0.3)
        each.legend(fontsize=9)
    plots.save(figure, path, dpi=90)
