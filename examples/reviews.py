"""Sentences of reviews of films: their words, three parts of them, a baseline."""

import numpy as np
import text
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from jaxrnn import data

LAST_WORDS = 60  # of a long review: its verdict mostly stands at the end


def words(sentence):
    return data.split_words(sentence.lower())


def pad(vocabulary, sentences):
    """Numbers of words ``(T, B)``, and their mask."""
    return data.pad([data.encode(vocabulary, sentence) for sentence in sentences])


def read(limit, seed, full):
    """Three times ``(sentences, labels)``; if ``full`` the first has IMDB too."""
    reviews, labels = text.read_reviews("rotten_tomatoes")
    chosen = np.random.default_rng(seed).permutation(len(reviews))[:limit]
    parts = split([words(reviews[row]) for row in chosen], labels[chosen])
    if full:
        longer, more = text.read_reviews("imdb")
        longer = [words(review)[-LAST_WORDS:] for review in longer]
        parts[0] = parts[0][0] + longer, np.concatenate([parts[0][1], more])
    return parts


def split(sentences, labels):
    """Three times ``(sentences, labels)``: 80 % training, 10 % validation, the test."""
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


def regression(parts):
    """Classes of the test sentences, by their words and pairs of words alone."""
    tokens = {"tokenizer": str.split, "token_pattern": None, "lowercase": False}
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **tokens)
    vectorizer.fit(map(" ".join, parts[0][0]))
    xs = [vectorizer.transform(map(" ".join, sentences)) for sentences, _ in parts]
    fitted = [
        LogisticRegression(C=c, max_iter=1000).fit(xs[0], parts[0][1])
        for c in (1, 3, 10, 30)
    ]
    best = max(fitted, key=lambda each: each.score(xs[1], parts[1][1]))
    return best.predict(xs[2])
