"""Encoder-decoder output, its attention weights, and pictures of both."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from jaxrnn import data, decode

from . import pairs, plots


class Written(NamedTuple):
    """Output of a model for one source, with attention weights for each token."""

    symbols: list[str]
    weights: np.ndarray  # (tokens and the end token, S)


def write(translator, params, sources, *, beam_size=1, penalty=0.0, batch_size=100):
    """Generate targets from source tokens, as a list of :class:`Written`."""
    model, symbols = translator.model, translator.target.symbols
    begin, end = symbols.index(pairs.BEGIN), symbols.index(pairs.END)

    @jax.jit
    def run(params, sources, mask):
        state = model.encode(params, sources, mask=mask)
        start = jnp.full((1, sources.shape[1]), begin)
        given = (model.decoder, params.decoder, start, translator.num_steps)
        if beam_size == 1:
            key = jax.random.key(0)  # the most probable token needs no randomness
            _, tokens = decode.generate(*given, key=key, end=end, state=state)
        else:
            options = {"beam_size": beam_size, "length_penalty": penalty}
            found = decode.beam_search(*given, **options, end=end, state=state)
            tokens = found.tokens[..., 0]
        fed = jnp.concatenate([start, tokens[:-1]])
        weights = model.attention_weights(params, sources, fed, source_mask=mask)
        return tokens, decode.lengths_until(tokens, end), weights

    encoded = pairs.numbers(translator.source, sources)
    longest = max(map(len, encoded))
    written = []
    for start in range(0, len(encoded), batch_size):
        chosen = encoded[start : start + batch_size]
        lengths = [len(each) for each in chosen]
        filled = [*chosen, *[chosen[0]] * (min(batch_size, len(encoded)) - len(chosen))]
        tokens, steps, weights = jax.device_get(run(params, *data.pad(filled, longest)))
        for row, length in enumerate(lengths):
            drawn = tokens[: steps[row], row]
            found = data.decode(translator.target, drawn[drawn != end])
            written.append(Written(found, weights[: steps[row], row, :length]))
    return written


def known(written, source):
    """Replace unknown tokens by the source tokens with the most attention.

    A source token that is already in the output is not copied again.

    References: Luong et al., Addressing the rare word problem in neural machine
    translation, 2015.
    """
    symbols = []
    for symbol, weights in zip(written.symbols, written.weights, strict=False):
        if symbol == pairs.UNKNOWN:
            looked_at = [source[place] for place in np.argsort(-weights)]
            fresh = [each for each in looked_at if each not in symbols]
            symbol = (fresh or looked_at)[0]
        symbols.append(symbol)
    return symbols


def nearest(known, asked, **options):
    """Find the index of the most similar known text, by TF-IDF of n-grams."""
    vectorizer = TfidfVectorizer(**options)
    index = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute")
    index.fit(vectorizer.fit_transform(known))
    return index.kneighbors(vectorizer.transform(asked), return_distance=False)[:, 0]


def plot_loss(path, history, unit):
    figure, axis = plt.subplots(figsize=(6, 4))
    training, validation = history.train, history.validation
    axis.semilogy(training["step"], training["loss"], alpha=0.5, lw=1, label="training")
    axis.semilogy(validation["step"], validation["loss"], "o-", label="validation")
    axis.set(xlabel="step", ylabel=f"loss, nats per {unit}")
    low, high = axis.get_ylim()
    if high / low > 10:  # too many ticks to label each
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5), numticks=20))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    plots.save(figure, path, dpi=100)


def plot_attention(path, sources, written, *, count, widest):
    """Plot attention maps of up to ``count`` sources of at most ``widest`` tokens.

    Output down, source across. A word in brackets replaces an unknown token.
    """
    order = sorted(range(len(sources)), key=lambda i: max(len(sources[i]) - widest, 0))
    shown = [(sources[index], written[index]) for index in order[:count]]
    square = 0.22  # inches
    heights = [square * len(each.weights) for _, each in shown]
    columns = max(len(source) for source, _ in shown)
    words = max(len(symbol) for source, _ in shown for symbol in source) > 2
    between = 1.4 if words else 0.5  # space for rotated labels below
    figure, axes = plt.subplots(
        len(shown),
        1,
        figsize=(square * columns + 2.5, sum(heights) + between * len(shown)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
    for axis, (source, each) in zip(axes[:, 0], shown, strict=True):
        image = axis.imshow(each.weights, cmap="Greys", vmin=0, vmax=1)
        names = {"parse_math": False, **(turned if words else {})}
        axis.set_xticks(range(len(source)), source, **names)
        outputs = [
            f"[{name}]" if symbol == pairs.UNKNOWN else name.strip()
            for symbol, name in zip(each.symbols, known(each, source), strict=True)
        ]
        outputs = [*outputs, pairs.END][: len(each.weights)]
        axis.set_yticks(range(len(outputs)), outputs, parse_math=False)
        axis.set(ylabel="output", xlim=(-0.5, columns - 0.5))
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("source")
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.6)
    plots.save(figure, path, dpi=100)
