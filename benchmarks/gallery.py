"""Run the examples with their defaults, and write their output to the gallery.

    python benchmarks/gallery.py                  # all of them, most of an hour
    python benchmarks/gallery.py hello weather    # these; other entries are kept

Each example runs alone, by its documented command. Its output and time go to
``runs/gallery``; ``examples/README.md`` is then written from all stored results.
"""

import argparse
import ast
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLES, RUNS = ROOT / "examples", ROOT / "runs" / "gallery"
FIGURES = ROOT / "docs" / "figures" / "examples"

HEAD = """\
# Gallery

Every script is read from top to bottom, runs with the command beside it, and prints
its figure on data that it was not trained on, beside those of baselines; `--help` says
what else it can do. From the root of the repository, once:

    pip install -e ".[examples]"

Figures and pictures are of one run each with the defaults, on a CPU ({cpu}; jax {jax}),
by `python benchmarks/gallery.py`. Another seed, another processor or another version of
jax gives others. CPU time is that of all threads together: on two cores a run takes a
little more than half of it.
"""


class Entry(NamedTuple):
    """An example in the gallery."""

    script: str
    picture: str
    remark: str = ""  # explains the figures where needed
    arguments: tuple[str, ...] = ()
    stdin: str | None = None  # simulated keyboard input
    needs: str = "examples"  # required extras

    @property
    def name(self):
        """Name of the entry's files: the script and its distinguishing arguments."""
        return "-".join([self.script, *(a.lstrip("-") for a in self.arguments)])


TALK = "In the beginning\nWho art thou?\nAnd he said unto them,\n"
ENTRIES = [
    Entry("hello", "states.png"),
    Entry("bptt_by_hand", "unfolded.png"),
    Entry(
        "one_to_one",
        "wrong.png",
        "The three differ by an image or two: the network is a perceptron, and "
        "the others get as far.",
    ),
    Entry("vanishing_gradients", "cells.png"),
    Entry(
        "long_memory",
        "memory.png",
        "One run of each: another seed may put the gated cells in another order.",
    ),
    Entry("char_lm", "loss.png"),
    Entry(
        "chat",
        "conversation.png",
        "One short conversation, not a benchmark: the state helps where a line "
        "goes on from what was said, and can mislead where it does not.",
        stdin=TALK,
    ),
    Entry("next_word", "next_word.png"),
    Entry(
        "word_sense",
        "word_sense.png",
        "The labels are a rule on the word before, so its embedding knows them "
        "all; the states had to learn what these words have in common.",
    ),
    Entry(
        "sentiment",
        "words.png",
        "The lead over the regression on the mean vector, eleven sentences of 853, is "
        "within chance.",
    ),
    Entry(
        "captioning",
        "captions.png",
        "The regression of each digit is told how names are composed, and stays "
        "ahead; the network has found it out, and the nearest neighbour cannot.",
    ),
    Entry("translation", "numbers_attention.png"),
    Entry(
        "translation",
        "pronunciation_attention.png",
        arguments=("--task", "pronunciation"),
    ),
    Entry(
        "translation",
        "interface_attention.png",
        "There are few strings to learn from: by letters, greedy decoding is no better "
        "than the translation of the most similar string; by words it is.",
        arguments=("--task", "interface"),
    ),
    Entry("summarise", "attention.png"),
    Entry(
        "speech",
        "stream.png",
        "In the first task logistic regression on twelve even steps is better, "
        "by two utterances of 370.",
    ),
    Entry("handwriting", "strokes.png"),
    Entry(
        "streaming",
        "latency.png",
        "Measured on an Intel Xeon, 2 cores. For a model of this size most of a step "
        "is the cost of the call; int8 weights save memory, not time.",
        needs="examples,compare",
    ),
    Entry(
        "stock_price",
        "volatility.png",
        "No model foresees the price; how far it will move is forecast better "
        "than by a constant, and a little better than by exponential weights.",
    ),
    Entry(
        "weather",
        "forecasts.png",
        "Far better than yesterday's hour; ridge regression on the same two "
        "days of observations is as good, and here better.",
    ),
    Entry(
        "keras_twins",
        "curves.png",
        "What counts is that both have the same losses and accuracies; logistic "
        "regression sees all pixels at once, and ten epochs of a small network "
        "are few.",
        needs="examples,compare",
    ),
]


def run(entry):
    """Run the example, and store its output, time and picture."""
    command = [f"examples/{entry.script}.py", *entry.arguments]
    print("python", *command, flush=True)
    before = cpu_seconds()
    result = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        input=entry.stdin,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = cpu_seconds() - before
    found = {"cpu_seconds": seconds, "tables": tables(result.stdout), **machine()}
    out = RUNS / entry.name
    out.mkdir(parents=True, exist_ok=True)
    (out / "output.txt").write_text(result.stdout)
    (out / "gallery.json").write_text(json.dumps(found, indent=1))
    FIGURES.mkdir(parents=True, exist_ok=True)
    shutil.copy(
        ROOT / "runs" / entry.script / entry.picture, FIGURES / f"{entry.name}.png"
    )
    print(f"  {seconds:.0f} s, {found['tables']}", flush=True)


def cpu_seconds():
    """Return the CPU time of finished child processes, over all threads."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tables(output):
    """Parse ``{title: {name: figure}}`` from ``results.print_table`` output."""
    found, title = {}, ""
    for line in output.splitlines():
        row = re.fullmatch(r"  (\S.*?)  +(-?[\d.]+|nan|inf)", line)
        if row is None:
            title = line
        elif title and not title.startswith(" "):
            found.setdefault(title, {})[row[1]] = row[2]
    # A table has at least two figures; a single line may only look like one.
    return {title: rows for title, rows in found.items() if len(rows) > 1}


def machine():
    code = "import jax; print(jax.__version__)"
    version = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    names = re.findall(
        r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text()
    )
    cpu = names[0] if names else "unknown"
    return {"jax": version, "cpu": f"{cpu}, {os.cpu_count()} cores"}


def first_line(script):
    tree = ast.parse((EXAMPLES / f"{script}.py").read_text())
    return (ast.get_docstring(tree) or "").splitlines()[0]


def section(entry):
    """Format the entry's section of the page."""
    found = json.loads((RUNS / entry.name / "gallery.json").read_text())
    title = " ".join([entry.script, *entry.arguments])
    lines = [f"## {title}", "", first_line(entry.script), ""]
    command = " ".join(["python", f"examples/{entry.script}.py", *entry.arguments])
    if entry.stdin is not None:
        command = f"printf {entry.stdin!r} | {command}"
    if entry.needs != "examples":
        lines += [f'    pip install -e ".[{entry.needs}]"']
    lines += [f"    {command}", ""]
    for title, rows in found["tables"].items():
        lines += [f"| {title} | |", "|---|---|"]
        lines += [f"| {name} | {figure} |" for name, figure in rows.items()]
        lines += [""]
    if entry.remark:
        lines += [entry.remark, ""]
    if "cpu_seconds" in found:
        lines += [f"CPU time: {found['cpu_seconds']:.0f} seconds.", ""]
    lines += [f"![{entry.script}](../docs/figures/examples/{entry.name}.png)", ""]
    return "\n".join(lines)


def write():
    """Write the page from every entry that has run."""
    ready = [e for e in ENTRIES if (RUNS / e.name / "gallery.json").exists()]
    latest = json.loads((RUNS / ready[0].name / "gallery.json").read_text())
    page = [HEAD.format(**latest), *map(section, ready)]
    (EXAMPLES / "README.md").write_text("\n".join(page).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [entry.name for entry in ENTRIES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names))
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f"NAME must be one of {', '.join(names)}, got {unknown[0]}")
    for entry in ENTRIES:
        if not args.names or entry.name in args.names:
            run(entry)
    write()


if __name__ == "__main__":
    main()
