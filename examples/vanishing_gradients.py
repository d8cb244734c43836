"""How gradients vanish and explode: by cell, by initialisation, and under clipping.

    python examples/vanishing_gradients.py                # a minute or two
    python examples/vanishing_gradients.py --steps 100 --hidden-size 32

Prints how much of the last output's gradient remains some steps earlier, and how
training handles exploding gradients. The --out folder gets four pictures and
curves.safetensors, the numbers behind them; docs/theory/vanishing_gradients.md explains
them.
"""

from support import clipping, command_line, plots

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

import jaxrnn
from jaxrnn import checkpoint, diagnostics, plotting

INPUT_SIZE = 8
NUM_SEQUENCES = 20
NUM_SPECTRA = 4  # sequences whose Jacobians are computed
NUM_EXPONENTS = 16
WINDOW = 10  # steps per Jacobian

INITIALISERS = {
    "orthogonal": jaxrnn.initializers.orthogonal,
    **{
        f"Gaussian, radius {radius}": clipping.gaussian(radius)
        for radius in (0.5, 1.0, 1.5)
    },
}


def last_output_norms(cell, params, xs, dy):
    """Compute norms of dL/ds for a loss at the last step only."""
    dys = jnp.zeros((len(xs), *dy.shape)).at[-1].set(dy)
    norms = diagnostics.state_gradient_norms(cell, params, xs, dys)
    # For a loss at the last step only, by_lag is by_time reversed, and costs more.
    return norms._replace(by_lag=norms.by_time[::-1])


# Separate programs: XLA may run several loops of one program in parallel, and on a CPU
# with two cores three of them were seen to deadlock.
norms_of = jax.jit(last_output_norms, static_argnums=0)
exponents_of = jax.jit(
    diagnostics.lyapunov_exponents, static_argnums=0, static_argnames="num_exponents"
)
spectrum_of = jax.jit(
    diagnostics.jacobian_spectrum, static_argnums=0, static_argnames="window"
)
residuals_of = jax.jit(diagnostics.residuals, static_argnums=0)


def draw(args):
    """Draw a key for parameters, the inputs, and a unit vector for dL/dy."""
    key, inputs_key, direction_key = jax.random.split(jax.random.key(args.seed), 3)
    xs = jax.random.normal(inputs_key, (args.steps, NUM_SEQUENCES, INPUT_SIZE))
    dy = jax.random.normal(direction_key, (NUM_SEQUENCES, args.hidden_size))
    return key, xs, dy / jnp.linalg.norm(dy, axis=-1, keepdims=True)


def measure(name, cell, params, args):
    """Compute gradient norms and Lyapunov exponents of a cell; print one line."""
    _, xs, dy = draw(args)
    norms = norms_of(cell, params, xs, dy)
    count = min(NUM_EXPONENTS, args.hidden_size)
    few = xs[:, :NUM_SPECTRA]
    lyapunov = exponents_of(cell, params, few, num_exponents=count)
    print_line(name, np.median(norms.by_lag, axis=1), lyapunov)
    return norms, lyapunov


def table_lags(num_steps):
    return [lag for lag in (1, 10, 100) if lag < num_steps] + [num_steps]


def print_head(args):
    lags = "".join(f"{lag:>10}" for lag in table_lags(args.steps))
    print(
        f"{'norm of the gradient, steps back':<36}{lags}{'a step':>10}{'e^lambda':>10}"
    )


def print_line(name, norms, lyapunov):
    """Print norms at some lags, their factor per step, and the largest exponent's."""
    lags = "".join(f"{norms[lag - 1]:>10.1e}" for lag in table_lags(len(norms)))
    factor = (norms[-1] / norms[0]) ** (1 / max(len(norms) - 1, 1))
    largest = np.exp(np.median(lyapunov.exponents[:, 0]))
    print(f"{name:<36}{lags}{factor:>10.3f}{largest:>10.3f}")


def compare_cells(cells, args):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    key, _, _ = draw(args)
    curves = {}
    for name, cell in cells.items():
        params = cell.init(key, INPUT_SIZE)
        curves[name], lyapunov = measure(name, cell, params, args)
        plotting.plot_state_gradient_norms(curves[name], left, label=name)
        plotting.plot_lyapunov_exponents(lyapunov, right, label=name)
    plots.save(figure, args.out / "cells.png")
    return curves


def compare_initialisers(cells, args):
    figure, axes = plt.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    key, xs, _ = draw(args)
    few, window = xs[-5 * WINDOW :, :NUM_SPECTRA], min(WINDOW, args.steps)
    curves = {}
    for name, (top, bottom) in zip(("tanh", "ReLU"), axes.T, strict=True):
        for init_name, init in INITIALISERS.items():
            # The cell does not depend on how its parameters are initialised.
            params = jaxrnn.elman(args.hidden_size, w_h_init=init).init(key, INPUT_SIZE)
            label = f"{name}, {init_name}"
            curves[label], _ = measure(label, cells[name], params, args)
            spectrum = spectrum_of(cells[name], params, few, window=window)
            plotting.plot_state_gradient_norms(curves[label], top, label=init_name)
            plotting.plot_jacobian_spectrum(spectrum, bottom, label=init_name)
        top.set_title(name)
        bottom.set_title(f"{name}, Jacobian of {window} steps")
    plots.save(figure, args.out / "initialisation.png")
    return curves


def compare_forget_biases(cells, args):
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    key, xs, _ = draw(args)
    curves, gates = {}, {}
    for bias in (0, 1, 3, 5):
        name = f"LSTM, forget bias {bias}"
        params = jaxrnn.lstm(args.hidden_size, forget_bias=bias).init(key, INPUT_SIZE)
        curves[name], _ = measure(name, cells["LSTM"], params, args)
        gates[f"bias {bias}"] = residuals_of(cells["LSTM"], params, xs).f
        plotting.plot_state_gradient_norms(curves[name], left, label=f"bias {bias}")
    plotting.plot_saturation(diagnostics.saturation(gates), right)
    right.set_title("forget gates below 0.1, above 0.9")
    plots.save(figure, args.out / "forget_bias.png")
    return curves


def parse_arguments():
    parser = command_line.make_parser(__doc__, "vanishing_gradients")
    add = parser.add_argument
    add("--steps", type=command_line.positive, default=500, help="sequence length")
    add("--hidden-size", type=command_line.positive, default=64)
    add("--updates", type=command_line.positive, default=500, help="training updates")
    return parser.parse_args()


def main():
    args = parse_arguments()
    path = command_line.prepare_out(args.out, "curves.safetensors")
    cells = {
        "tanh": jaxrnn.elman(args.hidden_size),
        "ReLU": jaxrnn.elman(args.hidden_size, activation=jax.nn.relu),
        "LSTM": jaxrnn.lstm(args.hidden_size),
        "GRU": jaxrnn.gru(args.hidden_size),
    }
    print_head(args)
    curves = {
        **compare_cells(cells, args),
        **compare_initialisers(cells, args),
        **compare_forget_biases(cells, args),
    }
    curves = {name: norms.by_lag for name, norms in curves.items()}
    checkpoint.save_params(path, {"by_lag": curves, "training": clipping.compare(args)})
    print(f"{path} and four pictures written")


if __name__ == "__main__":
    matplotlib.use("Agg")
    # Gradients that vanish over 500 steps underflow to zero in float32.
    with jax.enable_x64(True):
        main()
