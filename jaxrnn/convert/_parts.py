"""What a layer of jaxrnn consists of, read from its description.

Every converter out of jaxrnn begins here: a layer says by its ``spec`` which factory
made it, with which arguments. What another framework has no module for is refused.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._checks import check_layer
from .._descriptions.spec import Spec
from .._layers.recurrent import _average, _concatenate
from .._layers.time_distributed import _identity
from .._numerics.activation import identity
from .._numerics.int8 import dequantized
from .._params import check_params, template_of

CONCATENATE = _concatenate  # the default of ``merge``
AVERAGE = _average  # Keras's merge_mode="ave", which files can name


class Direction(NamedTuple):
    """A cell and its parameters, as arrays of NumPy."""

    kind: str  # "elman", "lstm", "gru", "gru_before", or the name of another factory
    cell: Cell
    params: Any
    options: dict[str, Any]  # arguments of the factory

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.options["hidden_size"]

    @property
    def form(self) -> tuple[Any, ...]:
        """What cells of equal equations and sizes have in common."""
        names = "hidden_size", "projection_size", "activation", "kernel_shape"
        return self.kind, *map(self.options.get, names)

    @property
    def input_size(self) -> int:
        """I, which for images are the channels."""
        return self.params.w_x.shape[-2]


class Recurrent(NamedTuple):
    """A recurrent layer."""

    directions: tuple[Direction, ...]  # one, or forward and backward
    reverse: bool
    merge: Callable[..., Any] | None  # of two directions


class Dense(NamedTuple):
    """A dense layer."""

    params: Any
    activation: Callable[..., Any]


class Embedding(NamedTuple):
    """An embedding."""

    params: Any


class LayerNorm(NamedTuple):
    """Layer normalisation."""

    params: Any
    epsilon: float


class Dropout(NamedTuple):
    """Dropout between two layers."""

    rate: float
    variational: bool


class Stack(NamedTuple):
    """Several layers, with the dropout between them."""

    parts: tuple[Any, ...]


def refuse(what: Any, reason: str) -> NoReturn:
    """Say what cannot be converted exactly, and why."""
    raise ValueError(f"cannot convert {what}: {reason}")


def read(layer: Layer, params: Any) -> Any:
    """Take a layer apart.

    Args:
        layer: layer that factories of this library made.
        params: its parameters.

    Returns:
        A part, as the classes above.
    """
    check_layer("layer", layer)
    check_params(repr(layer), template_of(layer.init, (1, 2)), params)
    return _read(layer, jax.tree.map(np.asarray, dequantized(params)))


def _read(layer: Layer, params: Any) -> Any:
    spec = layer.spec
    if spec is None:
        refuse("this layer", "it was not made by factories of jaxrnn")
    options = dict(spec.arguments)
    factory = _short(spec)
    match factory:
        case "layer":
            one = direction(options["cell"], params)
            return Recurrent((one,), options["reverse"], None)
        case "bidirectional":
            cells = options["forward"], options["backward"]
            both = tuple(map(direction, cells, params))
            return Recurrent(both, False, options["merge"])
        case "stack":
            parts: list[Any] = []
            for each, own in zip(options["layers"], params, strict=True):
                part = _read(each, own)
                parts += _inline(each, part)
            return Stack(tuple(parts))
        case "dropout":
            inner = _read(options["layer"], params)
            before, after = options["input_rate"], options["rate"]
            variational = options["variational"]
            parts = _inline(options["layer"], inner)
            if before:
                parts = [Dropout(before, variational), *parts]
            if after:
                parts = [*parts, Dropout(after, variational)]
            return Stack(tuple(parts))
        case "dense":
            return Dense(params, options["activation"])
        case "embedding":
            return Embedding(params)
        case "layer_norm":
            return LayerNorm(params, options["epsilon"])
    return refuse(f"{spec!r}", "only layers of a cell and simple ones are converted")


def _inline(layer: Layer, part: Any) -> list[Any]:
    """Dropout stands beside the layer that it wraps; a stack in a stack stays one."""
    assert layer.spec is not None
    return list(part.parts) if _short(layer.spec) == "dropout" else [part]


def direction(cell: Cell, params: Any) -> Direction:
    """Read a cell."""
    if cell.spec is None:
        refuse("this cell", "it was not made by a factory of jaxrnn")
    options = dict(cell.spec.arguments)
    kind = _short(cell.spec)
    if kind == "gru" and not options["reset_after"]:
        kind = "gru_before"
    return Direction(kind, cell, params, options)


def _short(spec: Spec) -> str:
    return spec.factory.removeprefix("jaxrnn.")


ACTIVATIONS = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "linear": identity,
}


def activation_name(function: Callable[..., Any]) -> str | None:
    """Return the common name of an activation; None if it has none."""
    for name, activation in ACTIVATIONS.items():
        if activation is function:
            return name
    if function is _identity:
        return "linear"
    return "tanh" if function in (jax.nn.tanh, jax.lax.tanh) else None


def cell_of(part: Direction, framework: str, kinds: Sequence[str]) -> str:
    """Return the kind of a cell that the framework has; refuse any other."""
    if part.kind == "gru_before" and "gru" in kinds and part.kind not in kinds:
        refuse(
            repr(part.cell),
            f"{framework} applies the reset gate after the recurrent product",
        )
    if part.kind == "gru" and "gru_before" in kinds and part.kind not in kinds:
        refuse(
            repr(part.cell),
            f"{framework} applies the reset gate before the recurrent product",
        )
    if part.kind not in kinds:
        refuse(repr(part.cell), f"{framework} has no such cell")
    if part.options.get("cell_clip") is not None:
        refuse(repr(part.cell), f"{framework} does not clip the cell state")
    return part.kind


def without_dropout(parts: tuple[Any, ...], framework: str) -> list[Any]:
    """Leave dropout out, and warn if there is any."""
    kept = [part for part in parts if not isinstance(part, Dropout)]
    if len(kept) < len(parts):
        warnings.warn(
            f"dropout is left out: that of {framework} needs an argument at each call",
            stacklevel=4,
        )
    return kept
