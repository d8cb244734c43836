"""Train a model with every cell on one budget, and time each cell against an LSTM.

    pip install -e ".[examples]"
    python benchmarks/cells.py                    # all cells, about 15 minutes
    python benchmarks/cells.py --only mingru lru  # these; other results are kept
    python benchmarks/cells_page.py               # write docs/cells.md from the results

Dense cells learn to predict the next character of the King James Bible: an embedding,
the cell, a dense layer with ReLU, and a dense layer for the logits. Convolutional cells
add two marked numbers of a long sequence at each of several spatial positions; the LSTM
does so for each position alone. Times are for one update of the model, interleaved with
all others of its task; ratios use medians. Writes ``benchmarks/results/cells.json``.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from measure import compiled, in_turns, machine

import jaxrnn
from jaxrnn import data, losses, train

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "examples"))
from support import text

RESULTS = pathlib.Path(__file__).parent / "results" / "cells.json"
HIDDEN_SIZE, EMBEDDING_SIZE, NUM_HEADS = 128, 64, 4
NUM_STEPS, BATCH_SIZE, LEARNING_RATE = 64, 32, 4e-3
UPDATES = 400
VALIDATION_STREAMS, VALIDATION_STEPS = 64, 500
SPACES = {1: (12,), 2: (4, 3), 3: (2, 3, 2)}  # twelve spatial positions each
KERNELS = {1: (3,), 2: (3, 3), 3: (1, 3, 3)}
CHANNELS, ADDED = 16, 40
ADDING_UPDATES = 1000
CHARACTERS, ADDING = "bits per character", "squared error of a sum"
LONG = (1_000, 10_000, 100_000)
LONG_SIZE = 64


class Entry(NamedTuple):
    """A cell on the page."""

    factory: Callable[..., jaxrnn.Cell]
    make: Callable[[int], jaxrnn.Cell]
    unroll_fn: jaxrnn.UnrollFn = jaxrnn.unroll_bptt
    frozen: bool = False  # train only the layers around the cell
    dimensions: int = 0  # number of spatial dimensions


def _plain(factory, **options):
    return Entry(factory, lambda size: factory(size, **options))


def _heads(make):
    return Entry(jaxrnn.multihead, lambda size: jaxrnn.multihead(make, size, NUM_HEADS))


def _conv(factory, dimensions):
    kernel, space = KERNELS[dimensions], SPACES[dimensions]
    return Entry(
        factory, lambda size: factory(size, kernel, space), dimensions=dimensions
    )


def _associative(entry):
    return entry._replace(unroll_fn=jaxrnn.unroll_associative)


ENTRIES = {
    "elman": _plain(jaxrnn.elman),
    "elman, ReLU": _plain(jaxrnn.elman, activation=jax.nn.relu),
    "jordan": Entry(jaxrnn.jordan, lambda size: jaxrnn.jordan(size, size)),
    "lstm": _plain(jaxrnn.lstm),
    "lstm, cell_clip=1": _plain(jaxrnn.lstm, cell_clip=1.0),
    "peephole_lstm": _plain(jaxrnn.peephole_lstm),
    "projected_lstm": Entry(
        jaxrnn.projected_lstm, lambda size: jaxrnn.projected_lstm(2 * size, size // 2)
    ),
    "coupled_lstm": _plain(jaxrnn.coupled_lstm),
    "layer_norm_lstm": _plain(jaxrnn.layer_norm_lstm),
    "slstm": _plain(jaxrnn.slstm),
    "slstm, exponential": _plain(jaxrnn.slstm, exponential=True),
    "gru": _plain(jaxrnn.gru),
    "gru, reset before": _plain(jaxrnn.gru, reset_after=False),
    "layer_norm_gru": _plain(jaxrnn.layer_norm_gru),
    "mgu": _plain(jaxrnn.mgu),
    "janet": _plain(jaxrnn.janet),
    "recurrent_highway": _plain(jaxrnn.recurrent_highway),
    "multihead of elman": _heads(jaxrnn.elman),
    "multihead of lstm": _heads(jaxrnn.lstm),
    "multihead of gru": _heads(jaxrnn.gru),
    "multihead of slstm": _heads(jaxrnn.slstm),
    "indrnn": _plain(jaxrnn.indrnn),
    "mingru": _plain(jaxrnn.mingru),
    "mingru, associative": _associative(_plain(jaxrnn.mingru)),
    "minlstm": _plain(jaxrnn.minlstm),
    "minlstm, associative": _associative(_plain(jaxrnn.minlstm)),
    "lru": _plain(jaxrnn.lru),
    "lru, associative": _associative(_plain(jaxrnn.lru)),
    "leaky_integrator": _plain(jaxrnn.leaky_integrator, time_constant=2.0),
    # Diffusion makes the state decay; text needs such forgetting.
    "antisymmetric": _plain(jaxrnn.antisymmetric, step_size=0.5, diffusion=0.9),
    "orthogonal_rnn": _plain(jaxrnn.orthogonal_rnn),
    "orthogonal_rnn, Cayley": _plain(
        jaxrnn.orthogonal_rnn, map_fn=jaxrnn.cayley_transform
    ),
    "echo_state, not trained": _plain(jaxrnn.echo_state, input_scale=0.3)._replace(
        frozen=True
    ),
    "conv_lstm, 1-D": _conv(jaxrnn.conv_lstm, 1),
    "conv_lstm, 2-D": _conv(jaxrnn.conv_lstm, 2),
    "conv_lstm, 3-D": _conv(jaxrnn.conv_lstm, 3),
    "conv_gru, 1-D": _conv(jaxrnn.conv_gru, 1),
    "conv_gru, 2-D": _conv(jaxrnn.conv_gru, 2),
    "conv_gru, 3-D": _conv(jaxrnn.conv_gru, 3),
}
REFERENCE = "lstm"  # for the timings of both tasks


class Task(NamedTuple):
    """A model around a cell, its training data, and the meaning of its score."""

    figure: str
    num_updates: int
    model: jaxrnn.Layer
    place: int  # index of the cell's parameters among the model's
    input_size: int
    batches: Callable[[], Any]
    loss_fn: Callable[..., jax.Array]
    held_out: Any
    score: Callable[[float], float]


def characters(entry, corpus):
    vocabulary, tokens, held_out = corpus
    model = jaxrnn.stack(
        jaxrnn.embedding(len(vocabulary), EMBEDDING_SIZE),
        jaxrnn.layer(entry.make(HIDDEN_SIZE), unroll_fn=entry.unroll_fn),
        jaxrnn.dense(HIDDEN_SIZE, activation=jax.nn.relu),
        jaxrnn.dense(len(vocabulary)),
    )

    def loss_fn(params, tokens, key=None):
        _, logits = model.apply(params, tokens[:-1])
        return losses.softmax_cross_entropy(logits, tokens[1:])

    def batches():
        return data.random_windows(tokens, NUM_STEPS + 1, batch_size=BATCH_SIZE, seed=0)

    size = len(vocabulary)
    return Task(
        CHARACTERS, UPDATES, model, 1, size, batches, loss_fn, held_out,
        lambda loss: loss / np.log(2),
    )  # fmt: skip


def read_characters():
    corpus = text.read_corpus("kjv")
    vocabulary = "".join(sorted(set(corpus)))
    split = int(0.98 * len(corpus))
    tokens, held_out = np.split(text.encode(corpus, vocabulary), [split])
    held_out = text.streams(held_out, VALIDATION_STREAMS, VALIDATION_STEPS)
    return vocabulary, tokens, held_out


def draw_adding(rng, space):
    """Draw numbers and marks ``(T, B, *S, 2)``, and the sums ``(B, *S, 1)``."""
    shape = (ADDED, BATCH_SIZE, *space)
    numbers, marks = rng.random(shape), np.zeros(shape)
    half = ADDED // 2
    for first in (0, half):
        places = rng.integers(first, first + half, (1, *shape[1:]))
        np.put_along_axis(marks, places, 1, axis=0)
    xs = np.stack([numbers, marks], axis=-1).astype(np.float32)
    return xs, (numbers * marks).sum(axis=0)[..., None].astype(np.float32)


def adding(entry):
    space = SPACES.get(entry.dimensions, SPACES[1])
    layer = jaxrnn.layer(entry.make(CHANNELS), unroll_fn=entry.unroll_fn)
    model = jaxrnn.stack(layer, jaxrnn.dense(1))

    def loss_fn(params, xs, sums, key=None):
        _, ys = model.apply(params, xs)
        return losses.mean_squared_error(ys[-1:], sums[None])

    def batches():
        rng = np.random.default_rng(0)
        while True:
            yield draw_adding(rng, space)

    rng = np.random.default_rng(1)
    drawn = [draw_adding(rng, space) for _ in range(20)]
    held_out = tuple(np.concatenate(each, axis) for each, axis in
                     zip(zip(*drawn, strict=True), (1, 0), strict=True))  # fmt: skip
    return Task(
        ADDING, ADDING_UPDATES, model, 0, 2, batches, loss_fn,
        held_out, float,
    )  # fmt: skip


def loss_of(entry, task):
    """Return the loss as a function of all parameters, or of the trained ones."""
    if not entry.frozen:
        return task.loss_fn

    def loss_fn(params, *batch, key=None):
        params = list(params)
        params[task.place] = jax.lax.stop_gradient(params[task.place])
        return task.loss_fn(tuple(params), *batch, key=key)

    return loss_fn


def as_batches(batches):
    """Yield each batch as the tuple of arguments of the loss."""
    for batch in batches:
        yield batch if isinstance(batch, tuple) else (batch,)


def measure(entry, task):
    """Return ``(figures, program)``: results of training, and one update to time."""
    loss_fn = loss_of(entry, task)

    def of_batch(params, batch, key=None):
        return loss_fn(params, *batch, key=key)

    params = task.model.init(jax.random.key(0), task.input_size)
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, task.num_updates)
    optimizer = train.default_optimizer(schedule)
    update = train.make_update(of_batch, optimizer)
    state, kept = (train.init(params, optimizer, jax.random.key(1)) for _ in range(2))
    first = next(as_batches(task.batches()))
    program = compiled(lambda state, batch: update(state, batch), (kept, first))
    result = train.fit(
        update, state, as_batches(task.batches()), num_steps=task.num_updates
    )
    held_out = task.held_out if isinstance(task.held_out, tuple) else (task.held_out,)
    loss = float(jax.jit(of_batch)(result.state.params, held_out))
    of_cell = jax.tree.leaves(params[task.place])
    return {
        "figure": task.figure,
        "value": task.score(loss),
        "cell_parameters": sum(leaf.size for leaf in of_cell),
        "updates": task.num_updates,
        "compile_seconds": program.compile_seconds,
    }, program


def long_runs():
    """Time training on one long sequence: step by step, and by an associative scan."""
    ratios = {}
    for name in ("mingru", "minlstm", "lru"):
        for length in LONG:
            cell = ENTRIES[name].make(LONG_SIZE)
            params = cell.init(jax.random.key(0), LONG_SIZE)
            xs = jax.random.normal(jax.random.key(1), (length, 1, LONG_SIZE))
            programs = {}
            for run in (jaxrnn.unroll_bptt, jaxrnn.unroll_associative):

                def loss(params, xs, run=run, cell=cell):
                    return (run(cell, params, xs)[1] ** 2).mean()

                gradient = jax.value_and_grad(loss, argnums=(0, 1))
                programs[run.__name__] = compiled(gradient, (params, xs))
            times = in_turns(programs, budget=10.0, least=3)
            in_order, at_once = (times[key].median for key in programs)
            ratios[f"{name}, T = {length}"] = in_order / at_once
            print(f"{name}, T = {length}: {in_order / at_once:.2f}", flush=True)
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ENTRIES, metavar="CELL")
    parser.add_argument("--quick", action="store_true", help="a few updates, no file")
    args = parser.parse_args()
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    rows = record.get("rows", {})
    corpus = read_characters()
    programs = {"dense": {}, "convolutional": {}}
    for name, entry in ENTRIES.items():
        kinds = ["convolutional" if entry.dimensions else "dense"]
        if name == REFERENCE:
            kinds = ["dense", "convolutional"]
        elif args.only and name not in args.only:
            continue
        for kind in kinds:
            task = characters(entry, corpus) if kind == "dense" else adding(entry)
            if args.quick:
                task = task._replace(num_updates=3)
            key = name if kind == kinds[0] else f"{name}, place by place"
            rows[key], programs[kind][key] = measure(entry, task)
            print(f"{key}: {rows[key]['value']:.3f} {task.figure}", flush=True)
    for kind, of_kind in programs.items():
        times = in_turns(of_kind, budget=4.0 * len(of_kind), most=30)
        reference = REFERENCE if kind == "dense" else f"{REFERENCE}, place by place"
        for name, taken in times.items():
            rows[name]["updates_per_second"] = 1 / taken.median
            rows[name]["time_to_lstm"] = taken.median / times[reference].median
    if args.quick:
        return
    counts = text.baselines(corpus[1], corpus[2], len(corpus[0]))
    found = {"machine": machine(), "by_counts": counts, "rows": rows}
    found["long"] = record.get("long", {}) if args.only else long_runs()
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
