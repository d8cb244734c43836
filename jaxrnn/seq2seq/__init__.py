"""Encoder-decoder models, which map a sequence to another of its own length.

The encoder is any layer. Its final state begins the decoder's, through a bridge; its
outputs are what the decoder attends to. The decoder is a layer that can be stepped, so
that :func:`jaxrnn.decode.generate` and :func:`jaxrnn.decode.beam_search` write with it.

>>> import jax, jax.numpy as jnp, jaxrnn
>>> model = encoder_decoder(
...     jaxrnn.stack(
...         jaxrnn.embedding(9, 4), jaxrnn.bidirectional(jaxrnn.gru(5), jaxrnn.gru(5))
...     ),
...     jaxrnn.lstm(6),
...     inputs=jaxrnn.embedding(7, 4),
...     readout=jaxrnn.dense(7),
...     attention=additive(8),
... )
>>> params = model.init(jax.random.key(0), 9, 7)
>>> sources, targets = jnp.zeros((8, 3), int), jnp.zeros((5, 3), int)
>>> apply = jax.jit(model.apply)
>>> state, logits = apply(params, sources, targets)  # given what comes before
>>> logits.shape
(5, 3, 7)
>>> @jax.jit
... def translate(params, sources):
...     state = model.encode(params, sources)
...     start = jnp.zeros((1, 3), int)
...     return jaxrnn.decode.beam_search(
...         model.decoder, params.decoder, start, 10, beam_size=4, end=1, state=state
...     )
>>> translate(params, sources).tokens.shape
(10, 3, 4)
"""

from ._attending import AttendingParams as AttendingParams
from ._attending import AttendingState as AttendingState
from ._attending import attending as attending
from ._attending import remember as remember
from ._attention import AdditiveParams as AdditiveParams
from ._attention import Attention as Attention
from ._attention import DotProductParams as DotProductParams
from ._attention import Memory as Memory
from ._attention import additive as additive
from ._attention import attend as attend
from ._attention import dot_product as dot_product
from ._encoder_decoder import EncoderDecoder as EncoderDecoder
from ._encoder_decoder import EncoderDecoderParams as EncoderDecoderParams
from ._encoder_decoder import encoder_decoder as encoder_decoder
from ._scheduled_sampling import scheduled_sampling as scheduled_sampling

__all__ = [
    "AdditiveParams",
    "AttendingParams",
    "AttendingState",
    "Attention",
    "DotProductParams",
    "EncoderDecoder",
    "EncoderDecoderParams",
    "Memory",
    "additive",
    "attend",
    "attending",
    "dot_product",
    "encoder_decoder",
    "remember",
    "scheduled_sampling",
]
