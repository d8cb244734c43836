"""The Keras programs and their twins, run small; needs the extra ``compare``."""

import importlib.util
import re

import pytest
import scripts

if importlib.util.find_spec("keras") is None:
    pytest.skip('needs pip install -e ".[compare]"', allow_module_level=True)


def test_the_losses_are_those_of_keras(tmp_path):
    small = ["--epochs", 2, "--batches", 6]
    output = scripts.run_apart("keras_twins", *small, "--out", tmp_path)
    differences = re.findall(r"largest relative difference, \w+: (\S+)", output)
    assert len(differences) == 2
    assert max(map(float, differences)) < 1e-4
    rows = scripts.table(output, "accuracy on 357 test images")
    for name in ("LSTM", "GRU"):
        assert rows[f"jaxrnn, {name}"] == pytest.approx(
            rows[f"Keras, {name}"], abs=0.01
        )
    assert rows["logistic regression"] > 0.7
    assert scripts.is_picture(tmp_path / "curves.png")
