"""Examples that teach: backpropagation by hand, one step, long memory; run small."""

import numpy as np
import pytest
import scripts

EXAMPLES = scripts.ROOT / "examples"


def named(monkeypatch, name):
    """A module of the examples."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return __import__(name)


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
    listing = named(monkeypatch, "listing")
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
    listing = named(monkeypatch, "listing")
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


def test_one_to_one_is_a_perceptron_and_learns(tmp_path):
    small = ["--limit", 600, "--epochs", 8, "--hidden-size", 24]
    output = scripts.run_well("one_to_one", *small, "--out", tmp_path)
    lines = [line.split() for line in output.splitlines()]
    apart = {line[0]: float(line[1]) for line in lines if len(line) == 2}
    assert apart["outputs"] < 1e-6
    assert apart["gradients"] < 1e-6
    assert "largest gradient of the recurrent weights: 0.0" in output
    rows = scripts.table(output, "accuracy on 150 test images")
    assert rows["jaxrnn, Elman with T = 1"] > 0.75
    assert rows["logistic regression"] > 0.85
    assert rows["scikit-learn's perceptron"] > 0.85
    assert rows["most frequent digit"] < 0.2
    assert scripts.is_picture(tmp_path / "wrong.png")


def test_one_to_one_needs_two_classes(tmp_path):
    for arguments, message in [
        (["--digits", "7"], "training must have images of at least two classes, got"),
        (["--digits", ""], "training must have images of at least two classes, got 0"),
        (["--digits", "3x"], "--digits must be some of 0123456789, got '3x'"),
        (["--limit", 3], "validation must have images of at least two classes, got 0"),
    ]:
        result = scripts.run("one_to_one", *arguments, "--out", tmp_path / "fresh")
        assert result.returncode == 2
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "fresh").exists()


def test_long_memory_judges_four_cells(tmp_path):
    small = ["--steps", 2, "--length", 4]
    output = scripts.run_well("long_memory", *small, "--out", tmp_path)
    titles = {
        "sentences: accuracy over 33 words": (0, 1),
        "adding: squared error over 4 numbers": (0, 10),
        "copy: loss over 4 blanks, in nats": (0, 10),
    }
    for title, (low, high) in titles.items():
        rows = scripts.table(output, title)
        cells = [name for name in rows if name.startswith("jaxrnn, ")]
        assert len(cells) == 4
        assert all(low <= value <= high for value in rows.values())
    assert "I grew up in" in output
    for name in ("memory", "gradients"):
        assert scripts.is_picture(tmp_path / f"{name}.png")
    result = scripts.run("long_memory", "--length", 1, "--out", tmp_path / "fresh")
    assert "--length must be at least 2, got 1" in result.stderr
    assert not (tmp_path / "fresh").exists()
