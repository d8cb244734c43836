"""Who speaks, and who after whom: speaker recognition, and labels without alignment.

    python examples/speech.py [--full] [--out runs/speech]

Nine men say two Japanese vowels: 12 cepstral coefficients, 7 to 29 steps
(JapaneseVowels, in the package sktime). First, many to one: a bidirectional GRU reads
an utterance, a mask excludes padding, and the outputs are pooled. Five networks, each
with another fifth of the training utterances for validation, name the speaker together
(speakers.py). Then many to many without alignment: utterances of several speakers
follow each other without a pause, and a network trained by connectionist temporal
classification (CTC) outputs the speakers in order; no boundaries are given. Test
streams consist of test utterances only. Prints both results beside simpler models
(utterances.py), and saves the confusion matrix and the network's output for one stream.

For speaker recognition, logistic regression on an utterance resampled to 12 steps is
enough: the networks come close to it but are not better. Streams have unknown
boundaries, and need more.
"""

from support import (
    command_line,
    fitting,
    packages,
    plots,
    results,
    speakers,
    utterances,
)

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import jaxrnn
from jaxrnn import data, decode, losses, metrics, train

SIZE, STEPS = 64, 900  # for each recogniser
CTC_SIZE, CTC_STEPS, BATCH_SIZE = 64, 500, 16
DROPOUT = 0.3
NOISE = 0.3  # added to standardised coefficients in training
LEARNING_RATE = 5e-3
NUM_STREAMS = 200  # for the test; half as many for validation


def make_transcriber(size, num_speakers):
    def layer():
        both = jaxrnn.bidirectional(jaxrnn.lstm(size), jaxrnn.lstm(size))
        return jaxrnn.dropout(both, DROPOUT, variational=True)

    return jaxrnn.stack(layer(), layer(), jaxrnn.dense(num_speakers + 1))  # the blank


def train_transcriber(model, draw_batch, held, num_steps, seed):
    """Train with CTC; return a function from streams to logits ``(T, B, 1 + S)``."""

    def loss_fn(params, batch, key):
        xs, mask, labels, label_mask = batch
        key, noise_key = jax.random.split(key)
        xs = xs + NOISE * jax.random.normal(noise_key, xs.shape, xs.dtype)
        _, logits = model.apply(params, xs, mask=mask, key=key)
        return losses.ctc(logits, labels, mask=mask, label_mask=label_mask)

    def logits_of(params, streams):
        return model.apply(params, streams.xs, mask=streams.mask)[1]

    @jax.jit
    def validate(params):
        logits = logits_of(params, held)
        loss = losses.ctc(
            logits, held.labels, mask=held.mask, label_mask=held.label_mask
        )
        return {"loss": loss}

    optimizer = fitting.optimizer(LEARNING_RATE, num_steps)
    state = fitting.start(model.init, optimizer, seed, utterances.COEFFICIENTS)
    update = train.make_update(loss_fn, optimizer)
    batches = (draw_batch()[:4] for _ in range(num_steps))
    params = fitting.best(update, state, batches, num_steps, validate)
    return lambda streams: logits_of(params, streams)


def draw_confusion(path, counts, names):
    figure, axis = plt.subplots(figsize=(5, 4.6), layout="constrained")
    axis.imshow(np.sqrt(counts), cmap="Blues")  # the root makes a count of 1 visible
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if count > counts.max() / 3 else "black"
            axis.text(column, row, count, ha="center", va="center", color=colour)
    axis.set(xlabel="speaker recognised", ylabel="speaker", title="test utterances")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    plots.save(figure, path)


def draw_stream(path, streams, logits, names):
    """Draw the cepstra of a stream above, and speaker probabilities by step below."""
    row = streams.label_mask.sum(axis=0).argmax()  # a stream with most utterances
    ends = streams.ends[row]
    chances = np.asarray(jax.nn.softmax(logits[: ends[-1], row]))
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(10, 5.5), sharex=True, layout="constrained"
    )
    image = top.imshow(
        streams.xs[: ends[-1], row].T, aspect="auto", cmap="RdBu", vmin=-3, vmax=3
    )
    figure.colorbar(image, ax=top, label="standard deviations")
    top.set_title("dashed: where the next speaker begins, which nothing tells")
    top.set(ylabel="cepstral coefficient", yticks=[0, 5, 11], yticklabels=[1, 6, 12])
    for end in ends[:-1]:
        for axis in (top, bottom):
            axis.axvline(end - 0.5, color="black", ls="--", lw=1)
    bottom.plot(chances[:, 0], color="0.7", label="blank")
    for speaker in np.flatnonzero(chances[:, 1:].max(axis=0) > 0.2):
        curve = chances[:, speaker + 1]
        bottom.plot(curve, color=f"C{speaker}", lw=2, label=f"speaker {names[speaker]}")
    starts = [0, *ends[:-1]]
    for label, start, end in zip(streams.labels[:, row], starts, ends, strict=False):
        middle = (start + end - 1) / 2
        bottom.text(middle, 1.08, f"speaker {names[label - 1]}", ha="center")
    bottom.set(xlabel="step", ylabel="probability by CTC", ylim=(-0.03, 1.2))
    bottom.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    plots.save(figure, path)


def main():
    parser = command_line.make_parser(__doc__, "speech")
    add = parser.add_argument
    add("--full", action="store_true", help="networks of twice the size, 3 x the steps")
    add("--steps", type=command_line.positive, help="of each recogniser")
    add("--ctc-steps", type=command_line.positive, help="of the network of streams")
    add("--streams", type=command_line.positive, default=NUM_STREAMS, help="to test")
    args = parser.parse_args()
    matplotlib.use("Agg")
    longer, larger = (3, 2) if args.full else (1, 1)

    folder = packages.package_file("sktime", "datasets/data/JapaneseVowels")
    known, spoken = utterances.read(folder / "JapaneseVowels_TRAIN.ts")
    unseen, spoken_unseen = utterances.read(folder / "JapaneseVowels_TEST.ts")
    names = sorted(set(spoken))
    by = utterances.number(spoken, names, speakers.FOLDS)
    by_unseen = utterances.number(spoken_unseen, names, 1)

    confusion_path = command_line.prepare_out(args.out, "confusion.png")
    stream_path = command_line.prepare_out(args.out, "stream.png")

    steps = args.steps or longer * STEPS
    chances = speakers.recognise(known, by, unseen, larger * SIZE, steps, args.seed)
    accuracies = {
        "jaxrnn, bidirectional GRUs": metrics.accuracy(chances, by_unseen),
        **utterances.recogniser_baselines(known, by, unseen, by_unseen),
    }
    counts = np.asarray(metrics.confusion_matrix(chances, by_unseen))
    draw_confusion(confusion_path, counts, names)

    kept, held = speakers.folds(by, args.seed)[0]
    learned = data.statistics(np.concatenate([known[row] for row in kept]))
    known, unseen = (
        [data.standardize(learned, xs) for xs in each] for each in (known, unseen)
    )
    longest = utterances.MOST * max(map(len, known + unseen))
    rng = np.random.default_rng(args.seed)

    def draw(rows, count, xs=known, by=by):
        return utterances.streams([xs[i] for i in rows], by[rows], count, rng, longest)

    validation = draw(held, -(-args.streams // 2))
    test = draw(np.arange(len(unseen)), args.streams, unseen, by_unseen)
    logits = train_transcriber(
        make_transcriber(larger * CTC_SIZE, len(names)),
        lambda: draw(kept, BATCH_SIZE),
        validation,
        args.ctc_steps or longer * CTC_STEPS,
        args.seed,
    )(test)
    rates = {
        "jaxrnn, LSTMs by CTC": utterances.rate(
            *decode.ctc_greedy(logits, test.mask), test
        ),
        "equal parts, their number told": utterances.segment_baseline(known, by, test),
        "each step alone, smoothed": utterances.step_baseline(
            known, by, kept, validation, test
        ),
    }
    draw_stream(stream_path, test, logits, names)

    print(f"pictures: {confusion_path}, {stream_path}")
    results.print_table("accuracy of speakers in test", accuracies)
    results.print_table("label error rate of test streams", rates)


if __name__ == "__main__":
    main()
