"""How far back four cells remember: a sentence, an addition, a copy.

    python examples/long_memory.py            # two minutes
    python examples/long_memory.py --full     # up to 500 steps, far longer

Elman cells with tanh and with ReLU (recurrent weights initialised to the identity),
LSTM and GRU learn three problems whose answer depends on the start of the sequence:
"I grew up in <country>. ... I speak fluent <language>", with other sentences between,
some of which name other countries; the sum of two marked numbers among many; and a copy
of ten symbols after many blanks. --seed draws all data; test data are drawn separately,
and test texts have up to three times as many sentences as the longest training text.
The baselines are naive: the country named last (wrong once another country is named) or
a constant language; a constant sum of 1; and uniform probabilities for the symbols.
With so few updates luck matters too: with --seed 1 the LSTM does not learn to add.
memory.png shows accuracy by distance, and the learning curves; gradients.png shows each
time lag's part of the gradient.
"""

import functools
from typing import Any, NamedTuple

from support import command_line, memory_cells, memory_plots, results
from support import memory_problems as problems

import jax
import matplotlib
import numpy as np
import optax

import jaxrnn
from jaxrnn import metrics, train

HIDDEN_SIZE = 32
BATCH_SIZE = 32
# Number of updates; number of sentences between, of numbers, or of blanks.
DEFAULT = {"sentences": (700, 16), "adding": (1000, 100), "copy": (2500, 10)}
FULL = {"sentences": (5000, 64), "adding": (20000, 500), "copy": (30000, 500)}
LEARNING_RATES = {"tanh": 2e-3, "ReLU": 2e-3, "LSTM": 1e-2, "GRU": 1e-2}
# Initial bias of the gates that keep the state: larger for longer memory.
KEEP_BIAS = {"sentences": 3.0, "adding": 3.0, "copy": 2.0}
TEST_ROWS = 250
LAG_ROWS = 8  # sequences whose gradient is split by lag


def main():
    parser = command_line.make_parser(__doc__, "long_memory")
    add = parser.add_argument
    add("--full", action="store_true", help="longer sequences, many more updates")
    add("--steps", type=command_line.positive, help="maximum number of updates")
    names = list(LEARNING_RATES)
    add("--cells", nargs="+", choices=names, default=names, help="cells to train")
    add("--length", type=command_line.positive, help="maximum length of each problem")
    options = parser.parse_args()
    if options.length is not None and options.length < 3:
        parser.error(f"--length must be at least 3, got {options.length}")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "memory.png")

    sentences, adding, copy = (learn(name, options) for name in DEFAULT)
    key = jax.random.key(options.seed + 1)  # tests use another seed
    counts, curves = by_distance(sentences, key)
    distances = [problems.distance(count) for count in counts]
    added, copied = (each.problem.draw(key, TEST_ROWS) for each in (adding, copy))
    naive = {"always 1": float(np.mean((added[1] - 1) ** 2))}
    uniform = {"no memory": problems.COPIED * np.log(problems.SYMBOLS) / len(copied[0])}
    longest = problems.distance(sentences.length)
    others = ((adding, naive), (copy, uniform))
    memory_plots.draw_memory(path, distances, curves, longest, *others)
    memory_plots.draw_gradients(options.out / "gradients.png", by_lag(adding, key))
    print(f"pictures: {path} and gradients.png\n")

    for place in (np.searchsorted(distances, longest, "right") - 1, -1):
        rows = {name: curve[place] for name, curve in curves.items()}
        title = f"sentences: accuracy, the country {distances[place]} words before"
        results.print_table(title, rows)
    for title, learned, test, baseline in (
        (f"adding: squared error over {adding.length} numbers", adding, added, naive),
        (f"copy: loss over {copy.length} blanks, in nats", copy, copied, uniform),
    ):
        results.print_table(title, test_losses(learned, test) | baseline, 4)


class Run(NamedTuple):
    """A cell before and after training."""

    cell: jaxrnn.Cell
    model: jaxrnn.Layer
    initial: Any
    params: Any
    loss: np.ndarray  # of each update


class Learned(NamedTuple):
    """A problem, and the training results of each cell."""

    problem: problems.Problem
    length: int
    runs: dict[str, Run]


def learn(name, options):
    steps, length = (FULL if options.full else DEFAULT)[name]
    steps = min(steps, options.steps or steps)
    length = min(length, options.length or length)
    problem = problems.make(name, length)
    runs = {}
    cells = memory_cells.make(HIDDEN_SIZE, KEEP_BIAS[name])
    for cell_name in options.cells:
        cell = cells[cell_name]
        run = fit(problem, cell, LEARNING_RATES[cell_name], steps, options.seed)
        print(f"{name}, {cell_name}: last training loss {run.loss[-1]:.4f}")
        runs[f"jaxrnn, {cell_name}"] = run
    return Learned(problem, length, runs)


def fit(problem, cell, learning_rate, steps, seed):
    model = jaxrnn.stack(jaxrnn.layer(cell), jaxrnn.dense(problem.output_size))

    def loss_fn(params, batch, key):
        xs, targets, mask = problem.draw(key, BATCH_SIZE)
        return problem.loss(model.apply(params, xs, mask=mask)[1], targets)

    key = jax.random.key(seed)
    xs, _, _ = problem.draw(key, 1)
    initial = model.init(key, xs.shape[-1])
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = train.default_optimizer(schedule)
    update = train.make_update(loss_fn, optimizer)
    state = train.init(initial, optimizer, key)
    result = train.fit(update, state, [None] * steps)  # each update draws its own batch
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    return Run(cell, model, initial, result.state.params, result.history.train["loss"])


@functools.partial(jax.jit, static_argnums=0)
def outputs(model, params, xs, mask):
    return model.apply(params, xs, mask=mask)[1]


def by_distance(sentences, key):
    """Compute accuracies on new texts, by the number of sentences between."""
    counts = problems.tested(sentences.length)
    keys = jax.random.split(key, len(counts))
    texts = [
        problems.draw_sentences(each, TEST_ROWS, [count], counts[-1])
        for each, count in zip(keys, counts, strict=True)
    ]
    print(f"an example of the test: {problems.write(texts[1], 0)} ...")
    curves = {
        name: [
            float(
                metrics.accuracy(outputs(run.model, run.params, xs, mask)[-1], target)
            )
            for xs, target, mask in texts
        ]
        for name, run in sentences.runs.items()
    }
    curves["country named last"] = [problems.naive_accuracy(text) for text in texts]
    curves["one language for all"] = [1 / len(problems.LANGUAGES)] * len(texts)
    return counts, curves


def test_losses(learned, test):
    xs, targets, mask = test
    return {
        name: float(
            learned.problem.loss(outputs(run.model, run.params, xs, mask), targets)
        )
        for name, run in learned.runs.items()
    }


def by_lag(learned, key):
    """Compute gradient norms by lag, before and after training, for each cell."""
    problem = learned.problem
    xs, targets, _ = problem.draw(key, LAG_ROWS)
    readout = jaxrnn.dense(problem.output_size)

    @functools.partial(jax.jit, static_argnums=0)
    def norms(cell, params):
        recurrent, dense = params
        _, ys = jaxrnn.unroll(cell, recurrent, xs)
        dys = jax.grad(lambda h: problem.loss(readout.apply(dense, h)[1], targets))(ys)
        parts = jaxrnn.gradient_by_lag(cell, recurrent, xs, dys)
        return jax.vmap(optax.tree.norm)(parts)

    return {
        name: (norms(run.cell, run.initial), norms(run.cell, run.params))
        for name, run in learned.runs.items()
    }


if __name__ == "__main__":
    main()
