"""Profile one program kernel by kernel.

    python benchmarks/profile_step.py [--cell lstm] [--shape S3] [--mode train]

Prints the kernels of a run sorted by total time, with their number of executions, and
the total by kind. ``--plain`` profiles ``jaxrnn.unroll`` instead of the fast path. To
profile a model of your own, copy the two essential lines of :func:`kernels`.
"""

import argparse
import collections
import functools
import pathlib
import tempfile

import jax
from contestants import CELLS, SHAPES, problem, train_step
from measure import compiled

import jaxrnn

REPEATS = 5
KINDS = {  # prefixes of kernel names
    "products": ("ynn_fusion", "dot", "gemm", "cublas"),
    "zeros": ("wrapped_broadcast", "broadcast."),
    "copies": ("copy", "concatenate", "transpose"),
}
NOT_KERNELS = ("while", "ThunkExecutor", "call", "conditional", "end: ", "Slinky")


def kernels(run) -> dict[str, tuple[float, float]]:
    """Return milliseconds and number of executions of each kernel in one run."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(REPEATS):
                run()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        profile = jax.profiler.ProfileData.from_file(str(file))
    total, count = collections.Counter(), collections.Counter()
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                name = event.name
                python = "$" in name or "(" in name or "::" in name
                if not python and not name.startswith(NOT_KERNELS):
                    total[name] += event.duration_ns / 1e6 / REPEATS
                    count[name] += 1 / REPEATS
    return {name: (total[name], count[name]) for name, _ in total.most_common()}


def kind(name: str) -> str:
    for each, beginnings in KINDS.items():
        if name.startswith(beginnings):
            return each
    return "elementwise"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    parser.add_argument("--shape", choices=SHAPES, default="S3")
    parser.add_argument("--mode", choices=["forward", "train"], default="train")
    parser.add_argument("--plain", action="store_true", help="profile jaxrnn.unroll")
    parser.add_argument("--top", type=int, default=20)
    options = parser.parse_args()
    case = problem(options.cell, SHAPES[options.shape])
    unroll_fn = jaxrnn.unroll if options.plain else jaxrnn.unroll_bptt
    run = functools.partial(unroll_fn, case.cell, **case.flags)
    function = run if options.mode == "forward" else train_step(run)
    program = compiled(function, (case.params, case.xs, case.state))
    program.run()
    found = kernels(program.run)
    by_kind = collections.Counter()
    for name, (milliseconds, _) in found.items():
        by_kind[kind(name)] += milliseconds
    print("| kernel | ms | times |\n|---|---|---|")
    for name, (milliseconds, times) in list(found.items())[: options.top]:
        print(f"| {name} | {milliseconds:.2f} | {times:.0f} |")
    print("\n| kind | ms |\n|---|---|")
    for name, milliseconds in by_kind.most_common():
        print(f"| {name} | {milliseconds:.1f} |")
    print("\nKernels run side by side on several cores: the sum exceeds the time.")


if __name__ == "__main__":
    main()
