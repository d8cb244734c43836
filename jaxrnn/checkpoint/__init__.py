"""Models, parameters and training runs in safetensors files, without pickle.

Every leaf is restored exactly: arrays of JAX and of NumPy, numbers of NumPy and of
Python, and ``jax.random`` keys. A dtype that safetensors does not have, such as complex
numbers, is stored as bytes. A checksum over the whole file detects damage.

Needs the package ``safetensors`` (extra ``checkpoint``). ``import jaxrnn`` leaves this
submodule out: import ``jaxrnn.checkpoint`` itself.
"""

from ._model import load_model as load_model
from ._model import save_model as save_model
from ._params import load_metadata as load_metadata
from ._params import load_params as load_params
from ._params import save_params as save_params
from ._state import load_state as load_state
from ._state import save_state as save_state

__all__ = [
    "load_metadata",
    "load_model",
    "load_params",
    "load_state",
    "save_model",
    "save_params",
    "save_state",
]
