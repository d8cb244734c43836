"""Compiled loops for CPUs: which of them run here, and how to turn them off.

On a CPU, :func:`jaxrnn.unroll_bptt` runs ``elman``, ``lstm``, ``gru``,
``coupled_lstm``, ``janet`` and ``mgu`` by loops compiled from C++, in float32 and
float64. They compute what the cells compute in JAX,
several times faster where the network is small. They are built when jaxrnn is
installed, if there is a C++17 compiler. Where they cannot run, XLA runs the same cell,
with the same results.

The environment variable ``JAXRNN_KERNELS`` chooses for a whole process: ``xla``, or a
set of instructions, such as ``avx2``. :func:`using` chooses for a while, for
comparisons.

>>> import jaxrnn
>>> from jaxrnn import kernels
>>> with kernels.using("xla"):
...     print(kernels.status())
XLA (jaxrnn.kernels.using)
"""

from contextlib import AbstractContextManager

from ._native import library

__all__ = ["status", "using", "variants"]


def status() -> str:
    """Say what runs the loops of cells that have a kernel.

    Returns:
        For instance ``"native AVX2"``, or ``"XLA (...)"`` with the reason in brackets.
    """
    return library.status()


def variants() -> tuple[str, ...]:
    """List the sets of instructions that kernels were built for and that run here.

    Returns:
        Names for :func:`using`, the fastest first, without ``"xla"``. Each has computed
        a small example rightly.
    """
    return library.library().variants


def using(name: str) -> AbstractContextManager[None]:
    """Choose what runs the loops, within a ``with`` block.

    A function that ``jax.jit`` has compiled keeps what was chosen when it was traced,
    but for the set of instructions.

    Args:
        name: ``"xla"``, or one of :func:`variants`. The choice is for all threads.

    Raises:
        ValueError: ``name`` is neither ``"xla"`` nor one of :func:`variants`.
    """
    return library.using(name)
