"""The five-day exercise: what comes after 100, 102, 104, 106 and 108."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from jaxrnn import losses, train

PRICES = np.array([100.0, 102, 104, 106, 108])
BASE, UNIT = 100, 10  # scaled prices are (price - BASE) / UNIT: from 0 to 0.8
HIDDEN_SIZE = 2
W_X, W_H = 0.5, 0.2  # all entries; biases, initial state and output weights are 0
STEPS = 500
LEARNING_RATE = 0.02
NETWORKS = 5


def states_by_formula(xs):
    """Compute ``h_t = tanh(W_x x_t + W_h h_{t-1} + b)``: ``(T,)`` to ``(T, 2)``."""
    w_x, w_h = np.full((1, HIDDEN_SIZE), W_X), np.full((HIDDEN_SIZE, HIDDEN_SIZE), W_H)
    h, b, states = np.zeros(HIDDEN_SIZE), np.zeros(HIDDEN_SIZE), []
    for x in xs:
        h = np.tanh(np.array([x]) @ w_x + h @ w_h + b)
        states.append(h)
    return np.stack(states)


def states_by_jaxrnn(xs):
    cell = jaxrnn.elman(HIDDEN_SIZE)
    params = jaxrnn.ElmanParams(
        w_x=jnp.full((1, HIDDEN_SIZE), W_X),
        w_h=jnp.full((HIDDEN_SIZE, HIDDEN_SIZE), W_H),
        b=jnp.zeros(HIDDEN_SIZE),
    )
    return np.asarray(jaxrnn.unroll(cell, params, jnp.asarray(xs)[:, None])[1])


def trained_forecasts(seed, steps=STEPS):
    """Forecast day 6 by several networks, each trained on the four pairs of days."""
    model = jaxrnn.stack(jaxrnn.layer(jaxrnn.elman(HIDDEN_SIZE)), jaxrnn.dense(1))
    scaled = jnp.asarray((PRICES - BASE) / UNIT)[:, None]

    def loss_fn(params, batch, key):
        def of_network(params):
            _, ys = model.apply(params, scaled[:-1])
            return losses.mean_squared_error(ys, scaled[1:])

        return jax.vmap(of_network)(params).sum()

    keys = jax.random.split(jax.random.key(seed), NETWORKS)
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(jax.vmap(lambda key: model.init(key, 1))(keys), optimizer, keys[0]),
        [None] * steps,
    )
    _, ys = jax.vmap(lambda params: model.apply(params, scaled))(result.state.params)
    return BASE + UNIT * np.asarray(ys)[:, -1, 0]


def show(seed):
    """Print the states computed both ways, and the forecasts of trained networks."""
    scaled = (PRICES - BASE) / UNIT
    for title, xs in (("prices", PRICES), ("scaled", scaled)):
        print(f"{title:>6}  states by formula     by jaxrnn.elman")
        pairs = zip(xs, states_by_formula(xs), states_by_jaxrnn(xs), strict=True)
        for x, formula, network in pairs:
            columns = ("  ".join(f"{h:8.6f}" for h in hs) for hs in (formula, network))
            print(f"{x:6.1f}  {'    '.join(columns)}")
    print("output weights 0: the forecast of day 6 is 0")
    forecasts = trained_forecasts(seed)
    said = " ".join(f"{price:.2f}" for price in forecasts)
    print(f"day 6, {NETWORKS} trained networks: {said}")
    return forecasts
