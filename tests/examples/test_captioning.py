"""examples/captioning.py, run small, and its mistakes."""

import jax
import numpy as np
import pytest
import scripts

pytestmark = scripts.needs("num2words", "sklearn")


@pytest.fixture
def captioning(monkeypatch):
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    import captioning

    return captioning


def test_captioning_beside_its_baselines(tmp_path):
    # More beams than the vocabulary has symbols.
    small = ["--steps", 150, "--beam-size", 40, "--limit", 600]
    output = scripts.run_well("captioning", *small, "--out", tmp_path)
    names = output.splitlines()[0].partition(": ")[2].split(", ")
    assert len(names) == len(set(names)) == 20
    assert all("-" in name for name in names)
    title = "exact captions, new images of numbers"
    known = scripts.table(output, f"{title} known")
    new = scripts.table(output, f"{title} never captioned")
    assert list(known) == list(new)
    assert len(known) == 4
    for rows in (known, new):
        assert all(0 <= share <= 1 for share in rows.values())
        assert rows["logistic regression of each digit, composed"] > 0.7
    assert known["nearest picture of a known number"] > 0.5
    assert new["nearest picture of a known number"] == 0
    assert known["jaxrnn, beam search of 40"] > 0.1
    assert scripts.is_picture(tmp_path / "captions.png")


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    for arguments, message in [
        (["--limit", 20], "--limit must leave more images: labels must have each"),
        (["--beam-size", 0], "--beam-size: must be an int of at least 1, got 0"),
    ]:
        result = scripts.run("captioning", *arguments, "--out", tmp_path / "new")
        assert result.returncode != 0, arguments
        assert message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "new").exists()


def test_no_image_is_in_two_parts(captioning):
    pairs = captioning.digit_pairs
    images, labels = np.arange(300.0)[:, None], np.arange(300) % 10
    parts = pairs.split(images, labels, np.random.default_rng(0))
    assert [len(part) for part, _ in parts] == [210, 45, 45]
    together = np.concatenate([part[:, 0] for part, _ in parts])
    assert sorted(together) == list(range(300))
    with pytest.raises(ValueError, match="labels must have each digit in training"):
        pairs.split(images, np.zeros(300, int), np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 0 images"):
        pairs.split(images[:0], labels[:0], np.random.default_rng(0))


def test_pictures_are_of_the_digits_of_their_numbers(captioning):
    pairs = captioning.digit_pairs
    labels = np.arange(30) % 10
    numbers, rng = np.array([42, 7, 70, 99]), np.random.default_rng(0)
    halves = pairs.glue(labels[:, None], labels, numbers, rng)
    assert halves[..., 0].tolist() == [[4, 0, 7, 9], [2, 7, 0, 9]]
    with pytest.raises(ValueError, match="labels must have the digit 4, got none"):
        pairs.glue(labels[:4, None], labels[:4], numbers, rng)


def test_captions_are_read_back(captioning):
    assert captioning.CAPTIONS[[7, 10, 42]].tolist() == ["seven", "ten", "forty-two"]
    texts = captioning.read(captioning.TARGETS)
    # What is padding here is behind the end symbol.
    assert texts.tolist() == captioning.CAPTIONS.tolist()


def test_greedy_is_a_beam_of_one(captioning):
    model, keys = captioning.make_model(), jax.random.split(jax.random.key(0), 3)
    sizes = 64, 2 * captioning.FEATURES, captioning.SIZE
    params = [m.init(k, size) for m, k, size in zip(model, keys, sizes, strict=True)]
    halves = jax.random.uniform(jax.random.key(1), (2, 5, 64))
    greedy, beam = captioning.caption(model, params, halves, beam_size=1)
    assert greedy.shape == (len(captioning.TARGETS), 5)
    np.testing.assert_array_equal(greedy, beam)
