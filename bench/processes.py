"""The processes of a bench: the targets, the router, and its peers."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.nginx import nginx
from tests.support.filled import fill

HERE = Path(__file__).parent / "peers"
SCHEMA = Path(__file__).parent.parent / "schemas" / "callback.schema.json"

#: Seconds for the start of a process.
PATIENCE = 20.0

#: Seconds between two checks whether a process is idle, and the share of a core that counts as
#: idle.
_GLANCE, _IDLE = 0.25, 0.05

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Scene:
    """The routes and targets that all peers have in common."""

    folder: Path
    target_ports: Sequence[int]
    routes: int

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}/callback" for port in self.target_ports]

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        """Return patterns and URLs: one pattern, among others, matches the bench's events."""
        others = [(f"b.t{number}.*", self.urls[:1]) for number in range(1, self.routes)]
        return [*others, ("a.gs.*", self.urls)]

    def write(self) -> None:
        """Write the routes in the format of each peer; JSON is YAML."""
        plain = [{"match": match, "targets": urls} for match, urls in self.table]
        (self.folder / "routes.json").write_text(json.dumps(plain))
        names = {url: f"t{number}" for number, url in enumerate(self.urls)}
        routes = [
            {"name": match, "match": match, "required": [names[url] for url in urls]}
            for match, urls in self.table
        ]
        targets = {name: {"url": url, "max_in_flight": 256} for url, name in names.items()}
        whole = {"version": 1, "targets": targets, "routes": routes}
        (self.folder / "routes.yaml").write_text(json.dumps(whole))


@dataclass(frozen=True)
class Peer:
    """One peer."""

    name: str
    #: Returns its command line, for the scene and its port.
    command: Callable[[Scene, int], Sequence[str]]
    #: Features of the router that it lacks.
    lacks: str = ""
    #: The folder that it runs in, if it matters.
    folder: Path | None = None
    #: Numbers of callers, of which the best is used; empty for any number.
    callers: Sequence[int] = ()


class Started:
    """A running process and its children."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        port: int,
        *cores: int,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/callback"
        self._process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        _await_port(name, port, self._process)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the process tree."""
        return sum(_cpu_of(pid) for pid in _tree(self._process.pid))

    @property
    def memory(self) -> int:
        """Resident bytes of the process tree."""
        pages = (
            int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in _tree(self._process.pid)
        )
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def memory_at_rest(self) -> int:
        """Wait until the start is over, then return the resident bytes."""
        self.rest()
        return self.memory

    def rest(self) -> None:
        """Wait until it is idle, so that it takes no CPU time from the next run."""
        until, spent = time.monotonic() + PATIENCE, -1.0
        while time.monotonic() < until and self.cpu_seconds - spent > _IDLE * _GLANCE:
            spent = self.cpu_seconds
            time.sleep(_GLANCE)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def router(name: str, *, unsettled: int = 0, folder: Path | None = None) -> Peer:
    """The router in a folder, with all defaults: store, metrics, log, limits."""

    def command(scene: Scene, port: int) -> list[str]:
        store = scene.folder / f"{name}.db"
        fill(store, unsettled, targets=("t0", "t1"))
        return [
            *(sys.executable, "-m", "router", "serve", "--port", str(port), "--log-format", "json"),
            *("--config", str(scene.folder / "routes.yaml"), "--store", str(store)),
            *("--store-max-bytes", "20GiB"),
            *("--ops-port", "0"),
        ]

    return Peer(name, command, folder=folder)


def _nginx(template: str) -> Callable[[Scene, int], Sequence[str]]:
    return lambda scene, port: nginx(template, scene.folder, port, scene.target_ports)


NGINX = Peer("nginx + Lua", _nginx("nginx.conf"), "store, retries, metrics, archive")
NODE = Peer(
    "Node.js",
    lambda scene, port: ["node", str(HERE / "node" / "server.mjs")],
    "store, retries, metrics, archive",
)
OBVIOUS = Peer(
    "Starlette + httpx",
    lambda scene, port: [sys.executable, str(HERE / "obvious.py")],
    "store, retries, metrics, archive",
    callers=(1, 2, 4, 8, 16, 32),
)


def start(peer: Peer, scene: Scene, *cores: int) -> Started:
    port = free_port()
    environ = {
        "PORT": str(port),
        "ROUTES": str(scene.folder / "routes.json"),
        "SCHEMA": str(SCHEMA),
        "LOG": str(scene.folder / f"{peer.name}.log"),
    }
    command = peer.command(scene, port)
    return Started(peer.name, command, environ, port, *cores, folder=peer.folder)


def start_targets(scene: Scene, core: int) -> Started:
    """One nginx that is every target."""
    command = _nginx("targets.conf")(scene, 0)
    return Started("targets", command, {}, scene.target_ports[0], core)


@contextlib.contextmanager
def precedence() -> Iterator[None]:
    """Raise the priority of this process and its children, if permitted, so that other processes do
    not affect the figures."""
    # With autogroups, a priority applies within a session only, and each session has its own.
    session = Path("/proc/self/autogroup")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        session.write_text("-20")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            session.write_text("0")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_port(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise SystemExit(f"{name} did not start")


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
