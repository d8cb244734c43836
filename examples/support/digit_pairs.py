"""Pictures of two digits: data, baseline classifiers, and a figure."""

import matplotlib.pyplot as plt
import numpy as np
from num2words import num2words
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from . import plots

CAPTIONS = np.array([num2words(number) for number in range(100)])
NEIGHBOURS = 10_000  # training pictures of the nearest-neighbour baseline


def split(images, labels, rng):
    """Split ``(images, labels)`` into 70 % training, 15 % validation, and the test."""
    ends = (np.array([0.7, 0.85]) * len(images)).astype(int)
    rows = np.split(rng.permutation(len(images)), ends)
    for part in rows:
        missing = sorted(set(range(10)) - set(labels[part].tolist()))
        if missing:
            raise ValueError(
                "labels must have each digit in training, validation and test, got "
                f"{len(images)} images, and {missing} not in one of these"
            )
    return [(images[part], labels[part]) for part in rows]


def glue(images, labels, numbers, rng):
    """Compose halves ``(2, B, 64)`` of a picture of each number from random images."""
    halves = np.empty((2, len(numbers), images.shape[1]), np.float32)
    for half, digits in zip(halves, np.divmod(numbers, 10), strict=True):
        for digit in np.unique(digits):
            found, rows = np.flatnonzero(labels == digit), digits == digit
            if not len(found):
                raise ValueError(f"labels must have the digit {digit}, got none")
            half[rows] = images[rng.choice(found, rows.sum())]
    return halves


def classify(training, validation, known, halves, rng):
    """Caption pictures with two baselines without a recurrent network.

    The first classifies each digit alone, and is given the rule that combines digits.
    The second takes the most similar picture of two digits: only known numbers.
    """
    fitted = [
        LogisticRegression(C=c, max_iter=5000).fit(*training) for c in (0.1, 1, 10)
    ]
    best = max(fitted, key=lambda each: each.score(*validation))
    tens, units = map(best.predict, halves)
    numbers = rng.choice(known, NEIGHBOURS)
    pictures = np.hstack(glue(*training, numbers, rng))
    nearest = KNeighborsClassifier(1).fit(pictures, numbers)
    return CAPTIONS[10 * tens + units], CAPTIONS[nearest.predict(np.hstack(halves))]


def draw(path, halves, numbers, said, is_new, rng):
    """Draw random pictures of known and of new numbers, and some mistakes."""
    order, is_wrong = rng.permutation(len(numbers)), said != CAPTIONS[numbers]
    groups = {
        "known numbers": order[~is_new[order]],
        "numbers never captioned in training": order[is_new[order]],
        "wrong captions, and in brackets the truth": order[is_wrong[order]],
    }
    figure = plt.figure(figsize=(11, 9))
    parts = figure.subfigures(3, 1)
    for part, (title, rows) in zip(parts, groups.items(), strict=True):
        part.suptitle(title)
        for place, row in enumerate(rows[:12], 1):
            axis = part.add_subplot(2, 6, place, xticks=[], yticks=[])
            picture = np.hstack(halves[:, row].reshape(2, 8, 8))
            axis.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
            truth = f"\n({CAPTIONS[numbers[row]]})" if is_wrong[row] else ""
            colour = "firebrick" if is_wrong[row] else "black"
            axis.set_xlabel(said[row] + truth, color=colour)
    plots.save(figure, path)
