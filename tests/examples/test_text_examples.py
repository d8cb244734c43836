"""The first examples, run small."""

import importlib
import re
import signal
import subprocess
import sys
import time

import pytest
import safetensors.numpy
import scripts

TEXT = "In the beginning was the word, and the word was all there was. " * 60


def run(*arguments):
    return scripts.run("char_lm", *arguments)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpus):
    out = tmp_path_factory.mktemp("trained")
    small = ["--cell", "gru", "--hidden-size", 32, "--steps", 150]
    return out, run("--corpus", corpus, *small, "--out", out)


@pytest.mark.slow
def test_char_lm_trains(trained):
    out, result = trained
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no terminal, no progress bar, no warning
    lines = result.stdout.splitlines()
    difference = re.fullmatch(
        r"hand-derived gradient and jax.grad differ by (\S+), relative", lines[0]
    )
    assert float(difference[1]) < 1e-5
    bigram = re.search(r"by counts alone: unigram \S+, bigram (\S+)", result.stdout)
    last = re.fullmatch(r"validation bits per character: (\S+)", lines[-1])
    assert float(last[1]) < float(bigram[1])
    for name in ("loss.png", "gradients.png"):
        assert scripts.is_picture(out / name)
    assert "--- greedy" in result.stdout


@pytest.mark.slow
def test_char_lm_generates_without_training(trained):
    out, _ = trained
    result = run("--out", out, "--generate", "In the ")
    assert result.returncode == 0, result.stderr
    assert "--- greedy\nIn the " in result.stdout
    assert "validation" not in result.stdout


@pytest.mark.slow
def test_char_lm_keeps_the_best_on_ctrl_c(tmp_path, corpus):
    size = "--hidden-size", 24, "--steps", 10**6
    arguments = "--corpus", corpus, *size, "--out", tmp_path
    with scripts.started("char_lm", *arguments) as process:
        seen = ""
        while "bigram" not in seen:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            seen += line
        time.sleep(5)  # the compilation of the update, and some steps
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "stopped early: interrupted after step" in out
    assert (tmp_path / "params.safetensors").exists()
    assert out.splitlines()[-1].startswith("validation bits per character: ")


@pytest.mark.slow
def test_mistakes_are_named_before_anything_is_written(tmp_path, corpus, trained):
    out, _ = trained
    short = tmp_path / "short.txt"
    short.write_text("too short")
    damaged, foreign = tmp_path / "damaged", tmp_path / "foreign"
    for folder in (damaged, foreign):
        folder.mkdir()
    whole = (out / "params.safetensors").read_bytes()
    (damaged / "params.safetensors").write_bytes(whole[:-50])
    safetensors.numpy.save_file({}, foreign / "params.safetensors")
    occupied = tmp_path / "occupied"
    occupied.write_text("a file, not a folder")

    for arguments, message in [
        (
            ["--corpus", tmp_path / "none.txt"],
            "--corpus must be kjv, python or a readable",
        ),
        (["--corpus", short], "--corpus must have at least 2021 characters, got 9"),
        (["--corpus", corpus, "--out", occupied], "--out must be a folder that can be"),
        (["--corpus", corpus, "--out", damaged], "not a safetensors file, or damaged"),
        (
            ["--corpus", corpus, "--out", foreign],
            "was not written by jaxrnn.checkpoint",
        ),
        (["--hidden-size", "0"], "--hidden-size: must be an int of at least 1, got 0"),
        (["--cell", "transformer"], "invalid choice: 'transformer'"),
        (["--out", out, "--generate", "Ω"], "'Ω'"),
        (
            ["--out", out, "--generate", ""],
            "--generate must have at least one character",
        ),
        (["--out", tmp_path, "--generate", "In"], "no such file"),
        (["--out", damaged, "--generate", "In"], "not a safetensors file, or damaged"),
        (
            ["--out", foreign, "--generate", "In"],
            "was not written by jaxrnn.checkpoint",
        ),
    ]:
        before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
        if "--out" not in arguments:
            arguments = [*arguments, "--out", tmp_path / "fresh"]
        result = run(*arguments)
        assert result.returncode != 0, arguments
        assert message in result.stderr, (arguments, result.stderr)
        assert "Traceback" not in result.stderr
        after = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
        assert after == before


def test_hello_tells_the_two_letters_apart(tmp_path):
    output = scripts.run_well("hello", "--out", tmp_path)
    before, after = output.split("after 300 steps of training")
    assert before.count("step  input  state") == after.count("step  input  state") == 1
    assert "and it is" in before
    assert "and it is" not in after
    rows = scripts.table(after, "accuracy of the next character")
    assert rows == {"jaxrnn, Elman": 1, "by the last character alone": 0.75}
    assert "written on from 'h': hello" in after
    assert scripts.is_picture(tmp_path / "states.png")
    result = scripts.run("hello", "--word", "a", "--out", tmp_path / "other")
    assert result.returncode != 0
    assert "--word must have at least 2 characters, got 'a'" in result.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_vanishing_gradients_measures_and_draws(tmp_path):
    small = ["--steps", 12, "--hidden-size", 4, "--updates", 3]
    output = scripts.run_well("vanishing_gradients", *small, "--out", tmp_path)
    rows = re.findall(r"^(.{36})((?: +\S+){5})$", output, flags=re.MULTILINE)
    named = {name.strip(): [float(n) for n in row.split()] for name, row in rows}
    assert len(named) == 16
    # A smaller spectral radius leaves less of the gradient.
    ends = [named[f"tanh, Gaussian, radius {radius}"][2] for radius in (0.5, 1.0, 1.5)]
    assert ends == sorted(ends)
    for name in ("cells", "initialisation", "forget_bias", "clipping"):
        assert scripts.is_picture(tmp_path / f"{name}.png")
    assert (tmp_path / "curves.safetensors").exists()


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.syspath_prepend(scripts.ROOT / "examples")
    packages = importlib.import_module("support.packages")
    with pytest.raises(
        SystemExit, match=r'the package no-such: pip install -e "\.\[ex'
    ):
        packages.package_file("no_such", "data.csv", "no-such")
    with pytest.raises(SystemExit, match=r"must have the file data\.csv, got a"):
        packages.package_file("pytest", "data.csv")
    code = "import support, no_such"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=scripts.ROOT / "examples",
        env=scripts.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    expected = 'no_such is not installed: pip install -e ".[examples]"\n'
    assert result.stderr == expected
