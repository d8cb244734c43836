"""Measure the memory and time of the options in docs/guides/options.md.

    python benchmarks/options.py

An LSTM in float32, T = 1000, B = 32, I = H = 128. Memory is the memory of the compiled
program; times are ratios of programs that ran in turns.
"""

import functools

import jax
from contestants import Shape, problem, train_step
from measure import compiled, in_turns

import jaxrnn

SHAPE = Shape(1000, 32, 128, 128)
DOTS = jax.checkpoint_policies.dots_saveable
UNROLLS = {
    "`unroll_bptt`, the default": jaxrnn.unroll_bptt,
    "`unroll_chunked`": jaxrnn.unroll_chunked,
    "`unroll`": jaxrnn.unroll,
    "`unroll_with(unroll=4)`": jaxrnn.unroll_with(unroll=4),
    "`unroll_with(chunk_size=32)`": jaxrnn.unroll_with(chunk_size=32),
    "`unroll_with(chunk_size=100)`": jaxrnn.unroll_with(chunk_size=100),
    "`unroll_with(chunk_size=32, unroll=4)`": jaxrnn.unroll_with(
        chunk_size=32, unroll=4
    ),
    "`unroll_with(chunk_size=32, policy=dots_saveable)`": jaxrnn.unroll_with(
        chunk_size=32, policy=DOTS
    ),
}
RETURNS = {
    "the final state alone, `no_outputs`": jaxrnn.no_outputs,
    "outputs": lambda cell: cell,
    "all states, `all_states`": jaxrnn.all_states,
}


def main():
    case = problem("lstm", SHAPE)
    arguments = case.params, case.xs, case.state
    print(f"jax {jax.__version__}, {jax.devices()}\n")

    print("| asked for | MB | time |\n|---|---|---|")
    programs = {
        name: compiled(
            functools.partial(jaxrnn.unroll_bptt, make(case.cell)), arguments
        )
        for name, make in RETURNS.items()
    }
    given = sum(leaf.nbytes for leaf in jax.tree.leaves(arguments))
    times = in_turns(programs, budget=15)
    for name, program in programs.items():
        ratio = times[name].median / times["outputs"].median
        memory = (program.memory_bytes - given) / 1e6
        print(f"| {name} | {memory:.1f} | {ratio:.2f} |", flush=True)

    print("\n| `unroll_fn` | MB | time |\n|---|---|---|")
    programs = {
        name: compiled(train_step(functools.partial(run, case.cell)), arguments)
        for name, run in UNROLLS.items()
    }
    times = in_turns(programs, budget=60)
    default = next(iter(times.values())).median
    for name, program in programs.items():
        ratio = times[name].median / default
        print(f"| {name} | {program.memory_bytes / 1e6:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
