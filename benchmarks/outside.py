"""Measure the effect of settings made outside the program.

    python benchmarks/outside.py

A setting applies to a whole process, so processes take turns. Each trains an LSTM at
each shape and reports its median time; every setting runs several times. Prints the
speed-up over no setting, computed from the medians of these medians.
"""

import json
import os
import statistics
import subprocess
import sys

SHAPES = ["S1", "S3", "S4", "R1", "L2", "A1"]
TURNS = 2
SETTINGS = {
    "none": {},
    "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
    "Eigen's products": {"XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type="},
    "one thread": {"TASKSET": "0"},
}


def measure():
    """Time a training step at each shape, in seconds; runs in its own process."""
    if cores := os.environ.get("TASKSET"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})

    import functools

    import contestants
    from measure import compiled, in_turns

    import jaxrnn

    seconds = {}
    for name in SHAPES:
        case = contestants.problem("lstm", contestants.SHAPES[name])
        run = functools.partial(jaxrnn.unroll_bptt, case.cell)
        function = contestants.train_step(run)
        program = compiled(function, (case.params, case.xs, case.state))
        seconds[name] = in_turns({"": program}, budget=2)[""].median
    print(json.dumps(seconds))


def main():
    if sys.argv[1:] == ["measure"]:
        measure()
        return
    results = {name: [] for name in SETTINGS}
    for _ in range(TURNS):
        for name, setting in SETTINGS.items():
            done = subprocess.run(
                [sys.executable, __file__, "measure"],
                env={**os.environ, **setting},
                capture_output=True,
                text=True,
                check=True,
            )
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    print("| setting | " + " | ".join(SHAPES) + " |\n|---|" + "---|" * len(SHAPES))
    for name in SETTINGS:
        cells = []
        for shape in SHAPES:
            own, plain = (
                statistics.median(turn[shape] for turn in results[each])
                for each in (name, "none")
            )
            cells.append(f"{plain / own:.2f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
