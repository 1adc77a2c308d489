"""A router that tells what goes on in it, for bench.tails."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.compare import CORE
from bench.compiled import ROOT
from bench.processes import Scene, Started, free_port
from bench.spans import Span, collections, rotations, told
from tests.support.filled import fill


class Watched:
    """A router that is watched while it serves, in a folder of its own."""

    def __init__(self, scene: Scene, tree: Path, options: Sequence[str], rows: int) -> None:
        """`rows`: unsettled events that are in its store."""
        scene.folder.mkdir()
        scene.write()
        folder = self.folder = scene.folder
        self.routes, self.store, self._log = (
            folder / name for name in ("routes.yaml", "store.db", "log")
        )
        #: How much of the log has been read.
        self._read = 0
        self._collections = folder / "collections"
        fill(self.store, rows, targets=("t0", "t1"))
        port, self._ops_port = free_port(), free_port()
        command = [
            *(sys.executable, "-P", str(ROOT / "bench" / "watch.py"), str(self._collections)),
            *("serve", "--log-format", "json", "--config", str(self.routes)),
            *("--store", str(self.store), "--port", str(port)),
            *("--ops-port", str(self._ops_port), *options),
        ]
        environ = {"PYTHONPATH": str(tree)}
        self.started = Started("router", command, environ, port, CORE, folder=tree, log=self._log)

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._ops_port}/metrics"

    def reloads(self) -> int:
        """How many were taken since this was asked last."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
        whole = said.rfind(b"\n") + 1
        self._read += whole
        return said.count(b'"happening":"reload","result":"taken"', 0, whole)

    def spans(self) -> list[Span]:
        """What it tells of itself, once it has stopped."""
        with self._log.open("rb") as lines:
            spans = told(lines)
        spans += collections(self._collections.read_text())
        return spans + rotations(self.folder / "store.db-archive")
