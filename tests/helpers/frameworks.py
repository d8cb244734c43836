"""The cells of other frameworks, run from the parameters of ours.

Each adapter is a function of our parameters, inputs and state, in our layouts, and
differentiable, so that the other framework's own gradient arrives in our layouts too.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn

os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it once, when it is imported


def need(module):
    """A module of another framework; without it, the test is skipped."""
    package = {"haiku": "dm-haiku"}.get(module, module.partition(".")[0])
    return pytest.importorskip(
        module, reason=f"{package} is not installed: pip install -e '.[compare]'"
    )


def _elman_relu(size):
    return jaxrnn.elman(size, activation=jax.nn.relu)


def _projected_lstm(size):
    return jaxrnn.projected_lstm(size + 2, size)


def _gru_before(size):
    return jaxrnn.gru(size, reset_after=False)


def _gates(a, count):
    return jnp.split(a, count, axis=-1)


def _gru_bias(params):
    """What adds to the inputs: all but the bias that the reset gate multiplies."""
    b_hr, b_hz, b_hn = _gates(params.b_h, 3)
    return params.b + jnp.concatenate([b_hr, b_hz, jnp.zeros_like(b_hn)])


# torch


class TorchCase(NamedTuple):
    """A cell, and the module of torch that it equals."""

    make: Callable[[int], jaxrnn.Cell]
    module: str
    options: dict[str, str]


TORCH = {
    "elman": TorchCase(jaxrnn.elman, "RNN", {}),
    "elman-relu": TorchCase(_elman_relu, "RNN", {"nonlinearity": "relu"}),
    "lstm": TorchCase(jaxrnn.lstm, "LSTM", {}),
    "gru": TorchCase(jaxrnn.gru, "GRU", {}),
    "projected-lstm": TorchCase(_projected_lstm, "LSTM", {}),
}


def torch_weights(params):
    """The weights of one layer and direction, by torch's names without suffixes."""
    projection = {"weight_hr": params.w_r.T} if hasattr(params, "w_r") else {}
    return projection | {
        "weight_ih": params.w_x.T,
        "weight_hh": params.w_h.T,
        # Where torch has two biases for our one, both get a part of it.
        "bias_ih": params.b if hasattr(params, "b_h") else 0.25 * params.b,
        "bias_hh": params.b_h if hasattr(params, "b_h") else 0.75 * params.b,
    }


def torch_stack(case, params, xs, state, lengths):
    """``apply`` of a stack of layers, each in one direction or in both, by torch."""
    torch = need("torch")
    both = isinstance(params[0], jaxrnn.BidirectionalParams)
    suffixes = ("", "_reverse") if both else ("",)
    weights = {}
    for index, layer in enumerate(params):
        for own, direction in zip(layer if both else (layer,), suffixes, strict=True):
            for name, weight in torch_weights(own).items():
                weights[f"{name}_l{index}{direction}"] = weight

    one = params[0].forward if both else params[0]
    # One tensor for the states of all layers and directions, and h apart from c.
    states = jax.tree.leaves(state)
    parts = 2 if case.module == "LSTM" else 1
    start = tuple(torch.stack(states[part::parts]) for part in range(parts))

    module = getattr(torch.nn, case.module)(
        xs.shape[-1],
        states[-1].shape[-1],  # of c, where h is projected
        num_layers=len(params),
        bidirectional=both,
        dtype=xs.dtype,
        **case.options,
        **({"proj_size": states[0].shape[-1]} if hasattr(one, "w_r") else {}),
    )
    if lengths is not None:
        steps = len(xs)
        pack = torch.nn.utils.rnn.pack_padded_sequence
        xs = pack(xs, lengths, enforce_sorted=False)
    ys, final = torch.func.functional_call(
        module, weights, (xs, start if parts == 2 else start[0])
    )
    if lengths is not None:
        ys, _ = torch.nn.utils.rnn.pad_packed_sequence(ys, total_length=steps)
    final = zip(*(final if parts == 2 else (final,)), strict=True)
    leaves = [part for own in final for part in own]
    return jax.tree.unflatten(jax.tree.structure(state), leaves), ys


def torch_values_and_gradients(case, args, cotangents, lengths=None):
    """What torch computes for the arguments of ``apply`` of a ``jaxrnn.stack``.

    Args:
        case: a row of ``TORCH``.
        args: parameters, inputs and state.
        cotangents: of the final state and of the outputs.
        lengths: valid steps of each row, for a packed sequence, or None.

    Returns:
        ``((state, ys), (dparams, dxs, dstate))`` in our layouts.
    """
    torch = need("torch")
    args, cotangents = jax.tree.map(
        lambda a: torch.tensor(np.asarray(a)), (args, cotangents)
    )
    leaves, treedef = jax.tree.flatten(args)
    for leaf in leaves:
        leaf.requires_grad_()
    values = torch_stack(case, *args, lengths)
    gradients = torch.autograd.grad(
        jax.tree.leaves(values), leaves, jax.tree.leaves(cotangents)
    )
    result = values, jax.tree.unflatten(treedef, gradients)
    return jax.tree.map(lambda a: a.detach().numpy(), result)


# The frameworks on JAX


class Peer(NamedTuple):
    """A cell, and how another framework runs the cell that it equals.

    ``convert`` turns our parameters into the framework's. ``build(input_size,
    hidden_size, dtype, reverse=False)`` returns a function ``(weights, xs, state) ->
    (state, ys)`` of those. It takes ``mask=`` too in Keras, ``mask=`` with the masked
    steps last in Flax, and ``resets=`` in Haiku. ``build_both`` does the same, less
    ``reverse``, for the framework's own bidirectional layer, with a pair of weights.
    """

    make: Callable[[int], jaxrnn.Cell]
    convert: Callable[[Any], Any]
    build: Callable[..., Any]
    build_both: Callable[..., Any] | None = None

    def layer(self, input_size, hidden_size, dtype, reverse=False):
        """What ``build`` returns, as a function of our parameters."""
        run = self.build(input_size, hidden_size, dtype, reverse=reverse)

        def from_ours(params, xs, state, **flags):
            return run(self.convert(params), xs, state, **flags)

        return from_ours

    def both(self, input_size, hidden_size, dtype):
        """What ``build_both`` returns, as a function of our parameters."""
        run = self.build_both(input_size, hidden_size, dtype)

        def from_ours(params, xs, state, **flags):
            return run(tuple(map(self.convert, params)), xs, state, **flags)

        return from_ours


def _carry(state):
    """Flax puts c first."""
    return (state.c, state.h) if isinstance(state, jaxrnn.LSTMState) else state


def _state(carry):
    if isinstance(carry, tuple):
        return jaxrnn.LSTMState(h=carry[1], c=carry[0])
    return carry


def _lengths(mask):
    return None if mask is None else mask.sum(axis=0)


def _zero_padding(ys, mask):
    """Flax leaves something at padding, which is not to be read."""
    return ys if mask is None else jnp.where(mask[..., None], ys, jnp.zeros_like(ys))


# Flax linen


def _linen_elman(params):
    return {
        "i": {"kernel": params.w_x, "bias": params.b},
        "h": {"kernel": params.w_h},
    }


def _linen_lstm(params):
    w_x, w_h, b = (_gates(p, 4) for p in params)
    weights = {}
    for index, gate in enumerate("ifgo"):
        weights[f"i{gate}"] = {"kernel": w_x[index]}
        weights[f"h{gate}"] = {"kernel": w_h[index], "bias": b[index]}
    return weights


def _linen_gru(params):
    w_x, w_h, b, b_h = (_gates(p, 3) for p in params)
    return {
        "ir": {"kernel": w_x[0], "bias": b[0] + b_h[0]},
        "iz": {"kernel": w_x[1], "bias": b[1] + b_h[1]},
        "in": {"kernel": w_x[2], "bias": b[2]},
        "hr": {"kernel": w_h[0]},
        "hz": {"kernel": w_h[1]},
        "hn": {"kernel": w_h[2], "bias": b_h[2]},
    }


def _linen(make, cell, convert, **options):
    def rnn(size, **directions):
        nn = need("flax.linen")
        return nn.RNN(getattr(nn, cell)(size, **options), **directions)

    shared = {"time_major": True, "return_carry": True}

    def build(input_size, hidden_size, dtype, reverse=False):
        layer = rnn(hidden_size, reverse=reverse, keep_order=True, **shared)

        def run(weights, xs, state, mask=None):
            carry, ys = layer.apply(
                {"params": {"cell": weights}},
                xs,
                initial_carry=_carry(state),
                seq_lengths=_lengths(mask),
            )
            return _state(carry), _zero_padding(ys, mask)

        return run

    def build_both(input_size, hidden_size, dtype):
        pair = (rnn(hidden_size), rnn(hidden_size))
        layer = need("flax.linen").Bidirectional(*pair, **shared)

        def run(weights, xs, state, mask=None):
            forward, backward = ({"cell": own} for own in weights)
            carry, ys = layer.apply(
                {"params": {"forward_rnn": forward, "backward_rnn": backward}},
                xs,
                initial_carry=tuple(map(_carry, state)),
                seq_lengths=_lengths(mask),
            )
            state = jaxrnn.BidirectionalState(*map(_state, carry))
            return state, _zero_padding(ys, mask)

        return run

    return Peer(make, convert, build, build_both)


# Flax nnx


def _nnx_dense(params):
    """Input and recurrent weights of all gates in one matrix each."""
    return {"dense_i": {"kernel": params.w_x}, "dense_h": {"kernel": params.w_h}}


def _nnx_elman(params):
    weights = _nnx_dense(params)
    weights["dense_i"]["bias"] = params.b
    return weights


def _nnx_lstm(params):
    weights = _linen_lstm(params)
    weights["if_"] = weights.pop("if")
    return weights


def _nnx_optimized_lstm(params):
    weights = _nnx_dense(params)
    weights["dense_h"]["bias"] = params.b
    return weights


def _nnx_gru(params):
    weights = _nnx_dense(params)
    weights["dense_i"]["bias"] = _gru_bias(params)
    return weights


def _nnx(make, cell, convert):
    def build(input_size, hidden_size, dtype, reverse=False):
        nnx = need("flax.nnx")

        def run(weights, xs, state, mask=None):
            own = getattr(nnx, cell)(
                input_size, hidden_size, dtype=dtype, rngs=nnx.Rngs(0)
            )
            for name, part in weights.items():
                for kind, weight in part.items():
                    setattr(getattr(own, name), kind, nnx.Param(weight))
            layer = nnx.RNN(own, time_major=True, reverse=reverse, keep_order=True)
            carry, ys = layer(
                xs,
                initial_carry=_carry(state),
                return_carry=True,
                seq_lengths=_lengths(mask),
            )
            return _state(carry), _zero_padding(ys, mask)

        return run

    return Peer(make, convert, build)


# Keras


def _keras_gru(params):
    """Keras has z before r."""

    def permute(p):
        r, z, n = _gates(p, 3)
        return jnp.concatenate([z, r, n], axis=-1)

    w_x, w_h, b, b_h = map(permute, params)
    return [w_x, w_h, jnp.stack([b, b_h])]


def _keras_gru_before(params):
    w_x, w_h, biases = _keras_gru(params)
    return [w_x, w_h, biases.sum(axis=0)]


def _keras(make, layer, convert=list, **options):
    def rnn(input_size, hidden_size, dtype, both=False, **more):
        layers = need("keras").layers
        own = getattr(layers, layer)(
            hidden_size,
            return_sequences=True,
            return_state=True,
            zero_output_for_mask=True,
            dtype=np.dtype(dtype).name,
            **options,
            **more,
        )
        if both:
            own = layers.Bidirectional(own, dtype=own.dtype)
        own.build((None, None, input_size))
        return own

    def call(own, weights, xs, state, mask):
        (ys, *states), _ = own.stateless_call(
            weights,
            own.non_trainable_variables,
            xs.swapaxes(0, 1),
            initial_state=jax.tree.leaves(state),
            mask=None if mask is None else mask.T,
        )
        state = jax.tree.unflatten(jax.tree.structure(state), states)
        return state, ys.swapaxes(0, 1)

    def build(input_size, hidden_size, dtype, reverse=False):
        own = rnn(input_size, hidden_size, dtype, go_backwards=reverse)

        def run(weights, xs, state, mask=None):
            state, ys = call(own, weights, xs, state, mask)
            return state, ys[::-1] if reverse else ys

        return run

    def build_both(input_size, hidden_size, dtype):
        own = rnn(input_size, hidden_size, dtype, both=True)

        def run(weights, xs, state, mask=None):
            forward, backward = weights
            return call(own, [*forward, *backward], xs, state, mask)

        return run

    return Peer(make, convert, build, build_both)


# Haiku


def _haiku_elman(params):
    return {
        "vanilla_rnn/linear": {"w": params.w_x, "b": 0.25 * params.b},
        "vanilla_rnn/linear_1": {"w": params.w_h, "b": 0.75 * params.b},
    }


def _haiku_lstm(params):
    """The gates are i, g, f, o, and 1 is added to f at run time."""

    def permute(i, f, g, o):
        return jnp.concatenate([i, g, f, o], axis=-1)

    i, f, g, o = _gates(params.b, 4)
    w = jnp.concatenate([params.w_x, params.w_h])
    return {"lstm/linear": {"w": permute(*_gates(w, 4)), "b": permute(i, f - 1, g, o)}}


def _haiku_gru(params):
    """Haiku has z before r, and its z takes the new state: s(-a) is 1 - s(a)."""

    def permute(p):
        r, z, n = _gates(p, 3)
        return jnp.concatenate([-z, r, n], axis=-1)

    w_x, w_h, b, b_h = map(permute, params)
    return {"gru": {"w_i": w_x, "w_h": w_h, "b": b + b_h}}


def _haiku(make, core, convert):
    def build(input_size, hidden_size, dtype, reverse=False):
        hk = need("haiku")

        def unroll(xs, state):
            own = getattr(hk, core)(hidden_size)
            if isinstance(xs, tuple):
                own = hk.ResetCore(own)
            return hk.dynamic_unroll(own, xs, state, reverse=reverse)

        def run(weights, xs, state, resets=None):
            if isinstance(state, jaxrnn.LSTMState):
                state = hk.LSTMState(hidden=state.h, cell=state.c)
            apply = hk.without_apply_rng(hk.transform(unroll)).apply
            inputs = xs if resets is None else (xs, resets)
            ys, state = apply(weights, inputs, state)
            if isinstance(state, hk.LSTMState):
                state = jaxrnn.LSTMState(h=state.hidden, c=state.cell)
            return state, ys

        return run

    return Peer(make, convert, build)


# Equinox


def _equinox_lstm(params):
    return {"weight_ih": params.w_x.T, "weight_hh": params.w_h.T, "bias": params.b}


def _equinox_gru(params):
    projection = {"weight_hr": params.w_r.T} if hasattr(params, "w_r") else {}
    return projection | {
        "weight_ih": params.w_x.T,
        "weight_hh": params.w_h.T,
        "bias": _gru_bias(params),
        "bias_n": _gates(params.b_h, 3)[2],
    }


def _equinox(make, cell, convert):
    def build(input_size, hidden_size, dtype, reverse=False):
        eqx = need("equinox")
        key = jax.random.key(0)
        blank = getattr(eqx.nn, cell)(input_size, hidden_size, key=key)

        def run(weights, xs, state):
            def leaves(own):
                return [getattr(own, name) for name in weights]

            own = jax.vmap(eqx.tree_at(leaves, blank, list(weights.values())))

            def step(state, x):
                if not isinstance(state, jaxrnn.LSTMState):
                    state = own(x, state)
                    return state, state
                h, c = own(x, tuple(state))
                return jaxrnn.LSTMState(h=h, c=c), h

            return jax.lax.scan(step, state, xs, reverse=reverse)

        return run

    return Peer(make, convert, build)


PEERS = {
    "linen-elman": _linen(jaxrnn.elman, "SimpleCell", _linen_elman),
    "linen-elman-relu": _linen(
        _elman_relu, "SimpleCell", _linen_elman, activation_fn=jax.nn.relu
    ),
    "linen-lstm": _linen(jaxrnn.lstm, "LSTMCell", _linen_lstm),
    "linen-optimized-lstm": _linen(jaxrnn.lstm, "OptimizedLSTMCell", _linen_lstm),
    "linen-gru": _linen(jaxrnn.gru, "GRUCell", _linen_gru),
    "nnx-elman": _nnx(jaxrnn.elman, "SimpleCell", _nnx_elman),
    "nnx-lstm": _nnx(jaxrnn.lstm, "LSTMCell", _nnx_lstm),
    "nnx-optimized-lstm": _nnx(jaxrnn.lstm, "OptimizedLSTMCell", _nnx_optimized_lstm),
    "keras-elman": _keras(jaxrnn.elman, "SimpleRNN"),
    "keras-elman-relu": _keras(_elman_relu, "SimpleRNN", activation="relu"),
    "keras-lstm": _keras(jaxrnn.lstm, "LSTM"),
    "keras-gru": _keras(jaxrnn.gru, "GRU", _keras_gru),
    "keras-gru-before": _keras(
        _gru_before, "GRU", _keras_gru_before, reset_after=False
    ),
    "haiku-elman-relu": _haiku(_elman_relu, "VanillaRNN", _haiku_elman),
    "haiku-lstm": _haiku(jaxrnn.lstm, "LSTM", _haiku_lstm),
    "haiku-gru-before": _haiku(_gru_before, "GRU", _haiku_gru),
    "equinox-lstm": _equinox(jaxrnn.lstm, "LSTMCell", _equinox_lstm),
    "equinox-gru": _equinox(jaxrnn.gru, "GRUCell", _equinox_gru),
}

# Not in the table: it lacks the bias that the reset gate multiplies.
NNX_GRU = _nnx(jaxrnn.gru, "GRUCell", _nnx_gru)
