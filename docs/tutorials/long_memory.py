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
# # Memory over a long distance
#
# *I grew up in France. My father worked in a bank. Later I studied law. ... I speak
# fluent* ___
#
# You know the last word, because you remember the country. In this tutorial you measure
# how far back recurrent networks remember it. At the end you can train on sequences of
# several lengths, compute how much of a gradient is left after a number of steps, and
# say why a plain network fails where an LSTM does not.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn import data, diagnostics, losses, metrics, pooling, train

# %% [markdown]
# ## The texts
#
# A text begins with the country and ends before the language. Between them stand any
# number of other sentences, of seven words each. Some of these name another country, so
# it does not help to look for just any country.

# %%
LANGUAGES = {
    "France": "French",
    "Italy": "Italian",
    "Spain": "Spanish",
    "Germany": "German",
    "Greece": "Greek",
    "Poland": "Polish",
    "Sweden": "Swedish",
    "Japan": "Japanese",
}
SENTENCES = [
    "My father worked in a bank .",
    "School was a long walk away .",
    "In summer we swam every day .",
    "The winters were cold and dark .",
    "My sister played the violin well .",
    "Later I studied law and music .",
    "My aunt sent letters from {} .",
    "Our neighbours had moved from {} .",
]
COUNTRIES = list(LANGUAGES)


def write(rng, count):
    """Draw a text with ``count`` sentences between; return its words and the answer."""
    home, *others = rng.permutation(COUNTRIES)
    between = [each.format(rng.choice(others)) for each in rng.choice(SENTENCES, count)]
    words = " ".join([f"I grew up in {home} .", *between, "I speak fluent"]).split()
    return words, COUNTRIES.index(home)


def distance(count):
    """Count the words from the country to the blank."""
    return 5 + 7 * count


words, answer = write(np.random.default_rng(0), 3)
print(" ".join(words), "___", f"({LANGUAGES[COUNTRIES[answer]]})")

# %% [markdown]
# Each word becomes a token id. A batch has texts of several lengths: `data.pad` fills
# up the shorter ones at the end, and returns a **mask** that is True at real words.
# Every layer of jaxrnn takes the mask. A masked step keeps the state, so padding
# changes nothing.

# %%
LONGEST = 8  # sentences between, in training
everything = " ".join(SENTENCES).format("", "") + " I grew up in . speak fluent"
vocabulary = data.make_vocabulary(everything.split(), special=COUNTRIES)


def draw(rng, size, counts, longest):
    texts = [write(rng, count) for count in rng.choice(counts, size)]
    tokens = [data.encode(vocabulary, words) for words, _ in texts]
    answers = np.array([answer for _, answer in texts])
    return *data.pad(tokens, num_steps=9 + 7 * longest), answers


tokens, mask, answers = draw(np.random.default_rng(0), 4, [0, 1, 2], 2)
print("tokens", tokens.shape, "mask", mask.shape, "answers", answers.shape)
print("words of each text:", mask.sum(axis=0))

# %% [markdown]
# ## What the gradient says before training
#
# To learn that a word far back matters, a network must receive a gradient from there.
# The gradient of the answer with respect to an early state is a product with one
# factor, a matrix, for each step on the way:
#
# <div class="arithmatex">
# \[
# \frac{\partial L_T}{\partial s_k} =
# \frac{\partial L_T}{\partial s_T} \,
# \frac{\partial s_T}{\partial s_{T-1}} \cdots \frac{\partial s_{k+1}}{\partial s_k}
# \]
# </div>
#
# A product of many factors shrinks or grows exponentially. We compare three cells with
# 32 units: a plain Elman cell, `h = tanh(x W_x + h_prev W_h + b)`, and two LSTMs. In an
# LSTM the state `c` is carried on by `c = f c_prev + i g`, and so its factor is the
# forget gate `f`. At the beginning `f` is about `sigmoid(forget_bias)`, which is 0.73
# for a bias of 1 and 0.95 for a bias of 3.
#
# `diagnostics.state_gradients` computes the gradient with respect to the state that
# enters each step. We differentiate the score (logit) of the right language, for 20
# texts of the largest length, and show the median of the norms.

# %%
CELLS = {
    "Elman": jaxrnn.elman(32),
    "LSTM, forget bias 1": jaxrnn.lstm(32, forget_bias=1.0),
    "LSTM, forget bias 3": jaxrnn.lstm(32, forget_bias=3.0),
}
EMBEDDING = jaxrnn.embedding(len(vocabulary.symbols), 16)
READOUT = jaxrnn.dense(len(COUNTRIES))


def build(cell):
    return jaxrnn.stack(EMBEDDING, jaxrnn.layer(cell), READOUT)


@functools.partial(jax.jit, static_argnums=0)
def gradient_norms(cell, params, tokens, answers):
    """Compute the norm of the gradient with respect to the state before each step."""
    table, recurrent, readout = params
    _, xs = EMBEDDING.apply(table, tokens)
    _, ys = jaxrnn.unroll(cell, recurrent, xs)

    def score(y):
        _, logits = READOUT.apply(readout, y[None])
        return jnp.take_along_axis(logits[0], answers[:, None], axis=-1).sum()

    dys = jnp.zeros_like(ys).at[-1].set(jax.grad(score)(ys[-1]))
    states = diagnostics.state_gradients(cell, recurrent, xs, dys)
    states = jnp.concatenate(jax.tree.leaves(states), axis=-1)  # an LSTM has h and c
    return jnp.linalg.norm(states, axis=-1)


initial = {
    name: build(cell).init(jax.random.key(0), len(vocabulary.symbols))
    for name, cell in CELLS.items()
}
long_texts = draw(np.random.default_rng(1), 20, [LONGEST], LONGEST)


def draw_norms(axes, all_params):
    for (name, params), style in zip(
        all_params.items(), ("-", "--", "-."), strict=True
    ):
        norms = gradient_norms(CELLS[name], params, long_texts[0], long_texts[2])
        back = np.median(norms, axis=1)[::-1]
        axes.semilogy(np.arange(1, len(back) + 1), back / back[0], style, label=name)
        near, far = back[11] / back[0], back[59] / back[0]
        print(f"{name:<20} 12 steps back {near:.0e}, 60 steps back {far:.0e}")
    axes.set(xlabel="steps back from the blank", ylim=(1e-9, 30))
    axes.set(ylabel="norm of the gradient\n(1 at one step back)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")


figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
draw_norms(axes, initial)
plt.show()

# %% [markdown]
# In the Elman network the gradient loses a third at every step. Sixty steps back less
# than a ten-billionth is left. Beside the gradient from the last steps that is nothing.
# With a forget bias of 3 the LSTM keeps most of it. (It keeps more than its forget
# gates would, because the gradient also goes through `h`.)
#
# ## Train
#
# The loss is the cross-entropy at the last word of each text. The texts of a batch end
# at different steps, and `pooling.last` takes the output at the last real word of each.

# %%
NUM_UPDATES, BATCH_SIZE = 300, 32


rng = np.random.default_rng(0)
batches = [
    draw(rng, BATCH_SIZE, np.arange(LONGEST + 1), LONGEST) for _ in range(NUM_UPDATES)
]


def fit(cell, params, batches, rate=1e-2):
    model = build(cell)

    def loss_fn(params, batch, key):
        tokens, mask, answers = batch
        _, logits = model.apply(params, tokens, mask=mask)
        return losses.softmax_cross_entropy(pooling.last(logits, mask), answers)

    optimizer = train.default_optimizer(optax.cosine_decay_schedule(rate, len(batches)))
    return train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(1)),
        batches,
    )


trained, curves = {}, {}
for name, cell in CELLS.items():
    result = fit(cell, initial[name], batches)
    trained[name] = result.state.params
    curves[name] = result.history.train["loss"]
    print(
        f"{name:<20} mean loss of the last 20 updates {curves[name][-20:].mean():.3f}"
    )

# %% [markdown]
# ## How far back does it remember?
#
# We test each network on new texts, with up to twice as many sentences between as in
# training. For comparison: a guess is right one time in eight, and the country that was
# named last is often another one.

# %%
COUNTS = [0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16]
rng = np.random.default_rng(2)
tests = [draw(rng, 200, [count], COUNTS[-1]) for count in COUNTS]


@functools.partial(jax.jit, static_argnums=0)
def accuracy(model, params, batch):
    tokens, mask, answers = batch
    _, logits = model.apply(params, tokens, mask=mask)
    return metrics.accuracy(pooling.last(logits, mask), answers)


def named_last(tokens, answers):
    """Accuracy of the country that was named last."""
    country = tokens < len(COUNTRIES)  # countries have the first token ids
    last = len(tokens) - 1 - country[::-1].argmax(axis=0)
    return np.mean(tokens[last, np.arange(len(answers))] == answers)


distances = [distance(count) for count in COUNTS]
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for (name, params), style in zip(trained.items(), ("o-", "s--", "^-."), strict=True):
    values = [accuracy(build(CELLS[name]), params, test) for test in tests]
    axes.plot(distances, values, style, ms=5, label=name)
    print(f"{name:<20}", *(f"{value:4.0%}" for value in values))
naive = [named_last(np.where(mask, t, len(t)), a) for t, mask, a in tests]
axes.plot(distances, naive, "k:", label="country named last")
axes.axvline(distance(LONGEST), color="0.6", lw=1)
axes.annotate("longest in training", (distance(LONGEST) + 1, 0.9), color="0.4")
axes.set(
    xlabel="words from the country to the blank", ylabel="accuracy", ylim=(0, 1.05)
)
axes.legend(loc="center right")
plt.show()

# %% [markdown]
# The Elman network knows the answer where nothing stands between. One sentence makes it
# forget most of the time, and from two on it does no better than a guess. Both LSTMs
# remember, even over distances that they never met in training. The forget bias decides
# how fast they learn it: compare the losses above.
#
# ## The gradient after training
#
# Training could have mended the gradient of the Elman network. Did it?

# %%
figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
draw_norms(axes, trained)
plt.show()

# %% [markdown]
# A little. It has grown, and still vanishes: sixty steps back a fifty-thousandth is
# left. To learn longer memory the network needs a gradient from far back, and for that
# it needs a longer memory. The LSTM with a forget bias of 1 found the way out of this
# circle. Twelve steps back, which is one sentence, it had five times as much of its
# gradient left as the Elman network had. That was enough to begin with, and the
# gradient from further back grew.
#
# ## Which words matter?
#
# A mask can do more than mark padding: a step that is masked is a word that is left
# out. So we make as many copies of a text as it has words, leave out another word in
# each, and see what that does to the probability of the right answer.

# %%
words, answer = write(np.random.default_rng(6), 4)
copies = np.tile(data.encode(vocabulary, words)[:, None], len(words))
left_out = ~np.eye(len(words), dtype=bool)


@functools.partial(jax.jit, static_argnums=0)
def probability(model, params, tokens, mask):
    _, logits = model.apply(params, tokens, mask=mask)
    return jax.nn.softmax(pooling.last(logits, mask))[:, answer]


figure, both = plt.subplots(
    2, 1, figsize=(7, 4.2), sharex=True, sharey=True, layout="constrained"
)
for axes, name in zip(both, ("Elman", "LSTM, forget bias 3"), strict=True):
    model, params = build(CELLS[name]), trained[name]
    axes.bar(np.arange(len(words)), probability(model, params, copies, left_out))
    axes.axhline(1 / len(COUNTRIES), color="black", ls=":", lw=1)
    axes.set(title=name, ylabel=f"probability\nof {list(LANGUAGES.values())[answer]}")
axes.set_xticks(np.arange(len(words)), words, rotation=90, fontsize=8)
axes.set(xlabel="word left out")
plt.show()

# %% [markdown]
# The dotted line is a guess. Whatever word the LSTM misses, it gives the right answer,
# except for one: the country.
#
# [Why gradients vanish and explode](../theory/vanishing_gradients.md) measures more
# cells and initialisations over 500 steps.
# [long_memory.py](../../examples/long_memory.py) adds two more problems, and
# `jaxrnn.gradient_by_lag` splits the gradient of the weights by distance in time, as
# [its derivation](../theory/bptt.md) explains.

# %% [markdown]
# ## Exercises
#
# **1. Other forget biases.** Draw the gradient before training for LSTMs with forget
# biases of 0, 1, 2, 3 and 5. How large is the factor of a step in each case, as a mean
# over 60 steps, and how large is `sigmoid(bias)`?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# for bias in (0.0, 1.0, 2.0, 3.0, 5.0):
#     cell = jaxrnn.lstm(32, forget_bias=bias)
#     params = build(cell).init(jax.random.key(0), len(vocabulary.symbols))
#     norms = gradient_norms(cell, params, long_texts[0], long_texts[2])
#     back = np.median(norms, axis=1)[::-1]
#     factor = (back[59] / back[0]) ** (1 / 59)
#     print(f"{bias}  {factor:.2f}  {jax.nn.sigmoid(bias):.2f}")
# ```
#
# The factors are 0.63, 0.83, 0.95, 0.99 and 1.01, and `sigmoid(bias)` is 0.50, 0.73,
# 0.88, 0.95 and 0.99. Each factor is larger than the gate, for the reason given above.
# With a bias of 5 the gradient even grows.
#
# </details>
#
# **2. A shorter distance.** Train the Elman network on texts with at most one sentence
# between, and test it with one and with two. Can it remember anything at all?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# short = [draw(rng, BATCH_SIZE, [0, 1], 1) for _ in range(1000)]
# result = fit(CELLS["Elman"], initial["Elman"], short)
# for count in (0, 1, 2, 3):
#     test = draw(rng, 200, [count], LONGEST)
#     model = build(CELLS["Elman"])
#     print(count, accuracy(model, result.state.params, test))
# ```
#
# It can: its accuracy is 1.00 with no sentence or one between, 0.99 with two and 0.86
# with three, more than it was trained for. A dozen steps back the gradient has 1 %
# left, which is enough to begin with. So the Elman cell could hold the country all the
# time. In the long texts it did not learn to, because most of them gave it next to no
# gradient.
#
# </details>
#
# **3. An Elman network that remembers.** Le, Jaitly and Hinton (2015) use ReLU in the
# Elman network, and begin with recurrent weights that are the identity. Why should that
# help? How much of its gradient is left before training? Train it with a learning rate
# of 3e-3.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# def identity(key, shape, dtype):
#     return jnp.eye(*shape, dtype=dtype)
#
#
# cell = jaxrnn.elman(32, activation=jax.nn.relu, w_h_init=identity)
# params = build(cell).init(jax.random.key(0), len(vocabulary.symbols))
# norms = gradient_norms(cell, params, long_texts[0], long_texts[2])
# back = np.median(norms, axis=1)[::-1]
# print("60 steps back:", back[59] / back[0])
# result = fit(cell, params, batches, rate=3e-3)
# print([float(accuracy(build(cell), result.state.params, test)) for test in tests])
# ```
#
# Where a unit is positive, its factor of a step is 1 at first. Of the gradient one step
# back, 0.54 is left 60 steps back. This network learns to remember: its accuracy is
# about 0.9 for the shortest texts and 0.64 for the longest, after the same 300 updates.
#
# </details>
