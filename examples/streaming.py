"""Recognise activities in a stream of sensor readings, and time each step.

    python examples/streaming.py [--full] [--out runs/streaming]

A smart watch measures acceleration and rotation along three axes (BasicMotions, in the
package sktime: standing, running, walking, badminton). An LSTM names the activity at
every reading. It is trained on recordings that follow each other without a pause, then
exported to a file, and the file is loaded as a server or a device would. Test
recordings arrive one reading at a time. The script checks that the outputs equal the
outputs of one call with the whole stream.

Every step is timed, from the reading in NumPy to the logits in NumPy: by jax.jit, by
the loaded artefact, both with int8 weights too, and by onnxruntime if it is installed.
Each reading goes through all of them in turn, so that they share what else the machine
does. Saves latency.png: a part of the stream, and histograms of the times.
"""

import importlib.util

from support import command_line, fitting, latency, motions, packages, plots, results

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression

import jaxrnn
from jaxrnn import export, losses, quantization, train

SIZE, STEPS = 192, 150
FULL_SIZE, FULL_STEPS = 512, 300
BATCH_SIZE, PARTS = 16, 3  # recordings that follow each other in training
NOISE = 0.3  # added to standardised readings in training
LEARNING_RATE = 3e-3
READINGS = 2000  # of the test stream that are timed
ALLOWED = 1e-4  # difference of logits between a step and the whole stream


def train_model(model, recordings, labels, num_steps, seed):
    """Train on random recordings in a row; return parameters."""
    rng = np.random.default_rng(seed)

    def loss_fn(params, batch, key):
        xs, targets = batch
        xs = xs + NOISE * jax.random.normal(key, xs.shape, xs.dtype)
        _, logits = model.apply(params, xs)
        return losses.softmax_cross_entropy(logits, targets)

    def batches():
        while True:
            order = rng.integers(len(labels), size=(PARTS, BATCH_SIZE))
            yield motions.join(recordings, labels, order)

    optimizer = fitting.optimizer(LEARNING_RATE, num_steps)
    state = fitting.start(model.init, optimizer, seed, motions.CHANNELS)
    update = train.make_update(loss_fn, optimizer)
    return train.fit(update, state, batches(), num_steps=num_steps).state.params


def export_and_load(model, params, path):
    """Write a model to a file for one stream, and read the file."""
    export.export(model, params, motions.CHANNELS, batch_size=1).save(path)
    return export.load(path)


def draw(path, chances, labels, activities, micros):
    """Draw the probabilities of some recordings, and the distribution of the times."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 7), layout="constrained")
    shown = len(chances)
    clock = np.arange(shown) / motions.RATE
    for index, activity in enumerate(activities):
        top.plot(clock, chances[:, index], color=f"C{index}", label=activity.lower())
    ends = np.flatnonzero(np.diff(labels)) + 1
    for start, end in zip([0, *ends], [*ends, shown], strict=True):
        colour = f"C{labels[start]}"
        top.axvspan(clock[start], end / motions.RATE, color=colour, alpha=0.15, lw=0)
    top.set(xlabel="seconds", ylabel="probability", xlim=(0, shown / motions.RATE))
    top.set_title("activity by reading; the background has the true one")
    top.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    every = np.concatenate(list(micros.values()))
    bins = np.geomspace(every.min(), np.percentile(every, 99.8), 80)
    for index, (name, values) in enumerate(micros.items()):
        median = np.median(values)
        label = f"{name}: {median:.0f} µs"
        bottom.hist(
            values, bins, histtype="step", lw=1.6, color=f"C{index}", label=label
        )
        bottom.axvline(median, color=f"C{index}", ls=":", lw=1)
    bottom.set(xscale="log", xlabel="time of a step, microseconds", ylabel="steps")
    bottom.set_title("latency (dotted: medians)")
    bottom.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    plots.save(figure, path)


def main():
    parser = command_line.make_parser(__doc__, "streaming")
    add = parser.add_argument
    add("--full", action="store_true", help=f"{FULL_SIZE} units, not {SIZE}")
    add("--size", type=command_line.positive, help="number of hidden units")
    add("--steps", type=command_line.positive, help="number of parameter updates")
    add("--readings", type=command_line.positive, default=READINGS, help="to time")
    args = parser.parse_args()
    size, steps = (FULL_SIZE, FULL_STEPS) if args.full else (SIZE, STEPS)
    size, steps = args.size or size, args.steps or steps
    matplotlib.use("Agg")

    folder = packages.package_file("sktime", "datasets/data/BasicMotions")
    known, names = motions.read(folder / "BasicMotions_TRAIN.ts")
    unseen, unseen_names = motions.read(folder / "BasicMotions_TEST.ts")
    activities = sorted(set(names))
    labels, unseen_labels = (
        np.array([activities.index(n) for n in each]) for each in (names, unseen_names)
    )
    mean, deviation = known.mean((0, 1)), known.std((0, 1))
    known, unseen = (known - mean) / deviation, (unseen - mean) / deviation
    path = command_line.prepare_out(args.out, "latency.png")

    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(size)), jaxrnn.dense(len(activities)))
    params = train_model(model, known, labels, steps, args.seed)
    small = quantization.quantize(params)
    artefact = export_and_load(model, params, args.out / "model.safetensors")
    light = export_and_load(model, small, args.out / "model_int8.safetensors")

    order = np.random.default_rng(args.seed).permutation(len(unseen_labels))
    stream, truth = motions.join(unseen, unseen_labels, order[:, None])
    stream, truth = stream[: args.readings], truth[: args.readings, 0]
    runners = {
        "jax.jit": latency.of_layer(model, params),
        "jax.jit, int8": latency.of_layer(model, small),
        "artefact": latency.of_artefact(artefact),
        "artefact, int8": latency.of_artefact(light),
    }
    if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        runners["onnxruntime"] = latency.of_onnxruntime(model, params)
    else:
        print("onnxruntime is left out: onnx and onnxruntime are not installed")
    logits, seconds = latency.run_stream(runners, stream)

    for name, found in logits.items():
        weights = small if "int8" in name else params
        _, whole = jax.jit(model.apply)(weights, stream)
        difference = np.abs(found - whole).max()
        print(f"{name}: logits differ from those of one call by {difference:.1e}")
        assert difference < ALLOWED, name

    baseline = LogisticRegression(max_iter=1000)
    baseline.fit(known.reshape(-1, motions.CHANNELS), np.tile(labels, len(known)))
    guesses = {
        f"jaxrnn, LSTM {size}": logits["artefact"][:, 0].argmax(-1),
        "the same with int8 weights": logits["artefact, int8"][:, 0].argmax(-1),
        "logistic regression on a reading": baseline.predict(stream[:, 0]),
        "most frequent activity": np.bincount(truth).argmax(),
    }
    micros = {name: 1e6 * values for name, values in seconds.items()}
    shown = 6 * len(unseen)
    chances = np.asarray(jax.nn.softmax(logits["artefact"][:shown, 0]))
    draw(path, chances, truth[:shown], activities, micros)
    rows = {name: (guess == truth).mean() for name, guess in guesses.items()}
    results.print_table("accuracy over readings of the test stream", rows)
    for title, percent in (("median", 50), ("99th percentile", 99)):
        rows = {k: np.percentile(v, percent) for k, v in micros.items()}
        results.print_table(f"{title} of the time of a step, microseconds", rows, 0)
    sizes = {
        name: sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) / 1024
        for name, tree in {"float32": params, "int8": small}.items()
    }
    results.print_table("parameters, KiB", sizes, 0)
    print(f"{path} written")


if __name__ == "__main__":
    main()
