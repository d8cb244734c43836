"""Measure time and memory of ``unroll_chunked`` for 100 to a million steps.

    python benchmarks/long.py

A training step (gradients of parameters, inputs and initial state) of an LSTM with one
batch entry, 16 inputs and 64 units, in float32; for comparison ``unroll_bptt`` and
``jax.grad`` of ``unroll``, as far as they go. Time is per step of the sequence; memory
is what the compiled program needs. ``--check`` also compares the gradients in float64.
"""

import argparse

import jax
import jax.numpy as jnp
from contestants import Problem, Shape, problem, train_step
from measure import compiled, in_turns

import jaxrnn

UNROLLS = {
    "unroll_chunked": (jaxrnn.unroll_chunked, 10**6),
    "unroll_bptt": (jaxrnn.unroll_bptt, 10**5),
    "unroll": (jaxrnn.unroll, 10**5),
}


def program(unroll_fn, case: Problem):
    def run(params, xs, state):
        return unroll_fn(case.cell, params, xs, state)

    return compiled(train_step(run), (case.params, case.xs, case.state))


def difference(num_steps: int) -> float:
    """Return the largest relative difference from ``jax.grad`` in float64."""
    case = problem("lstm", Shape(num_steps, 1, 16, 64))
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (case.params, case.xs, case.state)
        )

        def gradients(unroll_fn):
            def run(params, xs, state):
                return unroll_fn(case.cell, params, xs, state)

            return jax.jit(train_step(run))(*wide)[1]

        errors = jax.tree.map(
            lambda a, b: float(abs(a - b).max() / abs(b).max()),
            gradients(jaxrnn.unroll_chunked),
            gradients(jaxrnn.unroll),
        )
    return max(jax.tree.leaves(errors))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        print(f"float64, 10000 steps: {difference(10_000):.0e} from jax.grad")
    print("| T |" + "".join(f" {name}, us a step, MB |" for name in UNROLLS))
    print("|---|" + "---|" * len(UNROLLS))
    for num_steps in [10**n for n in range(2, 7)]:
        case = problem("lstm", Shape(num_steps, 1, 16, 64))
        programs = {
            name: program(unroll_fn, case)
            for name, (unroll_fn, most) in UNROLLS.items()
            if num_steps <= most
        }
        times = in_turns(programs, budget=6, least=3)
        cells = [
            f"{1e6 * times[name].median / num_steps:.2f},"
            f" {programs[name].memory_bytes / 1e6:.1f}"
            if name in programs
            else ""
            for name in UNROLLS
        ]
        print(f"| {num_steps} | " + " | ".join(cells) + " |", flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    main()
