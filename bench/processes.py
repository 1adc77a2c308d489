"""The processes of a bench: the targets, the router, and what one would run in its place."""

from __future__ import annotations

import json
import os
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.filled import fill

HERE = Path(__file__).parent / "peers"
SCHEMA = Path(__file__).parent.parent / "schemas" / "callback.schema.json"
NGINX_MODULES = "/usr/lib/nginx/modules"

#: How long a process may take to start, in seconds.
PATIENCE = 20.0

#: Seconds between two looks at whether a process is at rest, and the part of a core that counts
#: as rest.
_GLANCE, _IDLE = 0.25, 0.05

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Scene:
    """What all that are compared have in common: where they send to, and by which routes."""

    folder: Path
    target_ports: Sequence[int]
    routes: int

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}/callback" for port in self.target_ports]

    @property
    def table(self) -> list[tuple[str, list[str]]]:
        """Patterns and URLs: one that the bench's events match, for all targets, among others."""
        others = [(f"b.t{number}.*", self.urls[:1]) for number in range(1, self.routes)]
        return [*others, ("a.gs.*", self.urls)]

    def write(self) -> None:
        """Put the routes where the peers read them, each in its own words; JSON is YAML."""
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
    """One thing that is compared."""

    name: str
    #: Its command line, by the scene and its port.
    command: Callable[[Scene, int], Sequence[str]]
    environ: Mapping[str, str]


class Started:
    """A running process and those that it has started."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], port: int, *cores: int
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/callback"
        self._process = subprocess.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        _await_port(name, port, self._process)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of the whole tree so far."""
        return sum(_cpu_of(pid) for pid in _tree(self._process.pid))

    @property
    def memory(self) -> int:
        """Resident bytes of the whole tree."""
        pages = (
            int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in _tree(self._process.pid)
        )
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")

    def rest(self) -> None:
        """Wait until it has done with what is over, so that it takes no core from the next one."""
        until, spent = time.monotonic() + PATIENCE, -1.0
        while time.monotonic() < until and self.cpu_seconds - spent > _IDLE * _GLANCE:
            spent = self.cpu_seconds
            time.sleep(_GLANCE)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)


def router(name: str, *options: str, unsettled: int = 0) -> Peer:
    """The router as shipped, all on: store, metrics, log, limits."""

    def command(scene: Scene, port: int) -> list[str]:
        store = scene.folder / f"{name}.db"
        fill(store, unsettled, targets=("t0", "t1"))
        return [
            *(sys.executable, "-m", "router", "serve", "--port", str(port), "--log-format", "json"),
            *("--config", str(scene.folder / "routes.yaml"), "--store", str(store)),
            *("--store-max-rows", "10000000", "--store-max-bytes", "20GiB"),
            *("--ops-port", "0" if "--workers" not in options else str(free_port()), *options),
        ]

    return Peer(name, command, {})


NGINX = Peer("nginx + Lua", lambda scene, port: _nginx(scene, port, "nginx/nginx.conf"), {})
NODE = Peer("Node.js", lambda scene, port: ["node", str(HERE / "node" / "server.mjs")], {})
OBVIOUS = Peer(
    "Starlette + httpx", lambda scene, port: [sys.executable, str(HERE / "obvious.py")], {}
)


def start(peer: Peer, scene: Scene, *cores: int) -> Started:
    port = free_port()
    environ = {
        **peer.environ,
        "PORT": str(port),
        "ROUTES": str(scene.folder / "routes.json"),
        "SCHEMA": str(SCHEMA),
        "LOG": str(scene.folder / f"{peer.name}.log"),
    }
    return Started(peer.name, peer.command(scene, port), environ, port, *cores)


def start_targets(scene: Scene, core: int) -> Started:
    """One nginx that is every target."""
    command = _nginx(scene, 0, "nginx/targets.conf")
    return Started("targets", command, {}, scene.target_ports[0], core)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _nginx(scene: Scene, port: int, template: str) -> list[str]:
    ports = scene.target_ports
    words = {
        "DIR": str(scene.folder),
        "HERE": str(HERE / "nginx"),
        "MODULES": NGINX_MODULES,
        "PORT": str(port),
        "ROUTES": str(scene.folder / "routes.json"),
        "LISTEN": "\n".join(f"        listen 127.0.0.1:{p} backlog=4096;" for p in ports),
        "UPSTREAMS": "\n".join(_upstream(p) for p in ports),
        "LOCATIONS": "\n".join(_location(p) for p in ports),
    }
    text = (HERE / template).read_text()
    path = scene.folder / Path(template).name
    path.write_text(string.Template(text).safe_substitute(words))
    return ["nginx", "-p", str(scene.folder), "-c", str(path)]


def _upstream(port: int) -> str:
    server = f"server 127.0.0.1:{port}; keepalive 256; keepalive_requests 100000000;"
    return f"    upstream to_{port} {{ {server} }}"


def _location(port: int) -> str:
    return f"""        location = /to/{port} {{
            internal;
            access_log off;
            proxy_pass http://to_{port}/callback;
            proxy_http_version 1.1;
            proxy_pass_request_headers off;
            proxy_set_header Connection "";
            proxy_set_header Content-Type application/json;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Webhook-Id $request_id;
            proxy_read_timeout 5s;
        }}"""


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
