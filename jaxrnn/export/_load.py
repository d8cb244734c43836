"""Read an artefact from a file, which may be of a stranger."""

import json
import os
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np
from jax.export import Exported

from ..checkpoint._format import MODEL, functions_of, leaf_of, read_file
from ..checkpoint._leaves import jax_has
from ._artefact import HEADER, VERSION, Artefact
from ._safety import foreign_part, is_flat
from ._structure import build


def load(path: str | os.PathLike[str]) -> Artefact:
    """Read an artefact that :meth:`Artefact.save` wrote, without the model's code.

    A file from a stranger can be read: it is not unpickled, and it can name neither
    functions nor types but those of states. A program that calls anything outside of
    itself is refused, except for a few functions of linear algebra, whose shapes are
    checked.

    Args:
        path: the file.

    Returns:
        The :class:`Artefact`, with the same values.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, was not written by :meth:`Artefact.save`, was
            written by a newer version of this library or of JAX that this one cannot
            read, holds a program that is not safe, or computes in 64 bits while
            ``jax_enable_x64`` is off.

    >>> import tempfile, jaxrnn
    >>> model = jaxrnn.layer(jaxrnn.gru(5))
    >>> params = model.init(jax.random.key(0), 2, "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     jaxrnn.export.export(model, params, 2).save(f"{folder}/model.safetensors")
    ...     artefact = load(f"{folder}/model.safetensors")
    >>> jaxrnn.from_spec(artefact.description)
    jaxrnn.layer(jaxrnn.gru(5))
    >>> artefact.initial_state(4).shape
    (4, 5)
    """
    arrays, metadata = read_file(path, "jaxrnn.export")
    if HEADER not in metadata:
        writer, reader = functions_of(metadata)
        raise ValueError(
            f"{path} was not written by jaxrnn.export, but by {writer}: read it with "
            f"{reader}"
        )
    header = _header(path, metadata[HEADER])
    try:
        artefact = _artefact(path, arrays, metadata, header)
        _check_fit(artefact)
    except Exception as error:
        # A file of the right checksum may hold anything, and fail anywhere.
        raise ValueError(
            f"{path} holds no artefact that JAX {jax.__version__} can read: {error}"
            f"{_hint(header.get('jax'))}"
        ) from error
    _check_64_bits(path, artefact)
    return artefact


def _header(path: Any, text: str) -> dict[str, Any]:
    """Read the header of an artefact, and check its version before all else."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no artefact that can be read") from error
    version = header.get("version") if isinstance(header, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path} holds an artefact without a version")
    if version > VERSION:
        raise ValueError(
            f"{path} holds an artefact of version {version}, of a newer version of "
            f"jaxrnn: this one reads versions up to {VERSION}; upgrade jaxrnn, or "
            "export the model by this version"
        )
    return header


def _hint(version: Any) -> str:
    """Say what to do if another version of JAX wrote a file that cannot be read."""
    if version == jax.__version__:
        return ""
    return (
        f"; JAX {version} wrote it: read it by that version, or export the model by "
        "the oldest version that must read it"
    )


def _artefact(path: Any, arrays: Any, metadata: Any, header: Any) -> Artefact:
    names, reason = header["params"], header["why_no_step"]
    programs = ("initial_state", "apply", *(["step"] if reason is None else []))
    return Artefact(
        description=metadata.get(MODEL),
        jax_version=str(header["jax"]),
        params={n: leaf_of(path, arrays, metadata, f"params{n}") for n in names},
        programs={n: _program(n, arrays[f"programs.{n}"].tobytes()) for n in programs},
        why_no_step=reason,
        _state=build(header["state"]),
        _outputs=build(header["outputs"]),
    )


def _program(name: str, contents: bytes) -> Exported:
    if not is_flat(contents):
        raise ValueError(f"its {name} names types, which an artefact never does")
    program = jax.export.deserialize(bytearray(contents))
    foreign = foreign_part(program)
    if foreign is not None:
        raise ValueError(f"its {name} is not safe: it has {foreign}")
    return program


def _check_fit(artefact: Artefact) -> None:
    """Check that the programs of a file take its parameters and each other's states."""
    programs, params = artefact.programs, list(artefact.params.values())
    initial = programs["initial_state"]
    state, outputs = list(initial.out_avals), artefact._outputs.num_leaves
    batch = _Shaped(initial.in_avals[-1].shape[:1], bool)
    _check_arrays("initial_state", initial.in_avals, [*params, batch])
    if len(state) != artefact._state.num_leaves:
        raise ValueError("its initial_state returns another number of arrays")
    xs = programs["apply"].in_avals[len(params)]
    x, mask = _Shaped(xs.shape[1:], xs.dtype), _Shaped(xs.shape[:2], bool)
    arguments = {"apply": [*params, xs, *state, mask], "step": [*params, x, *state]}
    for name in programs.keys() - {"initial_state"}:
        program = programs[name]
        _check_arrays(name, program.in_avals, arguments[name])
        _check_arrays(name, program.out_avals[: len(state)], state)
        if len(program.out_avals) != len(state) + outputs:
            raise ValueError(f"its {name} returns another number of arrays")


class _Shaped(NamedTuple):
    shape: Any
    dtype: Any


def _check_arrays(name: str, found: Any, expected: Any) -> None:
    if _written(found) != _written(expected):
        raise ValueError(f"its {name} takes or returns other arrays than it must")


def _written(arrays: Any) -> list[str]:
    # As text, because a symbol of one program is not equal to that of another.
    return [f"{np.dtype(each.dtype).name}{tuple(each.shape)}" for each in arrays]


def _check_64_bits(path: Any, artefact: Artefact) -> None:
    programs = artefact.programs.values()
    avals = [aval for each in programs for aval in (*each.in_avals, *each.out_avals)]
    wide = {aval.dtype.name for aval in avals if not jax_has(aval.dtype)}
    if wide:
        raise ValueError(
            f"{path} computes in {', '.join(sorted(wide))}, which is off: call "
            "jax.config.update('jax_enable_x64', True) first"
        )
