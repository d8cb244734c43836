"""ONNX, by its own recurrent operators, which runtimes have fast kernels for.

Weights are transposed, with an axis for directions: ``W (D, G H, I)``. Gates of an LSTM
are in the order i, o, f, c, those of a GRU z, r, h. There are two biases for each gate.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from .._base import Cell, Layer
from .._cells.elman import ElmanParams, elman
from .._cells.gru import GRUParams, gru
from .._cells.lstm import LSTMParams, lstm
from .._cells.peephole_lstm import PeepholeLSTMParams, peephole_lstm
from .._checks import check_layer
from .._files import write_whole
from .._layers.time_distributed import (
    DenseParams,
    EmbeddingParams,
    LayerNormParams,
    dense,
    embedding,
    layer_norm,
)
from .._options import check_size
from .._typing import Shape
from . import _parts
from ._arrays import gates, join, need, reorder, to_jax, to_numpy
from ._keras import average
from ._parts import (
    ACTIVATIONS,
    Dropout,
    activation_name,
    assemble,
    cell_of,
    read,
    refuse,
)

OPSET = 17
I_O_F_C = (0, 3, 1, 2)  # from i, f, g, o
I_F_G_O = (0, 2, 3, 1)  # from i, o, f, c
Z_R_N = (1, 0, 2)  # from r, z, n, and back
ELMAN = {  # of activations that have the same name in our table, with their numbers
    "tanh": ("Tanh", []),
    "relu": ("Relu", []),
    "sigmoid": ("Sigmoid", []),
    "leaky_relu": ("LeakyRelu", [0.01]),
}
DENSE = {
    "linear": None,
    "tanh": "Tanh",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softmax": "Softmax",
}
REDUCTIONS = [
    (jnp.add, "ReduceSum"),
    (jnp.multiply, "ReduceProd"),
    (average, "ReduceMean"),
]
MOVES = ("Squeeze", "Transpose", "Reshape", "Identity", "Dropout", "Cast")
SIGMOID_TANH = {
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "RNN": ["Tanh"],
}


# To ONNX


def to_onnx(
    layer: Layer,
    params: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    lengths: bool = False,
    states: bool = False,
    loops: bool = False,
    input_size: int | Shape | None = None,
) -> Any:
    """Convert a layer to an ONNX model.

    Args:
        layer: a layer of ``elman`` (tanh, ReLU, leaky ReLU, sigmoid), ``lstm``,
            ``peephole_lstm`` or ``gru`` (both forms), in one direction or both;
            ``dense``, ``embedding``, ``layer_norm``; or a stack of these. Dropout does
            nothing in a model that is not trained, and is left out.
        params: its parameters.
        path: file to write. An earlier file stays whole until the new one is.
        lengths: if True, the model has a second input ``lengths``, int32 ``(B,)``, and
            does what ``mask=lengths_to_mask(lengths, T)`` does.
        states: if True, the model has an input ``state_<n>`` for each array of the
            state, in the order of ``jax.tree.leaves``, and an output ``new_state_<n>``,
            so that it can be called chunk by chunk. Each has an axis for one direction
            or two in front, ``(1, B, H)`` or ``(2, B, H)``.
        loops: if True, the model is made by the package jax2onnx: any layer, in
            operators of arithmetic and one ``Loop`` for each recurrent layer, without
            ``lengths`` and ``states``. For layers that have no operators of their own;
            runs from the last step to the first, and ``slstm``, are not possible.
        input_size: number of input features I, or ``(*S, I)``, which ``loops`` needs.

    Returns:
        An ``onnx.ModelProto``, checked, of opset 17 (23 with ``loops``), with the input
        ``xs (T, B, I)``, or int32 ``(T, B)`` for an embedding, and the output
        ``ys (T, B, O)``; T and B are dynamic.

    Raises:
        ValueError: ONNX has no such operator, and ``loops`` is False; the message says
            what and why.
        TypeError: see :func:`to_torch`.
        OSError: the file cannot be written.

    >>> import jax, jaxrnn
    >>> from jaxrnn import convert
    >>> layer = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(2))
    >>> model = convert.to_onnx(layer, layer.init(jax.random.key(0), 3))
    >>> [node.op_type for node in model.graph.node]
    ['LSTM', 'Squeeze', 'MatMul', 'Add']
    """
    onnx = need("onnx", "onnx")
    if loops:
        if lengths or states:
            raise ValueError("loops must be False for a model with lengths or states")
        model = _with_loops(onnx, layer, params, input_size)
    else:
        model = _with_operators(onnx, layer, params, lengths, states)
    onnx.checker.check_model(model, full_check=True)
    if path is not None:
        write_whole(path, model.SerializeToString())
    return model


def _with_loops(
    onnx: Any, layer: Layer, params: Any, input_size: int | Shape | None
) -> Any:
    jax2onnx = need("jax2onnx", "jax2onnx")
    check_layer("layer", layer)
    if input_size is None:
        raise ValueError("input_size must be given with loops, got None")
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    sizes = tuple(check_size("input_size", size) for size in sizes)
    dtype = jnp.result_type(*jax.tree.leaves(params))
    inputs = [jax.ShapeDtypeStruct((2, 2, *sizes), dtype)]
    try:
        jax.eval_shape(layer.apply, params, *inputs)
        inputs = [("T", "B", *sizes)]
    except TypeError:  # it takes token ids
        inputs = [jax.ShapeDtypeStruct(jax.export.symbolic_shape("T, B"), jnp.int32)]
    try:
        model = jax2onnx.to_onnx(
            lambda xs: layer.apply(params, xs)[1],
            inputs,
            model_name="jaxrnn",
            input_names=["xs"],
            output_names=["ys"],
            enable_double_precision=dtype == jnp.float64,
        )
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ValueError(
            f"cannot convert {layer!r}: the package jax2onnx cannot: {error}"
        ) from error
    return model


def _with_operators(
    onnx: Any, layer: Layer, params: Any, lengths: bool, states: bool
) -> Any:
    graph = _Graph(onnx, lengths=lengths, states=states)
    part = read(layer, params)
    return graph.finish(graph.add_part(part, graph.input_of(part)))


class _Graph:
    """A graph that grows by one layer after another."""

    def __init__(self, onnx: Any, *, lengths: bool, states: bool) -> None:
        self.onnx, self.lengths, self.states = onnx, lengths, states
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.count = 0
        self.mask: str | None = None
        self.dtype = np.dtype(np.float32)

    # Names of tensors

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def node(
        self, kind: str, inputs: Sequence[str], outputs: int = 1, **more: Any
    ) -> Any:
        self.count += 1
        names = [f"{kind.lower()}_{self.count}"]
        names += [f"{names[0]}_{n}" for n in range(1, outputs)]
        made = self.onnx.helper.make_node(kind, inputs, names, name=names[0], **more)
        self.nodes.append(made)
        return names[0] if outputs == 1 else names

    def value(self, name: str, dtype: Any, shape: Sequence[Any]) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, shape)

    def axes(self, *axes: int) -> str:
        name = "axes_" + "_".join(map(str, axes)).replace("-", "m")
        return self.constant(name, np.array(axes, np.int64))

    # Layers

    def input_of(self, part: Any) -> str:
        """Make the inputs; ``part`` says how many features there are."""
        first = part
        while isinstance(first, _parts.Stack):
            first = next(p for p in first.parts if not isinstance(p, Dropout))
        leaves = jax.tree.leaves(_arrays_of(first))
        self.dtype = leaves[0].dtype
        if isinstance(first, _parts.Embedding):
            self.inputs.append(self.value("xs", np.int32, ("T", "B")))
        else:
            size = _input_size(first)
            self.inputs.append(self.value("xs", self.dtype, ("T", "B", size)))
        if self.lengths:
            self.inputs.append(self.value("lengths", np.int32, ("B",)))
        return "xs"

    def add_part(self, part: Any, xs: str) -> str:
        """Add a layer that reads the tensor ``xs``; return the name of its outputs."""
        match part:
            case _parts.Stack(parts):
                for each in parts:
                    xs = self.add_part(each, xs)
                return xs
            case _parts.Dropout():
                return xs
            case _parts.Dense(own, activation):
                name = activation_name(activation)
                if name not in DENSE:
                    refuse(f"activation={activation!r}", "it has no operator in ONNX")
                w = self.constant(f"w_{self.count}", own.w)
                b = self.constant(f"b_{self.count}", own.b)
                ys = self.node("Add", [self.node("MatMul", [xs, w]), b])
                operator = DENSE[name]
                return self.masked(self.node(operator, [ys]) if operator else ys)
            case _parts.Embedding(own):
                table = self.constant(f"table_{self.count}", own.table)
                return self.masked(self.node("Gather", [table, xs], axis=0))
            case _parts.LayerNorm(own, epsilon):
                scale = self.constant(f"scale_{self.count}", own.scale)
                b = self.constant(f"b_{self.count}", own.b)
                inputs = [xs, scale, b]
                return self.masked(
                    self.node("LayerNormalization", inputs, axis=-1, epsilon=epsilon)
                )
        return self.add_recurrent(part, xs)

    def masked(self, ys: str) -> str:
        """Make outputs zero after the lengths."""
        if not self.lengths:
            return ys
        if self.mask is None:
            one = self.constant("one", np.array(1, np.int32))
            zero = self.constant("zero", np.array(0, np.int32))
            shape = self.node("Shape", ["xs"], start=0, end=1)
            steps = self.node("Squeeze", [shape, self.axes(0)])
            steps = self.node("Cast", [steps], to=self.onnx.TensorProto.INT32)
            times = self.node("Range", [zero, steps, one])
            times = self.node("Unsqueeze", [times, self.axes(1)])
            valid = self.node("Less", [times, "lengths"])
            self.mask = self.node("Unsqueeze", [valid, self.axes(-1)])
        nothing = self.constant("nothing", np.zeros((), self.dtype))
        return self.node("Where", [self.mask, ys, nothing])

    def add_recurrent(self, part: Any, xs: str) -> str:
        operator, attributes = _operator(part)
        count, directions = self.count, len(part.directions)
        weights = [_onnx_weights(own) for own in part.directions]
        names = [
            self.constant(f"{name}_{count}", np.stack(arrays))
            for name, arrays in zip("wrbp", zip(*weights, strict=True), strict=False)
        ]
        (w, r, b), peepholes = names[:3], names[3:]
        num_states = 2 if operator == "LSTM" else 1
        first = ["", ""][:num_states]
        if self.states:
            first = [self.state_input(part) for _ in range(num_states)]
        inputs = [xs, w, r, b, "lengths" if self.lengths else "", *first, *peepholes]
        while inputs[-1] == "":
            inputs.pop()
        direction = "bidirectional" if directions == 2 else "forward"
        ys, *last = self.node(
            operator,
            inputs,
            1 + num_states,
            direction="reverse" if part.reverse else direction,
            hidden_size=part.directions[0].hidden_size,
            **attributes,
        )
        if self.states:
            self.outputs += last
        if directions == 1:
            return self.node("Squeeze", [ys, self.axes(1)])
        if part.merge is _parts.CONCATENATE:
            ys = self.node("Transpose", [ys], perm=[0, 2, 1, 3])
            shape = self.constant("joined", np.array([0, 0, -1], np.int64))
            return self.node("Reshape", [ys, shape])
        names = [name for merge, name in REDUCTIONS if merge is part.merge]
        if not names:
            refuse(f"merge={part.merge!r}", "it has no operator in ONNX")
        if names[0] == "ReduceSum":  # whose axes are an input
            return self.node("ReduceSum", [ys, self.axes(1)], keepdims=0)
        return self.node(names[0], [ys], axes=[1], keepdims=0)

    def state_input(self, part: Any) -> str:
        name = f"state_{sum(v.name.startswith('state_') for v in self.inputs)}"
        shape = len(part.directions), "B", part.directions[0].hidden_size
        self.inputs.append(self.value(name, self.dtype, shape))
        return name

    def finish(self, ys: str) -> Any:
        helper = self.onnx.helper
        renamed = {ys: "ys"}
        renamed |= {name: f"new_state_{n}" for n, name in enumerate(self.outputs)}
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        outputs = [
            helper.make_empty_tensor_value_info(name) for name in renamed.values()
        ]
        constants = [
            self.onnx.numpy_helper.from_array(array, name)
            for name, array in self.constants.items()
        ]
        graph = helper.make_graph(self.nodes, "jaxrnn", self.inputs, outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
            producer_name="jaxrnn",
        )
        model = self.onnx.shape_inference.infer_shapes(model)
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        for output in model.graph.output:
            output.type.tensor_type.elem_type = kind
        return model


def _arrays_of(part: Any) -> Any:
    if isinstance(part, _parts.Recurrent):
        return [own.params for own in part.directions]
    return part.params


def _input_size(part: Any) -> int:
    if isinstance(part, _parts.Recurrent):
        return part.directions[0].input_size
    if isinstance(part, _parts.LayerNorm):
        return len(part.params.b)
    return len(part.params.w)


KINDS = ("elman", "lstm", "gru", "gru_before", "peephole_lstm")


def _operator(part: Any) -> tuple[str, dict[str, Any]]:
    """Return the operator of a recurrent layer, and its attributes."""
    if len({own.form for own in part.directions}) > 1:
        refuse("two directions with different cells", "ONNX has one cell for both")
    first = part.directions[0]
    kind = cell_of(first, "ONNX", KINDS)
    if kind in ("lstm", "peephole_lstm"):
        return "LSTM", {}
    if kind in ("gru", "gru_before"):
        return "GRU", {"linear_before_reset": int(kind == "gru")}
    name = activation_name(first.options["activation"])
    if name not in ELMAN:
        refuse(repr(first.cell), f"the operator RNN has {', '.join(ELMAN)} alone")
    activation, alpha = ELMAN[name]
    count = len(part.directions)
    attributes: dict[str, Any] = {"activations": [activation] * count}
    if alpha:
        attributes["activation_alpha"] = alpha * count
    return "RNN", attributes


def _onnx_weights(part: Any) -> list[np.ndarray]:
    p, kind = part.params, part.kind
    order: tuple[int, ...] = (0,)
    if kind in ("lstm", "peephole_lstm"):
        order = I_O_F_C
    elif kind != "elman":
        order = Z_R_N
    b_h = p.b_h if hasattr(p, "b_h") else np.zeros_like(p.b)
    w_x, w_h, b, b_h = (reorder(each, order) for each in (p.w_x, p.w_h, p.b, b_h))
    weights = [w_x.T, w_h.T, join([b, b_h])]
    if kind == "peephole_lstm":
        weights.append(join([p.p_i, p.p_o, p.p_f]))
    return weights


# From ONNX


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
    return _Reader(onnx, model.graph).read()


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


class _Reader:
    """Follows the data from the input of a graph through its layers."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self.onnx, self.graph = onnx, graph
        to_array = onnx.numpy_helper.to_array
        self.constants = {each.name: to_array(each) for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                attributes = self.attributes(node)
                if "value" in attributes:
                    self.constants[node.output[0]] = to_array(attributes["value"])
        self.entries: list[Any] = []
        self.merge: Callable[..., Any] | None = None

    def attributes(self, node: Any) -> dict[str, Any]:
        get = self.onnx.helper.get_attribute_value
        return {each.name: get(each) for each in node.attribute}

    def constant(self, node: Any, index: int, what: str) -> np.ndarray:
        name = node.input[index] if index < len(node.input) else ""
        if name not in self.constants:
            refuse(f"{node.op_type} {node.name!r}", f"its {what} is not a constant")
        return self.constants[name]

    def read(self) -> tuple[Layer, Any]:
        inputs = [v.name for v in self.graph.input if v.name not in self.constants]
        if not inputs:
            refuse("this model", "it has no input")
        tensor = inputs[0]
        while (node := self.next_node(tensor)) is not None:
            tensor = self.take(node, tensor)
        if tensor not in {each.name for each in self.graph.output}:
            refuse("this model", f"its output is not what is computed of {inputs[0]!r}")
        if not self.entries:
            refuse("this model", "it has no layer")
        return self.entries[0] if len(self.entries) == 1 else assemble(self.entries)

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
        elif kind in ("MatMul", "Gemm") and place == 0:
            self.dense(node)
        elif kind == "Add":
            self.add_bias(node, 1 - place)
        elif kind == "Gather" and place == 1:
            table = self.constant(node, 0, "table")
            entry = embedding(*table.shape), to_jax(EmbeddingParams, table)
            self.entries.append(entry)
        elif kind == "LayerNormalization":
            self.layer_norm(node)
        elif kind in DENSE.values():
            self.activation(node)
        elif kind in ("ReduceSum", "ReduceProd", "ReduceMean"):
            self.reduce(node)
        elif kind not in MOVES and (kind != "Where" or place != 1):
            refuse(f"the operator {kind} {node.name!r}", "jaxrnn has no layer for it")
        return node.output[0]

    def dense(self, node: Any) -> None:
        attributes, w = self.attributes(node), self.constant(node, 1, "weights")
        if attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            refuse(f"Gemm {node.name!r}", "alpha and beta must be 1")
        if attributes.get("transA", 0):
            refuse(f"Gemm {node.name!r}", "transA must be 0")
        if attributes.get("transB", 0):
            w = w.T
        if w.ndim != 2:
            refuse(f"{node.op_type} {node.name!r}", "its weights are not a matrix")
        b = np.zeros(w.shape[1], w.dtype)
        if len(node.input) > 2:
            b = np.broadcast_to(self.constant(node, 2, "bias").reshape(-1), b.shape)
        self.entries.append((dense(w.shape[1]), to_jax(DenseParams, w, b)))

    def add_bias(self, node: Any, index: int) -> None:
        b = self.constant(node, index, "second term")
        layer, params = self.entries[-1] if self.entries else (None, None)
        plain = isinstance(params, DenseParams) and layer == dense(params.w.shape[1])
        if not plain or b.size != len(params.b) or np.any(params.b):
            refuse(f"Add {node.name!r}", "it is not the bias of a matrix product")
        params = to_jax(DenseParams, np.asarray(params.w), b.reshape(-1))
        self.entries[-1] = layer, params

    def activation(self, node: Any) -> None:
        names = {operator: name for name, operator in DENSE.items()}
        layer, params = self.entries[-1] if self.entries else (None, None)
        size = len(params.b) if isinstance(params, DenseParams) else 0
        last = self.attributes(node).get("axis", -1) in (-1, 2)
        if not size or layer != dense(size) or not last:
            refuse(f"{node.op_type} {node.name!r}", "it does not follow a dense layer")
        activation = ACTIVATIONS[names[node.op_type]]
        self.entries[-1] = dense(size, activation=activation), params

    def layer_norm(self, node: Any) -> None:
        attributes = self.attributes(node)
        scale = self.constant(node, 1, "scale")
        b = np.zeros_like(scale)
        if len(node.input) > 2:
            b = self.constant(node, 2, "bias")
        if attributes.get("axis", -1) not in (-1, 2) or scale.ndim != 1:
            refuse(f"LayerNormalization {node.name!r}", "jaxrnn takes the last axis")
        # A float32 in the file: its shortest decimal is the number that was meant.
        epsilon = float(str(np.float32(attributes.get("epsilon", 1e-5))))
        made = layer_norm(len(scale), epsilon=epsilon)
        self.entries.append((made, to_jax(LayerNormParams, scale, b)))

    def reduce(self, node: Any) -> None:
        merge = {name: merge for merge, name in REDUCTIONS}[node.op_type]
        layer, params = self.entries[-1] if self.entries else (None, (None, None))
        options = dict(layer.spec.arguments) if layer is not None else {}
        axes = self.attributes(node).get("axes")
        if axes is None and len(node.input) > 1:
            axes = self.constant(node, 1, "axes").tolist()
        if options.get("merge") is not _parts.CONCATENATE or list(axes or []) != [1]:
            refuse(f"{node.op_type} {node.name!r}", "it does not merge two directions")
        forward, backward = params
        cells = [(options["forward"], forward), (options["backward"], backward)]
        self.entries[-1] = _parts.recurrent(cells, merge=merge)

    def recurrent(self, node: Any) -> None:
        attributes, what = self.attributes(node), f"{node.op_type} {node.name!r}"
        for name in ("clip", "input_forget", "layout"):
            if attributes.get(name):
                refuse(what, f"jaxrnn does not have the attribute {name}")
        direction = attributes.get("direction", b"forward").decode()
        w, r = self.constant(node, 1, "W"), self.constant(node, 2, "R")
        count, rows, size = r.shape
        b = np.zeros((count, 2 * rows), w.dtype)
        if len(node.input) > 3 and node.input[3]:
            b = self.constant(node, 3, "B")
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
                cells.append(_elman(arrays, size, activations[d]))
            elif node.op_type == "LSTM":
                cells.append(_lstm(arrays, size, p))
            else:
                after = bool(attributes.get("linear_before_reset", 0))
                cells.append(_gru(arrays, size, after))
        options = {"reverse": True} if direction == "reverse" else {}
        self.entries.append(_parts.recurrent(cells, **options))

    def activations(
        self, node: Any, attributes: Mapping[str, Any], count: int
    ) -> list[Callable[..., Any]]:
        """Check the activations; return that of each direction of an Elman network."""
        expected = SIGMOID_TANH[node.op_type] * count
        names = [n.decode() for n in attributes.get("activations", [])] or expected
        what = f"{node.op_type} {node.name!r}"
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


def _elman(
    arrays: list[np.ndarray], size: int, activation: Callable[..., Any]
) -> tuple[Cell, Any]:
    w_x, w_h, b, b_h = arrays
    return elman(size, activation=activation), to_jax(ElmanParams, w_x, w_h, b + b_h)


def _lstm(arrays: list[np.ndarray], size: int, p: Any) -> tuple[Cell, Any]:
    w_x, w_h, b, b_h = (reorder(each, I_F_G_O) for each in arrays)
    if p is None:
        return lstm(size), to_jax(LSTMParams, w_x, w_h, b + b_h)
    i, o, f = gates(to_numpy("P", p), 3)
    params = to_jax(PeepholeLSTMParams, w_x, w_h, b + b_h, i, f, o)
    return peephole_lstm(size), params


def _gru(arrays: list[np.ndarray], size: int, after: bool) -> tuple[Cell, Any]:
    params = to_jax(GRUParams, *(reorder(each, Z_R_N) for each in arrays))
    return gru(size, reset_after=after), params
