"""Leaves of a pytree as arrays that a safetensors file can hold, and back."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

NATIVE = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}
"""The dtypes that every version of safetensors has, by their names in a file."""

ARRAY = "array"
_KEYS = {
    "key<fry>": "threefry2x32",
    "key<rbg>": "rbg",
    "key<urbg>": "unsafe_rbg",
}
_NUMBERS = {bool: np.bool_, float: np.float64, complex: np.complex128}
_NATIVE = frozenset(np.dtype(dtype) for dtype in NATIVE.values())


class Encoded(NamedTuple):
    """A leaf as an array that a file can hold, and its kind."""

    array: Any
    kind: str


def kind_of(name: str, leaf: Any) -> str:
    """Return the kind of a leaf: a number or key type, a dtype, or ``array``.

    Raises:
        TypeError: it is something else, a string for instance.
    """
    if type(leaf) is int or type(leaf) in _NUMBERS:
        return type(leaf).__name__
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        raise TypeError(
            f"{name} must be an array, a jax.random key or a number, got {leaf!r:.80}"
        )
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return str(dtype)
    native = np.dtype(dtype).newbyteorder("=")
    if native in _NATIVE:
        return ARRAY
    if native.kind in "OSUV" and not jnp.issubdtype(native, np.number):
        raise TypeError(f"{name} must have numbers, got dtype {native}")
    return native.name


def encode(name: str, leaf: Any) -> Encoded:
    """Encode a leaf as an array to write."""
    kind = kind_of(name, leaf)
    if kind in _KEYS:
        return Encoded(np.asarray(jax.random.key_data(leaf)), kind)
    if kind == "int":  # as many bytes as it needs
        size = leaf.bit_length() // 8 + 1
        return Encoded(_bytes(leaf.to_bytes(size, "little", signed=True)), kind)
    if type(leaf) in _NUMBERS:
        return Encoded(_bytes(_NUMBERS[type(leaf)](leaf).tobytes()), kind)
    array = np.asarray(leaf)
    array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    if kind != ARRAY:
        shape = (*array.shape, array.dtype.itemsize)
        array = _bytes(array.tobytes()).reshape(shape)
    return Encoded(array, kind)


def decode(like: Any, array: np.ndarray, kind: str) -> Any:
    """Decode a leaf to the type of ``like``; None makes arrays of JAX."""
    if kind in _KEYS:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=_KEYS[kind])
    if kind == "int":
        return int.from_bytes(array.tobytes(), "little", signed=True)
    for number, dtype in _NUMBERS.items():
        if kind == number.__name__ and (like is None or type(like) is number):
            return np.frombuffer(array.tobytes(), dtype)[0].item()
    if kind != ARRAY:
        values = np.frombuffer(array.tobytes(), jnp.dtype(kind))
        array = values.reshape(array.shape[:-1])
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, np.ndarray) or not jax_has(array.dtype):
        return array if array.flags.writeable else array.copy()
    return jnp.asarray(array)


def jax_has(dtype: np.dtype) -> bool:
    """Test whether JAX keeps a dtype under the current ``jax_enable_x64``."""
    try:
        return jax.dtypes.canonicalize_dtype(dtype) == dtype
    except TypeError:
        return False


def described(name: str, leaf: Any) -> tuple[Any, str] | None:
    """Return the shape and dtype that a leaf has in a file; None for Python numbers."""
    kind = kind_of(name, leaf)
    if kind in _KEYS:
        data = jax.eval_shape(jax.random.key_data, leaf)
        return data.shape, data.dtype.name
    if type(leaf) is int or type(leaf) in _NUMBERS:
        return None
    return leaf.shape, np.dtype(leaf.dtype).name


def described_in_file(encoded: Encoded) -> tuple[Any, str]:
    """Return the shape and dtype of an encoded leaf."""
    array, kind = encoded
    if kind == ARRAY or kind in _KEYS:
        return array.shape, array.dtype.name
    return array.shape[:-1], kind


def types_of(tree: Any, where: str = "") -> dict[str, str]:
    """Return the type of each NamedTuple of this library in a pytree, by path."""
    if isinstance(tree, dict):
        parts = {f"[{key!r}]": part for key, part in tree.items()}
    elif hasattr(tree, "_asdict"):
        parts = {f".{name}": part for name, part in tree._asdict().items()}
    elif isinstance(tree, list | tuple):
        parts = {f"[{index}]": part for index, part in enumerate(tree)}
    else:
        parts = {}
    types = {}
    if hasattr(tree, "_asdict") and type(tree).__module__.split(".")[0] == "jaxrnn":
        types[where] = type(tree).__name__
    for name, part in parts.items():
        types |= types_of(part, where + name)
    return types


def _bytes(contents: bytes) -> np.ndarray:
    return np.frombuffer(contents, np.uint8)
