"""Contribution of each word to a classification, as text and as a picture."""

import matplotlib.pyplot as plt
import numpy as np

from jaxrnn import data

from . import plots

LINE = 70  # characters per line of the picture
BAR = 4  # bar length for a contribution of 1


def explain(path, sentences, numbers, log_odds):
    """Print and draw each word's contribution to the log-odds of favourable.

    It is the change in log-odds when the unknown word, 0, replaces the word:
    ``log_odds(tokens, mask)`` computes the log-odds of sentences ``(T, B)``.
    """
    variants, rows = [], []
    for whole in numbers:
        variants += [whole, *np.where(np.eye(len(whole), dtype=bool), 0, whole)]
    odds = log_odds(*data.pad(variants))
    for words, whole in zip(sentences, numbers, strict=True):
        (all_of_it, *without), odds = np.split(odds, [len(words) + 1])
        rows.append((words, 1 / (1 + np.exp(-all_of_it)), all_of_it - without))
        show(*rows[-1], whole == 0)
    draw(path, rows)


def show(words, probability, shares, is_unknown):
    """Print a line for each word, with a bar proportional to its contribution."""
    print(" ".join(words))
    print(f"  favourable with probability {probability:.2f}")
    if all(is_unknown):
        print("  none of its words is known: so it is for any such sentence")
    width = max(map(len, words))
    for word, share, unknown in zip(words, shares, is_unknown, strict=True):
        bar = ("+" if share > 0 else "-") * round(BAR * abs(share))
        # Adding 0 to a rounded number turns -0.00 into 0.00.
        line = f"  {word:{width}}  {round(share, 2) + 0:+.2f}  "
        print((line + ("unknown" if unknown else bar)).rstrip())


def draw(path, rows):
    """Draw sentences ``(words, probability, shares)``, words coloured by share."""
    figure, axis = plt.subplots()
    largest = max(1e-6, *(abs(share) for *_, shares in rows for share in shares))
    colours = plt.cm.ScalarMappable(plt.Normalize(-largest, largest), "RdBu")
    line = 0
    for words, probability, shares in rows:
        axis.text(0, line, f"favourable: {probability:.2f}", va="center")
        line, column = line + 1, 0
        for word, share in zip(words, shares, strict=True):
            if column and column + len(word) > LINE:
                line, column = line + 1, 0
            axis.text(
                column,
                line,
                word,
                family="monospace",
                va="center",
                color="white" if abs(share) > 0.6 * largest else "black",
                bbox={"facecolor": colours.to_rgba(share), "edgecolor": "0.8"},
            )
            column += len(word) + 2
        line += 1.3
    figure.set_size_inches(9, 0.6 + 0.35 * line)
    axis.set(xlim=(0, LINE), ylim=(line - 0.5, -0.5))
    axis.axis("off")
    figure.colorbar(colours, ax=axis, label="added to the log-odds")
    plots.save(figure, path, dpi=100)
