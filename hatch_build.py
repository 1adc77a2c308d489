"""The compiled wheel: the modules that an event passes, made into C by mypyc beside their sources.

A hook of hatchling that is off unless HATCH_BUILD_HOOK_ENABLE_CUSTOM is set, as `make wheel
COMPILED=1` does. It takes a C compiler and the headers of Python. What it brings is in
docs/internals/performance.md.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: What is compiled: what an event passes, but for the table of routes, whose making would then give
#: the loop no turn.
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
    "net/http/lifetime",
    "net/loops",
    "routing/target",
    "store/sqlite/statements",
    "store/sqlite/store",
    "telemetry/log/__init__",
    "telemetry/log/lines",
    "telemetry/log/writer",
    "telemetry/metrics",
    "transport/engine",
    "transport/native/answer",
    "transport/native/connection",
    "web/callbacks",
)


class CompiledWheel(BuildHookInterface[Any]):
    """Adds to a wheel what was compiled; it fits one Python on one kind of machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = Path(tempfile.mkdtemp())
        for built in compiled(Path(self.root), self._folder):
            build_data["force_include"][str(built)] = str(built.relative_to(self._folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        shutil.rmtree(self._folder)


def compiled(root: Path, folder: Path) -> list[Path]:
    """Compile in `folder`; the libraries, in its `lib` as they belong into the wheel."""
    # Only who compiles has them.
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    before = Path.cwd()
    os.chdir(root)  # tracebacks name the sources from here, as mypy's settings do
    try:
        sources = [f"router/{module}.py" for module in MODULES]
        extensions = mypycify(
            sources,
            target_dir=str(folder / "c"),
            group_name="ebaas_router",
            debug_level="0",  # else it is several times as large
        )
        build = build_ext(Distribution({"name": "ebaas-router", "ext_modules": extensions}))
        build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "o")
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    return [*(folder / "lib").rglob("*.so")]
