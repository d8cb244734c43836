"""Train a character language model on real English text, and sample from it.

    python examples/char_lm.py                              # the King James Bible
    python examples/char_lm.py --corpus my.txt --cell gru   # your own text
    python examples/char_lm.py --generate "In the "         # no training

An embedding, two recurrent layers and a readout. Saves to the --out folder the
parameters with the lowest validation loss, loss.png and gradients.png.
"""

import functools
import json
import sys

from support import command_line, plots, results, text

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from tqdm import tqdm

import jaxrnn
from jaxrnn import checkpoint, data, diagnostics, losses, train

SEQUENCE_LENGTH = 100  # characters per training sequence
BATCH_SIZE = 32
EMBEDDING_SIZE = 64
HIDDEN_SIZE, STEPS = 192, 500
FULL_HIDDEN_SIZE, FULL_STEPS = 512, 10_000
LEARNING_RATE = 4e-3  # decays to zero over the run
VALIDATION_FRACTION = 0.05  # of the text, at its end
VALIDATION_STREAMS = 20  # of at most VALIDATION_STEPS characters each
VALIDATION_STEPS = 1000
PROMPT_LENGTH = 20
SAMPLE_LENGTH = 300

CELLS = {"lstm": jaxrnn.lstm, "gru": jaxrnn.gru, "elman": jaxrnn.elman}


def build(cell, vocab_size, unroll_fn):
    recurrent = jaxrnn.layer(cell, unroll_fn=unroll_fn)
    embedding = jaxrnn.embedding(vocab_size, EMBEDDING_SIZE)
    return jaxrnn.stack(embedding, recurrent, recurrent, jaxrnn.dense(vocab_size))


def make_loss(model):
    def loss_fn(params, tokens, key=None):
        _, logits = model.apply(params, tokens[:-1])
        return losses.softmax_cross_entropy(logits, tokens[1:])

    return loss_fn


def train_model(args):
    path = command_line.prepare_out(args.out, "params.safetensors")
    corpus = text.read_corpus(args.corpus)
    least = int((SEQUENCE_LENGTH + 1) / VALIDATION_FRACTION) + 1
    if len(corpus) < least:
        sys.exit(f"--corpus must have at least {least} characters, got {len(corpus)}")
    vocabulary = "".join(sorted(set(corpus)))
    split = int(len(corpus) * (1 - VALIDATION_FRACTION))
    tokens, held_out = np.split(text.encode(corpus, vocabulary), [split])
    held_out = text.streams(held_out, VALIDATION_STREAMS, VALIDATION_STEPS)
    batches = data.random_windows(
        tokens, SEQUENCE_LENGTH + 1, batch_size=BATCH_SIZE, seed=args.seed
    )
    first = next(batches)

    cell = CELLS[args.cell](args.hidden_size)
    model = build(cell, len(vocabulary), jaxrnn.unroll_bptt)
    initial = model.init(jax.random.key(args.seed), len(vocabulary))
    difference = gradient_difference(cell, len(vocabulary), initial, first)
    print(f"hand-derived gradient and jax.grad differ by {difference:.1e}, relative")
    levels = text.baselines(tokens, held_out, len(vocabulary))
    counts = ", ".join(f"{name} {level:.3f}" for name, level in levels.items())
    print(f"bits per character by counts alone: {counts}")

    loss_fn = make_loss(model)
    validation_loss = jax.jit(loss_fn)

    def validate(params):
        loss = validation_loss(params, held_out)
        return {"loss": loss, "bits": loss / np.log(2)}

    schedule = optax.cosine_decay_schedule(LEARNING_RATE, args.steps)
    optimizer = train.default_optimizer(schedule)
    characters = {"unit": "char", "unit_scale": BATCH_SIZE * SEQUENCE_LENGTH}
    result = train.fit(
        train.make_update(loss_fn, optimizer),
        train.init(initial, optimizer, jax.random.key(args.seed + 1)),
        batches,
        num_steps=args.steps,
        validate=validate,
        validate_every=max(args.steps // 12, 1),
        progress=functools.partial(tqdm, disable=None, **characters),
    )
    if result.stopped:
        print(f"stopped early: {result.stopped}")

    params = result.best_params
    settings = {
        "cell": args.cell,
        "hidden_size": args.hidden_size,
        "vocabulary": vocabulary,
    }
    checkpoint.save_params(path, params, {"char_lm": json.dumps(settings)})
    plots.plot_bits(args.out / "loss.png", result.history, levels)
    norms = jax.jit(functools.partial(gradient_norms, cell))
    panels = {
        "before training": norms(initial, first),
        "after training": norms(params, first),
    }
    plots.plot_gradients(args.out / "gradients.png", panels)
    prompt = corpus[split:][:PROMPT_LENGTH]
    text.print_samples(model, params, prompt, vocabulary, SAMPLE_LENGTH, args.seed)
    print(f"{path}, loss.png and gradients.png written")
    bits = min(result.history.validation["bits"])
    rows = {f"jaxrnn, {args.cell}": bits, **levels}
    results.print_table("bits per character of text held out", rows)
    print(f"validation bits per character: {bits:.3f}")


def gradient_difference(cell, vocab_size, params, tokens):
    """Return the largest relative difference of our gradient from jax.grad."""
    by_hand, by_jax = (
        jax.jit(jax.grad(make_loss(build(cell, vocab_size, unroll_fn))))(params, tokens)
        for unroll_fn in (jaxrnn.unroll_bptt, jaxrnn.unroll)
    )
    relative = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max() / jnp.abs(b).max(), by_hand, by_jax
    )
    return max(map(float, jax.tree.leaves(relative)))


def gradient_norms(cell, params, tokens):
    """Compute norms of dL/dh (and dL/dc) by time, for the loss at the last step only.

    Runs the stack layer by layer, storing each layer's inputs, then goes backward.
    """
    table, *recurrent, readout = params
    vocab_size = len(table.table)
    inputs = [jaxrnn.embedding(vocab_size, EMBEDDING_SIZE).apply(table, tokens[:-1])[1]]
    for layer_params in recurrent:
        inputs.append(jaxrnn.unroll(cell, layer_params, inputs[-1])[1])

    def last_loss(ys):
        _, logits = jaxrnn.dense(vocab_size).apply(readout, ys[-1:])
        return losses.softmax_cross_entropy(
            logits, tokens[-1:], reduction=losses.masked_sum
        )

    norms = {}
    dys = jax.grad(last_loss)(inputs.pop())
    for depth in reversed(range(len(recurrent))):
        layer_params, xs = recurrent[depth], inputs[depth]
        state = diagnostics.state_gradients(cell, layer_params, xs, dys)
        parts = state._asdict() if isinstance(state, tuple) else {"h": state}
        for part, leaf in parts.items():
            norm = jnp.linalg.norm(leaf, axis=-1).mean(axis=1)
            norms[f"|dL/d{part}|, layer {depth + 1}"] = norm
        _, dys, _ = jaxrnn.bptt(cell, layer_params, xs, dys)
    return norms


def load(path):
    try:
        settings = json.loads(checkpoint.load_metadata(path)["char_lm"])
        vocabulary = settings["vocabulary"]
        cell = CELLS[settings["cell"]](settings["hidden_size"])
        model = build(cell, len(vocabulary), jaxrnn.unroll)
        like = jax.eval_shape(
            lambda key: model.init(key, len(vocabulary)), jax.random.key(0)
        )
        return model, checkpoint.load_params(path, like), vocabulary
    except KeyError:
        sys.exit(f"{path} must be a model of char_lm.py, got one without its settings")
    except (OSError, ValueError) as error:
        sys.exit(f"no model to generate from: {error}")


def parse_arguments():
    parser = command_line.make_parser(__doc__, "char_lm")
    add = parser.add_argument
    add("--corpus", default="kjv", help="kjv, python (its manual) or a text file")
    add("--cell", default="lstm", choices=CELLS)
    add("--full", action="store_true", help="the larger model, trained for longer")
    add("--hidden-size", type=command_line.positive)
    add("--steps", type=command_line.positive, help="number of parameter updates")
    add("--generate", metavar="TEXT", help="continue TEXT with the model in --out")
    args = parser.parse_args()
    size, steps = (FULL_HIDDEN_SIZE, FULL_STEPS) if args.full else (HIDDEN_SIZE, STEPS)
    args.hidden_size, args.steps = args.hidden_size or size, args.steps or steps
    return args


def main():
    args = parse_arguments()
    if args.generate is None:
        train_model(args)
    elif args.generate:
        model, params, vocabulary = load(args.out / "params.safetensors")
        prompt = args.generate
        text.print_samples(model, params, prompt, vocabulary, SAMPLE_LENGTH, args.seed)
    else:
        sys.exit("--generate must have at least one character, got an empty text")


if __name__ == "__main__":
    matplotlib.use("Agg")
    main()
