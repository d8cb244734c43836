"""From ONNX: a graph of recurrent and simple operators, one after another."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._base import Cell, Layer
from . import _make, _parts
from ._arrays import gates, need, reorder, to_numpy
from ._parts import ACTIVATIONS, activation_name, refuse
from ._to_onnx import DENSE, ELMAN, REDUCTIONS, Z_R_N

I_F_G_O = (0, 2, 3, 1)  # from i, o, f, c
OF_FEATURES = {"MatMul", "Gemm", "Add", "LayerNormalization", *DENSE.values()}
SIGMOID_TANH = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


def from_onnx(model: str | os.PathLike[str] | bytes | Any) -> tuple[Layer, Any]:
    """Convert an ONNX model that applies one layer after another.

    Args:
        model: path of a file, its bytes, or an ``onnx.ModelProto``. Its operators may
            be ``LSTM`` (with peepholes or not), ``GRU`` (both forms) and ``RNN``, in
            any direction; ``Gather`` of a table, ``MatMul``, ``Gemm``, ``Add`` and
            activations, ``LayerNormalization``; and what moves axes between them, as
            :func:`to_onnx`, PyTorch and others write it.

    Returns:
        ``(layer, params)``. Inputs have time first, whatever the model does with its
        own. The layer begins from a state of zeros.

    Raises:
        ValueError: the file is damaged, or the model has an operator, attribute or
            activation that jaxrnn does not have; the message names it.
        OSError: the file cannot be read.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.layer(jaxrnn.gru(5))
    >>> params = layer.init(jax.random.key(0), 3)
    >>> convert.from_onnx(convert.to_onnx(layer, params))[0]
    jaxrnn.layer(jaxrnn.gru(5))
    """
    onnx = need("onnx", "onnx")
    if isinstance(model, bytes | str | os.PathLike):
        model = _load(onnx, model)
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            "model must be a path, bytes, or an onnx.ModelProto, got "
            f"{type(model).__name__}"
        )
    return _Reader(onnx, model).read()


def _load(onnx: Any, model: Any) -> Any:
    try:
        if isinstance(model, bytes):
            loaded = onnx.load_model_from_string(model)
        else:
            loaded = onnx.load_model(os.fspath(model))
        onnx.checker.check_model(loaded)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"model must be a whole ONNX model: {error}") from error
    return loaded


# Names of axes: the two of the input in front of the features, one of which is time,
# directions, and features.
FIRST, SECOND, DIRECTIONS, FEATURES = "first", "second", "directions", "features"


class _Reader:
    """Follows the data from the input of a graph through its layers.

    ``axes`` says what the axes of the tensor are that has been reached.
    """

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.graph = onnx, model.graph
        self.is_ours = model.producer_name == "jaxrnn"
        self.opset = max(
            (each.version for each in model.opset_import if not each.domain), default=1
        )
        to_array = onnx.numpy_helper.to_array
        self.constants = {each.name: to_array(each) for each in self.graph.initializer}
        for node in self.graph.node:
            if node.op_type == "Constant":
                attributes = self.attributes(node)
                if "value" in attributes:
                    self.constants[node.output[0]] = to_array(attributes["value"])
        self.entries: list[Any] = []
        self.axes: tuple[str, ...] = ()
        self.time: str | None = None

    def attributes(self, node: Any) -> dict[str, Any]:
        get = self.onnx.helper.get_attribute_value
        return {each.name: get(each) for each in node.attribute}

    def constant(self, node: Any, index: int, what: str) -> np.ndarray:
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.constants:
            refuse(_named(node), f"its {what} is not a constant")
        return self.constants[name]

    def read(self) -> tuple[Layer, Any]:
        inputs = [v for v in self.graph.input if v.name not in self.constants]
        if not inputs:
            refuse("this model", "it has no input")
        tensor, rank = inputs[0].name, len(inputs[0].type.tensor_type.shape.dim)
        if rank not in (2, 3):
            refuse("this model", f"its input must have two or three axes, got {rank}")
        self.axes = (FIRST, SECOND, FEATURES)[:rank]
        while (node := self.next_node(tensor)) is not None:
            tensor = self.take(node, tensor)
        if tensor != self.graph.output[0].name:
            refuse(
                "this model",
                "its first output must be that of all steps, which comes of "
                f"{inputs[0].name!r} by one layer after another, got "
                f"{self.graph.output[0].name!r}; is it the final state alone?",
            )
        if not self.entries:
            refuse("this model", "it has no layer")
        if DIRECTIONS in self.axes or self.axes[-1] != FEATURES:
            refuse("this model", f"the axes of its output are {', '.join(self.axes)}")
        return self.entries[0] if len(self.entries) == 1 else _make.layers(self.entries)

    def next_node(self, tensor: str) -> Any:
        """Return the node that reads a tensor, other than for its shape."""
        found = [
            node
            for node in self.graph.node
            if tensor in node.input and node.op_type not in ("Shape", "Size")
        ]
        if len(found) > 1:
            kinds = ", ".join(node.op_type for node in found)
            refuse("this model", f"{tensor!r} is read by several operators: {kinds}")
        return found[0] if found else None

    def take(self, node: Any, tensor: str) -> str:
        """Read one operator; return the name of the tensor that goes on."""
        kind = node.op_type
        place = list(node.input).index(tensor)
        if kind in ("LSTM", "GRU", "RNN") and place == 0:
            self.recurrent(node)
        elif kind == "Gather" and place == 1:
            self.embedding(node)
        elif kind in ("Transpose", "Squeeze", "Reshape") and place == 0:
            self.move(node)
        elif kind in ("ReduceSum", "ReduceProd", "ReduceMean") and place == 0:
            self.reduce(node)
        elif kind in ("Identity", "Dropout") and place == 0:
            pass
        elif kind == "Cast":
            self.cast(node)
        elif kind == "Where" and place == 1 and self.is_ours:
            pass  # zeros after the lengths
        elif kind not in OF_FEATURES:
            refuse(_named(node), "jaxrnn has no layer for it")
        elif len(self.axes) != 3 or self.axes[-1] != FEATURES:
            refuse(_named(node), f"the axes before it are {', '.join(self.axes)}")
        elif kind in ("MatMul", "Gemm"):
            self.dense(node)
        elif kind == "Add":
            self.add_bias(node, 1 - place)
        elif kind == "LayerNormalization":
            self.layer_norm(node)
        else:
            self.activation(node)
        return node.output[0]

    def embedding(self, node: Any) -> None:
        table = self.constant(node, 0, "table")
        if len(self.axes) != 2 or self.attributes(node).get("axis", 0) != 0:
            refuse(_named(node), "it does not look up tokens in a table")
        entry = _make.embedding(table)
        self.entries.append(entry)
        self.axes = (*self.axes, FEATURES)

    def move(self, node: Any) -> None:
        """Follow axes that are moved, removed or joined."""
        attributes, old = self.attributes(node), self.axes
        if node.op_type == "Transpose":
            order = attributes.get("perm", range(len(old))[::-1])
            self.axes = tuple(old[axis] for axis in order)
            return
        values = attributes.get("axes")
        if values is None and len(node.input) > 1:
            values = self.constant(node, 1, "second input").tolist()
        values = list(values or [])
        if node.op_type == "Squeeze":
            layer = self.entries[-1][0] if self.entries else None
            if values != [1] or old[1] != DIRECTIONS or _has_both(layer):
                refuse(_named(node), "it does not remove the axis of one direction")
            self.axes = (old[0], *old[2:])
            return
        joined = len(old) == 4 and old[2:] == (DIRECTIONS, FEATURES)
        size = self.entries[-1][0].output_size if self.entries else 0
        if not joined or values[:2] != [0, 0] or values[2:] not in ([-1], [size]):
            refuse(_named(node), "it does not join the outputs of both directions")
        self.axes = (*old[:2], FEATURES)

    def cast(self, node: Any) -> None:
        """Accept other integers for tokens, and nothing else."""
        to_dtype = self.onnx.helper.tensor_dtype_to_np_dtype
        dtype = to_dtype(self.attributes(node)["to"])
        if len(self.axes) != 2 or not np.issubdtype(dtype, np.integer):
            refuse(_named(node), "numbers must not be cast")

    def dense(self, node: Any) -> None:
        attributes, w = self.attributes(node), self.constant(node, 1, "second factor")
        if attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            refuse(_named(node), "alpha and beta must be 1")
        if attributes.get("transA", 0):
            refuse(_named(node), "transA must be 0")
        if attributes.get("transB", 0):
            w = w.T
        if w.ndim != 2:
            refuse(_named(node), "its weights are not a matrix")
        b = np.zeros(w.shape[1], w.dtype)
        if len(node.input) > 2:
            b = np.broadcast_to(self.constant(node, 2, "bias").reshape(-1), b.shape)
        self.entries.append(_make.dense(w, b))

    def plain_dense(self) -> Any:
        """Return the parameters of the last layer if it is dense and linear."""
        layer, params = self.entries[-1] if self.entries else (None, None)
        if layer is None or layer.spec.factory != "jaxrnn.dense":
            return None
        activation = dict(layer.spec.arguments)["activation"]
        return params if activation_name(activation) == "linear" else None

    def add_bias(self, node: Any, index: int) -> None:
        b = self.constant(node, index, "second term")
        params = self.plain_dense()
        of_features = b.ndim == 0 or b.shape[-1] == b.size
        fits = params is not None and of_features and b.size == len(params.b)
        if not fits or np.any(params.b):
            refuse(_named(node), "it is not the bias of a matrix product")
        self.entries[-1] = _make.dense(np.asarray(params.w), b.reshape(-1))

    def activation(self, node: Any) -> None:
        names = {operator: name for name, operator in DENSE.items()}
        params = self.plain_dense()
        default = -1 if self.opset >= 13 else 1  # of Softmax, over all later axes
        last = self.attributes(node).get("axis", default) in (-1, 2)
        last |= node.op_type != "Softmax"
        if params is None or not last:
            refuse(_named(node), "it does not follow a dense layer")
        activation = ACTIVATIONS[names[node.op_type]]
        self.entries[-1] = _make.dense(
            np.asarray(params.w), np.asarray(params.b), activation
        )

    def layer_norm(self, node: Any) -> None:
        attributes = self.attributes(node)
        scale = self.constant(node, 1, "scale")
        b = np.zeros_like(scale)
        if len(node.input) > 2:
            b = self.constant(node, 2, "bias")
        if attributes.get("axis", -1) not in (-1, 2) or scale.ndim != 1:
            refuse(_named(node), "jaxrnn takes the last axis")
        # A float32 in the file: its shortest decimal is the number that was meant.
        epsilon = float(str(np.float32(attributes.get("epsilon", 1e-5))))
        self.entries.append(_make.layer_norm(scale, b, epsilon))

    def reduce(self, node: Any) -> None:
        merge = {name: merge for merge, name in REDUCTIONS}[node.op_type]
        layer, params = self.entries[-1] if self.entries else (None, (None, None))
        options = dict(layer.spec.arguments) if layer is not None else {}
        axes = self.attributes(node).get("axes")
        if axes is None and len(node.input) > 1:
            axes = self.constant(node, 1, "axes").tolist()
        both = options.get("merge") is _parts.CONCATENATE and self.axes[1] == DIRECTIONS
        if (
            not both
            or list(axes or []) != [1]
            or self.attributes(node).get("keepdims", 1)
        ):
            refuse(_named(node), "it does not merge two directions")
        forward, backward = params
        cells = [(options["forward"], forward), (options["backward"], backward)]
        self.entries[-1] = _make.recurrent(cells, merge=merge)
        self.axes = (self.axes[0], *self.axes[2:])

    def recurrent(self, node: Any) -> None:
        attributes, what = self.attributes(node), _named(node)
        if len(self.axes) != 3 or self.axes[-1] != FEATURES:
            refuse(what, f"the axes before it are {', '.join(self.axes)}")
        if self.time not in (None, self.axes[0]):
            refuse(what, "it runs along another axis than the one before it")
        if len(node.output) == 0 or not node.output[0]:
            refuse(what, "only its final state is used, not the outputs of all steps")
        self.time = self.axes[0]
        for name in ("clip", "input_forget", "layout"):
            if attributes.get(name):
                refuse(what, f"jaxrnn does not have the attribute {name}")
        direction = attributes.get("direction", b"forward").decode()
        w, r = self.constant(node, 1, "W"), self.constant(node, 2, "R")
        count, rows, _ = r.shape
        b = np.zeros((count, 2 * rows), w.dtype)
        if len(node.input) > 3 and node.input[3]:
            b = self.constant(node, 3, "B")
        if len(node.input) > 4 and node.input[4] in self.constants:
            refuse(what, "its sequence lengths are fixed in the model")
        for index in (5, 6):
            name = node.input[index] if index < len(node.input) else ""
            if np.any(self.constants.get(name, 0)):
                refuse(what, "it begins from a state other than zeros")
        peepholes = None
        if len(node.input) > 7 and node.input[7]:
            peepholes = self.constant(node, 7, "P")
        activations = self.activations(node, attributes, count)
        cells = []
        for d in range(count):
            biases = np.split(b[d], 2)
            p = None if peepholes is None else peepholes[d]
            arrays = [w[d].T, r[d].T, *biases]
            if node.op_type == "RNN":
                w_x, w_h, b_x, b_h = arrays
                cells.append(_make.elman(w_x, w_h, b_x + b_h, activations[d]))
            elif node.op_type == "LSTM":
                cells.append(_lstm(arrays, p))
            else:
                after = bool(attributes.get("linear_before_reset", 0))
                ordered = (reorder(each, Z_R_N) for each in arrays)
                cells.append(_make.gru(*ordered, reset_after=after))
        options = {"reverse": True} if direction == "reverse" else {}
        self.entries.append(_make.recurrent(cells, **options))
        self.axes = (self.axes[0], DIRECTIONS, *self.axes[1:])

    def activations(
        self, node: Any, attributes: Mapping[str, Any], count: int
    ) -> list[Callable[..., Any]]:
        """Check the activations; return that of each direction of an Elman network."""
        expected = SIGMOID_TANH[node.op_type] * count
        names = [n.decode() for n in attributes.get("activations", [])] or expected
        what = _named(node)
        if node.op_type != "RNN":
            if [n.lower() for n in names] != [n.lower() for n in expected]:
                refuse(what, f"activations must be {expected}, got {names}")
            return []
        alphas = list(attributes.get("activation_alpha", []))
        found = []
        for name in names:
            match = [ours for ours, (theirs, _) in ELMAN.items() if theirs == name]
            if not match:
                refuse(what, f"jaxrnn has no activation {name!r} for it")
            if match == ["leaky_relu"] and not np.allclose(alphas or [0.01], 0.01):
                refuse(what, f"jaxrnn's leaky ReLU has the slope 0.01, got {alphas}")
            found.append(ACTIVATIONS[match[0]])
        return found


def _named(node: Any) -> str:
    return f"the operator {node.op_type} {node.name!r}"


def _has_both(layer: Layer | None) -> bool:
    spec = None if layer is None else layer.spec
    return spec is None or spec.factory == "jaxrnn.bidirectional"


def _lstm(arrays: list[np.ndarray], p: Any) -> tuple[Cell, Any]:
    w_x, w_h, b, b_h = (reorder(each, I_F_G_O) for each in arrays)
    if p is None:
        return _make.lstm(w_x, w_h, b + b_h)
    i, o, f = gates(to_numpy("P", p), 3)
    return _make.peephole_lstm(w_x, w_h, b + b_h, i, f, o)
