"""Models as artefacts: compiled programs and parameters in one file, without pickle.

An artefact runs a model where its code is not: on a server, on a GPU or TPU, or years
after the code has changed. It holds StableHLO programs made by ``jax.export``, the
parameters, and the description of the model. A reader needs JAX and this library, and
no code of the model, not even of cells of your own.

Needs the packages ``flatbuffers`` and ``safetensors`` (extra ``export``). ``import
jaxrnn`` leaves this submodule out: import ``jaxrnn.export`` itself.
"""

from ._artefact import Artefact as Artefact
from ._export import export as export
from ._load import load as load

__all__ = ["Artefact", "export", "load"]
