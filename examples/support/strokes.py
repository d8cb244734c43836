"""Strokes of a pen, and a mixture density for the next movement, for handwriting.py.

A step of a stroke is a vector ``x``: whether the stroke is over, the movement since the
previous step (2), the position (2), and the shape to draw, one-hot.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io
from scipy.stats import multivariate_normal
from sklearn.linear_model import LinearRegression

SPACING = 0.08  # seconds between points
REST = 0.5  # millimetres; less counts as no movement
UNIT = 20.0  # millimetres per unit of position
LEAST_DEVIATION = 0.01  # minimum of a Gaussian, in units of the spread of movements
MIXTURE = 5
OUTPUTS = 6 * MIXTURE + 1  # network outputs per step
PEN = 5  # features of a step before the one-hot shape


def read(folder):
    """Load ``{shape: [points (T, 2) in millimetres]}``, evenly spaced in time."""
    strokes = {}
    for path in sorted(folder.glob("*.mat")):
        try:
            demos = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)
            strokes[path.stem] = [resample(d.t, d.pos) for d in demos["demos"]]
        except Exception as error:  # a damaged file can raise any error
            sys.exit(f"{path} must have strokes, got a damaged file: {error!r}")
    if not strokes or min(map(len, strokes.values())) < 3:
        counts = {name: len(each) for name, each in strokes.items()}
        sys.exit(f"{folder} must have shapes of three strokes or more, got {counts}")
    return strokes


def resample(times, points):
    """Resample the path while the pen moves; it rests at both ends."""
    (begun,) = np.nonzero(np.linalg.norm(points.T - points.T[0], axis=1) > REST)
    (on,) = np.nonzero(np.linalg.norm(points.T - points.T[-1], axis=1) > REST)
    even = np.arange(times[max(begun[0] - 1, 0)], times[on[-1]] + SPACING, SPACING)
    path = [np.interp(even, times, channel) for channel in points]
    path = np.stack(path, axis=1).astype(np.float32)
    if len(path) < 3 or path.shape[1] != 2 or not np.isfinite(path).all():
        raise ValueError(f"a stroke must be finite and (T, 2), got {path.shape}")
    return path


def split(paths, seed):
    """Split into steps of test (one stroke per shape), validation (one), and training.

    Also returns the unit of movements: their deviation in the training strokes.
    """
    rng = np.random.default_rng(seed)
    mixed = [[each[i] for i in rng.permutation(len(each))] for each in paths.values()]
    unit = np.concatenate([np.diff(p, axis=0) for m in mixed for p in m[2:]]).std()
    told = np.eye(len(mixed), dtype=np.float32)
    mixed = [
        [steps(path, unit, shape) for path in each]
        for each, shape in zip(mixed, told, strict=True)
    ]
    test, held = ([each[i] for each in mixed] for i in (0, 1))
    return test, held, [stroke for each in mixed for stroke in each[2:]], unit


def steps(path, unit, shape):
    """Compute the steps ``x (T, 5 + S)`` of a path; movements are in ``unit``."""
    ends = np.zeros((len(path), 1))
    ends[-1] = 1
    moves = np.diff(path, axis=0, prepend=path[:1]) / unit
    told = np.tile(shape, (len(path), 1))
    return np.concatenate([ends, moves, path / UNIT, told], axis=1, dtype=np.float32)


def points(xs):
    """Return the path in millimetres of each batch entry of steps ``(T, B, ...)``."""
    over = xs[..., 0] > 0
    lengths = np.where(over.any(axis=0), over.argmax(axis=0) + 1, len(xs))
    return [xs[:n, row, 3:5] * UNIT for row, n in enumerate(lengths)]


def stretch(key, xs, size):
    """Apply a random linear map, close to the identity, to each stroke."""
    end, moves, positions, told = jnp.split(xs, [1, 3, PEN], axis=-1)
    maps = jnp.eye(2) + size * jax.random.normal(key, (*xs.shape[1:-1], 2, 2))
    mapped = [jnp.einsum("tbi,bij->tbj", part, maps) for part in (moves, positions)]
    return jnp.concatenate([end, *mapped, told], axis=-1)


def mixture(ys, xs):
    """Compute the mixture density of the step after ``xs`` from outputs ``ys``.

    Returns log weights ``(..., K)``, means, deviations ``(..., K, 2)``, correlations
    ``(..., K)``, and the logit of the end ``(...)``. A pen has inertia, so means are
    relative to the latest movement.
    """
    parts = ys[..., 1:].reshape(*ys.shape[:-1], MIXTURE, 6)
    return (
        jax.nn.log_softmax(parts[..., 0]),
        xs[..., None, 1:3] + parts[..., 1:3],
        jax.nn.softplus(parts[..., 3:5]) + LEAST_DEVIATION,
        0.95 * jnp.tanh(parts[..., 5]),
        ys[..., 0],
    )


def log_density(ys, xs, targets):
    """Compute the log density of the movements in ``targets``, which follow ``xs``."""
    moves = targets[..., None, 1:3]
    weights, means, deviations, correlation, _ = mixture(ys, xs)
    u, v = jnp.moveaxis((moves - means) / deviations, -1, 0)
    left = 1 - correlation**2
    quadratic = (u**2 + v**2 - 2 * correlation * u * v) / left
    scale = jnp.log(2 * jnp.pi * deviations.prod(-1)) + jnp.log(left) / 2
    return jax.nn.logsumexp(weights - scale - quadratic / 2, axis=-1)


def beside_inputs(layer):
    """Append a layer's inputs to its outputs: drawing a step needs both."""

    def apply(params, xs, state=None, **options):
        state, ys = layer.apply(params, xs, state, **options)
        return state, jnp.concatenate([ys, xs], axis=-1)

    def step(params, state, x):
        state, y = layer.step(params, state, x)
        return state, jnp.concatenate([y, x], axis=-1)

    return layer._replace(apply=apply, step=step)


def drawing(unit, temperature):
    """Make ``choose`` of ``decode.generate``: draw the next step from the mixture."""

    def choose(key, y):
        ys, x = y[..., :OUTPUTS], y[..., OUTPUTS:]
        weights, means, deviations, correlation, end = mixture(ys, x)
        component_key, noise_key, end_key = jax.random.split(key, 3)
        component = jax.random.categorical(component_key, weights / temperature)

        def of(parts):
            """Select the parameters of the component drawn."""
            axis = component.ndim
            at = component.reshape(*component.shape, *[1] * (parts.ndim - axis))
            return jnp.take_along_axis(parts, at, axis=axis).squeeze(axis)

        noise = temperature**0.5 * jax.random.normal(noise_key, x[..., :2].shape)
        u, v = noise[..., 0], noise[..., 1]
        c = of(correlation)
        v = c * u + jnp.sqrt(1 - c**2) * v
        move = of(means) + of(deviations) * jnp.stack([u, v], axis=-1)
        position = x[..., 3:PEN] + move * (unit / UNIT)
        over = jax.random.bernoulli(end_key, jax.nn.sigmoid(end / temperature))
        return jnp.concatenate([over[..., None], move, position, x[..., PEN:]], axis=-1)

    return choose


def baselines(known, unseen):
    """Compute a movement's negative log-likelihood by Gaussian and autoregression."""

    def table(strokes, order):
        """Collect movements, and the ``order`` previous ones, zero at rest."""
        padded = [np.pad(s[:, 1:3], ((order - 1, 0), (0, 0))) for s in strokes]
        past = [
            np.concatenate([p[i : len(p) - order + i] for i in range(order)], axis=1)
            for p in padded
        ]
        return np.concatenate(past), np.concatenate([s[1:, 1:3] for s in strokes])

    (past, moves), (new_past, new_moves) = table(known, 2), table(unseen, 2)
    linear = LinearRegression().fit(past, moves)

    def nll(fitted, new):
        normal = multivariate_normal(fitted.mean(axis=0), np.cov(fitted.T))
        return -normal.logpdf(new).mean()

    return {
        "one Gaussian": nll(moves, new_moves),
        "linear autoregression of order 2": nll(
            moves - linear.predict(past), new_moves - linear.predict(new_past)
        ),
    }
