"""Compare jaxrnn with every installed peer: speed, memory, compile time, error.

    pip install -e ".[compare,test]"
    python benchmarks/compare.py [--quick | --check] [--cells lstm] [--shapes S1 R1]

All programs of a table row run in turns, so that noise of the machine affects all of
them; ratios use medians. Modes: ``forward``; ``train``, the value and the gradients of
parameters, inputs and initial state; ``step``, one streaming step. Writes all results
to ``benchmarks/results/<name>.json`` and the tables to ``<name>.md``, row by row; rows
measured earlier on the same machine are kept. ``--quick`` takes less than three
minutes. ``--check`` needs no peers: it fails if the fast path is not faster than
``jax.grad`` of the plain unroll, or does not use less memory. On a GPU the same
command runs cuDNN too.
"""

import argparse
import json
import math
import pathlib
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np
from contestants import (
    CELLS,
    MODES,
    SHAPES,
    Contestant,
    Problem,
    contestants,
    problem,
    products_program,
)
from measure import in_turns, machine

import jaxrnn
from jaxrnn import kernels

RESULTS = pathlib.Path(__file__).parent / "results"
OURS, PLAIN, TORCH, PRODUCTS = "jaxrnn", "jaxrnn unroll", "torch", "products"
XLA = "jaxrnn XLA"  # the same without the compiled kernels
NOT_JAX_PEERS = {OURS, XLA, PLAIN, TORCH, PRODUCTS, "jax cuDNN"}
TARGET_SHAPES = ("S1", "S2", "S3", "S4", "R1", "L2", "A1")
QUICK = {
    "cells": ["lstm"],
    "shapes": ["S1", "S3", "R1", "L2"],
    "modes": ["forward", "train"],
}
MARGINS = {"lstm": (1.2, 2.2), "gru": (1.1, 1.5), "elman": (0.9, 0.9)}  # for --check
LONG = 10_000  # from this length on, only jaxrnn and the textbook scan run


def main():
    options = arguments()
    if options.check:
        sys.exit(check(options))
    known = contestants()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{options.name}.json"
    record = {"machine": machine(), "rows": []}
    if path.exists():
        before = json.loads(path.read_text())
        if before["machine"] == record["machine"]:
            record = before
        else:
            sys.exit(f"{path} was measured on another machine: give another --name")
    print(json.dumps(record["machine"], indent=1), flush=True)
    print(f"kernels: {kernels.status()}", flush=True)
    for cell in options.cells:
        for shape in options.shapes:
            case = problem(cell, SHAPES[shape])
            for mode in options.modes:
                if mode == "step" and case.shape.flag:
                    continue  # flags apply to whole sequences
                key = {"cell": cell, "shape": shape, "mode": mode}
                row = key | measure(case, mode, known, options)
                print(line(row), flush=True)
                others = [r for r in record["rows"] if not key.items() <= r.items()]
                record["rows"] = sorted([*others, row], key=place)
                path.write_text(json.dumps(record, indent=1) + "\n")
                path.with_suffix(".md").write_text(report(record))
            jax.clear_caches()
    print(f"\nwrote {path} and {path.with_suffix('.md').name}")


def place(row: dict) -> tuple[int, ...]:
    """Return the sort key of a row in the tables."""
    tables = {"cell": CELLS, "shape": SHAPES, "mode": MODES}
    return tuple(list(values).index(row[key]) for key, values in tables.items())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under three minutes")
    parser.add_argument("--check", action="store_true", help="test our margins alone")
    parser.add_argument("--cells", nargs="+", choices=CELLS)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES)
    parser.add_argument("--modes", nargs="+", choices=MODES)
    parser.add_argument("--budget", type=float, help="seconds for each row of programs")
    parser.add_argument("--name", default=jax.default_backend(), help="file name")
    options = parser.parse_args()
    every = {"cells": list(CELLS), "shapes": list(SHAPES), "modes": list(MODES)}
    for name, default in (QUICK if options.quick else every).items():
        setattr(options, name, getattr(options, name) or default)
    options.budget = options.budget or (4.0 if options.quick else 10.0)
    return options


def check(options: argparse.Namespace) -> int:
    """Count the cells that miss their margin; margins allow for a busy machine."""
    ours = [each for each in contestants() if each.name in (OURS, XLA, PLAIN)]
    failed = 0
    for cell, (time, memory) in MARGINS.items():
        row = measure(problem(cell, SHAPES["S3"]), "train", ours, options)
        faster, smaller = ratio(row, PLAIN), ratio(row, PLAIN, "memory")
        by_xla = row["times"][PLAIN]["median"] / row["times"][XLA]["median"]
        missed = min(faster, by_xla) < time or smaller < memory
        failed += missed
        print(
            f"{cell} S3 train, jax.grad to fast path: time {faster:.2f}, without "
            f"kernels {by_xla:.2f} (at least {time}), memory {smaller:.2f} (at least "
            f"{memory})" + (": FAILED" if missed else "")
        )
    return failed


def measure(case: Problem, mode: str, known: list[Contestant], options) -> dict:
    """Measure one row: every contestant on one problem in one mode."""
    programs, errors = {}, {}
    expected = None
    for each in known:
        if case.shape.num_steps > LONG and each.name not in (OURS, "lax.scan"):
            continue
        program = each.program(case, mode)
        if program is None:
            continue
        programs[each.name] = program
        if mode == "train" and each.values and case.shape.num_steps <= LONG:
            expected = reference(case) if expected is None else expected
            errors[each.name] = error(each.values(case), expected)
    limit = products_program(case, mode)
    if limit is not None:
        programs[PRODUCTS] = limit
    times = in_turns(programs, budget=options.budget)
    return {
        "times": {name: each._asdict() for name, each in times.items()},
        "compile": {name: p.compile_seconds for name, p in programs.items()},
        "memory": {name: p.memory_bytes for name, p in programs.items()},
        "error": errors,
    }


def reference(case: Problem):
    """Compute float64 outputs and input gradients, and the same with resets."""
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda a: jnp.asarray(np.asarray(a), jnp.float64),
            (case.params, case.xs, case.state),
        )

        def loss(xs):
            state, ys = jaxrnn.unroll(case.cell, wide[0], xs, wide[2], **case.flags)
            last = sum(leaf.sum() for leaf in jax.tree.leaves(state))
            return 0.5 * (ys * ys).sum() + last, ys

        dxs, ys = jax.jit(jax.grad(loss, has_aux=True))(wide[1])
        return np.asarray(ys), np.asarray(dxs)


def error(actual, expected) -> float | None:
    """Return the largest relative difference; None if another function is computed."""
    if actual is None:
        return None
    return max(
        float(np.abs(np.asarray(a) - e).max() / np.abs(e).max())
        for a, e in zip(actual, expected, strict=True)
    )


def best_peer(row: dict) -> str | None:
    """Return the fastest peer library on JAX."""
    peers = [name for name in row["times"] if name not in NOT_JAX_PEERS]
    return min(peers, key=lambda name: row["times"][name]["median"], default=None)


def ratio(row: dict, name: str | None, what: str = "times") -> float | None:
    """Return another contestant's cost divided by jaxrnn's."""
    ours, theirs = row[what].get(OURS), row[what].get(name)
    if not ours or not theirs:
        return None
    if what == "times":
        return theirs["median"] / ours["median"]
    return theirs / ours


def number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def line(row: dict) -> str:
    times = ", ".join(
        f"{name} {1e3 * each['median']:.3g}" for name, each in row["times"].items()
    )
    return (
        f"{row['cell']} {row['shape']} {row['mode']}:"
        f" {number(ratio(row, best_peer(row)))} of {best_peer(row)},"
        f" {number(ratio(row, TORCH))} of torch; ms: {times}"
    )


def report(record: dict) -> str:
    """Format the tables as Markdown."""
    info = record["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in info["versions"].items() if v)
    flags = ", ".join(f"{k}={v}" for k, v in info["flags"].items()) or "none"
    parts = [
        "# Measured by `python benchmarks/compare.py`\n",
        f"{info['device']}, {info['cores']} cores, Python {info['python']}; {versions};"
        f" kernels: {info['kernels']}; flags: {flags}. float32. Ratios of medians;"
        " above 1, jaxrnn is faster, smaller or quicker to compile.\n",
    ]
    for cell in CELLS:
        for mode in MODES:
            rows = [r for r in record["rows"] if (r["cell"], r["mode"]) == (cell, mode)]
            if rows:
                parts.append(f"## `{cell}`, {mode}\n\n{table(rows)}\n")
    parts.append(f"## Where we lose\n\n{losses(record['rows'])}")
    return "\n".join(parts)


def table(rows: list[dict]) -> str:
    """Format one row per shape, and the geometric means over the target shapes."""
    header = [
        "shape", "T, B, I, H", "ms (quartiles)", "best peer", "to best peer",
        "to `jax.grad`", "to XLA", "to torch", "of products", "MB",
        "memory, `jax.grad`", "compile s", "compile, best peer", "error",
        "error, best peer",
    ]  # fmt: skip
    lines = [header, ["---"] * len(header)]
    for row in rows:
        ours, peer = row["times"][OURS], best_peer(row)
        shape = SHAPES[row["shape"]]
        products = ratio(row, PRODUCTS)
        lines.append([
            row["shape"],
            ", ".join(map(str, shape[:4])),
            f"{1e3 * ours['median']:.3g}"
            f" ({1e3 * ours['low']:.3g} to {1e3 * ours['high']:.3g})",
            peer or "",
            number(ratio(row, peer)),
            number(ratio(row, PLAIN)),
            number(ratio(row, XLA)),
            number(ratio(row, TORCH)),
            number(products),
            number(row["memory"][OURS] / 1e6, 1),
            number(ratio(row, PLAIN, "memory")),
            number(row["compile"][OURS]),
            number(ratio(row, peer, "compile")),
            scientific(row["error"].get(OURS)),
            scientific(row["error"].get(peer)),
        ])  # fmt: skip
    targets = [row for row in rows if row["shape"] in TARGET_SHAPES]
    means = [
        geometric_mean([ratio(row, best_peer(row)) for row in targets]),
        geometric_mean([ratio(row, PLAIN) for row in targets]),
        geometric_mean([ratio(row, XLA) for row in targets]),
        geometric_mean([ratio(row, TORCH) for row in targets]),
    ]
    lines.append(
        ["geometric mean, S1 to A1", "", "", "", *map(number, means), *[""] * 7]
    )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def scientific(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def geometric_mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value]
    if not known:
        return None
    return math.exp(statistics.fmean(map(math.log, known)))


def losses(rows: list[dict]) -> str:
    """List every case where another contestant is faster."""
    lines = ["| cell | shape | mode | who is faster | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        for name in row["times"]:
            faster = ratio(row, name)
            if name not in (OURS, PRODUCTS) and faster and faster < 1:
                cells = row["cell"], row["shape"], row["mode"], name, number(faster)
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
