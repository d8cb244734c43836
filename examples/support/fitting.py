"""Training loop of speech.py and handwriting.py."""

import jax
import optax

from jaxrnn import train

VALIDATIONS = 10  # validations per run


def optimizer(learning_rate, num_steps, weight_decay=1e-4):
    """Make AdamW with clipping and a cosine schedule that decays to zero."""
    schedule = optax.cosine_decay_schedule(learning_rate, num_steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=weight_decay)
    )


def best(update, state, batches, num_steps, validate):
    """Return the parameters with the lowest validation loss."""
    result = train.fit(
        update,
        state,
        batches,
        num_steps=num_steps,
        validate=validate,
        validate_every=max(num_steps // VALIDATIONS, 1),
    )
    if result.stopped:
        print(f"stopped early: {result.stopped}")
    return result.best_params


def start(init, optimizer, seed, *sizes):
    """Make an initial training state; ``init`` is a layer's, or has its signature."""
    key, noise_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(lambda key: init(key, *sizes))(key)
    return train.init(params, optimizer, noise_key)
