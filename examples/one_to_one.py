"""A sequence of one step: the recurrent network that is a multi-layer perceptron.

    python examples/one_to_one.py                  # all ten digits
    python examples/one_to_one.py --digits 3578    # some of them

One input and one output, the first of the four shapes. An Elman layer that takes one
step from a zero state computes tanh(x W + b). With a readout, the network is a
perceptron with one hidden layer, and its recurrent weights have zero gradient. The
script prints how far outputs and gradients differ from such a perceptron, written in
one line. Then it learns handwritten digits (8 x 8 pixels, of scikit-learn), beside
logistic regression and scikit-learn's perceptron of the same size. The test images are
too few to separate the three models. wrong.png shows the confusion matrix and the
misclassified images.
"""

from support import command_line, plots, results

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import jaxrnn
from jaxrnn import losses, metrics, train

HIDDEN_SIZE = 64
EPOCHS = 40
BATCH_SIZE = 32
LEARNING_RATE = 5e-3  # decays to zero over the run
PIXEL_DROPOUT = 0.1
WEIGHT_DECAY = 0.1
VALIDATION, TEST = 0.15, 0.25  # fractions of the images
PENALTIES = [10.0, 1.0, 0.1]  # of the baselines, chosen in validation
SHOWN = 12  # mistakes in the picture


def main():
    parser = command_line.make_parser(__doc__, "one_to_one")
    add = parser.add_argument
    add("--digits", default="0123456789", help="digits to classify, at least two")
    add("--limit", type=command_line.positive, help="maximum number of images")
    add("--hidden-size", type=command_line.positive, default=HIDDEN_SIZE)
    add("--epochs", type=command_line.positive, default=EPOCHS)
    options = parser.parse_args()
    if not set(options.digits) <= set("0123456789"):
        parser.error(f"--digits must be some of 0123456789, got {options.digits!r}")
    try:
        wanted = sorted(map(int, set(options.digits)))
        learn, choose, test = split(*read(wanted), options.limit, options.seed)
    except ValueError as error:
        parser.error(f"too little to learn by --digits and --limit: {error}")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "wrong.png")

    hidden = jaxrnn.layer(jaxrnn.elman(options.hidden_size))
    hidden = jaxrnn.dropout(hidden, input_rate=PIXEL_DROPOUT)
    model = jaxrnn.stack(hidden, jaxrnn.dense(len(wanted)))
    params = model.init(jax.random.key(options.seed), learn[0].shape[1])
    compare(model, params, *learn)
    params = fit(model, params, learn, choose, options)

    logits = model.apply(params, test[0][None])[1][0]
    rows = {"jaxrnn, Elman with T = 1": float(metrics.accuracy(logits, test[1]))}
    rows |= baselines(learn, choose, test, options)
    draw(path, *test, np.asarray(logits), wanted)
    print(f"picture: {path}\n")
    results.print_table(f"accuracy on {len(test[1])} test images", rows)


def read(wanted):
    """Load images ``(N, 64)`` from 0 to 1 and classes ``(N,)`` of the wanted digits."""
    images, digits = load_digits(return_X_y=True)
    known = np.isin(digits, wanted)
    labels = np.searchsorted(wanted, digits[known])
    return (images[known] / 16).astype(np.float32), labels.astype(np.int32)


def split(images, labels, limit, seed):
    """Split into training, validation and test pairs, in random order."""
    order = np.random.default_rng(seed).permutation(len(labels))[:limit]
    counts = [int(len(order) * share) for share in (1 - VALIDATION - TEST, VALIDATION)]
    parts = np.split(order, np.cumsum(counts))
    for name, part in zip(("training", "validation", "test"), parts, strict=True):
        classes = len(set(labels[part]))
        if classes < 2:
            found = f"{len(part)} images of {classes}"
            raise ValueError(f"{name} must have at least two classes, got {found}")
    return [(images[part], labels[part]) for part in parts]


def perceptron(params, images):
    hidden, readout = params
    return jnp.tanh(images @ hidden.w_x + hidden.b) @ readout.w + readout.b


def compare(model, params, images, labels):
    """Measure how far the one-step network differs from a perceptron."""

    def evaluate(params, apply):
        logits = apply(params, images)
        return losses.softmax_cross_entropy(logits, labels), logits

    gradient = jax.grad(evaluate, has_aux=True)
    ours, our_logits = gradient(params, lambda p, xs: model.apply(p, xs[None])[1][0])
    theirs, their_logits = gradient(params, perceptron)
    apart = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), ours, theirs)
    print("largest difference from a perceptron of the same weights, in float32")
    print(f"  outputs    {jnp.abs(our_logits - their_logits).max():.1e}")
    print(f"  gradients  {max(jax.tree.leaves(apart)):.1e}")
    print(f"largest gradient of the recurrent weights: {jnp.abs(ours[0].w_h).max()}\n")


def fit(model, params, learn, choose, options):
    """Return the parameters with the best validation result."""
    images, labels = learn
    size = min(BATCH_SIZE, len(labels))
    steps = options.epochs * (len(labels) // size)
    rng = np.random.default_rng(options.seed)

    def batches():
        for _ in range(options.epochs):
            order = rng.permutation(len(labels))
            for start in range(0, len(order) - size + 1, size):
                rows = order[start : start + size]
                yield images[rows][None], labels[rows][None]

    def loss_fn(params, batch, key):
        xs, classes = batch
        _, logits = model.apply(params, xs, key=key)
        return losses.softmax_cross_entropy(logits, classes)

    @jax.jit
    def validate(params):
        _, logits = model.apply(params, choose[0][None])
        return {"loss": losses.softmax_cross_entropy(logits, choose[1][None])}

    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(options.seed)),
        batches(),
        num_steps=steps,
        validate=validate,
        validate_every=max(steps // 20, 1),
    ).best_params


def baselines(learn, choose, test, options):
    """Compute accuracies, each with the best penalty in validation."""
    same = {"activation": "tanh", "max_iter": 2000, "random_state": options.seed}
    size = options.hidden_size
    kinds = {
        "logistic regression": lambda p: LogisticRegression(C=1 / p, max_iter=10000),
        "scikit-learn's perceptron": lambda p: MLPClassifier(size, alpha=p, **same),
    }
    found = {}
    for name, make in kinds.items():
        with threadpool_limits(1):  # for such small products, more threads only wait
            models = [make(penalty).fit(*learn) for penalty in PENALTIES]
        found[name] = max(models, key=lambda each: each.score(*choose)).score(*test)
    found["most frequent digit"] = np.mean(test[1] == np.bincount(learn[1]).argmax())
    return found


def draw(path, images, labels, logits, wanted):
    """Draw the confusion matrix and misclassified images."""
    guesses = logits.argmax(axis=1)
    wrong = np.flatnonzero(guesses != labels)[:SHOWN]
    figure = plt.figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = left.subplots()
    counts = np.asarray(metrics.confusion_matrix(logits, labels))
    axes.imshow(np.sqrt(counts), cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if count > counts.max() / 3 else "black"
            axes.text(column, row, count, ha="center", va="center", color=colour)
    at = range(len(wanted))
    axes.set(xticks=at, xticklabels=wanted, yticks=at, yticklabels=wanted)
    axes.set(xlabel="predicted digit", ylabel="true digit", title="test images")
    right.suptitle("mistakes: the digit, and what it was taken for")
    for place, axes in enumerate(right.subplots(3, SHOWN // 3).flat):
        axes.axis("off")
        if place < len(wrong):
            row = wrong[place]
            axes.imshow(images[row].reshape(8, 8), cmap="Greys")
            axes.set_title(f"{wanted[labels[row]]}, not {wanted[guesses[row]]}")
    plots.save(figure, path, dpi=90)


if __name__ == "__main__":
    main()
