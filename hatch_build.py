"""Build step of the package: compile the kernels, if there is a compiler.

Hatchling calls it for wheels and for ``pip install -e .``. Without a compiler the
package is installed all the same, and ``jaxrnn.kernels.status()`` says why it runs on
XLA alone.
"""

import importlib.util
import re
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent


class KernelsHook(BuildHookInterface):
    """Put ``libkernels.so`` into ``jaxrnn/_native``, and tag the wheel accordingly."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        target = ROOT / "jaxrnn" / "_native"
        _builder().build_or_say_why_not(target)
        build_data["artifacts"] += ["/jaxrnn/_native/built.json"]
        if (target / "libkernels.so").exists():
            build_data["artifacts"] += ["/jaxrnn/_native/libkernels.so"]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"


def _builder() -> Any:
    path = ROOT / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    return re.sub(r"[^0-9a-zA-Z]", "_", sysconfig.get_platform())
