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
# # A cell of your own
#
# This tutorial takes a recurrent cell from a paper and adds it to what jaxrnn can run.
# It shows how to write a cell from its equations, derive its backward pass by hand, let
# `check_cell` find the mistakes in it, and measure what the backward pass is worth.
#
# The cell is the **update gate RNN** (UGRNN) of Collins, Sohl-Dickstein and Sussillo,
# *Capacity and trainability in recurrent neural networks*, 2017, which the library does
# not have. It has one gate `g` and a candidate `c`. In the notation of the paper, with
# tanh as its nonlinearity:
#
# <div class="arithmatex">
# \[
# \begin{aligned}
# c_t &= \tanh(W^{ch} h_{t-1} + W^{cx} x_t + b^c) \\
# g_t &= \sigma(W^{gh} h_{t-1} + W^{gx} x_t + b^g) \\
# h_t &= g_t \odot h_{t-1} + (1 - g_t) \odot c_t
# \end{aligned}
# \]
# </div>
#
# Where the gate is near 1, the unit keeps its state; where it is near 0, the unit takes
# the candidate instead.

# %%
import textwrap
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn import diagnostics, losses, train
from jaxrnn.initializers import glorot_uniform, orthogonal, per_gate
from jaxrnn.testing import cell_properties, check_cell

# %% [markdown]
# ## First the forward pass
#
# A cell is a tuple of functions. Four of them are enough to begin with, and the split
# between two of them is all that is special about jaxrnn:
#
# - `init` draws the parameters;
# - `initial_state` is the state before the first step;
# - `project` is the part of a step that needs no state. It runs for all steps at once;
# - `step` is the rest. It runs once for each step, in order.
#
# The products with the input need no state, so they belong in `project`. Both blocks of
# weights stand side by side in one array, the gate first, so that one product serves
# both. `per_gate(glorot_uniform, 2)` draws each of the two blocks separately: the range
# of Glorot's initialiser depends on the number of columns, and a block has `H` columns,
# not `2H`. Inputs are rows, so `W x` of the paper becomes `x @ w_x`. In the letters of
# the code:
#
#     a_x      = x W_x                              project
#     a_g, a_c = a_x + h_prev W_h + b               step
#     g        = sigmoid(a_g)
#     c        = tanh(a_c)
#     h        = g h_prev + (1 - g) c


# %%
class UGRNNParams(NamedTuple):
    w_x: jax.Array  # (I, 2H), the gate first, then the candidate
    w_h: jax.Array  # (H, 2H)
    b: jax.Array  # (2H,)


def ugrnn_init(key, input_size, dtype=None, *, hidden_size):
    key_x, key_h = jax.random.split(key)
    size = 2 * hidden_size
    return UGRNNParams(
        w_x=per_gate(glorot_uniform, 2)(key_x, (input_size, size), dtype),
        w_h=per_gate(orthogonal, 2)(key_h, (hidden_size, size), dtype),
        b=jnp.zeros(size, dtype),
    )


def project(params, xs):
    return xs @ params.w_x


def step(params, state, a_x):
    a_g, a_c = jnp.split(a_x + state @ params.w_h + params.b, 2, axis=-1)
    g = jax.nn.sigmoid(a_g)
    h = g * state + (1 - g) * jnp.tanh(a_c)
    return h, h  # the new state, and the output


def bare_ugrnn(hidden_size):
    def init(key, input_size, dtype=None):
        return ugrnn_init(key, input_size, dtype, hidden_size=hidden_size)

    def initial_state(params, batch_shape=()):
        return jnp.zeros((*batch_shape, hidden_size), params.w_h.dtype)

    return jaxrnn.Cell(init, initial_state, project, step, output_size=hidden_size)


# %% [markdown]
# That is a cell. `check_cell` tests what the library expects of it. Called with the
# cell alone it checks everything, which takes a while; here we name some properties.

# %%
report = check_cell(bare_ugrnn(5), properties=["contract", "batch rows", "masks"])
print(report)

# %% [markdown]
# If something were wrong, `check_cell` would have raised an error. So the cell can be
# used wherever the library's own cells can: in layers and stacks, with masks and
# resets, in both directions, one step at a time.
#
# ## Put it to work
#
# A gate that keeps or takes fits one task very well, **sample and hold**. At each step
# the network sees a random value, and a mark at about one step in ten. It has to output
# the value that was marked last, and hold it until the next mark. Always answering 0
# has a squared error of one third.

# %%
NUM_STEPS, BATCH_SIZE = 60, 32


@jax.jit
def draw(key):
    key_values, key_marks = jax.random.split(key)
    shape = (NUM_STEPS, BATCH_SIZE)
    values = jax.random.uniform(key_values, shape, minval=-1, maxval=1)
    marks = jax.random.bernoulli(key_marks, 0.1, shape).at[0].set(True)
    marked = jnp.where(marks, jnp.arange(NUM_STEPS)[:, None], 0)
    last = jax.lax.cummax(marked, axis=0)  # the step of the last mark
    xs = jnp.stack([values, marks.astype(values.dtype)], axis=-1)
    return xs, jnp.take_along_axis(values, last, axis=0)[..., None]


def fit(cell, num_updates=250):
    """Train a layer of this cell with a dense readout; return model and result."""
    model = jaxrnn.stack(jaxrnn.layer(cell), jaxrnn.dense(1))

    def loss_fn(params, batch, key):
        xs, targets = draw(key)  # fresh data for every update
        return losses.mean_squared_error(model.apply(params, xs)[1], targets)

    optimizer = train.default_optimizer(optax.cosine_decay_schedule(1e-2, num_updates))
    params = model.init(jax.random.key(0), input_size=2)
    state = train.init(params, optimizer, jax.random.key(1))
    return model, train.fit(
        train.make_update(loss_fn, optimizer), state, [None] * num_updates
    )


model, result = fit(bare_ugrnn(16))
curves = {"right gradient": result.history.train["loss"]}
print(f"mean of the last 20 losses: {curves['right gradient'][-20:].mean():.4f}")

# %% [markdown]
# The layer ran the cell with `jaxrnn.unroll`, a scan that JAX differentiates. You can
# stop here: the cell works and learns. The rest of this page makes it train faster.
#
# ## The backward pass by hand
#
# JAX knows nothing about recurrent networks, so its backward pass carries the gradient
# of the weights through the loop and stores more than it must. A backward pass by hand
# avoids both. It needs three functions:
#
# - `forward` is `step`, and returns the arrays that the way back needs;
# - `backward` takes one step back: from the gradient of the state after the step to the
#   gradient of the state before it;
# - `accumulate` computes the gradients of all weights, for all steps at once.
#
# We write `dh` for the gradient of the loss with respect to `h`, and so on. `h` feeds
# the next step and is the output, so its gradient is the sum of both:
# `dh = dstate + dy`. Now go through the equations from the last to the first. The
# product rule, with `h = g h_prev + (1 - g) c`, gives
#
# <div class="arithmatex">
# \[
# dg = dh \odot (h_{t-1} - c), \qquad dc = dh \odot (1 - g), \qquad
# dh_{t-1} = dh \odot g + \ldots
# \]
# </div>
#
# The dots stand for what comes through the gate and the candidate. The derivatives of
# their nonlinearities are known from their values, `g (1 - g)` and `1 - c^2`:
#
# <div class="arithmatex">
# \[
# da_g = dg \odot g \odot (1 - g), \qquad da_c = dc \odot (1 - c^2)
# \]
# </div>
#
# Let `da` be `da_g` and `da_c` concatenated. The pre-activations contain `h_prev W_h`,
# so `da` also reaches the state before, through the transposed matrix:
#
# <div class="arithmatex">
# \[
# dh_{t-1} = dh \odot g + da \, W_h^\top
# \]
# </div>
#
# The gradients of the weights are sums over all steps, which nothing in the loop waits
# for. That is why they have a function of their own:
#
#     dW_x = sum x^T da      dW_h = sum h_prev^T da
#     db   = sum da          dx   = da W_x^T


# %%
class UGRNNResidual(NamedTuple):
    h_prev: jax.Array  # (*B, H), as both below
    g: jax.Array
    c: jax.Array


def forward(params, state, a_x):
    a_g, a_c = jnp.split(a_x + state @ params.w_h + params.b, 2, axis=-1)
    g, c = jax.nn.sigmoid(a_g), jnp.tanh(a_c)
    h = g * state + (1 - g) * c
    return h, h, UGRNNResidual(h_prev=state, g=g, c=c)


def backward(params, residual, dstate, dy):
    h_prev, g, c = residual
    dh = dstate + dy
    da_g = dh * (h_prev - c) * g * (1 - g)
    da_c = dh * (1 - g) * (1 - c * c)
    da = jnp.concatenate([da_g, da_c], axis=-1)
    return dh * g + da @ params.w_h.T, (da,)


def accumulate(params, xs, residuals, da_xs):
    (das,) = da_xs
    steps = tuple(range(xs.ndim - 1))  # time, and every batch dimension
    dparams = UGRNNParams(
        w_x=jnp.tensordot(xs, das, (steps, steps)),
        w_h=jnp.tensordot(residuals.h_prev, das, (steps, steps)),
        b=das.sum(steps),
    )
    return dparams, das @ params.w_x.T


def ugrnn(hidden_size, *, backward=backward):
    adjoint = jaxrnn.Adjoint(forward, backward, accumulate)
    return bare_ugrnn(hidden_size)._replace(adjoint=adjoint)


# %% [markdown]
# ## Check it
#
# The new properties compare each of the three functions with `jax.vjp`, one step at a
# time and in float64. They are quick, so they are the ones to run while you derive.

# %%
cell = ugrnn(5)
print("all properties:", *cell_properties(cell), sep="\n  ")
single_steps = [name for name in cell_properties(cell) if "step" in name]
print()
for error in check_cell(cell, properties=single_steps).errors:
    function, _, _ = error.property_name.partition(" ")
    print(f"{function:<12}{error.leaf:<18}relative error {error.relative:.0e}")

# %% [markdown]
# The errors are those of rounding. Before you rely on a cell, run `check_cell(cell)`
# without `properties`. That takes some seconds for a small cell, up to half a minute
# for one with an adjoint, and adds whole sequences, masks, resets, both directions and
# finite differences.
#
# ## A mistake
#
# Now let us make a plausible mistake: stopping after `dh * g`, the direct path of the
# state, and forgetting that the state also enters the gate and the candidate.


# %%
def forgetful_backward(params, residual, dstate, dy):
    _, (da,) = backward(params, residual, dstate, dy)
    return (dstate + dy) * residual.g, (da,)


try:
    check_cell(ugrnn(5, backward=forgetful_backward), properties=single_steps)
except AssertionError as error:
    message = str(error).split("\n\n")[1]
    print(textwrap.fill(message, 72))

# %% [markdown]
# The message names the function, `backward`, and the result, `dstate_prev`, with one of
# its entries. `da_x` and the weight gradients of a single step are right, so the
# mistake must be in the line that returns the gradient of the state.
#
# Would we have noticed without the check? Let us train with the wrong gradient.

# %%
_, wrong = fit(ugrnn(16, backward=forgetful_backward))
curves["one term forgotten"] = wrong.history.train["loss"]

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, curve in curves.items():
    smooth = np.convolve(curve, np.ones(10) / 10, mode="valid")
    axes.plot(np.arange(10, len(curve) + 1), smooth, label=name)
axes.axhline(1 / 3, color="black", ls=":", label="always 0")
axes.set(yscale="log", xlabel="update", ylabel="squared error, mean of 10 updates")
axes.legend()
plt.show()
for name, curve in curves.items():
    print(f"{name:<20}{curve[-20:].mean():.4f}")

# %% [markdown]
# It trains. The curve falls like any other, ends at a larger error, and looks like a
# task that is a little harder than expected. A wrong gradient rarely fails loudly, and
# so it must be compared with something. This is why the library has `check_cell`.
#
# ## What the gate does
#
# The residuals contain the gate, so `diagnostics.residuals` can show what the network
# has learnt. Above is the output for one sequence. Below is the mean gate of each of
# the 16 units, at marked steps and at the others.

# %%
params = result.state.params
xs, targets = draw(jax.random.key(5))
_, outputs = model.apply(params, xs)
gates = np.asarray(diagnostics.residuals(ugrnn(16), params[0], xs).g)

marks = np.asarray(xs[..., 1]) == 1
at_marks, elsewhere = gates[marks].mean(axis=0), gates[~marks].mean(axis=0)
order = np.argsort(elsewhere - at_marks)[::-1]

figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.8), layout="constrained")
steps, marked = np.arange(NUM_STEPS), np.flatnonzero(marks[:, 0])
top.plot(steps, xs[:, 0, 0], ".", color="0.7", label="value")
top.plot(marked, xs[marked, 0, 0], "o", color="black", ms=5, label="marked value")
top.step(steps, targets[:, 0, 0], where="post", color="black", lw=1, label="target")
top.plot(steps, outputs[:, 0, 0], color="tab:red", label="output")
top.set(xlabel="step", ylabel="value", ylim=(-1.1, 1.1))
top.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
bottom.plot(elsewhere[order], "s", color="black", label="at other steps")
bottom.plot(at_marks[order], "o", color="tab:red", label="at marked steps")
bottom.set(xlabel="unit, sorted by the difference", ylabel="mean gate g", ylim=(0, 1))
bottom.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
plt.show()

# %% [markdown]
# The units share the work. Those on the left take at a mark and keep otherwise. Those
# on the right do the opposite, and many do not react to marks. No gate comes near 1, so
# the network holds the value with its recurrent weights too.
#
# ## What it is worth
#
# `unroll` lets JAX differentiate the scan; `unroll_bptt` uses our backward pass, and
# `jaxrnn.layer` prefers it as soon as a cell has one. We time the gradient of both at
# two sizes, on the machine that builds this page. Each figure is the fastest of many
# runs, because other programs can only make a run slower.


# %%
def gradient_by(unroll_fn, cell):
    def loss(params, xs):
        return unroll_fn(cell, params, xs)[1].sum()

    return jax.jit(jax.grad(loss, argnums=(0, 1)))


def milliseconds(functions, args, seconds=0.7):
    """Time functions in turns; return the fastest run of each."""
    best = [np.inf] * len(functions)
    for function in functions:
        jax.block_until_ready(function(*args))  # compile
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for index, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function(*args))
            best[index] = min(best[index], 1000 * (time.perf_counter() - start))
    return best


SIZES = [(1000, 1), (500, 8)]  # steps, batch size; 64 inputs and 64 units
cell = ugrnn(64)
params = cell.init(jax.random.key(0), 64)
functions = [gradient_by(each, cell) for each in (jaxrnn.unroll, jaxrnn.unroll_bptt)]
times = []
for num_steps, batch_size in SIZES:
    xs = jax.random.normal(jax.random.key(1), (num_steps, batch_size, 64))
    times.append(milliseconds(functions, (params, xs)))
    ratio = times[-1][0] / times[-1][1]
    print(
        f"{num_steps} steps, batch of {batch_size}: {ratio:.2f} times as fast by hand"
    )

figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
places = np.arange(len(SIZES))
labels = ("unroll, by JAX", "unroll_bptt, by hand")
for offset, label, column in zip((-0.2, 0.2), labels, np.transpose(times), strict=True):
    axes.barh(places + offset, column, height=0.36, label=label)
axes.set_yticks(places, [f"{steps} steps,\nbatch of {batch}" for steps, batch in SIZES])
axes.invert_yaxis()
axes.set(xlabel="time of a gradient, ms")
axes.legend()
plt.show()

# %% [markdown]
# The ratio depends on the sizes and on the machine. [Performance](../performance.md)
# has more measurements, and says where the time goes.
#
# That is all there is to a cell. [A new cell](../extending/cell.md) lists the rules
# that its functions must obey, and what a cell that ships with the library does
# besides. [Backpropagation through time](../theory/bptt.md) derives the general form.

# %% [markdown]
# ## Exercises
#
# **1. Keep at first.** The bias of the gate is zero, so at first every unit keeps half
# of its state. Make a cell whose gates start with a bias of 1 or 3. Compare the
# gradient of the state 20 steps before a loss with the gradient one step before it.
# (`Cell._replace(init=...)` keeps the adjoint, and `diagnostics.state_gradients`
# computes the gradient of the state at every step.)
#
# <details>
# <summary>Solution</summary>
#
# ```python
# def biased_ugrnn(hidden_size, gate_bias):
#     cell = ugrnn(hidden_size)
#
#     def init(*args):
#         params = cell.init(*args)
#         return params._replace(b=params.b.at[:hidden_size].set(gate_bias))
#
#     return cell._replace(init=init)
#
#
# xs = jax.random.normal(jax.random.key(0), (60, 8, 4))
# dys = jnp.zeros((60, 8, 32)).at[-1].set(1.0)  # a loss at the last step only
# for gate_bias in (0, 1, 3):
#     cell = biased_ugrnn(32, gate_bias)
#     params = cell.init(jax.random.key(1), 4)
#     gradient = diagnostics.state_gradients(cell, params, xs, dys)
#     norms = jnp.linalg.norm(gradient, axis=-1).mean(axis=1)
#     print(gate_bias, norms[-20] / norms[-1])
# ```
#
# With a bias of 0 the ratio is 0.07, with 1 it is 0.19, and with 3 it is 0.54. A gate
# near 1 keeps the state, and the gradient takes the same path back.
#
# </details>
#
# **2. One step too late.** Let `accumulate` use `h`, the state after the step, for the
# gradient of `w_h` in place of `h_prev`. Which property fails, and which leaf does the
# message name?
#
# <details>
# <summary>Solution</summary>
#
# ```python
# def late_accumulate(params, xs, residuals, da_xs):
#     h_prev, g, c = residuals
#     late = residuals._replace(h_prev=g * h_prev + (1 - g) * c)
#     return accumulate(params, xs, late, da_xs)
#
#
# late = bare_ugrnn(5)._replace(
#     adjoint=jaxrnn.Adjoint(forward, backward, late_accumulate)
# )
# try:
#     check_cell(late, properties=single_steps)
# except AssertionError as error:
#     print(textwrap.fill(str(error).split("\n\n")[1], 72))
# ```
#
# `accumulate against jax.vjp of project and step` fails, at `dparams.w_h`. `backward`
# is right, and so are the other leaves.
#
# </details>
#
# **3. Without a loop.** Let the gate and the candidate depend on the input alone. Then
# the step is linear in the state, `h = decay h_prev + drive`, and all steps can be
# computed with a parallel scan. Write this cell with the field `coefficients`, and
# compare `jaxrnn.unroll_associative` with `jaxrnn.unroll`.
#
# <details>
# <summary>Solution</summary>
#
# ```python
# def linear_ugrnn(hidden_size):
#     def init(key, input_size, dtype=None):
#         w_x = per_gate(glorot_uniform, 2)(key, (input_size, 2 * hidden_size), dtype)
#         return {"w_x": w_x, "b": jnp.zeros(2 * hidden_size, w_x.dtype)}
#
#     def initial_state(params, batch_shape=()):
#         return jnp.zeros((*batch_shape, hidden_size), params["b"].dtype)
#
#     def project(params, xs):
#         return xs @ params["w_x"] + params["b"]
#
#     def coefficients(params, a_xs):
#         a_g, a_c = jnp.split(a_xs, 2, axis=-1)
#         g = jax.nn.sigmoid(a_g)
#         return g, (1 - g) * jnp.tanh(a_c)
#
#     def step(params, state, a_x):
#         decay, drive = coefficients(params, a_x)
#         h = decay * state + drive
#         return h, h
#
#     return jaxrnn.Cell(
#         init,
#         initial_state,
#         project,
#         step,
#         output_size=hidden_size,
#         coefficients=coefficients,
#     )
#
#
# cell = linear_ugrnn(5)
# check_cell(cell, properties=["contract", "associative scan against unroll"])
# params = cell.init(jax.random.key(0), 2)
# xs = jax.random.normal(jax.random.key(1), (100, 3, 2))
# _, in_order = jaxrnn.unroll(cell, params, xs)
# _, at_once = jaxrnn.unroll_associative(cell, params, xs)
# print(abs(in_order - at_once).max())
# ```
#
# The largest difference is about 1e-7, the rounding of float32. The library has this
# cell as `jaxrnn.mingru`, whose gate lets the candidate in where this one keeps the
# state.
#
# </details>
