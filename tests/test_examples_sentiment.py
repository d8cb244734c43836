"""examples/sentiment.py, run small, and its mistakes."""

import re

import numpy as np
import pytest
import safetensors.numpy
import scripts

SMALL = ["--limit", 300, "--epochs", 1]


@pytest.fixture
def reviews(monkeypatch):
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    import reviews

    return reviews


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("sentiment")
    return out, scripts.run_well("sentiment", *SMALL, "--out", out)


def shares(output):
    """The words, and what they add, of all sentences that were explained."""
    found = re.findall(r"^  (\S+) +([+-]\d+\.\d\d)(?:  .*)?$", output, re.MULTILINE)
    return [(word, float(share)) for word, share in found]


def test_sentiment_beside_its_baselines(trained):
    out, output = trained
    for title in ("accuracy, 30 sentences held out", "F1, mean of both classes"):
        rows = scripts.table(output, title)
        assert list(rows) == [
            "jaxrnn, 4 bidirectional GRUs",
            "logistic regression, words and pairs",
            "the more frequent class",
        ]
        assert all(0.2 <= figure <= 0.9 for figure in rows.values()), rows
    assert rows["the more frequent class"] < 0.5  # F1 of one class is 0
    assert len(re.findall("favourable with probability 0", output)) == 4
    assert [word for word, _ in shares(output)][:4] == ["a", "moving", "and", "funny"]
    assert scripts.is_picture(out / "words.png")


def test_sentences_are_explained_without_training(trained, tmp_path):
    out, output = trained
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


def test_mistakes_are_named_before_anything_is_written(trained, tmp_path):
    foreign, damaged = tmp_path / "foreign", tmp_path / "damaged"
    for folder in (foreign, damaged):
        folder.mkdir()
    safetensors.numpy.save_file({}, foreign / "params.safetensors")
    whole = (trained[0] / "params.safetensors").read_bytes()
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


def test_a_model_of_another_program_is_refused(reviews, tmp_path, monkeypatch):
    import sentiment

    from jaxrnn import checkpoint

    path = tmp_path / "params.safetensors"
    checkpoint.save_params(path, {"w": np.zeros(3)}, {"char_lm": "{}"})
    with pytest.raises(SystemExit, match=r"must be a model of sentiment\.py"):
        sentiment.load(path)
    checkpoint.save_params(path, {"w": np.zeros(3)}, {"sentiment": "no words"})
    with pytest.raises(SystemExit, match="no model to explain by: text must be of"):
        sentiment.load(path)


def test_parts_are_disjoint_and_have_both_classes(reviews):
    parts = reviews.read(500, 3, full=False)
    assert [len(sentences) for sentences, _ in parts] == [400, 50, 50]
    sets = [{" ".join(sentence) for sentence in sentences} for sentences, _ in parts]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    again = reviews.read(500, 3, full=False)
    assert [part[0] for part in parts] == [part[0] for part in again]
    with pytest.raises(ValueError, match=r"both classes, 0 and 1, .* got \[1\]"):
        reviews.split([["fun"]] * 50, np.ones(50, int))
    with pytest.raises(ValueError, match=r"both classes, 0 and 1, .* got \[\]"):
        reviews.split([], np.zeros(0, int))


def test_the_baseline_learns(reviews):
    sentences = [["so", word, "a", "film"] for word in ("good", "bad")] * 20
    labels = np.array([1, 0] * 20)
    parts = reviews.split(sentences, labels)
    assert reviews.regression(parts).tolist() == parts[2][1].tolist()
