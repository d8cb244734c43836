import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrnn import data

# Symbols


def test_split_words_keeps_marks_apart():
    text = "I love deep_learning; don't you? O\u2019Brien: 3.5 été…"
    assert data.split_words(text) == [
        "I", "love", "deep", "_", "learning", ";", "don't", "you", "?",
        "O\u2019Brien", ":", "3", ".", "5", "été", "…",
    ]  # fmt: skip


def test_vocabularies_are_in_order_of_frequency():
    vocabulary = data.make_vocabulary("hello yellow", special=["<pad>"])
    assert vocabulary.symbols == ("<pad>", "l", "e", "o", " ", "h", "w", "y")
    words = ["the", "cat", "the", "mat", "<end>"]
    vocabulary = data.make_vocabulary(
        words, size=4, special=["<end>"], unknown="<unknown>"
    )
    assert vocabulary.symbols == ("<unknown>", "<end>", "the", "cat")
    numbers = data.encode(vocabulary, ["the", "dog", "<end>"])
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [2, 0, 1]
    assert data.decode(vocabulary, numbers) == ["the", "<unknown>", "<end>"]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=40))
def test_any_text_comes_back(text):
    vocabulary = data.make_vocabulary(text)
    again = data.vocabulary_from_json(data.vocabulary_to_json(vocabulary))
    assert again == vocabulary
    assert "".join(data.decode(again, data.encode(again, text))) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),  # vowel signs, a virama
        ("مُحَمَّد كَتَبَ", ["مُحَمَّد", "كَتَبَ"]),  # vowel signs above and below
        ("cafe\u0301 de\u0301ja\u0300!", ["cafe\u0301", "de\u0301ja\u0300", "!"]),
        ("نمی\u200cشود", ["نمی\u200cشود"]),  # letters that do not join
        ("don't_stop", ["don't", "_", "stop"]),
    ],
)
def test_words_keep_the_marks_of_their_letters(text, expected):
    assert data.split_words(text) == expected


# Batches


def sequences(lengths):
    return [np.full((n, 2), i + 1.0) for i, n in enumerate(lengths)]


def test_pad_fills_and_masks():
    xs, mask = data.pad(sequences([2, 0, 3]), 4)
    assert xs.shape == (4, 3, 2)
    assert mask.sum(0).tolist() == [2, 0, 3]
    for row, length in enumerate([2, 0, 3]):
        assert (xs[:length, row] == row + 1).all()
        assert (xs[length:, row] == 0).all()


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("num_buckets", [1, 3, 50])
def test_every_sequence_comes_once(seed, num_buckets):
    lengths = np.random.default_rng(0).integers(0, 30, size=103)
    batches = list(
        data.bucketed_batches(
            sequences(lengths), batch_size=8, num_buckets=num_buckets, seed=seed
        )
    )
    rows = np.concatenate([batch.rows for batch in batches])
    counts = np.concatenate([batch.counts for batch in batches])
    assert sorted(rows[counts].tolist()) == list(range(103))
    assert (rows[~counts] == 103).all()  # no sequence has this number
    assert len({batch.xs.shape for batch in batches}) <= num_buckets
    for batch in batches:
        assert batch.xs.shape[:2] == batch.mask.shape == (len(batch.xs), 8)
        of_rows = batch.of_rows(lengths)
        for index, row in enumerate(batch.rows):
            length = of_rows[index] if batch.counts[index] else 0
            assert batch.mask[:, index].sum() == length
            assert (batch.xs[:length, index] == row + 1).all()
            assert (batch.xs[length:, index] == 0).all()


def test_shuffled_batches_repeat_by_their_seed():
    def order(seed):
        batches = data.bucketed_batches(
            sequences([5, 3, 8, 1] * 9), batch_size=4, num_buckets=2, seed=seed
        )
        return [batch.rows.tolist() for batch in batches]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(None) == order(None)


def test_buckets_save_padding():
    lengths = np.random.default_rng(1).integers(1, 100, size=400)

    def padded(num_buckets):
        batches = data.bucketed_batches(
            sequences(lengths), batch_size=10, num_buckets=num_buckets
        )
        return sum(batch.mask.size for batch in batches)

    assert padded(1) > 1.3 * padded(4) > 1.3 * lengths.sum()


# Series


@pytest.mark.parametrize(("horizon", "stride"), [(1, 1), (3, 2)])
def test_windows_are_followed_by_their_targets(horizon, stride):
    series = np.random.default_rng(0).normal(size=(20, 2))
    xs, targets = data.windows(series, 5, horizon=horizon, stride=stride)
    starts = range(0, 20 - 5 - horizon + 1, stride)
    assert xs.shape == (5, len(starts), 2)
    assert targets.shape == (horizon, len(starts), 2)
    for row, start in enumerate(starts):
        np.testing.assert_array_equal(xs[:, row], series[start : start + 5])
        end = start + 5
        np.testing.assert_array_equal(targets[:, row], series[end : end + horizon])


def test_windows_of_many_series_lie_over_no_gap():
    rng = np.random.default_rng(0)
    lengths = (20, 3, 11)
    series = [rng.normal(size=(length, 2)) for length in lengths]
    series[0][7, 1] = np.nan
    found = data.windows_of_many(series, 4, horizon=2, stride=2)
    assert found.series.tolist() == [0] * 5 + [2] * 3
    assert found.starts.tolist() == [0, 8, 10, 12, 14, 0, 2, 4]
    for row, (which, start) in enumerate(zip(found.series, found.starts, strict=True)):
        stretch = series[which][start : start + 6]
        np.testing.assert_array_equal(found.xs[:, row], stretch[:4])
        np.testing.assert_array_equal(found.targets[:, row], stretch[4:])
    flags = [np.ones(length, bool) for length in lengths]
    flags[2][:6] = False
    given = data.windows_of_many(series[1:], 4, valid=flags[1:])
    assert given.starts.tolist() == [6]
    assert given.series.tolist() == [1]


def test_random_windows_lie_in_the_series():
    found = data.random_windows(np.arange(50), 7, batch_size=3, seed=0)
    first, second = itertools.islice(found, 2)
    assert first.shape == (7, 3)
    assert (np.diff(first, axis=0) == 1).all()
    assert (first != second).any()
    again = next(data.random_windows(np.arange(50), 7, batch_size=3, seed=0))
    np.testing.assert_array_equal(first, again)
    whole = next(data.random_windows(np.arange(7), 7, batch_size=3, seed=0))
    assert (whole[0] == 0).all()


def test_statistics_are_of_the_valid_steps():
    rng = np.random.default_rng(0)
    xs = rng.normal(5, 3, size=(40, 3, 2))
    mask = rng.random((40, 3)) < 0.5
    learned = data.statistics(np.where(mask[..., None], xs, np.nan), mask)
    np.testing.assert_allclose(learned.mean, xs[mask].mean(0))
    standard = data.standardize(learned, xs)
    np.testing.assert_allclose(standard[mask].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(standard[mask].std(0), 1)
    np.testing.assert_allclose(data.restore(learned, standard), xs)


@pytest.mark.parametrize("value", [7.0, 14.62, 1e-30, 1e9 / 3, 0.0])
def test_a_constant_feature_has_the_deviation_1(value):
    rounded = np.full((1000, 1), value)
    rounded[::3] = np.nextafter(value, np.inf)
    for xs in (np.full((1000, 1), value), rounded):
        learned = data.statistics(xs)
        assert learned.deviation.tolist() == [1.0]
        np.testing.assert_allclose(data.standardize(learned, [[value + 1]]), [[1.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_statistics_of_narrow_numbers_are_summed_in_float64(dtype):
    rng = np.random.default_rng(0)
    xs = (rng.normal(size=(300_000, 3)) * [5, 0.5, 1] + [1013, 293, 60]).astype(dtype)
    learned = data.statistics(xs)
    exact = xs.astype(np.float64)
    assert learned.mean.dtype == learned.deviation.dtype == np.float64
    np.testing.assert_allclose(learned.mean, exact.mean(0))
    np.testing.assert_allclose(learned.deviation, exact.std(0))
    standard = data.standardize(learned, xs)
    assert standard.dtype == data.restore(learned, standard).dtype == dtype


def test_a_series_is_one_feature():
    series = 100 + np.cumsum(np.random.default_rng(0).normal(size=400))
    learned = data.statistics(series)
    np.testing.assert_allclose(learned.deviation, [series.std()])
    standard = data.standardize(learned, series)
    assert standard.shape == series.shape
    np.testing.assert_allclose(standard.std(), 1)
    of_column = data.statistics(series[:, None])
    np.testing.assert_array_equal(of_column.mean, learned.mean)
    np.testing.assert_allclose(data.restore(learned, standard), series)


def test_single_features_may_be_missing():
    xs = np.random.default_rng(0).normal(size=(50, 3))
    missing = np.random.default_rng(1).random(xs.shape) < 0.3
    learned = data.statistics(np.where(missing, np.nan, xs), ~missing)
    for feature in range(3):
        known = xs[~missing[:, feature], feature]
        np.testing.assert_allclose(learned.mean[feature], known.mean())
        np.testing.assert_allclose(learned.deviation[feature], known.std())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: data.make_vocabulary(""),
            ValueError,
            "at least one token, got an",
        ),
        (
            lambda: data.make_vocabulary("abc", size=1, special="xy"),
            ValueError,
            "size must be at least 2",
        ),
        (
            lambda: data.encode(data.make_vocabulary("ab"), "abcd"),
            ValueError,
            "vocabulary of 2 tokens, which has no unknown token, got 'c', 'd'",
        ),
        (
            lambda: data.decode(data.make_vocabulary("ab"), [0, 2]),
            ValueError,
            "below 2, the size of the vocabulary, got 0 to 2",
        ),
        (
            lambda: data.decode(data.make_vocabulary("ab"), [[0]]),
            ValueError,
            r"shape \(T,\), got \(1, 1\)",
        ),
        (
            lambda: data.vocabulary_from_json("{"),
            ValueError,
            "output of vocabulary_to",
        ),
        (
            lambda: data.vocabulary_from_json(
                json.dumps({"symbols": ["a"], "unknown": "b"})
            ),
            ValueError,
            "output of vocabulary_to",
        ),
        (
            lambda: data.vocabulary_from_json(
                json.dumps({"symbols": [1], "unknown": None})
            ),
            ValueError,
            "output of vocabulary_to",
        ),
        (lambda: data.pad([]), ValueError, "at least one sequence, got an empty"),
        (lambda: data.pad([[1, 2]], 1), ValueError, "longest length, 2, got 1"),
        (
            lambda: data.pad([np.ones((2, 3)), np.ones((2, 4))]),
            ValueError,
            r"sequences\[1\] must have shape",
        ),
        (
            lambda: data.bucketed_batches([], batch_size=2),
            ValueError,
            "at least one sequence",
        ),
        (
            lambda: data.bucketed_batches([[1]], batch_size=0),
            ValueError,
            "batch_size must be at least 1",
        ),
        (
            lambda: data.windows(np.ones(3), 3),
            ValueError,
            r"num_steps \+ horizon = 4 steps, got shape \(3,\)",
        ),
        (
            lambda: data.random_windows(np.ones(3), 4, batch_size=1, seed=0),
            ValueError,
            "at least num_steps = 4",
        ),
        (
            lambda: data.statistics([[1.0, 2.0], [1.0, np.inf]]),
            ValueError,
            "xs must be finite, got inf at step 1 .*, feature 1: fill gaps",
        ),
        (
            lambda: data.statistics(np.ones((3, 1)), np.zeros(3, bool)),
            ValueError,
            "at least one step that counts",
        ),
        (
            lambda: data.statistics(np.ones((3, 1)), np.ones(3)),
            TypeError,
            "mask must be boolean",
        ),
        (
            lambda: data.statistics(np.ones((3, 2)), np.ones(2, bool)),
            ValueError,
            r"mask must have shape \(3,\) or \(3, 2\), got \(2,\)",
        ),
        (
            lambda: data.statistics(["12", "13"]),
            TypeError,
            "xs must have real numbers, got dtype str64",
        ),
        (
            lambda: data.windows_of_many([np.ones(3), np.ones((3, 2))], 1),
            ValueError,
            r"all_series\[1\] must have shape \(N, \(\)\) as the first, got \(3, 2\)",
        ),
        (
            lambda: data.windows_of_many([[1.0, np.nan, 2.0]], 1),
            ValueError,
            "num_steps \\+ horizon = 2 steps in a row without a gap",
        ),
        (
            lambda: data.windows_of_many([[1.0, 2.0]], 1, valid=[[1, 1]]),
            TypeError,
            r"valid\[0\] must be boolean, got int64",
        ),
        (
            lambda: data.standardize(data.statistics(np.ones((3, 2))), np.ones((4, 3))),
            ValueError,
            r"xs must have the 2 features of learned on the last axis, got shape \(4",
        ),
        (
            lambda: data.restore((0.0, 1.0), np.ones((4, 3))),
            TypeError,
            "learned must be the result of statistics, got tuple",
        ),
    ],
)
def test_wrong_data_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
