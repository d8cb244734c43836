"""Examples that teach: backpropagation by hand, one step, long memory; run small."""

import importlib
import re

import jax
import numpy as np
import pytest
import scripts

EXAMPLES = scripts.ROOT / "examples"


def named(monkeypatch, name):
    """A module of the examples."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module(name)


def test_bptt_by_hand_agrees_with_the_library(tmp_path):
    output = scripts.run_well("bptt_by_hand", "--out", tmp_path)
    digits = scripts.table(output, "digits in common with the gradient by hand")
    assert digits.pop("listing, unmended") < 1
    assert len(digits) == 3
    assert min(digits.values()) > 13
    # The explicit and the implicit part, of both weights; five steps each way.
    assert output.count("explicit part") == output.count("implicit part") == 2
    assert output.count("\nforward, step") == output.count("\nbackward, step") == 5
    assert scripts.is_picture(tmp_path / "unfolded.png")


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_the_gradient_by_hand_is_the_slope_of_the_loss(monkeypatch, output):
    listing = named(monkeypatch, "support.listing")
    p, x, target = listing.draw(np.random.default_rng(1), 5, output)
    d, _ = listing.mended(p, x, target, listing.forward(p, x, target, output))
    wrong, _ = listing.as_listed(p, x, target, listing.forward(p, x, target, output))

    def loss(w_h):
        return listing.forward({**p, "W_h": w_h}, x, target, output).loss.sum()

    direction = np.array([[0.3, -0.4], [0.5, 0.2]])
    slope = (
        loss(p["W_h"] + 1e-5 * direction) - loss(p["W_h"] - 1e-5 * direction)
    ) / 2e-5
    assert abs(slope - (d["W_h"] * direction).sum()) < 1e-8
    assert abs(slope - (wrong["W_h"] * direction).sum()) > 1e-3


@pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
def test_the_terms_of_three_steps_add_up(monkeypatch, output):
    listing = named(monkeypatch, "support.listing")
    p, x, target = listing.draw(np.random.default_rng(1), 3, output)
    start = np.array([0.5, -0.5])
    f = listing.forward(p, x, target, output, start)
    row = (f.y[-1] - target[-1]) @ p["W_y"]
    for name, used in (("W_h", f.h), ("W_x", x)):
        direction = np.random.default_rng(2).standard_normal(p[name].shape)

        def last_loss(step, name=name, direction=direction):
            moved = {**p, name: p[name] + step * direction}
            return listing.forward(moved, x, target, output, start).loss[-1]

        slope = (last_loss(1e-5) - last_loss(-1e-5)) / 2e-5
        terms = listing.terms(p, f, row, used)
        assert abs(slope - (terms.sum(0) * direction).sum()) < 1e-8
        assert (np.abs(terms).max(axis=(1, 2)) > 1e-3).all()


@scripts.needs("sklearn")
def test_one_to_one_is_a_perceptron_and_learns(tmp_path):
    small = ["--limit", 600, "--epochs", 8, "--hidden-size", 24]
    output = scripts.run_well("one_to_one", *small, "--out", tmp_path)
    apart = re.findall(r"^  (outputs|gradients) +(\S+)$", output, flags=re.MULTILINE)
    assert [name for name, _ in apart] == ["outputs", "gradients"]
    assert max(float(number) for _, number in apart) < 1e-6
    assert "largest gradient of the recurrent weights: 0.0" in output
    rows = scripts.table(output, "accuracy on 150 test images")
    assert rows["jaxrnn, Elman with T = 1"] > 0.75
    assert rows["logistic regression"] > 0.85
    assert rows["scikit-learn's perceptron"] > 0.85
    assert rows["most frequent digit"] < 0.2
    assert scripts.is_picture(tmp_path / "wrong.png")


@scripts.needs("sklearn")
def test_one_to_one_needs_two_classes(monkeypatch, capsys, tmp_path):
    one_to_one = named(monkeypatch, "one_to_one")
    for arguments, message in [
        (["--digits", "7"], "training must have at least two classes, got 107 images"),
        (["--digits", ""], "training must have at least two classes, got 0 images"),
        (["--limit", "3"], "training must have at least two classes, got 1 images"),
        (["--limit", "12"], "validation must have at least two classes, got 1 images"),
        (["--digits", "3x"], "--digits must be some of 0123456789, got '3x'"),
    ]:
        out = tmp_path / "fresh"
        monkeypatch.setattr("sys.argv", ["one_to_one", *arguments, "--out", str(out)])
        with pytest.raises(SystemExit):
            one_to_one.main()
        assert message in capsys.readouterr().err
        assert not out.exists()


@pytest.mark.slow
def test_long_memory_judges_cells(tmp_path):
    small = ["--steps", 2, "--length", 4, "--cells", "tanh", "GRU"]
    output = scripts.run_well("long_memory", *small, "--out", tmp_path)
    titles = {
        "sentences: accuracy, the country 26 words before": (0, 1),
        "sentences: accuracy, the country 89 words before": (0, 1),
        "adding: squared error over 4 numbers": (0, 10),
        "copy: loss over 4 blanks, in nats": (0, 10),
    }
    for title, (low, high) in titles.items():
        rows = scripts.table(output, title)
        cells = [name for name in rows if name.startswith("jaxrnn, ")]
        assert cells == ["jaxrnn, tanh", "jaxrnn, GRU"]
        assert all(low <= value <= high for value in rows.values())
    assert "I grew up in" in output
    for name in ("memory", "gradients"):
        assert scripts.is_picture(tmp_path / f"{name}.png")
    result = scripts.run("long_memory", "--length", 2, "--out", tmp_path / "fresh")
    assert "--length must be at least 3, got 2" in result.stderr
    assert not (tmp_path / "fresh").exists()


@pytest.mark.usefixtures("standard_promotion")
def test_sentences_name_the_right_country_first(monkeypatch):
    problems = named(monkeypatch, "support.memory_problems")
    text = problems.draw_sentences(jax.random.key(0), 200, [0, 2, 5], 6)
    xs, country, mask = text
    assert xs.shape[:2] == mask.shape
    countries = list(problems.LANGUAGES)
    lengths, last = set(), []
    for row in range(200):
        words = problems.write(text, row).split()
        mentioned = [word for word in words if word in countries]
        assert words[:4] == ["I", "grew", "up", "in"]
        assert words[-3:] == ["I", "speak", "fluent"]
        assert words[4] == mentioned[0] == countries[int(country[row])]
        assert mentioned[0] not in mentioned[1:]
        last.append(mentioned[-1] == words[4])
        lengths.add(len(words) - words.index(words[4]))
    assert lengths == {problems.distance(count) for count in (0, 2, 5)}
    assert problems.naive_accuracy(text) == pytest.approx(np.mean(last))
    assert 0 < np.mean(last) < 1


@pytest.mark.usefixtures("standard_promotion")
def test_training_has_every_number_of_sentences(monkeypatch):
    """A gap in the lengths learned from would be measured, not the memory."""
    problems = named(monkeypatch, "support.memory_problems")
    _, _, mask = problems.make("sentences", 7).draw(jax.random.key(0), 400)
    found = (np.asarray(mask).sum(0) - problems.distance(0) - 3) // 7
    assert set(found.tolist()) == set(range(1, 8))


def test_adding_and_copy_ask_for_what_they_say(monkeypatch):
    problems = named(monkeypatch, "support.memory_problems")
    xs, sums, _ = problems.make("adding", 9).draw(jax.random.key(0), 50)
    numbers, marks = np.asarray(xs[..., 0]), np.asarray(xs[..., 1])
    assert (marks[:4].sum(0) == 1).all()
    assert (marks[4:].sum(0) == 1).all()
    np.testing.assert_allclose(sums[:, 0], (numbers * marks).sum(0), rtol=1e-6)
    xs, targets, _ = problems.make("copy", 6).draw(jax.random.key(0), 50)
    symbols, targets = np.asarray(xs.argmax(-1)), np.asarray(targets)
    assert symbols.shape == targets.shape == (26, 50)
    assert (targets[-10:] == symbols[:10]).all()
    assert (targets[:-10] == problems.BLANK).all()
    assert (symbols[15] == problems.RECALL).all()  # ten recalls follow from here
    assert (symbols[16:] == problems.BLANK).all()


def test_a_gru_that_keeps_begins_with_open_update_gates(monkeypatch):
    cell = named(monkeypatch, "support.memory_cells").make(5, 3.0)["GRU"]
    b = np.asarray(cell.init(jax.random.key(0), 2).b)
    assert b.tolist() == [0] * 5 + [3] * 5 + [0] * 5
