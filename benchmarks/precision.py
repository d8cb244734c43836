"""Measure how rounding affects outputs and gradients: docs/theory/precision.md.

    python benchmarks/precision.py --write

All runs use the same parameters, inputs and dL/dy, exactly representable in bfloat16.
The table has float32, bfloat16, and float32 with other settings of
``jax.default_matmul_precision``. Errors are relative to float64: norm of the difference
over norm of the float64 result, over all outputs, and over all parameter gradients.
"""

import argparse
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxrnn

BATCH_SIZE, INPUT_SIZE, HIDDEN_SIZE = 4, 16, 64
STEPS = (10, 100, 1000, 10000)


def wide_orthogonal(key, shape, dtype):
    """Return twice an orthogonal matrix, which makes the network chaotic."""
    return 2 * jaxrnn.initializers.orthogonal(key, shape, dtype)


CELLS = {
    "`elman`, tanh": jaxrnn.elman(HIDDEN_SIZE),
    "`elman`, ReLU": jaxrnn.elman(HIDDEN_SIZE, activation=jax.nn.relu),
    "`lstm`": jaxrnn.lstm(HIDDEN_SIZE),
    "`gru`": jaxrnn.gru(HIDDEN_SIZE),
    "`gru`, `reset_after=False`": jaxrnn.gru(HIDDEN_SIZE, reset_after=False),
    "`elman`, tanh, chaotic": jaxrnn.elman(HIDDEN_SIZE, w_h_init=wide_orthogonal),
}
DTYPES = ("float32", "bfloat16", "float16")
# Settings for products of float32 operands, beside "highest".
SETTINGS = ("high", "default", "tensorfloat32", "bfloat16", "BF16_BF16_F32")
DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "theory" / "precision.md"


def numbers(cell, num_steps):
    """Draw parameters, inputs and dL/dy in bfloat16."""
    keys = jax.random.split(jax.random.key(0), 3)
    shape, dtype = (num_steps, BATCH_SIZE), jnp.bfloat16
    params = cell.init(keys[0], INPUT_SIZE, dtype)
    xs = jax.random.normal(keys[1], (*shape, INPUT_SIZE), dtype)
    return params, xs, jax.random.normal(keys[2], (*shape, HIDDEN_SIZE), dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run(cell, dtype, args):
    params, xs, dys = jax.tree.map(lambda a: a.astype(dtype), args)
    _, ys = jaxrnn.unroll(cell, params, xs)
    dparams, _, _ = jaxrnn.bptt(cell, params, xs, dys)
    return ys, dparams


def errors(actual, expected):
    """Compute relative errors of outputs and gradients."""

    def error(a, e):
        a, e = (np.asarray(ravel_pytree(v)[0]).astype(np.float64) for v in (a, e))
        return np.linalg.norm(a - e) / np.linalg.norm(e)

    return [error(a, e) for a, e in zip(actual, expected, strict=True)]


def with_setting(setting, cell, args):
    """Run in float32 under a setting; None if the device does not support it."""
    with jax.default_matmul_precision(setting):
        try:
            return run(cell, jnp.float32, args)
        except jax.errors.JaxRuntimeError as error:
            print(f"{setting}: {str(error).splitlines()[0]}", file=sys.stderr)
            return None


def equal(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def measure(cell, steps):
    """Measure errors by T, for each dtype and each setting that has an effect."""
    by_dtype = {name: [] for name in DTYPES}
    by_setting = {name: [] for name in SETTINGS}
    changes = dict.fromkeys(SETTINGS, False)
    for num_steps in steps:
        args = numbers(cell, num_steps)
        expected = run(cell, jnp.float64, args)
        for dtype, row in by_dtype.items():
            row += errors(run(cell, jnp.dtype(dtype), args), expected)
        full = with_setting("highest", cell, args)
        for setting in SETTINGS:
            result = with_setting(setting, cell, args)
            changes[setting] |= result is not None and not equal(result, full)
            error = [None, None] if result is None else errors(result, expected)
            by_setting[setting] += error
        jax.clear_caches()
        print(f"T = {num_steps} done", file=sys.stderr)
    return by_dtype, by_setting, changes


def written(error):
    if error is None:
        return ""
    return f"{error:.0e}" if np.isfinite(error) else "overflow"


def table(head, rows, steps):
    columns = [f"T = {n}, {what}" for n in steps for what in ("ys", "dW")]
    yield f"| {head} | {' | '.join(columns)} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, row in rows.items():
        cells = [written(error) for error in row]
        yield f"| {name} | {' | '.join(cells)} |"


def report(steps):
    """Format the lines for the document."""
    results = {name: measure(cell, steps) for name, cell in CELLS.items()}
    device = jax.devices()[0]
    yield f"jax {jax.__version__}, {device.platform.upper()} ({device.device_kind})."
    for dtype in DTYPES:
        yield f"\n### {dtype}\n"
        rows = {name: by_dtype[dtype] for name, (by_dtype, _, _) in results.items()}
        yield from table("cell", rows, steps)
    yield "\n### float32, other products\n"
    same = [s for s in SETTINGS if not any(c[s] for _, _, c in results.values())]
    if same:
        names = ", ".join(f"`{setting}`" for setting in same)
        yield f"The same as `highest`, to the last bit: {names}."
    for setting in SETTINGS:
        if setting not in same:
            rows = {name: errors[setting] for name, (_, errors, _) in results.items()}
            yield ""
            yield from table(f"`{setting}`", rows, steps)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--write", action="store_true", help="update the document")
    args = parser.parse_args()
    lines = "\n".join(report(args.steps))
    print(lines)
    if args.write:
        before, begin, rest = DOCUMENT.read_text().partition("<!-- measured -->\n")
        _, end, after = rest.partition("<!-- end -->")
        DOCUMENT.write_text(f"{before}{begin}\n{lines}\n\n{end}{after}")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
