"""Measure how long programs take to compile, against every installed peer on JAX.

    python benchmarks/compile_time.py [--cells lstm] [--shapes S3 A1] [--rounds 5]

Each program is compiled several times, in turns, with JAX's caches cleared; results are
medians. Below 1, jaxrnn compiles faster than the fastest peer.
"""

import argparse
import random
import statistics

import jax
from compare import NOT_JAX_PEERS, OURS, TARGET_SHAPES
from contestants import CELLS, SHAPES, contestants, problem

MODES = ("forward", "train")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=TARGET_SHAPES)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()}")
    columns = [f"{cell}, {mode}" for cell in options.cells for mode in MODES]
    print("| shape | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for shape in options.shapes:
        ratios = [
            f"{to_best_peer(problem(cell, SHAPES[shape]), mode, options.rounds):.2f}"
            for cell in options.cells
            for mode in MODES
        ]
        print(f"| {shape} | " + " | ".join(ratios) + " |", flush=True)


def to_best_peer(case, mode, rounds):
    rivals = [
        each
        for each in contestants()
        if each.name == OURS or each.name not in NOT_JAX_PEERS
    ]
    order = random.Random(0)
    seconds = {}
    for _ in range(rounds):
        for each in order.sample(rivals, len(rivals)):
            jax.clear_caches()
            program = each.program(case, mode)
            if program is not None:
                seconds.setdefault(each.name, []).append(program.compile_seconds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    ours = medians.pop(OURS)
    return ours / min(medians.values())


if __name__ == "__main__":
    main()
