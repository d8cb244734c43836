"""To ONNX, by its own recurrent operators, which runtimes have fast kernels for.

Weights are transposed, with an axis for directions: ``W (D, G H, I)``. Gates of an LSTM
are in the order i, o, f, c, those of a GRU z, r, h. There are two biases for each gate.
"""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from .._base import Layer
from .._checks import check_layer
from .._files import write_whole
from .._options import check_size
from .._typing import Shape
from . import _parts
from ._arrays import join, need, reorder
from ._parts import (
    AVERAGE,
    Dropout,
    activation_name,
    cell_of,
    read,
    refuse,
)

OPSET = 17
I_O_F_C = (0, 3, 1, 2)  # from i, f, g, o
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
    (AVERAGE, "ReduceMean"),
]


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
