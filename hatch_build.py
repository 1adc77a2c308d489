"""The compiled wheel: the modules on an event's path, compiled by mypyc, beside their sources.

This hook of hatchling is off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM is set, as by `make wheel
COMPILED=1`. It needs a C compiler and Python's headers. Measurements are in
docs/internals/performance.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The modules on an event's path, without the table of routes: compiled, its construction would not
#: let the loop run.
MODULES = (
    "archive/writer",
    "contract/intake",
    "contract/replies",
    "contract/strictjson",
    "delivery/forwarder",
    "delivery/memory",
    "delivery/observer",
    "delivery/queue",
    "delivery/rules",
    "delivery/target/gate",
    "delivery/target/judge",
    "delivery/target/lane",
    "delivery/target/sender",
    "model/event",
    "net/access",
    "net/http/connection",
    "net/http/exchange",
    "net/http/head",
    "net/loops",
    "routing/target",
    "store/sqlite/statements",
    "telemetry/log/__init__",
    "telemetry/log/lines",
    "telemetry/log/writer",
    "telemetry/metrics",
    "transport/answer",
    "transport/engine",
    "transport/native",
    "web/callbacks",
)


class CompiledWheel(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, which then fits one Python on one platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = Path(tempfile.mkdtemp())
        for built in compiled(Path(self.root), self._folder):
            build_data["force_include"][str(built)] = str(built.relative_to(self._folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._folder)


def compiled(root: Path, folder: Path) -> list[Path]:
    """Compile in `folder`, and return the libraries in its `lib`, laid out like the wheel."""
    # Only installed for compiling.
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    before = Path.cwd()
    os.chdir(root)  # tracebacks and mypy's settings name the sources relative to it
    try:
        sources = [f"router/{module}.py" for module in MODULES]
        extensions = mypycify(
            sources,
            target_dir=str(folder / "c"),
            group_name="ebaas_router",
            debug_level="0",  # otherwise it is several times as large
        )
        build = build_ext(Distribution({"name": "ebaas-router", "ext_modules": extensions}))
        build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "o")
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    return [*(folder / "lib").rglob("*.so")]
