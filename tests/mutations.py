"""Plant mistakes in the library one by one, and see that the default suite finds each.

    python tests/mutations.py              # all of them; writes tests/mutations.md
    python tests/mutations.py reset lstm   # those whose names have one of these words

Each mistake is one replacement in a copy of the package. For each, the tests of the
folders named beside it run first, as the default suite runs them, until one fails; if
none of them does, the whole default suite runs.
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
REPORT = ROOT / "tests" / "mutations.md"


class Mistake(NamedTuple):
    """One replacement in one file, and where tests should notice it."""

    name: str
    file: str  # below jaxrnn/; kernels are built again
    before: str  # occurs once in the file
    after: str
    folders: str  # of tests/, the ones to try first


MISTAKES = [
    # The engine
    Mistake(
        "mask: the state is lost at a masked step",
        "_unrolls/masked_scan.py",
        "new_state = select(valid, new_state, state)",
        "new_state = select(valid, new_state, fresh)",
        "unrolls",
    ),
    Mistake(
        "mask: selected by a product",
        "_tree.py",
        "return jnp.where(condition.reshape(axes), a, b)",
        "keep = condition.reshape(axes).astype(a.dtype)\n"
        "        return keep * a + (1 - keep) * b",
        "unrolls layers",
    ),
    Mistake(
        "mask: the output of a masked step is kept",
        "_unrolls/masked_scan.py",
        "return new_state, (zero_where_masked(y, valid), residual)",
        "return new_state, (y, residual)",
        "unrolls",
    ),
    Mistake(
        "mask: padding reaches the weight gradient",
        "_unrolls/arguments.py",
        "inputs = zero_where_masked(inputs, valid)",
        "pass",
        "unrolls layers",
    ),
    Mistake(
        "reset: off by one in reverse",
        "_unrolls/arguments.py",
        "return jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])",
        "return resets",
        "unrolls",
    ),
    Mistake(
        "reset: the state is kept over it",
        "_unrolls/masked_scan.py",
        "state = select(reset, fresh, state)",
        "pass",
        "unrolls",
    ),
    Mistake(
        "reset: the gradient crosses it",
        "_unrolls/masked_scan.py",
        "dprevious = select(reset, zeros, dprevious)",
        "pass",
        "gradients unrolls",
    ),
    Mistake(
        "reset: the initial state gets no gradient from it",
        "_unrolls/masked_scan.py",
        "dfresh = add(dfresh, select(reset, dprevious, zeros))",
        "pass",
        "gradients cell_wrappers",
    ),
    Mistake(
        "transpose: a held state drops its cotangent",
        "_unrolls/masked_scan.py",
        "dprevious = select(valid, dprevious, dstate)",
        "dprevious = select(valid, dprevious, zeros_like(dstate))",
        "gradients unrolls",
    ),
    Mistake(
        "transpose: run in the order of the forward pass",
        "_unrolls/masked_scan.py",
        "reverse=not run.reverse)\n    return *carry, das",
        "reverse=run.reverse)\n    return *carry, das",
        "gradients unrolls",
    ),
    Mistake(
        "chunks: the remainder begins one step late",
        "_unrolls/chunks.py",
        "taken = index * order.chunk_size",
        "taken = index * size",
        "unrolls",
    ),
    Mistake(
        "chunks: the gradient of the last chunk alone",
        "_unrolls/chunks.py",
        "return jax.tree.map(lambda t, m: t + m.astype(t.dtype), total, more)",
        "return more",
        "unrolls gradients",
    ),
    Mistake(
        "chunks: sums narrowed to the dtype of the parameters",
        "_unrolls/chunks.py",
        "zeros_like(widen(params)) if several",
        "zeros_like(params) if several",
        "unrolls gradients",
    ),
    Mistake(
        "bptt: an initial state of parameters passes no gradient on",
        "_unrolls/bptt.py",
        "dfresh = jax.tree.map(jnp.add, dfresh, dstate0)",
        "pass",
        "gradients",
    ),
    Mistake(
        "associative: a reset keeps the state",
        "_unrolls/associative.py",
        "return *select(started, after[:2], joined), before[2] | started",
        "return *joined, before[2] | started",
        "unrolls",
    ),
    # Cells
    Mistake(
        "lstm: swapped gates",
        "_cells/lstm.py",
        "i, f, g, o = jnp.split(",
        "f, i, g, o = jnp.split(",
        "cells",
    ),
    Mistake(
        "lstm: a dropped term in the gradient of c",
        "_cells/lstm.py",
        "dc = dstate.c + dh * o * (1 - m * m)",
        "dc = dh * o * (1 - m * m)",
        "cells gradients testing",
    ),
    Mistake(
        "lstm: clipped cells pass their gradient",
        "_cells/lstm.py",
        "dc = jnp.where(abs(c) < cell_clip, dc, 0)",
        "pass",
        "cells testing",
    ),
    Mistake(
        "lstm: the bias of another gate is one",
        "_cells/lstm.py",
        "b.at[hidden_size : 2 * hidden_size]",
        "b.at[:hidden_size]",
        "cells",
    ),
    Mistake(
        "elman: the transposed weight forward",
        "_cells/elman.py",
        "dot(state, params.w_h)",
        "dot(state, params.w_h.T)",
        "cells",
    ),
    Mistake(
        "gru: the reset gate on the wrong product",
        "_cells/gru.py",
        "n = jnp.tanh(a_i_n + r * a_h_n)",
        "n = jnp.tanh(r * a_i_n + a_h_n)",
        "cells",
    ),
    Mistake(
        "gru: the carried gradient is dropped",
        "_cells/gru.py",
        "dh_prev = dh * z + recurrent_dot_transposed(da_h, params.w_h)",
        "dh_prev = recurrent_dot_transposed(da_h, params.w_h)",
        "cells gradients testing",
    ),
    Mistake(
        "precision: 16-bit parameters have 16-bit sums",
        "_numerics/precision.py",
        "return jnp.dtype(jnp.float32) if narrow_float else dtype",
        "return dtype",
        "cells unrolls gradients",
    ),
    Mistake(
        "initialisers: all gates are drawn with one key",
        "initializers.py",
        '[drawn("initializer", initializer, k, block, dtype) for k in keys]',
        '[drawn("initializer", initializer, key, block, dtype)] * num_gates',
        "cells",
    ),
    Mistake(
        "zoneout: the rates of h and c are exchanged",
        "_cell_wrappers/zoneout.py",
        "rates = {field: rate for field, rate in named.items() if rate}",
        'rates = {field: r for field, r in zip("ch", named.values()) if r}',
        "cell_wrappers",
    ),
    # Layers
    Mistake(
        "stack: all layers draw with one key",
        "_layers/stack.py",
        "new_state, xs = each.apply(p, xs, s, mask=mask, resets=resets, key=k)",
        "new_state, xs = each.apply(p, xs, s, mask=mask, resets=resets, key=key)",
        "layers",
    ),
    Mistake(
        "dropout: inputs and outputs share a key",
        "_layers/dropout.py",
        "return state, _drop(key_out, check_array",
        "return state, _drop(key_in, check_array",
        "layers",
    ),
    Mistake(
        "dropout: what is kept is not scaled up",
        "_layers/dropout.py",
        "return jnp.where(keep, scaled, jnp.zeros_like(values))",
        "return jnp.where(keep, values, jnp.zeros_like(values))",
        "layers",
    ),
    Mistake(
        "embedding: an unknown token gets the vector of token 0",
        "_layers/time_distributed.py",
        "vectors = jnp.where(known[..., None], vectors, jnp.nan)",
        "pass",
        "layers",
    ),
    Mistake(
        "dense: the bias is left out",
        "_layers/time_distributed.py",
        "ys = activation(add_bias(dot(xs, params.w), params.b))",
        "ys = activation(dot(xs, params.w))",
        "layers",
    ),
    # Losses and metrics
    Mistake(
        "losses: padding counts in the mean",
        "_masks.py",
        "count = values.size if mask is None else jnp.sum(mask)",
        "count = values.size",
        "training",
    ),
    Mistake(
        "losses: a sum over features for a mean",
        "losses.py",
        "return reduction(optax.squared_error(predictions, targets).mean(-1), mask)",
        "return reduction(optax.squared_error(predictions, targets).sum(-1), mask)",
        "training",
    ),
    Mistake(
        "losses: one more step than CTC needs between equal labels is forgotten",
        "losses.py",
        "needed = valid.sum(0) + repeated.sum(0)",
        "needed = valid.sum(0)",
        "sequences",
    ),
    Mistake(
        "metrics: a masked step counts as correct",
        "metrics/_classification.py",
        "return masked_mean((predicted == labels).astype(jnp.float32), counted)",
        "return masked_mean((predicted == labels).astype(jnp.float32), None)",
        "training",
    ),
    Mistake(
        "pooling: the last step of the padded length",
        "pooling.py",
        "latest = jnp.max(jnp.where(valid, steps, -1), axis=0, initial=-1)",
        "latest = jnp.max(jnp.where(valid, steps, len(steps) - 1), axis=0, initial=-1)",
        "sequences",
    ),
    Mistake(
        "rtrl: the part through earlier states is left out",
        "_gradients/rtrl.py",
        "implicit = influence.pull(dstate, before.influence, wide)",
        "implicit = jax.tree.map(jnp.zeros_like, wide)",
        "gradients",
    ),
    # Decoding
    Mistake(
        "decode: a key is used twice",
        "decode/_generate.py",
        "first_key, key = jax.random.split(key)",
        "first_key = key",
        "sequences",
    ),
    Mistake(
        "decode: the nucleus leaves out the symbol that reaches its mass",
        "decode/_choices.py",
        "best = jnp.where(before < self.top_p, best, -jnp.inf)",
        "best = jnp.where(probabilities + before < self.top_p, best, -jnp.inf)",
        "sequences",
    ),
    Mistake(
        "decode: an ended sequence goes on",
        "decode/_generate.py",
        "state, x = select(ended, (state, x), (new_state, new_x))",
        "state, x = new_state, new_x",
        "sequences",
    ),
    Mistake(
        "decode: a length leaves its end symbol out",
        "decode/_generate.py",
        "first = jnp.argmax(ends, axis=0) + 1",
        "first = jnp.argmax(ends, axis=0)",
        "sequences",
    ),
    # Data
    Mistake(
        "data: targets overlap their window",
        "data/_windows.py",
        "return together[:num_steps], together[num_steps:]",
        "return together[:num_steps], together[num_steps - 1 : -1]",
        "training",
    ),
    Mistake(
        "data: the mask of a padded batch is one step long",
        "data/_batches.py",
        "mask = np.arange(steps)[:, None] < lengths",
        "mask = np.arange(steps)[:, None] <= lengths",
        "training",
    ),
    Mistake(
        "data: masked steps count in the statistics",
        "data/_standardization.py",
        "return np.broadcast_to(valid[..., None], shape)",
        "return np.ones(shape, bool)",
        "training",
    ),
    # Checkpoints
    Mistake(
        "checkpoint: numbers narrowed to 32 bits",
        "checkpoint/_leaves.py",
        "float: np.float64, complex",
        "float: np.float32, complex",
        "training",
    ),
    Mistake(
        "checkpoint: a failed write destroys the old file",
        "_files.py",
        'temporary = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex}.tmp")',
        "temporary = path\n        path.unlink(missing_ok=True)",
        "training",
    ),
    Mistake(
        "checkpoint: shapes of another model are accepted",
        "checkpoint/_format.py",
        "if wanted is not None and wanted != found:",
        "if wanted is not None and wanted[1] != found[1]:",
        "training",
    ),
    # Training and the rest
    Mistake(
        "train: a step that is not finite changes the parameters",
        "train/_update.py",
        "return select(finite, new_state, state), metrics",
        "return new_state, metrics",
        "training",
    ),
    Mistake(
        "train: every step has the same key",
        "train/_update.py",
        "            key=key,\n            **changes,",
        "            **changes,",
        "training",
    ),
    Mistake(
        "beam search: the states stay with other beams",
        "decode/_beam_search.py",
        "state = jax.tree.map(lambda leaf: _take(leaf, parents, axis), state)",
        "pass",
        "sequences",
    ),
    Mistake(
        "package: the marker of types is missing",
        "py.typed",
        "",
        "REMOVED",
        "package",
    ),
    # The compiled kernels
    Mistake(
        "kernel: the derivative of the input gate",
        "../kernels/cells.h",
        "da[0] = dc * g * i * (T(1) - i);",
        "da[0] = dc * g * i;",
        "native",
    ),
    Mistake(
        "kernel: the reset gate is left out of a cotangent",
        "../kernels/cells.h",
        "da_h[2] = r * da[2];",
        "da_h[2] = da[2];",
        "native",
    ),
    Mistake(
        "kernel: the cotangent of a clipped cell state passes",
        "../kernels/cells.h",
        "dc = ((unclipped < most) & (unclipped > -most)) ? dc : zero;",
        "dc = (unclipped < most) | (unclipped > -most) ? dc : zero;",
        "native",
    ),
    Mistake(
        "kernel: the slope of leaky ReLU",
        "../kernels/cells.h",
        "slope = broadcast(T(0.01));",
        "slope = broadcast(T(0.1));",
        "native",
    ),
    Mistake(
        "kernel: a coefficient of tanh",
        "../kernels/activations.h",
        "1.3379673659801483e-01f",
        "1.3380e-01f",
        "native",
    ),
    Mistake(
        "kernel: a reset restores the first state",
        "../kernels/forward.h",
        "set_state(r, problem_.h_fresh, problem_.c_fresh);",
        "set_state(r, problem_.h_first, problem_.c_fresh);",
        "native",
    ),
    Mistake(
        "kernel: a gradient crosses a reset",
        "../kernels/backward.h",
        "      from[i] = 0;\n",
        "",
        "native",
    ),
    Mistake(
        "kernel: a masked step is the one before",
        "../kernels/backward.h",
        "if (this->valid(time, first_ + r)) origin = kStep + step;",
        "origin = kStep + step;",
        "native",
    ),
    Mistake(
        "kernel: a reversed run goes forward",
        "../kernels/team.h",
        "problem_.reverse ? problem_.steps - 1 - step : step",
        "problem_.reverse ? step : step",
        "native",
    ),
    Mistake(
        "kernel: a sum does not begin at zero",
        "../kernels/backward.h",
        "    zero(layout_.x, team_.db, 1);\n",
        "",
        "native",
    ),
    Mistake(
        "kernel: the gradients of a second thread are lost",
        "../kernels/layout.h",
        "for (Size n = 1; n < packed.size(); n++)",
        "for (Size n = 2; n < packed.size(); n++)",
        "native",
    ),
    Mistake(
        "kernel: a product leaves its last row out",
        "../kernels/product.h",
        "for (Size k = 0; k < count; k++, panel += Vectors * kLanes<T>, strip",
        "for (Size k = 1; k < count; k++, panel += Vectors * kLanes<T>, strip",
        "native",
    ),
    Mistake(
        "kernel: a vmapped axis is folded into time",
        "_native/loop.py",
        "xs=move(1, inputs.xs, inputs_axes.xs)",
        "xs=move(0, inputs.xs, inputs_axes.xs)",
        "native",
    ),
    Mistake(
        "kernel: a changed adjoint keeps the kernel",
        "_base.py",
        'changes = {"kernel": None} | changes',
        "changes = dict(changes)",
        "native testing",
    ),
]


def plant(mistake, package):
    """Apply a mistake to a copy of the package."""
    path = package / mistake.file
    if mistake.after == "REMOVED":
        path.unlink()
        return
    text = path.read_text()
    if text.count(mistake.before) != 1:
        raise SystemExit(
            f"{mistake.name}: {mistake.before!r} must occur once in {mistake.file}, "
            f"got {text.count(mistake.before)} times"
        )
    path.write_text(text.replace(mistake.before, mistake.after))
    if path.parent.name == "kernels":
        command = [sys.executable, path.parent / "build.py"]
        subprocess.run(command, check=True, capture_output=True)


def first_failure(copy, folders):
    """Run the default suite of some folders; return the first test that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"]
    paths = [f"tests/{folder}" for folder in folders.split()]
    environment = {
        "PYTHONPATH": str(copy),
        "JAXRNN_TEST_CACHE": str(ROOT / ".jax_cache"),
    }
    result = subprocess.run(
        ["env", *(f"{k}={v}" for k, v in environment.items()), *command, *paths],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(result.stdout + result.stderr)
    return found[1]


def find(mistake):
    """Plant a mistake in a fresh copy of the repository, and look for it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "repository"
        ignored = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", "runs")
        shutil.copytree(ROOT, copy, ignore=ignored)
        plant(mistake, copy / "jaxrnn")
        return first_failure(copy, mistake.folders) or first_failure(copy, "")


def main():
    """Look for all mistakes, or for those that are named, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="words in the names of mistakes")
    words = parser.parse_args().words
    chosen = [
        mistake
        for mistake in MISTAKES
        if not words or any(word in mistake.name for word in words)
    ]
    rows, missed = [], []
    for mistake in chosen:
        begun = time.monotonic()
        test = find(mistake)
        seconds = time.monotonic() - begun
        print(f"{seconds:4.0f} s  {mistake.name}: {test or 'NOT FOUND'}", flush=True)
        rows.append(f"| {mistake.name} | `{mistake.file}` | `{test or 'not found'}` |")
        missed += [mistake.name] * (test is None)
    if not words:
        head = "# Planted mistakes, and the first test of the default suite to fail"
        how = "Written by `python tests/mutations.py`."
        table = ["| mistake | file | test |", "|---|---|---|", *rows]
        REPORT.write_text("\n".join([head, "", how, "", *table]) + "\n")
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mistakes found")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
