"""The picture of bptt_by_hand.py: an unrolled network, with values and gradients."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from . import plots

HEIGHTS = {"x": 0, "h": 1.9, "y": 3.8, "L": 5.1}
WIDTH, HEIGHT = 2.4, 0.7  # size of a node
EDGE = HEIGHT / 2 + 0.05
COLUMN = 4.1  # distance between steps
FOLDED = -4.6  # position of the network before unrolling
GAP = 0.13  # between a forward arrow and the arrow back
GRADIENT = "crimson"


def draw(path, x, f, b, d):
    """Draw nodes with values, black arrows forward, and red gradients back.

    Args:
        path: path of the file.
        x: inputs ``(T, I)``.
        f, b, d: results of ``listing.forward`` and ``listing.mended``.
    """
    figure, axes = plt.subplots(figsize=(18, 6.4))
    draw_folded(axes)
    draw_node(axes, 0, "h", "h_0", f.h[0])
    for t in range(len(x)):
        now, here = t + 1, (t + 1) * COLUMN
        draw_node(axes, here, "x", f"x_{now}", x[t])
        draw_node(axes, here, "h", f"h_{now}", f.h[now], b.dh[t])
        draw_node(axes, here, "y", f"y_{now}", f.y[t])
        draw_node(axes, here, "L", f"L_{now}", f.loss[t : t + 1])
        draw_up(axes, here, "x", "h", "$W_x$", f"a_{now}", b.da[t])
        draw_up(axes, here, "h", "y", "$W_y$", f"o_{now}", b.do[t])
        draw_up(axes, here, "y", "L")
        draw_across(axes, here - COLUMN, here, b.from_next[t - 1] if t else None)
    draw_sums(axes, d)
    axes.set(xlim=(-5.9, (len(x) + 0.35) * COLUMN), ylim=(-2.6, 5.6), aspect="equal")
    axes.axis("off")
    plots.save(figure, path, dpi=100)


def numbers(values):
    texts = (f"{value:.2f}" for value in values)
    return " ".join(texts).replace("-", "\N{MINUS SIGN}")


def draw_node(axes, x, row, name, values=(), gradient=()):
    """Draw a box with a name and numbers, and the gradient in red."""
    y, height = HEIGHTS[row], HEIGHT * (1.5 if len(gradient) else 1)
    style = {"boxstyle": "round,pad=0.05", "fc": "aliceblue", "ec": "0.4"}
    corner = (x - WIDTH / 2, y - height / 2)
    axes.add_patch(FancyBboxPatch(corner, WIDTH, height, **style))
    text = f"${name}$" + f"\n{numbers(values)}" * bool(len(values))
    if len(gradient):
        below = {"color": GRADIENT, "ha": "center", "va": "center"}
        axes.text(x, y - 0.34, numbers(gradient), size=9, **below)
        y += 0.14
    axes.text(x, y, text, ha="center", va="center", size=9)


def draw_arrow(axes, start, end, colour="black", **more):
    properties = {"arrowstyle": "-|>", "color": colour, "lw": 1.4, **more}
    axes.annotate("", end, start, arrowprops=properties)


def draw_up(axes, x, low, high, weights="", name="", gradient=None):
    """Draw an arrow to the node above, and the gradient that comes back."""
    bottom = HEIGHTS[low] + EDGE * (1.42 if low == "h" else 1)
    top = HEIGHTS[high] - EDGE * (1.42 if high == "h" else 1)
    draw_arrow(axes, (x - GAP, bottom), (x - GAP, top))
    draw_arrow(axes, (x + GAP, top), (x + GAP, bottom), GRADIENT)
    if weights:
        middle = (bottom + top) / 2
        axes.text(x - 2 * GAP, middle, weights, ha="right", va="center", size=12)
        text = rf"$\partial L/\partial {name}$" + f"\n{numbers(gradient)}"
        axes.text(x + 2 * GAP, middle, text, color=GRADIENT, va="center", size=9.5)


def draw_across(axes, left, right, gradient):
    """Draw an arrow from a state to the next, and the gradient that comes back."""
    y, edge = HEIGHTS["h"], WIDTH / 2 + 0.05
    middle = (left + right) / 2
    draw_arrow(axes, (left + edge, y + GAP), (right - edge, y + GAP))
    axes.text(middle, y + 2 * GAP, "$W_h$", ha="center", va="bottom", size=12)
    if gradient is not None:
        draw_arrow(axes, (right - edge, y - GAP), (left + edge, y - GAP), GRADIENT)
        text = numbers(gradient)
        where = (middle, y - 2 * GAP)
        axes.text(*where, text, color=GRADIENT, ha="center", va="top", size=9)


def draw_folded(axes):
    """Draw the same network before unrolling: the state feeds back into itself."""
    for row in HEIGHTS:
        draw_node(axes, FOLDED, row, row)
    for low, high, weights in (
        ("x", "h", "$W_x$"),
        ("h", "y", "$W_y$"),
        ("y", "L", ""),
    ):
        bottom, top = HEIGHTS[low] + EDGE, HEIGHTS[high] - EDGE
        draw_arrow(axes, (FOLDED, bottom), (FOLDED, top))
        where = (FOLDED - GAP, (bottom + top) / 2)
        axes.text(*where, weights, ha="right", va="center", size=12)
    side, middle = FOLDED + WIDTH / 2 + 0.05, HEIGHTS["h"]
    loop = {"connectionstyle": "arc3,rad=2.2"}
    draw_arrow(axes, (side, middle - 0.2), (side, middle + 0.2), **loop)
    axes.text(side + 0.55, middle, "$W_h$", va="center", size=12)
    axes.text(-1.85, middle, "=", ha="center", va="center", size=20)


def draw_sums(axes, d):
    """Draw the legend, and the sums over steps, which share the weights."""
    axes.text(-5.7, -1, "forward: values", size=12, va="center")
    legend = r"backward: gradients, in a box of state $\partial L/\partial h_t$"
    axes.text(-2.8, -1, legend, size=12, va="center", color=GRADIENT)
    sums = {
        "W_x": r"\sum_t (\partial L/\partial a_t)\, x_t^\top",
        "W_h": r"\sum_t (\partial L/\partial a_t)\, h_{t-1}^\top",
        "W_y": r"\sum_t (\partial L/\partial o_t)\, h_t^\top",
    }
    for where, (name, formula) in zip((-5.7, 4.2, 13), sums.items(), strict=True):
        text = rf"$\partial L/\partial {name} = {formula} =$"
        style = {"color": GRADIENT, "va": "center"}
        axes.text(where, -2, text, size=12, **style)
        rows = "\n".join(numbers(row) for row in d[name])
        axes.text(where + 4.3, -2, rows, size=11, **style)
