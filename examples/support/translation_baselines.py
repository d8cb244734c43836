"""Translation baselines: a decision tree, the nearest pair, and the source itself.

Each is a function of the training pairs as tokens, the sources to translate, and the
separator between target tokens.
"""

import collections
import itertools
import math

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from jaxrnn import data

from . import pairs, writing

ROUNDS = 3  # rounds of alignment


def align(source, target, scores):
    """Cut the target into one part per source token, of 0 to 2 tokens each."""
    places, lowest = range(len(target) + 1), -math.inf
    best, choices = [0.0, *[lowest] * len(target)], []
    for symbol in source:
        options = [
            max(
                (best[end - width] + scores[symbol, target[end - width : end]], width)
                for width in range(min(end, 2) + 1)
            )
            for end in places
        ]
        best = [score for score, _ in options]
        choices.append([width for _, width in options])
    parts, end = [], len(target)
    for choice in reversed(choices):
        parts.append(target[end - choice[end] : end])
        end -= choice[end]
    return parts[::-1]


def aligned(examples):
    """Align each target by expectation-maximisation, with one best path each."""
    parts = []
    for source, target in examples:  # initially even
        ends = np.linspace(0, len(target), len(source) + 1).round().astype(int)
        parts.append([target[a:b] for a, b in itertools.pairwise(ends)])
    for _ in range(ROUNDS):
        counts = collections.Counter(
            pair
            for (source, _), cut in zip(examples, parts, strict=True)
            for pair in zip(source, cut, strict=True)
        )
        totals = collections.Counter()
        for (symbol, _), count in counts.items():
            totals[symbol] += count
        scores = collections.defaultdict(
            lambda: math.log(1e-6),
            {pair: math.log(n / totals[pair[0]]) for pair, n in counts.items()},
        )
        parts = [align(source, target, scores) for source, target in examples]
    return parts


def tree(window):
    """Make a baseline that translates a token by it and ``window`` tokens on each side.

    A decision tree, fitted to targets that are aligned with their sources.
    """

    def around(sources, vocabulary):
        rows = []
        for numbers in pairs.numbers(vocabulary, sources):
            padded = np.pad(numbers, window, constant_values=-1)
            rows.append(
                np.lib.stride_tricks.sliding_window_view(padded, 2 * window + 1)
            )
        return np.concatenate(rows)

    def predict(training, asked, separator):
        examples = [(source, tuple(target)) for source, target in training]
        sources = [source for source, _ in examples]
        vocabulary = data.make_vocabulary(
            (symbol for each in sources for symbol in each), unknown=pairs.UNKNOWN
        )
        found = [separator.join(part) for cut in aligned(examples) for part in cut]
        model = DecisionTreeClassifier(random_state=0)
        model.fit(around(sources, vocabulary), found)
        written = iter(model.predict(around(asked, vocabulary)))
        joined = []
        for source in asked:
            parts = itertools.islice(written, len(source))
            joined.append(separator.join(part for part in parts if part))
        return joined

    return predict


def neighbour(separator, **options):
    """Make a baseline: the target of the training pair with the most similar source."""

    def predict(training, asked, joined_by):
        known = [separator.join(source) for source, _ in training]
        wanted = [separator.join(source) for source in asked]
        places = writing.nearest(known, wanted, **options)
        return [joined_by.join(training[place][1]) for place in places]

    return predict


def copied(training, asked, joined_by):
    """Return the source as a baseline."""
    return [joined_by.join(source) for source in asked]
