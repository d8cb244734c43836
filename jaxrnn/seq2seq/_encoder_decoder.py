"""Encoder-decoder models: read one sequence and write another."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from .._base import Cell, Layer
from .._checks import check_cell, check_flags, check_layer
from .._descriptions.spec import Described, Spec, described
from .._eager import compiled
from .._layers.recurrent import layer
from .._layers.stack import stack
from .._layers.time_distributed import DenseParams
from .._masks import zero_where_masked
from .._numerics.precision import add_bias, dot
from .._tree import state_fields, zeros_like
from .._typing import Array, DTypeLike, Key, Params, State
from ..initializers import glorot_uniform
from ._attending import attending, remember
from ._attention import Attention


class EncoderDecoderParams(NamedTuple):
    """Parameters of :func:`encoder_decoder`."""

    encoder: Params
    bridge: DenseParams  # from the encoder's final state to the decoder's first
    decoder: Params  # a tuple: of the inputs, of the cell, of the readout


InitFn: TypeAlias = Callable[..., EncoderDecoderParams]


class _EncoderDecoderFields(NamedTuple):
    init: InitFn
    """``(key, source_size, target_size, dtype=None) -> params``"""
    encode: Callable[..., State]
    """``(params, sources, *, mask=None, key=None) -> state`` of the decoder"""
    apply: Callable[..., tuple[State, Array]]
    """``(params, sources, targets, *, source_mask=None, target_mask=None, key=None) ->
    (state, ys)``: the decoder reads the targets (teacher forcing)"""
    attention_weights: Callable[..., Array]
    """``(params, sources, targets, *, source_mask=None, target_mask=None) -> weights``
    ``(T, *B, S)``: what each step of the targets looked at"""
    decoder: Layer
    """with ``params.decoder``, from a state that ``encode`` gives"""
    spec: Spec | None = None


class EncoderDecoder(Described, _EncoderDecoderFields):
    """Pure functions of an encoder-decoder model; see :func:`encoder_decoder`."""

    __slots__ = ()


@described
def encoder_decoder(
    encoder: Layer,
    cell: Cell,
    *,
    inputs: Layer,
    readout: Layer,
    attention: Attention | None = None,
) -> EncoderDecoder:
    """Make an encoder-decoder model of a layer that reads and a cell that writes.

    The decoder is a stack of ``inputs``, the cell and ``readout``. The initial state of
    its cell is ``tanh(s W + b)``, where ``s`` concatenates all fields of the encoder's
    final state. With a mask, that is the state at the end of each source.

    Args:
        encoder: layer that reads sources ``(S, *B, ...)``, for instance a bidirectional
            one.
        cell: cell of the decoder.
        inputs: layer from targets to the inputs of the cell, such as an ``embedding``.
        readout: layer from the outputs of the cell, followed by the context, to logits,
            such as ``dense``.
        attention: :func:`additive` or :func:`dot_product`. With None, the decoder knows
            only its initial state of the source.

    Returns:
        An :class:`EncoderDecoder`.

    Raises:
        TypeError: an argument is not a layer, or not a cell.
        ValueError: from ``init``, if the encoder has no state.

    References:
        Sutskever, Vinyals and Le, Sequence to sequence learning with neural networks,
        2014. Cho et al., Learning phrase representations using RNN encoder-decoder for
        statistical machine translation, 2014. Bahdanau, Cho and Bengio, 2015.
    """
    check_layer("encoder", encoder)
    check_cell("cell", cell)
    check_layer("inputs", inputs)
    check_layer("readout", readout)
    if attention is None:
        writer = layer(cell)
    else:
        writer = attending(cell, encoder.output_size, attention)
    decoder = stack(inputs, writer, readout)

    def cell_params(params: EncoderDecoderParams) -> Params:
        own = params.decoder[1]
        return own if attention is None else own.cell

    def init(
        key: Key, source_size: int, target_size: int, dtype: DTypeLike | None = None
    ) -> EncoderDecoderParams:
        keys = jax.random.split(key, 3)
        params = EncoderDecoderParams(
            encoder=encoder.init(keys[0], source_size, dtype),
            bridge=DenseParams(jnp.zeros(()), jnp.zeros(())),
            decoder=decoder.init(keys[2], target_size, dtype),
        )
        size = _size(encoder.initial_state(params.encoder, ()))
        if not size:
            raise ValueError("encoder must have a state, got one without")
        width = _size(cell.initial_state(cell_params(params), ()))
        float_dtype = jnp.zeros((), dtype).dtype
        w = glorot_uniform(keys[1], (size, width), float_dtype)
        bridge = DenseParams(w=w, b=jnp.zeros((width,), float_dtype))
        return params._replace(bridge=bridge)

    def encode(params, sources, *, mask=None, key=None):
        final, ys = encoder.apply(params.encoder, sources, mask=mask, key=key)
        batch = ys.shape[1:-1]
        fresh = cell.initial_state(cell_params(params), batch)
        begun = _bridged(params.bridge, final, fresh, batch)
        states = decoder.initial_state(params.decoder, batch)
        if attention is None:
            return (states[0], begun, states[2])
        own = params.decoder[1].attention
        memory = remember(attention, own, ys, mask)
        weights = zeros_like(memory.keys[..., 0]).astype(states[1].weights.dtype)
        middle = states[1]._replace(cell=begun, memory=memory, weights=weights)
        return (states[0], middle, states[2])

    def apply(
        params, sources, targets, *, source_mask=None, target_mask=None, key=None
    ):
        keys = (None, None) if key is None else jax.random.split(key)
        state = encode(params, sources, mask=source_mask, key=keys[0])
        return decoder.apply(
            params.decoder, targets, state, mask=target_mask, key=keys[1]
        )

    @compiled(num_static=0)
    def run_weights(params, state, targets):
        def body(state, x):
            state, _ = decoder.step(params, state, x)
            return state, state[1].weights

        return lax.scan(body, state, targets)[1]

    def attention_weights(
        params, sources, targets, *, source_mask=None, target_mask=None
    ):
        if attention is None:
            raise ValueError("attention must be given to the model, got None")
        state = encode(params, sources, mask=source_mask)
        weights = run_weights(params.decoder, state, jnp.asarray(targets))
        valid = check_flags("target_mask", target_mask, weights.shape[:-1])
        if valid is not None:
            weights = zero_where_masked(weights, valid)
        return weights

    return EncoderDecoder(init, encode, apply, attention_weights, decoder)


def _size(state: State) -> int:
    """Count the numbers of a state without batch dimensions."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))


def _bridged(
    bridge: DenseParams, final: State, fresh: State, batch: tuple[int, ...]
) -> State:
    """Make a state like ``fresh`` from the final state of the encoder.

    What a cell keeps beside ``h`` and ``c``, such as a normaliser, stays fresh.
    """
    flat = [leaf.reshape(*batch, -1) for leaf in jax.tree.leaves(final)]
    joined = jnp.concatenate(flat, axis=-1)
    begun = jnp.tanh(add_bias(dot(joined, bridge.w), bridge.b))
    leaves, structure = jax.tree.flatten(fresh)
    parts, start = [], 0
    for leaf in leaves:
        end = start + math.prod(leaf.shape[len(batch) :])
        parts.append(begun[..., start:end].reshape(leaf.shape).astype(leaf.dtype))
        start = end
    state = jax.tree.unflatten(structure, parts)
    fields = state_fields(fresh)
    others = {name: fields[name] for name in fields if name not in ("h", "c")}
    return state._replace(**others) if others else state
