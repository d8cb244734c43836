"""The example chat: turns, its state, programs and mistakes."""

import io
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripts

import jaxrnn
from jaxrnn import checkpoint, data

pytestmark = pytest.mark.usefixtures("as_users_run")
CHARACTERS = "\n ,.!?abcdefghijklmnopqrstuvwxyzABIST"


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
    words = data.split_words(" ".join(scripts.SENTENCES).lower())
    vocabulary = data.make_vocabulary(words, unknown=word_lm.UNKNOWN)
    symbols = data.vocabulary_to_json(vocabulary)
    settings = {"hidden": 12, "embedding": 5, "vocabulary": symbols}
    model = word_lm.build(settings)
    params = model.init(jax.random.key(0), model.output_size)
    checkpoint.save_params(path, params, {"next_word": json.dumps(settings)})
    return path


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


@pytest.mark.slow
def test_chat_takes_turns(character_model, tmp_path, monkeypatch, capsys):
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
        (["--model", tmp_path], "must be a file, got the folder"),
        (["--model", damaged], "not a safetensors file, or damaged"),
        (["--model", foreign], "is another model"),
        ([*model, "--temperature", -1], "--temperature must be above 0, got -1.0"),
        ([*model, "--temperature", "hot"], "--temperature: invalid float value: 'hot'"),
        ([*model, "--top-p", 2], "--top-p must be above 0 and at most 1, got 2.0"),
        ([*model, "--length", 0], "--length: must be an int of at least 1, got 0"),
    ]:
        said = scripts.refused(chat, capsys, monkeypatch, *arguments, "--out", out)
        assert message in said, said
        if len(arguments) == 2:
            assert "python examples/char_lm.py trains a model" in said
        assert not out.exists()
