"""Summaries of docstrings: the first line, from the name and what follows.

    python examples/summarise.py [--out runs/summarise]
    python examples/summarise.py --full     # larger, for longer

The first line of a docstring says what a function or class does (PEP 257). Here an
encoder-decoder with attention writes it, from the words of the name, of the parameters
and of the first lines below: real summaries that people wrote, in the standard library
and in the packages of the extra ``examples``, whose files are parsed and not run. No
summary is in training and test, and these are of different parts of packages, so that
near copies are not either. Prints examples and ROUGE, beside the first words of the
text, the words of the name, and the summary of the most similar docstring in training;
saves the curve of training and a map of what the decoder looked at.
"""

import collections

from support import command_line, docstrings, pair_training, pairs, results, writing

import matplotlib
import numpy as np

from jaxrnn import data

EMBEDDING_SIZE = 96
EMBEDDING_SCALE = 0.2  # of its entries at first; small ones soon are what they learn
HIDDEN_SIZE = 128
ENCODER_SIZE = 64  # of each direction
DROPOUT = 0.3
COPYING = 4.0  # logit of a word that alone is looked at, before training
VOCABULARY = 3000  # words, of sources and of targets
BODY = 30  # words of what follows the summary
STEPS = 1100
BATCH_SIZE = 16
LEARNING_RATE = 3e-3
FULL = {"hidden_size": 256, "encoder_size": 128, "steps": 8000}
BEAM_SIZE = 4
PENALTY = 1.0  # of length; without, beams prefer short summaries
LEAST = 50  # docstrings to train on
HELD_OUT = 800  # docstrings of the test, a tenth at most, and of validation
SHOWN = 6
WIDEST = 30  # words of a source in the picture


def main():
    parser = command_line.make_parser(__doc__, "summarise")
    add = parser.add_argument
    add("--full", action="store_true", help="the larger model, trained for longer")
    add("--steps", type=command_line.positive, help="number of parameter updates")
    add("--beam-size", type=command_line.positive, default=BEAM_SIZE)
    add("--limit", type=command_line.positive, help="files of each package, at most")
    args = parser.parse_args()
    matplotlib.use("Agg")
    command_line.prepare_out(args.out, "attention.png")

    found = docstrings.read(args.limit)
    training, validation, test = docstrings.split(found, HELD_OUT, args.seed)
    if len(training) < LEAST:
        parser.error(
            f"--limit must leave {LEAST} docstrings for training, got {args.limit} "
            f"with {len(training)}"
        )
    given = [(source(each), each.summary) for each in training]
    vocabulary = data.make_vocabulary(
        (word for pair in given for words in pair for word in words),
        size=VOCABULARY,
        special=(pairs.BEGIN, pairs.END),
        unknown=pairs.UNKNOWN,
    )
    translator = pairs.build(
        vocabulary,
        vocabulary,
        docstrings.LONGEST + 1,  # with the end
        embedding_size=EMBEDDING_SIZE,
        hidden_size=FULL["hidden_size"] if args.full else HIDDEN_SIZE,
        encoder_size=FULL["encoder_size"] if args.full else ENCODER_SIZE,
        embedding_scale=EMBEDDING_SCALE,
        look_at_words=True,
        dropout=DROPOUT,
    )
    settings = pair_training.Settings(
        steps=args.steps or (FULL["steps"] if args.full else STEPS),
        batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        seed=args.seed,
        num_buckets=1,  # lengths differ little: one compilation
    )
    checked = [(source(each), each.summary) for each in validation]
    params = copying(pairs.initial_params(translator, args.seed))
    result = pair_training.fit(translator, params, given, checked, settings)
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    writing.plot_loss(args.out / "loss.png", result.history, "word")

    asked = [source(each) for each in test]
    greedy = writing.write(translator, result.best_params, asked)
    beam = writing.write(
        translator,
        result.best_params,
        asked,
        beam_size=args.beam_size,
        penalty=PENALTY,
    )
    model = f"jaxrnn, beam of {args.beam_size}"
    written = {
        "jaxrnn, greedy": known(greedy, asked),
        model: known(beam, asked),
        **baselines(training, test),
    }
    for index in range(min(SHOWN, len(test))):
        each = test[index]
        print(f"{each.group}: {' '.join(each.name)}({' '.join(each.parameters)})")
        print(f"  reference  {' '.join(each.summary)}")
        print(f"  jaxrnn     {' '.join(written[model][index])}")
    picture = args.out / "attention.png"
    writing.plot_attention(picture, asked, beam, count=2, widest=WIDEST)
    print(f"loss.png and attention.png written to {args.out}")
    print(f"{len(training)} docstrings in training, {len(test)} held out")
    wanted = [each.summary for each in test]
    for size in (1, 2):
        rows = {name: rouge(each, wanted, size) for name, each in written.items()}
        results.print_table(f"ROUGE-{size} F1", rows)


def copying(params):
    """Parameters that begin by writing the word that is looked at.

    Part of what is looked at is the word's vector. With the vectors of all words for
    weights, the readout gives the largest logit to the word whose own vector it sees.
    """
    embedded, _ = params.encoder
    *before, readout = params.decoder
    start = before[1].cell.w_h.shape[0]  # behind the state of the decoder
    copied = COPYING / (EMBEDDING_SIZE * EMBEDDING_SCALE**2) * embedded.table.T
    w = readout.w.at[start : start + EMBEDDING_SIZE].set(copied)
    return params._replace(decoder=(*before, readout._replace(w=w)))


def source(docstring):
    """What the encoder reads."""
    parts = [*docstring.name, "(", *docstring.parameters, ")"]
    return [*parts, *docstring.body[:BODY]]


def known(written, sources):
    return [
        writing.known(each, words) for each, words in zip(written, sources, strict=True)
    ]


def baselines(training, test):
    """Summaries without a network, from the same training docstrings."""
    length = round(np.mean([len(each.summary) for each in training]))

    def text(each):
        # The name says most: three times as much.
        return " ".join([*each.name * 3, *each.parameters, *each.body[:BODY]])

    nearest = writing.nearest(
        [text(each) for each in training],
        [text(each) for each in test],
        token_pattern=r"\S+",
        sublinear_tf=True,
    )
    return {
        f"first {length} words of the text": [each.body[:length] for each in test],
        "words of the name": [each.name for each in test],
        "most similar docstring": [training[place].summary for place in nearest],
    }


def rouge(written, wanted, size):
    """Mean F1 of the runs of ``size`` words, as often as both have them."""

    def runs(words):
        return collections.Counter(zip(*(words[i:] for i in range(size)), strict=False))

    scores = []
    for found, reference in zip(written, wanted, strict=True):
        a, b = runs(found), runs(reference)
        scores.append(2 * (a & b).total() / max(a.total() + b.total(), 1))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
