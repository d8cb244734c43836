"""Time series in CSV files: reading, checking, and filling of short gaps."""

import csv
import datetime
import gzip
import itertools
import sys

import numpy as np


def read_columns(path, names, argument):
    """Read columns of a CSV file as text, ``{name: list}``, in order of ``names``.

    ``argument`` names the file's argument in messages. Column names ignore case.
    """
    opener = gzip.open if str(path).endswith(".gz") else open
    try:
        with opener(path, "rt", newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        sys.exit(f"{argument} must be a CSV file that can be read: {error}")
    places = {name.strip().lower(): place for place, name in enumerate(header)}
    missing = [name for name in names if name.lower() not in places]
    if missing:
        sys.exit(
            f"{argument} must have the columns {', '.join(names)}, got "
            f"{', '.join(header) or 'nothing'}"
        )
    if not rows:
        sys.exit(f"{argument} must have at least one row after the header, got none")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            sys.exit(
                f"{argument} must have {len(header)} values in every row, got "
                f"{len(row)} in row {number} after the header"
            )
    return {name: [row[places[name.lower()]].strip() for row in rows] for name in names}


def parse_times(texts, unit, argument):
    """Parse ISO dates or times as ``datetime64``, in days (``D``) or hours (``h``).

    Hours with a time zone are converted to UTC. A day keeps its date.
    """
    times = np.empty(len(texts), f"datetime64[{unit}]")
    for row, text in enumerate(texts):
        try:
            moment = datetime.datetime.fromisoformat(text)
            if unit == "D":
                moment = moment.replace(tzinfo=None)
            elif moment.tzinfo:
                moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
            exact = np.datetime64(moment)
            times[row] = exact.astype(times.dtype)
            right = times[row] == exact
        except ValueError:
            right = False
        if not right:
            kind = {"D": "an ISO date", "h": "an ISO time at a full hour"}[unit]
            sys.exit(
                f"{argument} must have {kind} in every row, got {text!r} in row "
                f"{row + 1} after the header"
            )
    values, counts = np.unique(times, return_counts=True)
    if (counts > 1).any():
        sys.exit(
            f"{argument} must have each time once, got {values[counts > 1][0]} "
            f"{counts.max()} times"
        )
    return times


def parse_numbers(texts, argument, *, missing=()):
    """Parse finite numbers; texts in ``missing`` become NaN."""
    numbers = np.empty(len(texts))
    for row, text in enumerate(texts):
        try:
            numbers[row] = np.nan if text in missing else float(text)
            right = text in missing or np.isfinite(numbers[row])
        except ValueError:
            right = False
        if not right:
            sys.exit(
                f"{argument} must have a finite number in every row, got {text!r} in "
                f"row {row + 1} after the header"
            )
    return numbers


def fill_gaps(values, longest):
    """Copy ``values (N,)``, with gaps of at most ``longest`` NaN interpolated linearly.

    Longer gaps, and gaps at the ends, stay.
    """
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return values.copy()
    steps = np.arange(len(values))
    lines = np.interp(steps, known, values[known], left=np.nan, right=np.nan)
    after = np.searchsorted(known, steps).clip(max=len(known) - 1)
    gap = known[after] - known[(after - 1).clip(min=0)] - 1
    return np.where(np.isfinite(values) | (gap > longest), values, lines)


def stretches(labels, valid):
    """Find slices of the runs of equal ``labels (N,)`` that are all ``valid (N,)``."""
    changes = (labels[1:] != labels[:-1]) | (valid[1:] != valid[:-1])
    edges = [0, *np.flatnonzero(changes) + 1, len(labels)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a and valid[a]]


def regular(times, values, longest):
    """Resample to every hour or day from the first of ``times (N,)`` to the last.

    ``values (N, F)`` may be in any order; gaps of feature i of at most ``longest[i]``
    steps are filled, others are NaN.
    """
    steps = (times - times.min()).astype(int)
    rows = np.full((steps.max() + 1, values.shape[1]), np.nan)
    rows[steps] = values
    filled = [fill_gaps(*each) for each in zip(rows.T, longest, strict=True)]
    return times.min() + np.arange(len(rows)), np.stack(filled, axis=1)
