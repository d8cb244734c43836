"""Plots of the forecasts of stock_price.py and weather.py."""

import calendar

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.dates import ConciseDateFormatter

from . import plots
from .stock_data import split
from .weather_data import AHEAD, PAST

DAYS = 60  # days of prices in the picture


def draw_stock(path, market, network, volatility):
    """Draw the first stock's prices and intervals, with volatilities below."""
    _, start = split(market)
    name = market.names[0]
    rows = np.flatnonzero(market.known[:, 0])
    rows = rows[rows >= start]
    dates, returns = market.dates[rows[1:]], market.returns[rows[1:], 0]
    figure, (above, below) = plt.subplots(2, 1, figsize=(10, 7.5))
    shown = rows[-DAYS - 1 :]
    days, prices = market.dates[shown[1:]], market.prices[shown, 0]
    changes = network.bounds(0.9)[:, shown[:-1], 0], network.mean[shown[:-1], 0]
    ends, middle = (prices[:-1] * np.exp(each / 100) for each in changes)
    label = "90 % interval, one day ahead"
    above.fill_between(days, *ends, alpha=0.2, lw=0, label=label)
    above.plot(days, middle, "C0-", lw=1, label="forecast, one day ahead")
    above.plot(days, prices[1:], "k.-", lw=0.6, ms=5, label="price")
    above.set(ylabel="price", title=f"{name}, the last {len(days)} days of the test")
    widening = np.sqrt(network.freedom / (network.freedom - 2))
    deviation = network.scale[rows[:-1], 0] * widening
    below.bar(dates, np.abs(returns), width=1.5, color="0.75", label="|return|")
    below.plot(dates, deviation, "C3", label="forecast by jaxrnn, GRU")
    weights = volatility[rows[:-1], 0]
    below.plot(dates, weights, "C0--", lw=1, label="forecast by exponential weights")
    title = f"{name}, standard deviation of the next log-return, whole test"
    below.set(ylabel="per cent", title=title)
    for axis in (above, below):
        axis.xaxis.set_major_formatter(
            ConciseDateFormatter(axis.xaxis.get_major_locator())
        )
        axis.set_xlabel("date")
        axis.margins(x=0.01)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    plots.save(figure, path)


def draw_weather(path, windows, forecasts, by_lead):
    """Draw three windows ``(PAST + AHEAD, W, F)``, two forecasts, errors by lead."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7))
    *panels, last = axes.flat
    hours = np.arange(1 - PAST, AHEAD + 1)
    for share, axis in zip((0.05, 0.55, 0.95), panels, strict=True):
        window = int(share * windows.shape[1])
        axis.axvline(0, color="0.7", lw=1)
        axis.plot(hours, windows[:, window, 0], color="0.2", label="observed")
        for name, style in zip(list(forecasts)[:2], ("C0-", "C1--"), strict=True):
            axis.plot(hours[PAST:], forecasts[name][:, window, 0], style, label=name)
        month, hour = divmod(int(windows[PAST - 1, window, -1]), 24)
        axis.set_title(f"{calendar.month_name[month + 1]}, at {hour} h")
        axis.set(xlabel="hours from now", ylabel="temperature (°C)")
        axis.set_xticks(range(-PAST, AHEAD + 1, 12))
    panels[0].legend()
    for name, errors in by_lead.items():
        last.plot(hours[PAST:], errors, ".-", label=name)
    last.set(xlabel="hours ahead", ylabel="RMSE (°C)", title="all of the test")
    last.set(xticks=range(0, AHEAD + 1, 6), ylim=(0, None))
    last.legend(fontsize="small")
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.tight_layout()
    plots.save(figure, path)
