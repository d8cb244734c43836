"""A model that runs without its code."""

import dataclasses
import functools
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import Exported

from .._checks import check_flags, check_like
from .._options import check_size
from .._typing import Array, ArrayLike, Shape, State
from ..checkpoint._format import ARTEFACT, MODEL, write_leaves
from ..checkpoint._params import checked_metadata
from ._inputs import check_inputs, fixed, written
from ._structure import describe

HEADER = "jaxrnn.artefact"
VERSION = 1
"""Version of the contents of a file; it grows when older readers cannot read them."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Artefact:
    """A model that runs without its code, made by :func:`export` or :func:`load`.

    Its functions are those of the layer, without the parameters, which it holds. They
    run programs that are compiled on the first call for each shape, on the default
    device of JAX. A program that was read from a file has no derivative, and
    ``jax.vmap`` does not apply to any.
    """

    description: str | None
    """The ``spec`` of the model as JSON, which :func:`jaxrnn.from_spec` reads; None if
    the model was not made by a factory of this library, or has parts of your own."""
    jax_version: str
    """The version of JAX that wrote the programs."""
    params: dict[str, Array]
    """The parameters by their paths, such as ``[0].w_h``."""
    programs: dict[str, Exported]
    """``initial_state``, ``apply``, and ``step`` if the model can be stepped. Each
    takes and returns arrays alone: parameters, inputs, state, mask, in this order."""
    why_no_step: str | None
    """Why the model cannot be stepped; None if it can."""
    _state: Any = dataclasses.field(kw_only=True)
    _outputs: Any = dataclasses.field(kw_only=True)

    def __repr__(self) -> str:
        """Return inputs, outputs and platforms in one line."""
        inputs, platforms = self._inputs, ", ".join(self.platforms)
        shape = written(("T", "B"), inputs.shape)
        return f"<Artefact: {inputs.dtype.name} inputs {shape}, for {platforms}>"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that the programs were made for."""
        return tuple(self.programs["apply"].platforms)

    @property
    def input_shape(self) -> Shape:
        """The shape of one input of one batch entry: ``(I,)``, or () for token ids."""
        return self._inputs.shape[2:]

    @property
    def output_shape(self) -> Any:
        """The shape of one output of one batch entry, ``(O,)``; several in a pytree."""
        results = self.programs["apply"].out_avals[self._state.num_leaves :]
        return jax.tree.unflatten(self._outputs, [leaf.shape[2:] for leaf in results])

    @property
    def dtype(self) -> Any:
        """The dtype of the inputs; int32 if they are token ids."""
        return self._inputs.dtype

    @property
    def num_steps(self) -> int | None:
        """The number of steps T; None if any number will do."""
        return fixed(self._inputs.shape[0])

    @property
    def batch_size(self) -> int | None:
        """The number of batch entries B; None if any number will do."""
        return fixed(self._inputs.shape[1])

    def initial_state(self, batch_size: int) -> State:
        """Make the state before the first step.

        Args:
            batch_size: number of batch entries B.

        Returns:
            A state with leaves ``(B, ...)``. A type of state of your own comes back as
            a tuple.

        Raises:
            TypeError: ``batch_size`` is not an int.
            ValueError: ``batch_size`` is below 1, or the artefact has another one.
        """
        batch_size = check_size("batch_size", batch_size)
        if self.batch_size not in (None, batch_size):
            raise ValueError(
                f"batch_size must be {self.batch_size}, as the artefact was made for, "
                f"got {batch_size}"
            )
        results = self._run("initial_state", jnp.zeros((batch_size,), bool))
        return jax.tree.unflatten(self._state, results)

    def apply(
        self,
        xs: ArrayLike,
        state: State | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> tuple[State, Any]:
        """Map a sequence to a sequence, as ``apply`` of the layer does.

        Args:
            xs: inputs ``(T, B, I)``; integers ``(T, B)`` for an embedding.
            state: state before the first step; None takes the initial state.
            mask: bool ``(T, B)``; where False the state is held, the output is zero,
                and the input has no effect. None means that all steps are valid.

        Returns:
            ``(state, ys)``: the final state and the outputs ``(T, B, O)``.

        Raises:
            ValueError: a shape or the structure of ``state`` does not fit.
            TypeError: a dtype does not fit.
        """
        xs = check_inputs("xs", xs, ("T", "B"), self._inputs)
        steps = xs.shape[:2]
        if state is None:
            state = self.initial_state(steps[1])
        else:
            state = check_like("state", state, self._state_like(steps[1]))
        valid = check_flags("mask", mask, steps, "(T, B)")
        if valid is None:
            valid = jnp.ones(steps, bool)
        return self._split(self._run("apply", xs, *jax.tree.leaves(state), valid))

    def step(self, state: State, x: ArrayLike) -> tuple[State, Any]:
        """Advance by one input, as ``step`` of the layer does.

        Args:
            state: from ``initial_state(batch_size)``, or the step or run before.
            x: one input ``(B, I)``; integers ``(B,)`` for an embedding.

        Returns:
            ``(state, y)``: the state after the step and the output ``(B, O)``.

        Raises:
            ValueError: the model needs inputs from the future, or a shape or the
                structure of ``state`` does not fit.
            TypeError: a dtype does not fit.
        """
        if self.why_no_step is not None:
            raise ValueError(self.why_no_step)
        like = self.programs["step"].in_avals[len(self.params)]
        x = check_inputs("x", x, ("B",), like)
        state = check_like("state", state, self._state_like(x.shape[0]))
        return self._split(self._run("step", x, *jax.tree.leaves(state)))

    def save(
        self, path: str | os.PathLike[str], metadata: dict[str, str] | None = None
    ) -> None:
        """Write the artefact to one safetensors file, atomically.

        Args:
            path: where to write; an existing file is replaced, a missing folder made.
            metadata: strings to keep beside it, such as a vocabulary, which
                :func:`jaxrnn.checkpoint.load_metadata` reads.

        Raises:
            OSError: the file cannot be written.
            TypeError: ``metadata`` is not a dict of strings.
            ValueError: a key of ``metadata`` begins with ``jaxrnn.``.
        """
        checked_metadata(metadata)
        header = {
            "version": VERSION,
            "jax": self.jax_version,
            "params": list(self.params),
            "state": describe(self._state),
            "outputs": describe(self._outputs),
            "why_no_step": self.why_no_step,
        }
        own = {HEADER: json.dumps(header)}
        if self.description is not None:
            own[MODEL] = self.description
        leaves: dict[str, Any] = {f"params{k}": v for k, v in self.params.items()}
        for name, program in self.programs.items():
            leaves[f"programs.{name}"] = np.frombuffer(program.serialize(), np.uint8)
        write_leaves(path, ARTEFACT, leaves, {**(metadata or {}), **own})

    @property
    def _inputs(self) -> Any:
        return self.programs["apply"].in_avals[len(self.params)]

    def _state_like(self, batch_size: int) -> State:
        """Return the shapes and dtypes of a state of so many batch entries."""
        leaves = [
            jax.ShapeDtypeStruct((batch_size, *leaf.shape[1:]), leaf.dtype)
            for leaf in self.programs["initial_state"].out_avals
        ]
        return jax.tree.unflatten(self._state, leaves)

    @functools.cached_property
    def _compiled(self) -> dict[str, Any]:
        return {name: jax.jit(each.call) for name, each in self.programs.items()}

    def _run(self, name: str, *arrays: Array) -> tuple[Array, ...]:
        return self._compiled[name](*self.params.values(), *arrays)

    def _split(self, results: tuple[Array, ...]) -> tuple[State, Any]:
        """Arrange the results of a run as a state and outputs."""
        count = self._state.num_leaves
        return (
            jax.tree.unflatten(self._state, results[:count]),
            jax.tree.unflatten(self._outputs, results[count:]),
        )
