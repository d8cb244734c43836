"""Training with exploding gradients, with several kinds of clipping and without."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jaxrnn
from jaxrnn import diagnostics, losses, plotting

from . import plots

# The training problem: output the input of some steps ago.
DELAY = 5
TRAINING_STEPS = 60
TRAINING_UNITS = 32
TRAINING_RADIUS = 2.5
BATCH_SIZE = 16
NUM_SEEDS = 5
LEARNING_RATE = 0.03
CLIPPING = {
    "no clipping": optax.identity(),
    "global norm, 1": optax.clip_by_global_norm(1.0),
    "global norm, 10": optax.clip_by_global_norm(10.0),
    "value, 1": optax.clip(1.0),
}


def gaussian(radius):
    """Draw independent normal weights, scaled to a spectral radius."""

    def init(key, shape, dtype):
        weights = jax.random.normal(key, shape, dtype)
        return weights * float(radius / np.abs(np.linalg.eigvals(weights)).max())

    return init


def train(clipping, args):
    """Return loss, gradient norms and direction kept, each ``(updates, seeds)``."""
    cell = jaxrnn.elman(TRAINING_UNITS, w_h_init=gaussian(TRAINING_RADIUS))
    recurrent = jaxrnn.layer(cell)
    model = jaxrnn.stack(recurrent, jaxrnn.dense(1))
    optimizer = optax.chain(clipping, optax.sgd(LEARNING_RATE))

    def loss_fn(params, key):
        xs = jax.random.normal(key, (TRAINING_STEPS, BATCH_SIZE, 1))
        _, ys = model.apply(params, xs)
        return losses.mean_squared_error(ys[DELAY:], xs[:-DELAY])

    def update(carry, key):
        params, state = carry
        loss, gradient = jax.value_and_grad(loss_fn)(params, key)
        updates, state = optimizer.update(gradient, state, params)
        norms = diagnostics.gradient_norms(gradient)
        length = diagnostics.gradient_norms(updates).total
        cosine = -optax.tree.vdot(gradient, updates) / (norms.total * length)
        return (optax.apply_updates(params, updates), state), (loss, norms, cosine)

    def run(params, key):
        carry = (params, optimizer.init(params))
        return jax.lax.scan(update, carry, jax.random.split(key, args.updates))[1]

    keys = jax.random.split(jax.random.key(args.seed), 2 * NUM_SEEDS)
    initial = [model.init(key, 1) for key in keys[:NUM_SEEDS]]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *initial)
    return jax.jit(jax.vmap(run, out_axes=1))(params, keys[NUM_SEEDS:])


def compare(args):
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    axes[1].set_yscale("log")
    head = ["first loss", "last", "largest norm", "last", "least cosine"]
    print(f"\n{'training, medians':<20}" + "".join(f"{name:>14}" for name in head))
    curves = {}
    tenth = max(args.updates // 10, 1)
    for name, clipping in CLIPPING.items():
        loss, norms, cosine = curves[name] = train(clipping, args)
        plotting.plot_over_time(loss, axes[0], label=name)
        plotting.plot_over_time(norms.total, axes[1], label=name)
        plotting.plot_gradient_norms(norms, axes[2], label=name)
        total = norms.total
        numbers = [loss[0], loss[-tenth:], total.max(0), total[-tenth:], cosine.min(0)]
        print(f"{name:<20}" + "".join(f"{np.median(v):>14.3g}" for v in numbers))
    axes[0].set(xlabel="update", ylabel="loss")
    axes[1].set(xlabel="update", ylabel="norm of the gradient, before clipping")
    plots.save(figure, args.out / "clipping.png")
    return curves
