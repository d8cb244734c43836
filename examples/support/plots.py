"""Pictures that the examples share."""

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image


def save(figure, path, dpi=80):
    """Save a picture with a palette, which reduces the file to a third."""
    figure.savefig(path, dpi=dpi, bbox_inches="tight")
    plt.close(figure)
    Image.open(path).convert("RGB").quantize().save(path, optimize=True)


def plot_bits(path, history, levels):
    """Plot bits per character in training and validation, and reference levels."""
    figure, axis = plt.subplots(figsize=(7, 4.5))
    loss = history.train["loss"] / np.log(2)
    axis.plot(history.train["step"], loss, alpha=0.4, lw=1, label="training")
    steps, bits = history.validation["step"], history.validation["bits"]
    axis.plot(steps, bits, "o-", label="validation")
    for style, (name, level) in zip([":", "--"], levels.items(), strict=True):
        axis.axhline(level, color="0.3", ls=style, label=f"{name}, {level:.2f}")
    axis.set(xlabel="step", ylabel="bits per character", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    save(figure, path, dpi=120)


def plot_gradients(path, panels):
    """Plot curves ``{title: {name: norms by time}}`` against the distance in time."""
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 4), sharey=True)
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for name, curve in curves.items():
            colour = "C0" if "layer 1" in name else "C1"
            style = "--" if "dL/dc" in name else "-"
            distance = np.arange(len(curve), 0, -1)
            axis.semilogy(distance, curve, style, color=colour, label=name)
        axis.set(title=title, xlabel="distance from the loss, in steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("norm of the gradient, mean over a batch")
    axes[0].legend()
    save(figure, path, dpi=120)
