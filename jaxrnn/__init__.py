"""Recurrent networks as pure functions in JAX.

A cell is a NamedTuple of pure functions over a parameter pytree. :func:`unroll` runs
it over a sequence and :func:`unroll_bptt` does the same with a backward pass derived
by hand; layers combine cells. Time is the leading axis: sequences are ``(T, *B, F)``.
"""

from . import data as data
from . import decode as decode
from . import diagnostics as diagnostics
from . import initializers as initializers
from . import kernels as kernels
from . import losses as losses
from . import metrics as metrics
from . import normalization as normalization
from . import optimizers as optimizers
from . import pooling as pooling
from . import quantization as quantization
from . import seq2seq as seq2seq
from . import testing as testing
from . import train as train
from . import truncated as truncated
from ._base import Adjoint as Adjoint
from ._base import Cell as Cell
from ._base import Derived as Derived
from ._base import Layer as Layer
from ._base import Noise as Noise
from ._base import UnrollFn as UnrollFn
from ._cell_wrappers.learned_state import LearnedStateParams as LearnedStateParams
from ._cell_wrappers.learned_state import learned_state as learned_state
from ._cell_wrappers.multihead import multihead as multihead
from ._cell_wrappers.outputs import all_states as all_states
from ._cell_wrappers.outputs import at_lengths as at_lengths
from ._cell_wrappers.outputs import no_outputs as no_outputs
from ._cell_wrappers.outputs import with_initial as with_initial
from ._cell_wrappers.recurrent_dropout import candidate_dropout as candidate_dropout
from ._cell_wrappers.recurrent_dropout import recurrent_dropout as recurrent_dropout
from ._cell_wrappers.reparametrized import reparametrized as reparametrized
from ._cell_wrappers.zoneout import zoneout as zoneout
from ._cells.antisymmetric import antisymmetric as antisymmetric
from ._cells.conv_gru import conv_gru as conv_gru
from ._cells.conv_lstm import conv_lstm as conv_lstm
from ._cells.coupled_lstm import CoupledLSTMParams as CoupledLSTMParams
from ._cells.coupled_lstm import coupled_lstm as coupled_lstm
from ._cells.echo_state import echo_state as echo_state
from ._cells.elman import ElmanParams as ElmanParams
from ._cells.elman import elman as elman
from ._cells.gru import GRUParams as GRUParams
from ._cells.gru import gru as gru
from ._cells.indrnn import IndRNNParams as IndRNNParams
from ._cells.indrnn import indrnn as indrnn
from ._cells.janet import JANETParams as JANETParams
from ._cells.janet import janet as janet
from ._cells.jordan import JordanParams as JordanParams
from ._cells.jordan import jordan as jordan
from ._cells.layer_norm_gru import LayerNormGRUParams as LayerNormGRUParams
from ._cells.layer_norm_gru import layer_norm_gru as layer_norm_gru
from ._cells.layer_norm_lstm import LayerNormLSTMParams as LayerNormLSTMParams
from ._cells.layer_norm_lstm import layer_norm_lstm as layer_norm_lstm
from ._cells.leaky_integrator import leaky_integrator as leaky_integrator
from ._cells.lru import LRUParams as LRUParams
from ._cells.lru import lru as lru
from ._cells.lstm import LSTMParams as LSTMParams
from ._cells.lstm import LSTMState as LSTMState
from ._cells.lstm import lstm as lstm
from ._cells.mgu import MGUParams as MGUParams
from ._cells.mgu import mgu as mgu
from ._cells.mingru import MinGRUParams as MinGRUParams
from ._cells.mingru import mingru as mingru
from ._cells.minlstm import MinLSTMParams as MinLSTMParams
from ._cells.minlstm import minlstm as minlstm
from ._cells.orthogonal_rnn import cayley_transform as cayley_transform
from ._cells.orthogonal_rnn import exponential_map as exponential_map
from ._cells.orthogonal_rnn import orthogonal_rnn as orthogonal_rnn
from ._cells.peephole_lstm import PeepholeLSTMParams as PeepholeLSTMParams
from ._cells.peephole_lstm import peephole_lstm as peephole_lstm
from ._cells.projected_lstm import ProjectedLSTMParams as ProjectedLSTMParams
from ._cells.projected_lstm import projected_lstm as projected_lstm
from ._cells.recurrent_highway import RecurrentHighwayParams as RecurrentHighwayParams
from ._cells.recurrent_highway import recurrent_highway as recurrent_highway
from ._cells.slstm import SLSTMState as SLSTMState
from ._cells.slstm import slstm as slstm
from ._descriptions.from_spec import from_spec as from_spec
from ._descriptions.types import register_types as _register_types
from ._gradients.by_lag import gradient_by_lag as gradient_by_lag
from ._gradients.influence import Influence as Influence
from ._gradients.influence import dense_influence as dense_influence
from ._gradients.influence import diagonal_influence as diagonal_influence
from ._gradients.rtrl import RTRLCarry as RTRLCarry
from ._gradients.rtrl import rtrl as rtrl
from ._gradients.rtrl import rtrl_init as rtrl_init
from ._gradients.rtrl import rtrl_step as rtrl_step
from ._layers.connections import HighwayParams as HighwayParams
from ._layers.connections import highway as highway
from ._layers.connections import residual as residual
from ._layers.dropout import dropout as dropout
from ._layers.dropout import weight_drop as weight_drop
from ._layers.recurrent import BidirectionalParams as BidirectionalParams
from ._layers.recurrent import BidirectionalState as BidirectionalState
from ._layers.recurrent import bidirectional as bidirectional
from ._layers.recurrent import layer as layer
from ._layers.ridge import ridge_readout as ridge_readout
from ._layers.stack import skip_stack as skip_stack
from ._layers.stack import stack as stack
from ._layers.tied import TiedParams as TiedParams
from ._layers.tied import tied as tied
from ._layers.time_distributed import DenseParams as DenseParams
from ._layers.time_distributed import EmbeddingParams as EmbeddingParams
from ._layers.time_distributed import LayerNormParams as LayerNormParams
from ._layers.time_distributed import dense as dense
from ._layers.time_distributed import embedding as embedding
from ._layers.time_distributed import layer_norm as layer_norm
from ._masks import lengths_to_mask as lengths_to_mask
from ._numerics.precision import cast as cast
from ._summary import summary as summary
from ._unrolls.associative import unroll_associative as unroll_associative
from ._unrolls.bptt import bptt as bptt
from ._unrolls.bptt import unroll_bptt as unroll_bptt
from ._unrolls.bptt import unroll_chunked as unroll_chunked
from ._unrolls.rematerialized import unroll_with as unroll_with
from ._unrolls.unroll import unroll as unroll

__all__ = [
    "Adjoint",
    "BidirectionalParams",
    "BidirectionalState",
    "Cell",
    "CoupledLSTMParams",
    "DenseParams",
    "Derived",
    "ElmanParams",
    "EmbeddingParams",
    "GRUParams",
    "HighwayParams",
    "IndRNNParams",
    "Influence",
    "JANETParams",
    "JordanParams",
    "LRUParams",
    "LSTMParams",
    "LSTMState",
    "Layer",
    "LayerNormGRUParams",
    "LayerNormLSTMParams",
    "LayerNormParams",
    "LearnedStateParams",
    "MGUParams",
    "MinGRUParams",
    "MinLSTMParams",
    "Noise",
    "PeepholeLSTMParams",
    "ProjectedLSTMParams",
    "RTRLCarry",
    "RecurrentHighwayParams",
    "SLSTMState",
    "TiedParams",
    "UnrollFn",
    "all_states",
    "antisymmetric",
    "at_lengths",
    "bidirectional",
    "bptt",
    "candidate_dropout",
    "cast",
    "cayley_transform",
    "conv_gru",
    "conv_lstm",
    "coupled_lstm",
    "data",
    "decode",
    "dense",
    "dense_influence",
    "diagnostics",
    "diagonal_influence",
    "dropout",
    "echo_state",
    "elman",
    "embedding",
    "exponential_map",
    "from_spec",
    "gradient_by_lag",
    "gru",
    "highway",
    "indrnn",
    "initializers",
    "janet",
    "jordan",
    "kernels",
    "layer",
    "layer_norm",
    "layer_norm_gru",
    "layer_norm_lstm",
    "leaky_integrator",
    "learned_state",
    "lengths_to_mask",
    "losses",
    "lru",
    "lstm",
    "metrics",
    "mgu",
    "mingru",
    "minlstm",
    "multihead",
    "no_outputs",
    "normalization",
    "optimizers",
    "orthogonal_rnn",
    "peephole_lstm",
    "pooling",
    "projected_lstm",
    "quantization",
    "recurrent_dropout",
    "recurrent_highway",
    "reparametrized",
    "residual",
    "ridge_readout",
    "rtrl",
    "rtrl_init",
    "rtrl_step",
    "seq2seq",
    "skip_stack",
    "slstm",
    "stack",
    "summary",
    "testing",
    "tied",
    "train",
    "truncated",
    "unroll",
    "unroll_associative",
    "unroll_bptt",
    "unroll_chunked",
    "unroll_with",
    "weight_drop",
    "with_initial",
    "zoneout",
]

__version__ = "0.1.0.dev0"

_register_types()
