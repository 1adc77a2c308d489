"""`serve --reuse-port`: several nodes on one host accept callbacks at one port."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.support.command import PATIENCE
from tests.support.house import routes
from tests.support.load import Load
from tests.support.postgres import Database
from tests.support.serving import Serving, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until


def served_at(ops: int) -> float:
    with httpx.Client(base_url=f"http://127.0.0.1:{ops}", timeout=PATIENCE, **PLAIN) as client:
        nodes = client.get("/api/v1/nodes").json()["nodes"]
        pid = client.get("/status").json()["process"]["pid"]
    [events] = [node["figures"]["events"] for node in nodes if node["pid"] == pid]
    return float(events)


@pytest.mark.postgresql
def test_two_nodes_share_a_port(tmp_path: Path, database: Database) -> None:
    """Both get connections; while one restarts under load, every request is answered 000."""
    port, ops = str(free_port()), (free_port(), free_port())
    with target() as one, ExitStack() as stack:
        file = tmp_path / "routes.yaml"
        file.write_text(json.dumps(routes({"one": one.url})))

        def start(at: int) -> Serving:
            options = ("--reuse-port", "--port", port, "--ops-port", str(ops[at]))
            node = Serving(file, database, options, {})
            stack.callback(node.close)
            return node

        nodes = [start(0), start(1)]
        load = Load(int(port))
        with load.running():
            wait_until(lambda: all(served_at(port) > 20 for port in ops))
            assert nodes[0].interrupt(signal.SIGTERM) == 0
            load.go_on()
            start(0)
            load.go_on()
        assert set(load.replies) == {"000"}
        assert set(load.acknowledged) <= {got.event for got in one.got}
