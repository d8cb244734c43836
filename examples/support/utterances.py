"""Utterances, streams of utterances, and baselines for both, for speech.py."""

import sys
from typing import NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxrnn import data, decode, metrics

COEFFICIENTS = 12
LEAST, MOST = 3, 6  # number of utterances in a stream
EVEN = 12  # steps to which an utterance is resampled
WINDOWS = 1, 9, 17, 25, 33  # smoothing windows, in steps


def read(path):
    """Load arrays ``(T, 12)``, and the speaker name of each."""
    utterances, names = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{path} must be a text file: {error}")
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#@":
            continue
        *channels, name = line.split(":")
        try:
            columns = [[float(v) for v in each.split(",") if v] for each in channels]
            xs = np.array(columns, np.float32).T
        except ValueError as error:
            sys.exit(f"{path}, line {number} must have numbers: {error}")
        if xs.ndim != 2 or xs.shape[1] != COEFFICIENTS or not len(xs):
            sys.exit(
                f"{path}, line {number} must have {COEFFICIENTS} coefficients of at "
                f"least one step, got shape {xs.shape}"
            )
        if not np.isfinite(xs).all():
            sys.exit(
                f"{path}, line {number} must be finite, got {xs[~np.isfinite(xs)]}"
            )
        utterances.append(xs)
        names.append(name)
    return utterances, names


def number(names, known, least):
    """Look up names in ``known``; every known name must occur ``least`` times."""
    strange = sorted(set(names) - set(known))
    if strange:
        sys.exit(f"speakers must be among {known}, got {strange}")
    numbers = np.array([known.index(name) for name in names], int)
    counts = np.bincount(numbers, minlength=len(known))
    if len(known) < MOST or counts.min() < least:
        sys.exit(
            f"there must be {MOST} speakers with {least} utterances each, got "
            f"{dict(zip(known, counts.tolist(), strict=True))}"
        )
    return numbers


class Streams(NamedTuple):
    """Concatenated utterances of different speakers."""

    xs: np.ndarray  # (T, B, 12)
    mask: np.ndarray  # (T, B)
    labels: np.ndarray  # (MOST, B), speakers in order; 0 is for CTC's blank
    label_mask: np.ndarray  # (MOST, B)
    ends: list  # ends of utterances, for each stream


def streams(utterances, speakers, count, rng, num_steps):
    """Draw ``count`` streams as :class:`Streams`, padded to ``num_steps``."""
    of_speaker = [np.flatnonzero(speakers == each) for each in np.unique(speakers)]
    xs, labels, ends = [], [], []
    for _ in range(count):
        chosen = rng.permutation(len(of_speaker))[: rng.integers(LEAST, MOST + 1)]
        parts = [utterances[rng.choice(of_speaker[each])] for each in chosen]
        xs.append(np.concatenate(parts))
        labels.append(chosen + 1)
        ends.append(np.cumsum([len(part) for part in parts]))
    return Streams(*data.pad(xs, num_steps), *data.pad(labels, MOST), ends)


def rate(found, lengths, target):
    """Compute the label error rate of ``decode.ctc_greedy`` results on streams."""
    mask = np.arange(len(found))[:, None] < lengths
    return metrics.token_error_rate(
        found, target.labels, mask=mask, target_mask=target.label_mask
    )


def summary(xs):
    return np.concatenate([xs.mean(axis=0), xs.std(axis=0)])


def evenly(xs):
    times = np.linspace(0, len(xs) - 1, EVEN)
    channels = [np.interp(times, np.arange(len(xs)), channel) for channel in xs.T]
    return np.concatenate(channels)


def linear():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def recogniser_baselines(known, speakers, unseen, unseen_speakers):
    """Compute the accuracies of classical models."""
    figures = {}
    for name, features, model in [
        ("logistic regression, mean and deviation", summary, linear()),
        (f"logistic regression, {EVEN} even steps", evenly, linear()),
        (f"nearest neighbour, {EVEN} even steps", evenly, KNeighborsClassifier(1)),
    ]:
        model.fit([features(xs) for xs in known], speakers)
        figures[name] = model.score([features(xs) for xs in unseen], unseen_speakers)
    return figures


def segment_baseline(known, speakers, target):
    """Compute the label error rate of equal segments, given the number of utterances.

    Uses the mean features, which suffer least from wrong boundaries.
    """
    model = LogisticRegression(max_iter=2000)
    model.fit([xs.mean(axis=0) for xs in known], speakers)
    found = np.zeros_like(target.labels)
    for row, count in enumerate(target.label_mask.sum(axis=0)):
        parts = np.array_split(target.xs[target.mask[:, row], row], count)
        found[:count, row] = model.predict([part.mean(axis=0) for part in parts]) + 1
    return rate(found, target.label_mask.sum(axis=0), target)


def step_baseline(utterances, speakers, kept, validation, target):
    """Compute the label error rate of smoothed per-step labels with repeats merged.

    The smoothing window is the one that is best on streams ``validation``.
    """

    def fit(rows):
        xs = np.concatenate([utterances[row] for row in rows])
        lengths = [len(utterances[row]) for row in rows]
        model = LogisticRegression(max_iter=2000)
        return model.fit(xs, np.repeat(speakers[rows], lengths))

    def error(model, some, window):
        logits = np.full((*some.mask.shape, speakers.max() + 2), -np.inf, np.float32)
        for row, valid in enumerate(some.mask.T):
            chances = model.predict_log_proba(some.xs[valid, row])
            logits[valid, row, 1:] = uniform_filter1d(chances, window, axis=0)
        return rate(*decode.ctc_greedy(logits, some.mask), some)

    model = fit(kept)
    window = min(WINDOWS, key=lambda window: error(model, validation, window))
    return error(fit(np.arange(len(utterances))), target, window)
