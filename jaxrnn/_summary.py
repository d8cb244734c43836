"""A table of a model: layers, sizes, parameters, bytes and state."""

from typing import Any, NamedTuple

import jax

from ._base import Cell, Layer
from ._checks import check_floating
from ._descriptions.spec import Spec, spec_of
from ._options import check_size
from ._typing import DTypeLike


class SummaryRow(NamedTuple):
    """One line of a :class:`Summary`."""

    name: str  # the call that makes the layer; "..." for layers with rows of their own
    depth: int  # number of layers around it that have a row
    input_size: int
    output_size: int | None
    num_params: int
    num_bytes: int  # of the parameters
    state_size: int | None  # numbers in the state of one batch entry


class Summary(NamedTuple):
    """A table of a model; ``print`` shows it."""

    rows: tuple[SummaryRow, ...]
    """The whole model first, then each layer in it below the layer around it."""

    def __str__(self) -> str:
        """Return the table, with the totals of the whole model below it."""
        head = ("layer", "input", "output", "parameters", "bytes", "state")
        lines = [head, *map(_columns, self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        first, *others = widths
        text = [
            "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)])
            for line in lines
        ]
        whole = self.rows[0]
        total = f"{whole.num_params:,} parameters, {whole.num_bytes:,} bytes"
        if whole.state_size is not None:
            total += f"; a state of {whole.state_size:,} numbers for each batch entry"
        rule = "-" * (sum(widths) + 2 * len(others))
        return "\n".join([text[0], rule, *text[1:], rule, total])


def summary(
    model: Cell | Layer,
    input_size: int | tuple[int, ...],
    dtype: DTypeLike | None = None,
) -> Summary:
    """Make a table of a model: its layers, sizes, parameters, bytes and state.

    Nothing is computed: shapes are found by tracing ``model.init``. A layer that holds
    several others, such as a stack, has a row for each of them.

    Args:
        model: a cell, a layer, or an encoder-decoder model.
        input_size: the size that ``model.init`` takes; a tuple of all its sizes for a
            model that takes more than one.
        dtype: floating dtype of the parameters; None is the default of JAX.

    Returns:
        A :class:`Summary`. ``str`` of it is the table, and its rows hold the numbers.

    Raises:
        TypeError: ``model`` is no cell or layer, ``input_size`` is not an int, or
            ``dtype`` is not floating.
        ValueError: ``input_size`` is below 1, or does not fit the model.

    >>> import jax.numpy as jnp, jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(3))
    >>> print(jaxrnn.summary(model, 2, jnp.float32))
    layer             input  output  parameters  bytes  state
    ---------------------------------------------------------
    stack(...)            2       3         178    712     10
      layer(lstm(5))      2       5         160    640     10
      dense(3)            5       3          18     72      0
    ---------------------------------------------------------
    178 parameters, 712 bytes; a state of 10 numbers for each batch entry
    """
    if not hasattr(model, "init") or not hasattr(model, "_replace"):
        raise TypeError(f"model must be a cell or a layer, got {model!r:.80}")
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    sizes = tuple(check_size("input_size", size) for size in sizes)
    dtype = check_floating("dtype", dtype)
    rows: list[SummaryRow | None] = []
    recording = _recording(model, 0, rows)
    jax.eval_shape(lambda key: recording.init(key, *sizes, dtype), jax.random.key(0))
    return Summary(tuple(row for row in rows if row is not None))


def _recording(model: Any, depth: int, rows: list[SummaryRow | None]) -> Any:
    """Rebuild a model from parts whose ``init`` records a row."""
    index = len(rows)
    rows.append(None)
    made = _made_again(model, depth, rows)

    def init(key: Any, *args: Any) -> Any:
        params = made.init(key, *args)
        size = args[0]
        rows[index] = _row(model, depth, size, params)
        return params

    return made._replace(init=init)


def _made_again(model: Any, depth: int, rows: list[SummaryRow | None]) -> Any:
    """Rebuild a model from its spec, with inner models that record their rows."""
    spec = spec_of(model)
    if spec is None:
        return model
    nested = _nested(spec)

    def change(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(change, value))
        if not _is_model(value):
            return value
        if len(nested) == 1:  # a wrapper shares the row of what it wraps
            return _made_again(value, depth, rows)
        return _recording(value, depth + 1, rows)

    if not nested:
        return model
    return Spec(spec.factory, tuple((n, change(v)) for n, v in spec.arguments)).build()


def _row(model: Any, depth: int, size: int, params: Any) -> SummaryRow:
    leaves = jax.tree.leaves(params)
    state = None
    if hasattr(model, "initial_state"):
        state = jax.eval_shape(lambda params: model.initial_state(params), params)
    return SummaryRow(
        name=_short(model),
        depth=depth,
        input_size=size,
        output_size=getattr(model, "output_size", None),
        num_params=sum(leaf.size for leaf in leaves),
        num_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in leaves),
        state_size=None
        if state is None
        else sum(leaf.size for leaf in jax.tree.leaves(state)),
    )


def _short(model: Any) -> str:
    """Write the call that makes a model; "..." stands for models with their own row."""
    spec = spec_of(model)
    if spec is None:
        return type(model).__name__
    nested = _nested(spec)
    text = f"{spec.factory}(...)" if len(nested) > 1 else repr(model)
    for inner in nested:
        text = text.replace(repr(inner), _short(inner))
    return text.replace("jaxrnn.", "")


def _nested(spec: Spec) -> list[Any]:
    """Find the cells and layers among the arguments of a factory."""
    found: list[Any] = []

    def look(value: Any) -> None:
        if type(value) is tuple:
            for part in value:
                look(part)
        elif _is_model(value):
            found.append(value)

    for _, argument in spec.arguments:
        look(argument)
    return found


def _is_model(value: Any) -> bool:
    return isinstance(value, Cell | Layer)


def _columns(row: SummaryRow) -> tuple[str, ...]:
    """Write the columns of a row as text."""
    numbers = (
        row.input_size,
        row.output_size,
        row.num_params,
        row.num_bytes,
        row.state_size,
    )
    texts = ("" if number is None else f"{number:,}" for number in numbers)
    return ("  " * row.depth + row.name, *texts)
