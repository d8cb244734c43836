"""Daily closing prices of several stocks, aligned as returns."""

import sys
from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn.linear_model import LinearRegression

from . import packages, series

DECAY = 0.94  # decay of past squared returns, as in RiskMetrics
LAGS = 5  # days that the autoregression uses
LEAST = 400  # minimum number of prices of a stock


class Forecast(NamedTuple):
    """Distribution of each next return: Student-t; normal at infinite freedom."""

    mean: np.ndarray  # (N, B), per cent
    scale: np.ndarray  # (N, B), per cent
    freedom: float

    def bounds(self, share):
        """Bound the central interval of probability ``share``, ``(2, N, B)``."""
        far = stats.t.ppf((1 + share) / 2, self.freedom)
        return np.stack([self.mean - far * self.scale, self.mean + far * self.scale])


class Market(NamedTuple):
    """N days of B stocks. Returns are logarithmic, in per cent."""

    names: list  # B
    dates: np.ndarray  # (N,)
    prices: np.ndarray  # (N, B), NaN if missing
    returns: np.ndarray  # (N, B), since the last price; 0 if unknown
    known: np.ndarray  # (N, B), whether the return is known
    following: np.ndarray  # (N, B), the next return; 0 if unknown
    followed: np.ndarray  # (N, B), whether this return and the next are known


def read_market():
    """Load the stocks of bokeh-sampledata that have enough days."""
    path = packages.package_file(
        "bokeh_sampledata", "_data/stocks.csv.gz", "bokeh-sampledata"
    )
    texts = series.read_columns(path, ("Ticker", "Date", "Adj Close"), path)
    prices = series.parse_numbers(texts["Adj Close"], path)
    tickers, stocks = np.array(texts["Ticker"]), {}
    for ticker in np.unique(tickers):
        rows = np.flatnonzero(tickers == ticker)
        if len(rows) >= LEAST:
            dates = series.parse_times([texts["Date"][r] for r in rows], "D", path)
            stocks[str(ticker)] = dates, prices[rows]
        else:
            print(f"left out: {ticker} ({len(rows)} days)")
    return side_by_side(stocks)


def read_file(path):
    """Load one stock from a CSV file with the columns date and close."""
    texts = series.read_columns(path, ("date", "close"), "--file")
    dates = series.parse_times(texts["date"], "D", "--file")
    prices = series.parse_numbers(texts["close"], "--file")
    if (prices <= 0).any():
        row = int(np.argmax(prices <= 0))
        sys.exit(
            f"--file must have prices above 0, got {prices[row]} in row {row + 1} "
            "after the header"
        )
    if len(prices) < LEAST:
        sys.exit(f"--file must have at least {LEAST} prices, got {len(prices)}")
    return side_by_side({path.stem: (dates, prices)})


def side_by_side(stocks):
    """Align ``{name: (dates, prices)}`` as a :class:`Market`; days may differ."""
    dates = np.unique(np.concatenate([each for each, _ in stocks.values()]))
    shape = len(dates), len(stocks)
    prices, known = np.full(shape, np.nan), np.zeros(shape, bool)
    returns, following = np.zeros(shape), np.zeros(shape)
    followed = known.copy()
    for stock, (days, values) in enumerate(stocks.values()):
        order = np.argsort(days)
        rows = np.searchsorted(dates, days[order])
        prices[rows, stock] = values[order]
        changes = 100 * np.diff(np.log(values[order]))
        returns[rows[1:], stock], known[rows[1:], stock] = changes, True
        following[rows[1:-1], stock], followed[rows[1:-1], stock] = changes[1:], True
    return Market(list(stocks), dates, prices, returns, known, following, followed)


def split(market):
    """Return the first days of validation and test: after 70 % and 85 % of days."""
    return len(market.dates) * 70 // 100, len(market.dates) * 85 // 100


def deviations(market):
    """Compute the standard deviation of each stock's training returns, ``(B,)``."""
    end, _ = split(market)
    found = [
        returns[known].std()
        for returns, known in zip(
            market.returns[:end].T, market.known[:end].T, strict=True
        )
    ]
    if min(found) == 0:
        name = market.names[int(np.argmin(found))]
        sys.exit(f"prices must vary in training, got those of {name}, which do not")
    return np.array(found)


def weighted_volatility(market):
    """Compute the root of exponentially weighted squared returns, ``(N, B)``."""
    variance, path = deviations(market) ** 2, []
    for returns, known in zip(market.returns, market.known, strict=True):
        newer = DECAY * variance + (1 - DECAY) * returns**2
        variance = np.where(known, newer, variance)
        path.append(variance)
    return np.sqrt(path)


def baselines(market, volatility):
    """Forecast with constant or exponentially weighted scale, normal or Student-t."""
    train_end, _ = split(market)
    trained = market.followed[: train_end - 1]
    zero = np.zeros_like(volatility)
    scales = {
        "constant scale": zero + deviations(market),
        "exponential weights": volatility,
    }
    found = {}
    for name, scale in scales.items():
        ratios = (market.following / scale)[: train_end - 1][trained]
        freedom, _, factor = stats.t.fit(ratios, floc=0)
        found[f"{name}, normal"] = Forecast(zero, scale, np.inf)
        found[f"{name}, Student-t"] = Forecast(zero, factor * scale, freedom)
    return found


def autoregression(market):
    """Forecast the next return by least squares on the latest ones, ``(N, B)``."""
    train_end, _ = split(market)
    lagged = np.stack([np.roll(market.returns, k, axis=0) for k in range(LAGS)], -1)
    lagged[:LAGS] = 0
    trained = market.followed[: train_end - 1]
    model = LinearRegression().fit(
        lagged[: train_end - 1][trained], market.following[: train_end - 1][trained]
    )
    return model.predict(lagged.reshape(-1, LAGS)).reshape(market.returns.shape)
