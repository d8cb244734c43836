"""How far back four cells remember: a sentence, an addition, a copy.

    python examples/long_memory.py            # two minutes
    python examples/long_memory.py --full     # up to 500 steps, for hours

Elman cells with tanh and with ReLU (whose recurrent weights begin as the identity),
LSTM and GRU learn three problems in which what comes first is needed at the end:
"I grew up in <country>. ... I speak fluent <language>", with other sentences between,
some of which name other countries; the sum of two marked numbers among many; and a copy
of ten symbols after many blanks. All data are drawn by --seed, those of the tests anew;
the test has up to three times as many sentences as any text that was learned from. The
baselines are naive: the country named last, always 1, and all symbols as probable.
memory.png has accuracy by distance, and the learning curves; gradients.png what each
step back adds to the gradient.
"""

import functools
from typing import Any, NamedTuple

import command_line
import jax
import jax.numpy as jnp
import matplotlib
import memory_plots
import memory_problems as problems
import numpy as np
import optax
import results

import jaxrnn
from jaxrnn import train

HIDDEN_SIZE = 32
BATCH_SIZE = 32
# Updates; and how many sentences between, numbers, or blanks.
DEFAULT = {"sentences": (700, 16), "adding": (1000, 100), "copy": (2500, 10)}
FULL = {"sentences": (5000, 64), "adding": (20000, 500), "copy": (30000, 500)}
LEARNING_RATES = {"tanh": 2e-3, "ReLU": 2e-3, "LSTM": 1e-2, "GRU": 1e-2}
# At the start, of the gates that keep the state: for longer what is kept for longer.
KEEP_BIAS = {"sentences": 3.0, "adding": 3.0, "copy": 2.0}
TEST_ROWS = 250
LAG_ROWS = 8  # sequences whose gradient is taken apart


def make_cells(bias):
    identity = lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype)  # noqa: E731
    relu = {"activation": jax.nn.relu, "w_h_init": identity}
    return {
        "tanh": jaxrnn.elman(HIDDEN_SIZE),
        "ReLU": jaxrnn.elman(HIDDEN_SIZE, **relu),
        "LSTM": jaxrnn.lstm(HIDDEN_SIZE, forget_bias=bias),
        "GRU": keeping(jaxrnn.gru(HIDDEN_SIZE), bias),
    }


def keeping(gru, bias):
    """A GRU whose update gate z begins as the forget gate of the LSTM does."""

    def init(*args):
        params = gru.init(*args)
        z = slice(HIDDEN_SIZE, 2 * HIDDEN_SIZE)
        return params._replace(b=params.b.at[z].set(bias))

    return gru._replace(init=init)


def main():
    parser = command_line.make_parser(__doc__, "long_memory")
    add = parser.add_argument
    add("--full", action="store_true", help="longer sequences, many more updates")
    add("--steps", type=command_line.positive, help="updates for each, at most")
    add("--length", type=command_line.positive, help="of each problem, at most")
    options = parser.parse_args()
    if options.length == 1:
        parser.error("--length must be at least 2, got 1")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "memory.png")

    sentences, adding, copy = (learn(name, options) for name in DEFAULT)
    key = jax.random.key(options.seed + 1)  # tests are other draws
    counts, curves = by_distance(sentences, key)
    distances = [problems.distance(count) for count in counts]
    added, copied = (
        adding.problem.draw(key, TEST_ROWS),
        copy.problem.draw(key, TEST_ROWS),
    )
    naive = {"always 1": float(np.mean((added[1] - 1) ** 2))}
    uniform = {"no memory": problems.COPIED * np.log(problems.SYMBOLS) / len(copied[0])}
    longest = problems.distance(sentences.length)
    memory_plots.draw_memory(
        path, distances, curves, longest, adding, naive, copy, uniform
    )
    memory_plots.draw_gradients(options.out / "gradients.png", by_lag(adding, key))
    print(f"pictures: {path} and gradients.png\n")

    for place in (np.searchsorted(distances, longest, "right") - 1, -1):
        title = f"sentences: accuracy, the country {distances[place]} words before"
        results.print_table(
            title, {name: curve[place] for name, curve in curves.items()}
        )
    title = f"adding: squared error over {adding.length} numbers"
    results.print_table(title, test_losses(adding, added) | naive, 4)
    title = f"copy: loss over {copy.length} blanks, in nats"
    results.print_table(title, test_losses(copy, copied) | uniform, 4)


class Run(NamedTuple):
    """A cell before and after training."""

    cell: jaxrnn.Cell
    model: jaxrnn.Layer
    initial: Any
    params: Any
    loss: np.ndarray  # of each update


class Learned(NamedTuple):
    """A problem, and what became of each cell."""

    problem: problems.Problem
    length: int
    runs: dict[str, Run]


def learn(name, options):
    steps, length = (FULL if options.full else DEFAULT)[name]
    steps = min(steps, options.steps or steps)
    length = min(length, options.length or length)
    problem = problems.make(name, length)
    runs = {}
    for cell_name, cell in make_cells(KEEP_BIAS[name]).items():
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
    optimizer = train.default_optimizer(
        optax.cosine_decay_schedule(learning_rate, steps)
    )
    update = train.make_update(loss_fn, optimizer)
    state = train.init(initial, optimizer, key)
    result = train.fit(update, state, [None] * steps)  # an update draws its batch
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    return Run(cell, model, initial, result.state.params, result.history.train["loss"])


def by_distance(sentences, key):
    """Accuracies on new texts, by the number of sentences between."""
    counts = problems.tested(sentences.length)
    texts = [
        problems.draw_sentences(k, TEST_ROWS, [count], counts[-1])
        for k, count in zip(jax.random.split(key, len(counts)), counts, strict=True)
    ]
    xs, _, mask = texts[1]
    print(f"an example of the test: {problems.write(xs, mask, 0)} ...")

    def right(guesses):
        return [
            float(np.mean(g == t)) for g, (_, t, _) in zip(guesses, texts, strict=True)
        ]

    curves = {}
    for name, run in sentences.runs.items():
        apply = jax.jit(
            lambda xs, mask, r=run: r.model.apply(r.params, xs, mask=mask)[1][-1]
        )
        curves[name] = right(apply(xs, mask).argmax(-1) for xs, _, mask in texts)
    last = (problems.last_country(xs, mask) for xs, _, mask in texts)
    return counts, curves | {"country named last": right(last)}


def test_losses(learned, test):
    xs, targets, _ = test
    return {
        name: float(
            learned.problem.loss(jax.jit(run.model.apply)(run.params, xs)[1], targets)
        )
        for name, run in learned.runs.items()
    }


def by_lag(learned, key):
    """By cell: norms of the parts of the gradient, before and after training."""
    problem = learned.problem
    xs, targets, _ = problem.draw(key, LAG_ROWS)
    readout = jaxrnn.dense(problem.output_size)

    @functools.partial(jax.jit, static_argnums=0)
    def norms(cell, params):
        recurrent, dense = params
        _, ys = jaxrnn.unroll(cell, recurrent, xs)
        dys = jax.grad(lambda ys: problem.loss(readout.apply(dense, ys)[1], targets))(
            ys
        )
        parts = jaxrnn.gradient_by_lag(cell, recurrent, xs, dys)
        return jax.vmap(optax.tree.norm)(parts)

    return {
        name: (norms(run.cell, run.initial), norms(run.cell, run.params))
        for name, run in learned.runs.items()
    }


if __name__ == "__main__":
    main()
