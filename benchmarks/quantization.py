"""Measure the bytes, the error and the times of int8 weights.

    python benchmarks/quantization.py
    python benchmarks/quantization.py --char-lm runs/char_lm/params.safetensors

An LSTM with a readout, I = H / 4, O = 64; times are ratios to float32 of programs that
ran in turns. The second command adds the bits per character of a model that
``examples/char_lm.py`` has trained, on the text that it holds out.
"""

import argparse
import pathlib
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
from measure import compiled, in_turns

import jaxrnn
from jaxrnn.quantization import quantize

ROOT = pathlib.Path(__file__).parent.parent
SIZES, BATCHES, STEPS = (128, 256, 512, 1024), (1, 8, 64), 100


def num_bytes(tree):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def ratio(function, params, small, arguments):
    """Return the time with int8 weights relative to that with float32."""
    programs = {
        name: compiled(function, (weights, *arguments))
        for name, weights in {"float32": params, "int8": small}.items()
    }
    times = in_turns(programs, budget=3, least=7)
    return times["int8"].median / times["float32"].median


def measure(size):
    """Print a row of the table for one hidden size."""
    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(size)), jaxrnn.dense(64))
    params = model.init(jax.random.key(0), size // 4, jnp.float32)
    small = jax.jit(quantize)(params)
    xs = jax.random.normal(jax.random.key(1), (STEPS, BATCHES[-1], size // 4))
    run = jax.jit(model.apply)
    exact, ys = run(params, xs)[1], run(small, xs)[1]
    error = jnp.sqrt(jnp.square(ys - exact).mean()) / exact.std()
    cells = [str(size), f"{num_bytes(small) / num_bytes(params):.3f}", f"{error:.4f}"]
    for batch in BATCHES:
        state = model.initial_state(params, (batch,))
        cells.append(f"{ratio(model.step, params, small, (state, xs[0, :batch])):.2f}")
    cells.append(f"{ratio(model.apply, params, small, (xs[:, :1],)):.2f}")
    print(f"| {' | '.join(cells)} |", flush=True)


def measure_char_lm(path):
    """Print the bits per character of a trained model, and those with int8 weights."""
    sys.path.insert(0, str(ROOT / "examples"))
    example = runpy.run_path(str(ROOT / "examples" / "char_lm.py"))
    text = example["text"]
    model, params, vocabulary = example["load"](path)
    corpus = text.read_corpus("kjv")
    split = int(len(corpus) * (1 - example["VALIDATION_FRACTION"]))
    tokens = text.encode(corpus, vocabulary)[split:]
    streams, steps = example["VALIDATION_STREAMS"], example["VALIDATION_STEPS"]
    held_out = text.streams(tokens, streams, steps)
    loss_fn = jax.jit(example["make_loss"](model))
    small = quantize(params)
    before, after = (float(loss_fn(p, held_out)) / np.log(2) for p in (params, small))
    bytes_ratio = num_bytes(small) / num_bytes(params)
    print(f"char_lm: {bytes_ratio:.3f} of the bytes; bits per character {before:.4f}")
    print(f"float32, {after:.4f} int8: {100 * (after / before - 1):+.3f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--char-lm", type=pathlib.Path, help="a file of char_lm.py")
    args = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()}\n")
    if args.char_lm is not None:
        measure_char_lm(args.char_lm)
        return
    steps = " | ".join(f"`step`, B = {batch}" for batch in BATCHES)
    print(f"| H | bytes | error | {steps} | `apply`, T = {STEPS}, B = 1 |")
    print("|---|---|---|" + "---|" * (len(BATCHES) + 1))
    for size in SIZES:
        measure(size)


if __name__ == "__main__":
    main()
