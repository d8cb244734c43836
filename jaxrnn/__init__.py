"""Recurrent networks as pure functions in JAX.

A cell is a NamedTuple of pure functions over a parameter pytree. :func:`unroll` runs
it over a sequence and :func:`unroll_bptt` does the same with a backward pass derived
by hand; layers combine cells. Time is the leading axis: sequences are ``(T, *B, F)``.
"""

from . import decode as decode
from . import diagnostics as diagnostics
from . import initializers as initializers
from . import losses as losses
from . import pooling as pooling
from . import testing as testing
from . import train as train
from ._base import Adjoint as Adjoint
from ._base import Cell as Cell
from ._base import Layer as Layer
from ._base import Noise as Noise
from ._base import UnrollFn as UnrollFn
from ._bptt import bptt as bptt
from ._bptt import unroll_bptt as unroll_bptt
from ._bptt import unroll_chunked as unroll_chunked
from ._cells.elman import ElmanParams as ElmanParams
from ._cells.elman import elman as elman
from ._cells.gru import GRUParams as GRUParams
from ._cells.gru import gru as gru
from ._cells.lstm import LSTMParams as LSTMParams
from ._cells.lstm import LSTMState as LSTMState
from ._cells.lstm import lstm as lstm
from ._connections import HighwayParams as HighwayParams
from ._connections import highway as highway
from ._connections import residual as residual
from ._dropout import dropout as dropout
from ._dropout import weight_drop as weight_drop
from ._gradient_by_lag import gradient_by_lag as gradient_by_lag
from ._influence import Influence as Influence
from ._influence import dense_influence as dense_influence
from ._influence import diagonal_influence as diagonal_influence
from ._layers import BidirectionalParams as BidirectionalParams
from ._layers import BidirectionalState as BidirectionalState
from ._layers import bidirectional as bidirectional
from ._layers import layer as layer
from ._layers import stack as stack
from ._learned_state import LearnedStateParams as LearnedStateParams
from ._learned_state import learned_state as learned_state
from ._recurrent_dropout import candidate_dropout as candidate_dropout
from ._recurrent_dropout import recurrent_dropout as recurrent_dropout
from ._rtrl import RTRLCarry as RTRLCarry
from ._rtrl import rtrl as rtrl
from ._rtrl import rtrl_init as rtrl_init
from ._rtrl import rtrl_step as rtrl_step
from ._scan import lengths_to_mask as lengths_to_mask
from ._time_distributed import DenseParams as DenseParams
from ._time_distributed import EmbeddingParams as EmbeddingParams
from ._time_distributed import dense as dense
from ._time_distributed import embedding as embedding
from ._unroll import unroll as unroll
from ._zoneout import zoneout as zoneout

__all__ = [
    "Adjoint",
    "BidirectionalParams",
    "BidirectionalState",
    "Cell",
    "DenseParams",
    "ElmanParams",
    "EmbeddingParams",
    "GRUParams",
    "HighwayParams",
    "Influence",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "LearnedStateParams",
    "Noise",
    "RTRLCarry",
    "UnrollFn",
    "bidirectional",
    "bptt",
    "candidate_dropout",
    "decode",
    "dense",
    "dense_influence",
    "diagnostics",
    "diagonal_influence",
    "dropout",
    "elman",
    "embedding",
    "gradient_by_lag",
    "gru",
    "highway",
    "initializers",
    "layer",
    "learned_state",
    "lengths_to_mask",
    "losses",
    "lstm",
    "pooling",
    "recurrent_dropout",
    "residual",
    "rtrl",
    "rtrl_init",
    "rtrl_step",
    "stack",
    "testing",
    "train",
    "unroll",
    "unroll_bptt",
    "unroll_chunked",
    "weight_drop",
    "zoneout",
]

__version__ = "0.1.0"
