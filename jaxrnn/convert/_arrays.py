"""Weights as NumPy arrays: read from any framework, checked, and put into JAX."""

import importlib
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np


def need(module: str, package: str) -> Any:
    """Import a framework, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this function of jaxrnn.convert needs the package {package}: "
            f"pip install {package}"
        ) from error


def to_numpy(name: str, value: Any) -> np.ndarray:
    """Return an array or tensor of any framework as floating numbers of NumPy."""
    if type(value).__module__.partition(".")[0] == "torch":
        value = _from_tensor(value)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise TypeError(
            f"{name} must be an array, got {type(value).__name__}"
        ) from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got dtype {array.dtype}")
    return array


def _from_tensor(tensor: Any) -> Any:
    torch = need("torch", "torch")
    if tensor.is_meta:
        raise ValueError("weights must have values, got tensors on the meta device")
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:  # which NumPy does not have by itself
        return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()


def note_dtype(what: Any, compute: Any, stored: Any) -> None:
    """Warn that a module computes in another dtype than its weights have."""
    if compute is not None and np.dtype(compute) != np.dtype(stored):
        warnings.warn(
            f"the dtype {np.dtype(compute)} in which {type(what).__name__} computes is "
            f"left out: a layer of jaxrnn computes in that of its weights, "
            f"{np.dtype(stored)}; jaxrnn.cast converts them",
            stacklevel=2,
        )


def check_shape(name: str, array: np.ndarray, expected: Sequence[int]) -> np.ndarray:
    """Return ``array`` if it has this shape."""
    if array.shape != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)}, got {array.shape}")
    return array


def reorder(array: np.ndarray, order: Sequence[int], axis: int = -1) -> np.ndarray:
    """Put equal blocks along an axis into another order: block n is ``order[n]``."""
    _check_gates(array, len(order), axis)
    blocks = np.split(array, len(order), axis=axis)
    return np.concatenate([blocks[index] for index in order], axis=axis)


def join(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Concatenate gates along the last axis."""
    return np.concatenate(list(arrays), axis=-1)


def _check_gates(array: np.ndarray, count: int, axis: int) -> None:
    if array.ndim == 0 or array.shape[axis] % count:
        raise ValueError(
            f"weights must have {count} gates of one size on axis {axis}, got shape "
            f"{array.shape}"
        )


def gates(array: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut an array into gates along the last axis."""
    _check_gates(array, count, -1)
    return np.split(array, count, axis=-1)
