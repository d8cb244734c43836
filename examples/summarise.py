"""Summaries of docstrings: the first line, from the name and what follows.

    python examples/summarise.py [--out runs/summarise]
    python examples/summarise.py --full     # larger, for longer

The first line of a docstring says what a function or class does (PEP 257). Here an
encoder-decoder with attention writes this summary from the name, the parameter names
and the first lines below the summary. The data are docstrings of the standard library
and of the packages of the extra ``examples``; their files are parsed, not run. No
summary is in both training and test, and these use different parts of packages, which
also excludes near copies. Prints examples and ROUGE, beside the first words of the
text, the words of the name, and the summary of the most similar training docstring;
saves the learning curve and a map of the attention weights.
"""

import collections

from support import command_line, docstrings, pair_training, pairs, results, writing

import matplotlib
import numpy as np

from jaxrnn import data

EMBEDDING_SIZE = 96
EMBEDDING_SCALE = 0.2  # initial scale; learning soon dominates small entries
HIDDEN_SIZE = 128
ENCODER_SIZE = 64  # for each direction
DROPOUT = 0.3
COPYING = 4.0  # initial logit of a word with all the attention
VOCABULARY = 3000  # words in the vocabulary of sources and of targets
BODY = 30  # words of the text below the summary
STEPS = 1100
BATCH_SIZE = 16
LEARNING_RATE = 3e-3
FULL = {"hidden_size": 256, "encoder_size": 128, "steps": 8000}
BEAM_SIZE = 4
PENALTY = 1.0  # length penalty; without it, beam search prefers short summaries
LEAST = 50  # minimum number of training docstrings
HELD_OUT = 800  # docstrings for the test (at most a tenth), and for validation
SHOWN = 6
WIDEST = 30  # maximum source length in the picture


def main():
    parser = command_line.make_parser(__doc__, "summarise")
    add = parser.add_argument
    add("--full", action="store_true", help="the larger model, trained for longer")
    add("--steps", type=command_line.positive, help="number of parameter updates")
    add("--beam-size", type=command_line.positive, default=BEAM_SIZE)
    add("--limit", type=command_line.positive, help="maximum files of each package")
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
        docstrings.LONGEST + 1,  # with the end token
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
    """Initialise the readout to copy the word with the most attention.

    The attention output contains the word's embedding. If the readout's weights are the
    embeddings of all words, the attended word gets the largest logit.
    """
    embedded, _ = params.encoder
    *before, readout = params.decoder
    start = before[1].cell.w_h.shape[0]  # after the decoder's state
    copied = COPYING / (EMBEDDING_SIZE * EMBEDDING_SCALE**2) * embedded.table.T
    w = readout.w.at[start : start + EMBEDDING_SIZE].set(copied)
    return params._replace(decoder=(*before, readout._replace(w=w)))


def source(docstring):
    """Join the words that the encoder reads."""
    parts = [*docstring.name, "(", *docstring.parameters, ")"]
    return [*parts, *docstring.body[:BODY]]


def known(written, sources):
    return [
        writing.known(each, words) for each, words in zip(written, sources, strict=True)
    ]


def baselines(training, test):
    """Summarise without a network, from the same training docstrings."""
    length = round(np.mean([len(each.summary) for each in training]))

    def text(each):
        # The name is the most informative part: weight it three times.
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
    """Compute mean F1 of n-grams of ``size`` words, with their counts."""

    def runs(words):
        return collections.Counter(zip(*(words[i:] for i in range(size)), strict=False))

    scores = []
    for found, reference in zip(written, wanted, strict=True):
        a, b = runs(found), runs(reference)
        scores.append(2 * (a & b).total() / max(a.total() + b.total(), 1))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
