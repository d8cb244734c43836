"""Backpropagation through time by hand, with every number of it printed.

    python examples/bptt_by_hand.py                     # sigmoid outputs, as listed
    python examples/bptt_by_hand.py --output softmax    # or identity

The network comes from a NumPy listing in course notes: three inputs, two hidden units,
two outputs, five steps. listing.py corrects its two errors, which docs/theory/audit.md
describes, and the gradient is compared with jaxrnn.bptt and jax.grad. Then the gradient
of the loss at the third step is split into one term for each earlier step. There is no
data set: --seed draws weights, inputs and targets. unfolded.png shows the network
unrolled in time, with its values and gradients.
"""

from support import command_line, listing, results, unfolding

import jax
import matplotlib
import numpy as np
import optax

import jaxrnn
from jaxrnn import losses

STEPS = 5
LEARNING_RATE = 0.001
# From a zero state, the first of three steps would not contribute to dE_3/dW_S.
START = np.array([0.5, -0.5])

cell = jaxrnn.elman(listing.HIDDEN_SIZE)
model = jaxrnn.stack(jaxrnn.layer(cell), jaxrnn.dense(listing.OUTPUT_SIZE))


def main():
    parser = command_line.make_parser(__doc__, "bptt_by_hand")
    parser.add_argument("--output", choices=listing.OUTPUTS, default="sigmoid")
    options = parser.parse_args()
    matplotlib.use("Agg")
    path = command_line.prepare_out(options.out, "unfolded.png")

    rng = np.random.default_rng(options.seed)
    p, x, target = listing.draw(rng, STEPS, options.output)
    f = listing.forward(p, x, target, options.output)
    d, b = listing.mended(p, x, target, f)
    show_forward(p, x, target, f, options.output)
    show_backward(d, b)
    descend(p, d, x, target, options.output, f.loss.sum())
    unfolding.draw(path, x, f, b, d)

    others = {
        "jaxrnn.bptt": by_bptt(p, x, f, b),
        "jax.grad": by_grad(p, x, target, options.output),
        "listing, unmended": listing.as_listed(p, x, target, f)[0],
    }
    compare(others, d)
    by_hand, by_lag = three_steps(p, x[:3], target[:3], options.output)
    print(f"\npicture: {path}\n")
    agreement = {name: digits(theirs, d) for name, theirs in others.items()}
    agreement["gradient_by_lag, each term"] = digits(by_lag, by_hand)
    results.print_table("digits in common with the gradient by hand", agreement, 1)


def show(name, value):
    rows = np.array2string(value, precision=4, floatmode="fixed", sign=" ")
    print(f"  {name:<52}{rows.replace(chr(10), chr(10) + ' ' * 54)}")


def show_forward(p, x, target, f, output):
    print("weights")
    for name, weights in p.items():
        show(name, weights)
    for t in range(STEPS):
        now, before = t + 1, t
        print(f"\nforward, step {now}")
        show(f"x_{now}", x[t])
        show(f"a_{now} = W_x x_{now} + W_h h_{before} + b_h", f.a[t])
        show(f"h_{now} = tanh(a_{now})", f.h[t + 1])
        show(f"o_{now} = W_y h_{now} + b_y", f.o[t])
        show(f"y_{now} = {output}(o_{now})", f.y[t])
        show(f"target_{now}", target[t])
        show(f"loss_{now}", f.loss[t : t + 1])
    print("\nsum over the steps")
    show("L = loss_1 + ... + loss_5", f.loss.sum(keepdims=True))


def show_backward(d, b):
    for t in reversed(range(STEPS)):
        now, after = t + 1, t + 2
        print(f"\nbackward, step {now}")
        show(f"dL/do_{now} = y_{now} - target_{now}", b.do[t])
        come = f"W_y^T dL/do_{now}" + (
            f" + W_h^T dL/da_{after}" if after <= STEPS else ""
        )
        show(f"dL/dh_{now} = {come}", b.dh[t])
        show(f"dL/da_{now} = (1 - h_{now}^2) * dL/dh_{now}", b.da[t])
    print("\nsums over the steps, as each uses the same weights")
    show("dL/dW_y = sum of dL/do_t h_t^T", d["W_y"])
    show("dL/db_y = sum of dL/do_t", d["b_y"])
    show("dL/dW_h = sum of dL/da_t h_(t-1)^T", d["W_h"])
    show("dL/dW_x = sum of dL/da_t x_t^T", d["W_x"])
    show("dL/db_h = sum of dL/da_t", d["b_h"])


def descend(p, d, x, target, output, loss):
    """Take a gradient step; check that the loss falls as the gradient predicts."""
    new = {name: p[name] - LEARNING_RATE * d[name] for name in p}
    sgd = optax.sgd(LEARNING_RATE)
    updates, _ = sgd.update(d, sgd.init(p))
    by_optax = optax.apply_updates(p, updates)
    apart = max(np.abs(new[name] - by_optax[name]).max() for name in p)
    print(f"\ngradient descent, W - {LEARNING_RATE} dL/dW")
    for name in p:
        show(f"{name}, updated", new[name])
    change = listing.forward(new, x, target, output).loss.sum() - loss
    expected = -LEARNING_RATE * sum((each**2).sum() for each in d.values())
    print(f"  change of the loss {change:.6f}; to first order {expected:.6f}")
    print(f"  largest difference from optax.sgd {apart:.1e}")


def by_bptt(p, x, f, b):
    """Differentiate the recurrent layer by the library's explicit backward pass."""
    hidden, readout = listing.to_jaxrnn(p)
    dys = b.do @ readout.w.T
    dhidden, _, _ = jaxrnn.bptt(cell, hidden, x, dys)
    _, ys = jaxrnn.unroll(cell, hidden, x)
    dreadout = jaxrnn.DenseParams(w=ys.T @ b.do, b=b.do.sum(0))
    return listing.from_jaxrnn((dhidden, dreadout))


def by_grad(p, x, target, output):
    """Differentiate the library's loss of the whole network by jax.grad."""
    chosen = listing.OUTPUTS[output]

    def loss_fn(params):
        _, o = model.apply(params, x)
        loss = chosen.library_loss(o, target, reduction=losses.masked_sum)
        return chosen.times * loss

    return listing.from_jaxrnn(jax.grad(loss_fn)(listing.to_jaxrnn(p)))


def compare(others, d):
    print("\nlargest difference from the gradient by hand")
    print(" " * 20 + "".join(f"{'d' + name:>9}" for name in d))
    for name, theirs in others.items():
        apart = [np.abs(theirs[leaf] - d[leaf]).max() for leaf in d]
        print(f"  {name:<18}" + "".join(f"{number:9.0e}" for number in apart))


def three_steps(p, x, target, output):
    """Split the gradient of E_3 into terms, by hand and by gradient_by_lag."""
    f = listing.forward(p, x, target, output, START)
    do = f.y[-1] - target[-1]  # dE_3/dY_3 and the derivative of the activation
    print(f"\nthree steps from S_0 = {START}, with S for h, W_S for W_h, W_X for W_x")
    show("dE_3/dW_y = dE_3/dY_3 dY_3/dW_y", np.outer(do, f.h[3]))

    dys = np.zeros((3, listing.HIDDEN_SIZE))
    dys[-1] = do @ p["W_y"]
    hidden, _ = listing.to_jaxrnn(p)
    lags = jaxrnn.gradient_by_lag(cell, hidden, x, dys, START)
    total, _, _ = jaxrnn.bptt(cell, hidden, x, dys, START)
    by_lag = {
        "W_S": np.asarray(lags.w_h).swapaxes(1, 2),
        "W_X": np.asarray(lags.w_x).swapaxes(1, 2),
    }
    by_hand = {
        name: listing.terms(p, f, dys[-1], used)
        for name, used in (("W_S", f.h), ("W_X", x))
    }
    for name, whole in (("W_S", total.w_h.T), ("W_X", total.w_x.T)):
        print(f"dE_3/d{name} = sum of")
        chain = "dE_3/dY_3 dY_3/dS_3"
        for lag, term in enumerate(by_hand[name]):
            show(f"{chain} d+S_{3 - lag}/d{name}", term)
            chain += f" dS_{3 - lag}/dS_{2 - lag}"
        show("explicit part, the first", by_hand[name][0])
        show("implicit part, the others", by_hand[name][1:].sum(0))
        show("sum of all", by_hand[name].sum(0))
        for other, apart in (
            ("gradient_by_lag, each term", by_lag[name] - by_hand[name]),
            ("jaxrnn.bptt, the sum", whole - by_hand[name].sum(0)),
        ):
            print(f"  largest difference from {other}: {np.abs(apart).max():.0e}")
    return by_hand, by_lag


def digits(theirs, ours):
    """Count matching decimal digits, relative to the largest entry of each leaf."""
    errors = [
        np.abs(theirs[name] - ours[name]).max() / np.abs(ours[name]).max()
        for name in ours
    ]
    return abs(np.log10(np.clip(max(errors), np.finfo(float).eps, 1)))


if __name__ == "__main__":
    with jax.enable_x64(True):
        main()
