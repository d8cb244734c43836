"""Make an artefact of a model."""

import functools
from typing import Any

import jax

from .._base import Layer
from .._checks import as_array, check_layer
from .._descriptions.spec import spec_of
from .._options import check_names, check_size
from .._typing import Params, Shape
from ..checkpoint._format import named_leaves
from ._artefact import Artefact
from ._programs import make_programs

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export(
    model: Layer,
    params: Params,
    input_size: int | Shape,
    *,
    num_steps: int | None = None,
    batch_size: int | None = None,
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu"),
) -> Artefact:
    """Make one artefact of a model: its programs, its parameters, its description.

    The programs are StableHLO, made by ``jax.export`` for several platforms at once.
    The parameters are their arguments, so each is stored once. A program evaluates:
    dropout is off, and there are no gradients.

    Args:
        model: a layer. For a cell, ``jaxrnn.layer(cell)``.
        params: its parameters.
        input_size: number of input features I, as ``model.init`` takes it; for images,
            a tuple ``(*S, I)``. A model that begins with an embedding takes token ids
            ``(T, B)``, whatever the input size.
        num_steps: number of steps T of the inputs of ``apply``; None leaves it open.
        batch_size: number of batch entries B; None leaves it open.
        platforms: what the programs can run on: ``"cpu"``, ``"cuda"``, ``"rocm"`` and
            ``"tpu"``, wherever they are made.

    Returns:
        An :class:`Artefact`. If T or B is open, a run of a cell is a plain scan.

    Raises:
        TypeError: ``model`` is not a :class:`jaxrnn.Layer`, ``params`` are not its
            parameters, or a size is not an int.
        ValueError: a size is below 1 or does not fit the model; a platform is unknown;
            the model needs a number for T or B, as one with
            :func:`jaxrnn.unroll_associative` does; or it calls code outside of its
            program, by ``jax.pure_callback`` for instance.

    >>> import tempfile, jaxrnn
    >>> model = jaxrnn.stack(jaxrnn.layer(jaxrnn.lstm(5)), jaxrnn.dense(3))
    >>> params = model.init(jax.random.key(0), 2, "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(model, params, 2).save(f"{folder}/model.safetensors")
    ...     artefact = jaxrnn.export.load(f"{folder}/model.safetensors")
    >>> artefact
    <Artefact: float32 inputs (T, B, 2), for cpu, cuda, tpu>
    >>> state, ys = artefact.apply(jax.numpy.ones((7, 4, 2), "float32"))
    >>> state, y = artefact.step(state, jax.numpy.ones((4, 2), "float32"))
    >>> ys.shape, y.shape
    ((7, 4, 3), (4, 3))
    """
    check_layer("model", model)
    features = _features(input_size)
    steps = None if num_steps is None else check_size("num_steps", num_steps)
    entries = None if batch_size is None else check_size("batch_size", batch_size)
    names = _platforms(platforms)
    params = jax.tree.map(functools.partial(as_array, "params"), params)

    made = make_programs(model, params, features, (steps, entries), names)
    return Artefact(
        description=_description(model),
        jax_version=jax.__version__,
        params=named_leaves("params", params),
        programs=made.programs,
        why_no_step=made.why_no_step,
        _state=made.state,
        _outputs=made.outputs,
    )


def _features(input_size: Any) -> Shape:
    sizes = input_size if isinstance(input_size, tuple) else (input_size,)
    return tuple(check_size("input_size", size) for size in sizes)


def _platforms(platforms: Any) -> tuple[str, ...]:
    names = check_names("platforms", platforms)
    for name in names:
        if name not in PLATFORMS:
            raise ValueError(
                f"platforms must be some of {', '.join(PLATFORMS)}, got {name!r}"
            )
    if not names:
        raise ValueError(f"platforms must name at least one, got {platforms!r}")
    return names


def _description(model: Layer) -> str | None:
    spec = spec_of(model)
    if spec is None:
        return None
    try:
        return spec.to_json()
    except TypeError:  # it has a part that a file cannot name
        return None
