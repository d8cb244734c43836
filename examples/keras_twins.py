"""Two Keras programs and their twins in jaxrnn: from the same weights, the same losses.

    pip install -e ".[examples,compare]" && python examples/keras_twins.py

LSTM(50), or GRU(50), and a softmax Dense; Adam, categorical cross-entropy, 10 epochs
in batches of 32: a common course program. The models read handwritten digits (8 x 8
pixels, of scikit-learn) as sequences of eight pixel rows. jaxrnn starts from the
converted initial weights of Keras, and uses the same batches in the same order. The
script prints both losses for each epoch, then the accuracies on test images. Logistic
regression on the pixels is more accurate: 10 epochs are few. curves.png shows both
curves, which coincide, and their difference.
"""

import importlib.util
import os
import sys

from support import command_line, plots, results

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import jaxrnn
from jaxrnn import losses, metrics, train

UNITS = 50
EPOCHS = 10
BATCH_SIZE = 32
TEST = 357  # images; this leaves 45 training batches
LEARNING_RATE, BETA_2, EPSILON = 1e-3, 0.999, 1e-7  # as keras.optimizers.Adam has them

CELLS = {"LSTM": jaxrnn.lstm(UNITS), "GRU": jaxrnn.gru(UNITS)}
readout = jaxrnn.dense(10)


def main():
    parser = command_line.make_parser(__doc__, "keras_twins")
    add = parser.add_argument
    add("--epochs", type=command_line.positive, default=EPOCHS)
    add("--batches", type=command_line.positive, help="maximum number of batches")
    options = parser.parse_args()
    keras = import_keras()
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "curves.png")
    learn, test = read(options)

    curves, rows = {}, {}
    for name, cell in CELLS.items():
        keras.utils.set_random_seed(options.seed)
        theirs = keras.Sequential([keras.Input((8, 8))])
        theirs.add(getattr(keras.layers, name)(UNITS))
        theirs.add(keras.layers.Dense(10, activation="softmax"))
        params = convert(name, [each.value for each in theirs.weights])
        by_keras = fit_keras(theirs, learn, options)
        params, by_jaxrnn = fit_jaxrnn(cell, params, learn, options)
        curves[name] = (by_keras, by_jaxrnn)
        show(name, by_keras, by_jaxrnn)
        logits = apply(cell, params, test[0].swapaxes(0, 1))
        rows[f"jaxrnn, {name}"] = float(metrics.accuracy(logits, test[1]))
        probabilities = theirs.predict(test[0], verbose=0)
        rows[f"Keras, {name}"] = float(metrics.accuracy(probabilities, test[1]))
    draw(path, curves)
    print(f"picture: {path}\n")
    pixels = [images.reshape(len(images), -1) for images, _ in (learn, test)]
    logistic = LogisticRegression(max_iter=1000).fit(pixels[0], learn[1])
    rows["logistic regression"] = logistic.score(pixels[1], test[1])
    results.print_table(f"accuracy on {len(test[1])} test images", rows)


def import_keras():
    """Import Keras with its JAX backend; Keras reads the variable on import."""
    if importlib.util.find_spec("keras") is None:
        sys.exit('this example needs Keras: pip install -e ".[examples,compare]"')
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def read(options):
    """Load image pairs ``(N, 8, 8)``, batch first as in Keras, and digits ``(N,)``."""
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    order = np.random.default_rng(options.seed).permutation(len(digits))
    test, learn = order[:TEST], order[TEST:]
    whole = len(learn) // BATCH_SIZE
    learn = learn[: min(options.batches or whole, whole) * BATCH_SIZE]
    return [(images[part], digits[part].astype(np.int32)) for part in (learn, test)]


def convert(name, weights):
    """Convert weights of Keras to our parameters: ``(recurrent, readout)``.

    They are copied, because Keras donates its own to its first update.
    """
    w_x, w_h, b, w_y, b_y = map(jnp.array, weights)
    if name == "LSTM":  # the same gates in the same order
        return jaxrnn.LSTMParams(w_x, w_h, b), jaxrnn.DenseParams(w_y, b_y)

    def reorder(p):  # Keras has the gate z before r
        z, r, n = jnp.split(p, 3, axis=-1)
        return jnp.concatenate([r, z, n], axis=-1)

    b, b_h = b  # of the inputs, and of the state
    gru = jaxrnn.GRUParams(*map(reorder, (w_x, w_h, b, b_h)))
    return gru, jaxrnn.DenseParams(w_y, b_y)


def fit_keras(model, learn, options):
    """Train the Keras model; return the loss of each epoch."""
    model.compile(
        optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"]
    )
    history = model.fit(
        learn[0],
        np.eye(10, dtype=np.float32)[learn[1]],
        epochs=options.epochs,
        batch_size=BATCH_SIZE,
        shuffle=False,
        verbose=0,
    )
    return np.array(history.history["loss"])


def apply(cell, params, xs):
    """Compute logits ``(B, 10)`` from the last output over ``xs (8, B, 8)``."""
    recurrent, dense = params
    _, ys = jaxrnn.unroll_bptt(cell, recurrent, xs)
    return readout.apply(dense, ys[-1])[1]


def fit_jaxrnn(cell, params, learn, options):
    """Return the parameters after training, and the loss of each epoch."""
    xs = learn[0].swapaxes(0, 1)  # time leads
    starts = range(0, len(learn[1]), BATCH_SIZE)

    def loss_fn(params, start, key):
        batch = jax.lax.dynamic_slice_in_dim(xs, start, BATCH_SIZE, axis=1)
        labels = jax.lax.dynamic_slice_in_dim(learn[1], start, BATCH_SIZE)
        return losses.softmax_cross_entropy(apply(cell, params, batch), labels)

    optimizer = keras_adam()
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(params, optimizer, jax.random.key(options.seed)),
        [*starts] * options.epochs,
    )
    by_step = result.history.train["loss"]
    return result.state.params, by_step.reshape(options.epochs, -1).mean(axis=1)


def keras_adam():
    """Adam with Keras's epsilon, added before the second moment is bias-corrected.

    In the formula of Optax this epsilon is ``epsilon / sqrt(1 - beta_2^t)``.
    """
    return optax.inject_hyperparams(optax.adam)(
        LEARNING_RATE,
        b2=BETA_2,
        eps=lambda step: EPSILON / jnp.sqrt(1 - BETA_2 ** (step + 1.0)),
    )


def show(name, by_keras, by_jaxrnn):
    print(f"{name}: loss of each epoch\nepoch     Keras    jaxrnn  difference")
    for epoch, (k, j) in enumerate(zip(by_keras, by_jaxrnn, strict=True), 1):
        print(f"{epoch:5}  {k:.6f}  {j:.6f}  {abs(k - j):10.1e}")
    relative = np.abs(by_jaxrnn / by_keras - 1).max()
    print(f"largest relative difference, {name}: {relative:.1e}\n")


def draw(path, curves):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for index, (name, (by_keras, by_jaxrnn)) in enumerate(curves.items()):
        epochs, style = range(1, len(by_keras) + 1), {"color": f"C{index}"}
        left.plot(epochs, by_keras, lw=6, alpha=0.3, label=f"Keras, {name}", **style)
        left.plot(epochs, by_jaxrnn, ".-", label=f"jaxrnn, {name}", **style)
        # A log axis cannot show a difference of exactly zero.
        apart = np.abs(by_jaxrnn / by_keras - 1)
        right.semilogy(epochs, np.where(apart, apart, np.nan), "o-", label=name)
    left.set(xlabel="epoch", ylabel="training loss, nats", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="relative difference of the losses")
    right.set(ylim=(1e-9, 1e-3))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    plots.save(figure, path, dpi=100)


if __name__ == "__main__":
    main()
