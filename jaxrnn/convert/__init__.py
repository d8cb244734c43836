"""Weights from other frameworks, and to them, exactly.

Each framework is imported only by its own functions, and ``import jaxrnn`` leaves this
submodule out: import ``jaxrnn.convert`` itself.

A ``from_`` function returns ``(layer, params)``; a ``to_`` function takes them. What a
framework computes in another way is refused with the reason, never approximated. A
warning says which options have no effect on what a trained model computes and are left
out.
"""

from ._from_equinox import from_equinox as from_equinox
from ._from_flax import from_flax as from_flax
from ._from_haiku import from_haiku as from_haiku
from ._from_keras import from_keras as from_keras
from ._from_nnx import from_nnx as from_nnx
from ._from_onnx import from_onnx as from_onnx
from ._from_torch import from_torch as from_torch
from ._from_torch import from_torch_state_dict as from_torch_state_dict
from ._to_equinox import to_equinox as to_equinox
from ._to_flax import to_flax as to_flax
from ._to_haiku import to_haiku as to_haiku
from ._to_keras import to_keras as to_keras
from ._to_nnx import to_nnx as to_nnx
from ._to_onnx import to_onnx as to_onnx
from ._to_torch import to_torch as to_torch

__all__ = [
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_keras",
    "from_nnx",
    "from_onnx",
    "from_torch",
    "from_torch_state_dict",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_keras",
    "to_nnx",
    "to_onnx",
    "to_torch",
]
