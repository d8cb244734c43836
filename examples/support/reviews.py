"""Film reviews: words, word vectors, and baseline classifiers."""

import itertools

import jax
import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from jaxrnn import data, metrics

from . import results, text

WINDOW = 5  # context words on each side


def words(sentence):
    return data.split_words(sentence.lower())


def read(source, limit, seed):
    """Load lists of words, in random order, and whether each is favourable."""
    found, labels = text.read_reviews(source)
    chosen = np.random.default_rng(seed).permutation(len(found))[:limit]
    return [words(found[row]) for row in chosen], labels[chosen]


def split(sentences, labels):
    """Split ``(sentences, labels)``: 80 % training, 10 % validation, the test."""
    ends = (np.array([0.8, 0.9]) * len(sentences)).astype(int)
    parts = []
    for rows in np.split(np.arange(len(sentences)), ends):
        found = sorted(set(labels[rows].tolist()))
        if found != [0, 1]:
            raise ValueError(
                "labels must have both classes, 0 and 1, in training, validation and "
                f"test, got {found} in one of these, of {len(sentences)} sentences"
            )
        parts.append(([sentences[row] for row in rows], labels[rows]))
    return parts


def encode(vocabulary, sentences):
    """Look up the token ids of all sentences at once."""
    numbers = data.encode(vocabulary, itertools.chain(*sentences))
    return np.split(numbers, np.cumsum([len(each) for each in sentences])[:-1])


def vectors(vocabulary, sentences, longer, labels, size):
    """Compute word vectors ``(V, size + 1)`` from contexts and from review labels.

    The former are singular vectors of positive pointwise mutual information (Levy,
    Goldberg and Dagan, 2015). The last column is the log ratio of favourable to other
    longer reviews that contain the word. The unknown word has zeros.
    """
    count = len(vocabulary.symbols)
    rows = encode(vocabulary, longer)
    # The unknown word separates sentences too; its contexts are not counted.
    apart = [np.append(row, 0) for row in [*encode(vocabulary, sentences), *rows]]
    stream = np.concatenate(apart)
    near = csr_matrix((count, count), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        pairs = np.stack([stream[:-distance], stream[distance:]])
        pairs = pairs[:, pairs.all(axis=0)]
        ones = np.ones(pairs.shape[1], np.float32)
        near += csr_matrix((ones, pairs), shape=near.shape)
    near = (near + near.T).tocoo()
    total = np.asarray(near.sum(axis=0)).ravel()
    smooth = total**0.75
    expected = total[near.row] * smooth[near.col] / smooth.sum()
    near.data = np.maximum(np.log(near.data / expected), 0)
    svd = TruncatedSVD(size, n_iter=3, random_state=0)
    table = svd.fit_transform(near.tocsr()) / np.sqrt(svd.singular_values_)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    table = np.sqrt(0.1 * size) * table / np.maximum(norms, 1e-6)

    said = np.full((2, count), 5.0)  # smoothing: rare words are weak evidence
    for row, label in zip(rows, labels, strict=True):
        said[label, np.unique(row)] += 1
    table = np.column_stack([table, np.log(said[1] / said[0])])
    table[0] = 0
    return table.astype(np.float32)


def by_words(parts, longer=(), labels=()):
    """Classify the test sentences by their words and word pairs only."""
    (sentences, own), *others = parts
    training = [*sentences, *longer], np.concatenate([own, labels]).astype(int)
    tokens = {"tokenizer": str.split, "token_pattern": None, "lowercase": False}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **tokens)
    vectorizer.fit(map(" ".join, training[0]))

    def features(sentences):
        return vectorizer.transform(map(" ".join, sentences))

    return _classify([training, *others], features)


def by_vectors(parts, vocabulary, table):
    """Classify the test sentences by their mean word vectors."""

    def features(sentences):
        rows = encode(vocabulary, sentences)
        return np.stack([table[row].mean(axis=0) for row in rows])

    return _classify(parts, features)


def _classify(parts, features):
    """Classify by the logistic regression that is best in validation."""
    xs = [features(sentences) for sentences, _ in parts]
    (_, labels), (_, wanted) = parts[:2]
    fitted = [
        LogisticRegression(C=c, solver="liblinear").fit(xs[0], labels)
        for c in (0.3, 1, 3, 10, 30)
    ]
    return max(fitted, key=lambda each: each.score(xs[1], wanted)).predict(xs[2])


def report(said, wanted):
    """Make tables of ``{name: classes}`` against the true classes."""
    print(f"standard error of an accuracy: at most {0.5 / len(wanted) ** 0.5:.3f}")
    rows = {name: jax.nn.one_hot(each, 2) for name, each in said.items()}
    accuracy = {name: metrics.accuracy(row, wanted) for name, row in rows.items()}
    results.print_table(f"accuracy, {len(wanted)} sentences held out", accuracy)
    f1 = {name: metrics.macro_f1(row, wanted) for name, row in rows.items()}
    results.print_table("F1, mean of both classes", f1)
