"""Write docs/cells.md: every cell, of its docstrings and of what was measured.

python benchmarks/cells_page.py            # after benchmarks/cells.py
python benchmarks/cells_page.py --check    # fails if the page is another
"""

import argparse
import importlib
import inspect
import json
import pathlib
import re
import sys

import jax
from cells import (
    ADDING,
    BATCH_SIZE,
    CHANNELS,
    CHARACTERS,
    EMBEDDING_SIZE,
    ENTRIES,
    HIDDEN_SIZE,
    LONG_SIZE,
    NUM_STEPS,
    RESULTS,
)

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "cells.md"
INPUT_SIZE, SIZE = 3, 8  # of the shapes that are shown

HEAD = """\
# Cells

This page describes every cell of the library. `python benchmarks/cells_page.py`
writes it from the docstrings and the measurements of `python benchmarks/cells.py`.
All cells fulfil the contract of [design.md](design.md): masks, resets, both
directions, streaming, any batch dimensions, 16-bit parameters, and a backward pass
derived by hand that is checked against `jax.grad` and finite differences.
[extending/cell.md](extending/cell.md) shows how to write a cell of your own that does.

Use a cell in `jaxrnn.layer(cell)`, or with an unroll: `jaxrnn.unroll`, which JAX
differentiates; `unroll_bptt`, which trains faster; `unroll_chunked`, for sequences
whose residuals do not fit into memory; and `unroll_associative`, for cells whose step
is linear in the state. Wrappers make new cells from these: `multihead`,
`reparametrized`, `learned_state`, `zoneout`, `recurrent_dropout`,
`candidate_dropout`.

## Measured

{machine}.

Dense cells predict the next character of the King James Bible after {updates} updates
on {batch} sequences of {steps} characters: embedding of {embedding}, the cell with
{hidden} units, a dense layer with ReLU, logits. All have the same budget, learning
rate and seed. None was tuned beyond the options in [the
script](../benchmarks/cells.py), so the figures show that a cell learns, not which
cell is the best. *Time to LSTM* is the time of one update of the whole model, divided
by that with an LSTM, in interleaved runs: below 1 is faster. Updates a second depend
on the load of a shared machine, so compare the ratios. For comparison, counts of
single characters give {unigram:.3f} bits, and counts of pairs {bigram:.3f}.
"""

CONVOLUTIONAL = """\
Convolutional cells with {channels} channels learn to add two marked numbers at each
of twelve spatial positions, after {updates} updates. A constant output of 1 has a
squared error of 0.167. Kernels have size 3, 3 by 3, and 1 by 3 by 3. The task needs
no neighbours, so the baseline is an LSTM that runs at each position on its own, with
the same weights for all.
"""

LONG = """\
Training a single sequence with {size} units over many steps, with the gradients of
parameters and inputs: the ratio of the times of `unroll_bptt` and
`unroll_associative`. Above 1 the parallel scan is faster. Layers use the loop unless
told otherwise.
"""


def machine(record):
    found = record["machine"]
    version = found["versions"]["jax"]
    return f"On {found['device']}, {found['cores']} cores, jax {version}"


def table(record, of_space):
    """The rows of one of the two tasks."""
    rows = {
        name: row
        for name, row in record["rows"].items()
        if row["figure"] == (ADDING if of_space else CHARACTERS)
    }
    figure = next(iter(rows.values()))["figure"]
    lines = [
        f"| cell | its parameters | {figure} | updates a second | time to LSTM |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['cell_parameters']:,} | {row['value']:.3f} | "
            f"{row['updates_per_second']:.0f} | {row['time_to_lstm']:.2f} |"
        )
    return "\n".join(lines)


def long_table(record):
    lines = ["| cell and steps | in order, to associative scan |", "|---|---|"]
    lines += [f"| {name} | {ratio:.2f} |" for name, ratio in record["long"].items()]
    return "\n".join(lines)


def sections(doc):
    """Of a docstring: what is before the arguments, what is after, the references."""
    before, _, rest = doc.partition("\nArgs:\n")
    rest, _, references = rest.partition("\nReferences:\n")
    *_, raises = rest.rpartition("\nRaises:\n")
    # Paragraphs that are indented belong to the last section.
    paragraphs = [part for part in raises.split("\n\n") if not part.startswith(" ")]
    differences = "\n\n".join(paragraphs)
    references = references.partition("\n\n")[0]
    return before.strip(), differences.strip(), " ".join(references.split())


def as_markdown(text):
    """Without the roles and double back-quotes of docstrings."""
    text = re.sub(r":(?:func|class|mod):`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def equations(module):
    """The page of maths at the top of a cell's file, after its first line."""
    doc = inspect.cleandoc(importlib.import_module(module).__doc__)
    return as_markdown(doc.partition("\n")[2].strip()).replace("::\n", ":\n")


def shapes(entry):
    """Names, shapes and number of the parameters of a small cell."""
    cell = entry.make(SIZE)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), INPUT_SIZE))
    named = [
        f"`{jax.tree_util.keystr(path).lstrip('.')} {leaf.shape}`"
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return (
        f"With {INPUT_SIZE} input features and size {SIZE}: "
        f"{', '.join(named)}; {count} numbers."
    )


def call(factory):
    """Its name and arguments."""
    arguments, keyword_only = [], False
    for argument in inspect.signature(factory).parameters.values():
        if argument.kind == argument.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            arguments.append("*")
        default = argument.default
        value = getattr(default, "__name__", repr(default))
        given = default is not argument.empty
        arguments.append(f"{argument.name}={value}" if given else argument.name)
    return f"jaxrnn.{factory.__name__}({', '.join(arguments)})"


def section(entry):
    before, differences, references = sections(inspect.getdoc(entry.factory))
    linear = entry.make(SIZE).coefficients is not None
    unrolls = "unroll, unroll_bptt, unroll_chunked"
    parts = [
        f"## {entry.factory.__name__}",
        f"`{call(entry.factory)}`",
        as_markdown(before),
        equations(entry.factory.__module__),
        f"**Parameters.** {shapes(entry)}",
        f"**Unrolls.** {unrolls}{', unroll_associative' if linear else ''}.",
        as_markdown(differences) and f"**Differences.** {as_markdown(differences)}",
        f"**Reference.** {as_markdown(references)}",
    ]
    return "\n\n".join(part for part in parts if part)


def page():
    record = json.loads(RESULTS.read_text())
    factories = {}
    for entry in ENTRIES.values():
        factories.setdefault(entry.factory.__name__, entry)
    updates = {row["figure"]: row["updates"] for row in record["rows"].values()}
    head = HEAD.format(
        machine=machine(record),
        updates=updates[CHARACTERS],
        **record["by_counts"],
        batch=BATCH_SIZE,
        steps=NUM_STEPS,
        embedding=EMBEDDING_SIZE,
        hidden=HIDDEN_SIZE,
    )
    parts = [
        head,
        table(record, of_space=False),
        CONVOLUTIONAL.format(channels=CHANNELS, updates=updates[ADDING]),
        table(record, of_space=True),
        LONG.format(size=LONG_SIZE),
        long_table(record),
        *map(section, factories.values()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    if not args.check:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/cells.md is not what benchmarks/cells_page.py makes: run it")


if __name__ == "__main__":
    main()
