"""The next character of "hello", with the state at every step.

    python examples/hello.py [--word hello] [--out runs/hello]

A network with one Elman layer reads a word, one character a step, and learns to predict
the next. After "l" comes "l" or "o": a model that sees only the last character must be
wrong once. The state distinguishes the two. Prints input, state and prediction of each
step before and after training, continues the word from its first character, and saves
a picture of the states.
"""

import collections
import itertools

from support import command_line, plots, results

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import jaxrnn
from jaxrnn import data, decode, losses, metrics, train

HIDDEN_SIZE = 3
STEPS = 300
LEARNING_RATE = 0.05


def main():
    parser = command_line.make_parser(__doc__, "hello")
    parser.add_argument("--word", default="hello", help="at least two characters")
    parser.add_argument(
        "--hidden-size", type=command_line.positive, default=HIDDEN_SIZE
    )
    parser.add_argument("--steps", type=command_line.natural, default=STEPS)
    options = parser.parse_args()
    if len(options.word) < 2:
        parser.error(f"--word must have at least 2 characters, got {options.word!r}")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "states.png")

    vocabulary = data.make_vocabulary(options.word)
    size = len(vocabulary.symbols)
    numbers = jnp.asarray(data.encode(vocabulary, options.word))
    inputs, targets = numbers[:-1], numbers[1:]

    # One-hot characters, a state, and a logit for each possible next character.
    hidden = jaxrnn.elman(options.hidden_size)
    model = jaxrnn.stack(
        jaxrnn.embedding(size, size, table_init=one_hot),
        jaxrnn.layer(hidden),
        jaxrnn.dense(size),
    )

    def loss_fn(params, batch, key):
        _, logits = model.apply(params, inputs)
        return losses.softmax_cross_entropy(logits, targets)

    optimizer = train.default_optimizer(LEARNING_RATE)
    update = train.make_update(loss_fn, optimizer)
    params = model.init(jax.random.key(options.seed), size)
    print("before training")
    show(model, params, inputs, targets, vocabulary)
    state = train.init(params, optimizer, jax.random.key(options.seed))
    params = train.fit(update, state, [None] * options.steps).state.params
    print(f"\nafter {options.steps} steps of training")
    states, logits = show(model, params, inputs, targets, vocabulary)

    _, drawn = decode.generate(
        model, params, inputs[:1], len(targets), key=jax.random.key(0)
    )
    written = "".join(data.decode(vocabulary, drawn))
    print(f"\nwritten on from {options.word[0]!r}: {options.word[0]}{written}")
    draw(path, options.word, states, jax.nn.softmax(logits), vocabulary)
    print(f"picture: {path}")
    rows = {
        "jaxrnn, Elman": float(metrics.accuracy(logits, targets)),
        "by the last character alone": last_character(options.word),
    }
    results.print_table("accuracy of the next character", rows)


def one_hot(key, shape, dtype):
    return jnp.eye(*shape, dtype=dtype)


def show(model, params, inputs, targets, vocabulary):
    """Print a line for each step; return the states and the logits."""
    state, states, logits = model.initial_state(params), [], []
    print("step  input  state" + " " * 21 + "prediction")
    for t, (x, target) in enumerate(zip(inputs, targets, strict=True), 1):
        state, y = model.step(params, state, x)
        chances = jax.nn.softmax(y)
        guess = vocabulary.symbols[int(chances.argmax())]
        numbers = "  ".join(f"{value:6.3f}" for value in state[1])
        wanted = vocabulary.symbols[int(target)]
        mark = "" if guess == wanted else f", and it is {wanted!r}"
        read = vocabulary.symbols[int(x)]
        print(f"{t:4}  {read!r:5}  {numbers:24}  {guess!r} {chances.max():.2f}{mark}")
        states.append(state[1])
        logits.append(y)
    return np.stack(states), jnp.stack(logits)


def last_character(word):
    """Return the accuracy of predicting each character's most frequent successor."""
    after = collections.defaultdict(collections.Counter)
    for old, new in itertools.pairwise(word):
        after[old][new] += 1
    right = sum(counts.most_common(1)[0][1] for counts in after.values())
    return right / (len(word) - 1)


def draw(path, word, states, chances, vocabulary):
    """Draw the states above, and the next-character probabilities below."""
    figure, axes = plt.subplots(2, 1, figsize=(1.2 + len(word), 5), sharex=True)
    limits = {"vmin": -1, "vmax": 1, "cmap": "RdBu"}
    image = axes[0].imshow(states.T, aspect="auto", **limits)
    figure.colorbar(image, ax=axes[0], label="state")
    axes[0].set(ylabel="unit", yticks=range(states.shape[1]))
    image = axes[1].imshow(
        np.asarray(chances).T, aspect="auto", vmin=0, vmax=1, cmap="Greens"
    )
    figure.colorbar(image, ax=axes[1], label="probability")
    axes[1].set_yticks(range(len(vocabulary.symbols)), map(repr, vocabulary.symbols))
    steps = [f"{old!r} then {new!r}" for old, new in itertools.pairwise(word)]
    axes[1].set_xticks(range(len(steps)), steps, rotation=30)
    axes[1].set(ylabel="next character", xlabel="what is read, and what comes")
    plots.save(figure, path, dpi=120)


if __name__ == "__main__":
    main()
