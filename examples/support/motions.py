"""Readings of a smart watch, for streaming.py."""

import sys

import numpy as np

CHANNELS = 6  # acceleration and rotation, along three axes
RATE = 10  # readings in a second


def read(path):
    """Load recordings ``(T, N, 6)``, and the name of the activity of each."""
    recordings, names = [], []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{path} must be a text file: {error}")
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line[0] in "#@":
            continue
        *channels, name = line.split(":")
        try:
            columns = [[float(v) for v in each.split(",")] for each in channels]
            xs = np.array(columns, np.float32).T
        except ValueError as error:
            sys.exit(f"{path}, line {number} must have numbers: {error}")
        like = recordings[0] if recordings else xs
        if xs.ndim != 2 or xs.shape[1] != CHANNELS or xs.shape != like.shape:
            sys.exit(
                f"{path}, line {number} must have {CHANNELS} channels of the length of "
                f"the first line, got shape {xs.shape}"
            )
        if not np.isfinite(xs).all():
            sys.exit(f"{path}, line {number} must be finite, got {xs.min()}")
        recordings.append(xs)
        names.append(name)
    if len(set(names)) < 2:
        sys.exit(f"{path} must have two activities or more, got {sorted(set(names))}")
    return np.stack(recordings, axis=1), names


def join(recordings, labels, order):
    """Join recordings in time: readings ``(K T, *B, 6)``, and a label for each.

    Args:
        recordings: ``(T, N, 6)``.
        labels: ``(N,)``.
        order: which recordings follow each other, ``(K, *B)``.
    """
    steps = len(recordings)
    parts = np.moveaxis(recordings[:, order], 0, 1)  # (K, T, *B, 6)
    xs = parts.reshape(-1, *parts.shape[2:])
    return xs, np.repeat(labels[order], steps, axis=0)
