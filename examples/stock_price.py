"""Stock prices: a five-day exercise by hand, then real daily prices.

    python examples/stock_price.py                  # Apple, Google, IBM and Microsoft
    python examples/stock_price.py --file my.csv    # columns date and close

First the exercise: prices 100, 102, 104, 106, 108, and a network of two tanh units
with given weights. Its states by the plain formula and by jaxrnn.elman agree. At raw
prices tanh is saturated; the output weights are 0, so the forecast is 0. Trained on
the scaled prices, networks with different initial weights come close to 110, and stay
below it because tanh bends: they fit four pairs of days. Many rules fit five points on
a line, and none of them says anything about a market.

Then daily closing prices of bokeh-sampledata, 2000 to 2013, adjusted for splits and
dividends (Facebook is left out: it has 196 days). A GRU reads log-returns day by day,
and outputs mean and scale of a Student-t distribution of the next return. The scale is
a correction of the exponentially weighted volatility. The first 70 % of the days are
for training, 15 % for validation, the last for the test, the same days for all stocks.
Its price forecast is no better than "as today", as expected; what can be forecast is
the size of the move. The likelihood and the 90 % interval are compared with a constant
scale, and with exponential weights alone (RiskMetrics, 0.94 a day), each with normal
and with Student-t returns. Saves volatility.png.
"""

import pathlib

from support import command_line, five_days, results, series_plots, stock_data

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from scipy import stats

import jaxrnn
from jaxrnn import data, losses, train

WINDOW, WARM_UP = 200, 20  # days of a training window, and of its start without a loss
BATCH_SIZE = 8  # windows, each with all stocks
DROPOUT = 0.2
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
SMALL = {"hidden_size": 16, "steps": 400}
LARGE = {"hidden_size": 32, "steps": 2000}


def main():
    parser = command_line.make_parser(__doc__, "stock_price")
    add = parser.add_argument
    add("--file", type=pathlib.Path, help="a CSV file with date and close")
    add("--full", action="store_true", help=f"{LARGE}, not {SMALL}")
    for name in SMALL:
        add(f"--{name.replace('_', '-')}", type=command_line.positive)
    args = parser.parse_args()
    chosen = LARGE if args.full else SMALL
    settings = {name: getattr(args, name) or chosen[name] for name in SMALL}
    matplotlib.use("Agg")
    if args.file is None:
        market = stock_data.read_market()
    else:
        market = stock_data.read_file(args.file)
    volatility = stock_data.weighted_volatility(market)
    path = command_line.prepare_out(args.out, "volatility.png")
    five_days.show(args.seed)

    train_end, test_start = stock_data.split(market)
    print(
        f"{', '.join(market.names)}: training from {market.dates[0]}, validation from "
        f"{market.dates[train_end]}, test from {market.dates[test_start]}"
    )
    network = fit_network(market, volatility, settings, args.seed)
    forecasts = {"jaxrnn, GRU": network, **stock_data.baselines(market, volatility)}
    series_plots.draw_stock(path, market, network, volatility)
    for stock, name in enumerate(market.names):
        ends = market.prices[-1, stock] * np.exp(
            network.bounds(0.9)[:, -1, stock] / 100
        )
        print(
            f"{name} after {market.dates[-1]}: 90 % from {ends[0]:.2f} to {ends[1]:.2f}"
        )

    tested = market.followed & (np.arange(len(market.dates)) >= test_start)[:, None]
    means = {"jaxrnn, GRU": network.mean, "as today": np.zeros_like(network.mean)}
    means[f"autoregression, {stock_data.LAGS} days"] = stock_data.autoregression(market)
    prices, truth = market.prices[tested], market.following[tested]
    errors = {
        name: prices * (np.exp(mean[tested] / 100) - np.exp(truth / 100))
        for name, mean in means.items()
    }
    rows = {name: np.sqrt(np.square(each).mean()) for name, each in errors.items()}
    results.print_table("RMSE of the next price, test", rows, 4)
    inside = {}
    for name, forecast in forecasts.items():
        low, high = forecast.bounds(0.9)[:, tested]
        inside[name] = np.mean((low <= truth) & (truth <= high))
    results.print_table("share inside of the 90 % interval, test", inside)
    rows = {
        name: -stats.t.logpdf(
            truth, forecast.freedom, forecast.mean[tested], forecast.scale[tested]
        ).mean()
        for name, forecast in forecasts.items()
    }
    results.print_table("negative log-likelihood of the next return, test", rows)
    print(f"{path} written")


def fit_network(market, volatility, settings, seed):
    train_end, test_start = stock_data.split(market)
    typical = stock_data.deviations(market)
    scaled = market.returns / typical
    features = np.stack([scaled, np.abs(scaled), np.log(volatility / typical)], axis=-1)
    days = {
        "features": features.astype(np.float32),
        "known": market.known,
        "volatility": volatility.astype(np.float32),
        "following": market.following.astype(np.float32),
        "followed": market.followed,
    }
    cell = jaxrnn.gru(settings["hidden_size"])
    model = jaxrnn.stack(
        jaxrnn.dropout(jaxrnn.layer(cell), DROPOUT, variational=True),
        jaxrnn.dense(2, w_init=jax.nn.initializers.zeros),
    )

    def distribution(params, batch, key=None):
        """Compute mean and scale, ``(T, *B)``, and the degrees of freedom, above 2."""
        recurrent, free = params
        _, ys = model.apply(recurrent, batch["features"], mask=batch["known"], key=key)
        scale = batch["volatility"] * jnp.exp(ys[..., 1])
        return scale * ys[..., 0], scale, 2 + jax.nn.softplus(free)

    def loss_fn(params, batch, key=None, first=WARM_UP):
        mean, scale, freedom = distribution(params, batch, key)
        likelihood = jax.scipy.stats.t.logpdf(batch["following"], freedom, mean, scale)
        return losses.masked_mean(-likelihood[first:], batch["followed"][first:])

    def batches():
        # The day after the last training day is for validation.
        for rows in data.random_windows(
            np.arange(train_end - 1), WINDOW, batch_size=BATCH_SIZE, seed=seed
        ):
            yield {name: values[rows] for name, values in days.items()}

    seen = {name: values[: test_start - 1] for name, values in days.items()}
    validate = jax.jit(lambda params: {"loss": loss_fn(params, seen, first=train_end)})
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, settings["steps"])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
    )
    first, second = jax.random.split(jax.random.key(seed))
    params = model.init(first, features.shape[-1]), jnp.array(4.0)
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, second),
        batches(),
        num_steps=settings["steps"],
        validate=validate,
        validate_every=max(settings["steps"] // 20, 1),
    )
    best = min(result.history.validation["loss"])
    print(f"negative log-likelihood in validation: {best:.3f}")
    mean, scale, freedom = jax.jit(distribution)(result.best_params, days)
    return stock_data.Forecast(np.asarray(mean), np.asarray(scale), float(freedom))


if __name__ == "__main__":
    main()
