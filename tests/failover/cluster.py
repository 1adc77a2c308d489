"""Three machines with PostgreSQL, Patroni and etcd, as network namespaces, and their faults."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from tests.support.postgres import PASSWORD, QUOTED, USER, Database, programs

#: Where Patroni's members agree: what docs/how-to/postgresql.md recommends. Seconds.
SETTINGS = {
    "ttl": 20,
    "loop_wait": 2,
    "retry_timeout": 5,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
}

#: How long a cluster may take to start or to become whole again, in seconds.
PATIENCE = 180.0

#: The timeout of a write that tries a server, in seconds: a busy machine needs one to connect.
_TRY = 4.0

#: A file system in memory: etcd and the servers write and synchronize all the time.
_MEMORY = Path("/dev/shm")


#: PostgreSQL does not run as root.
_AS_SERVER = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")


class Fault(StrEnum):
    """A fault of the primary. A machine is its server, Patroni and etcd together."""

    KILL_MACHINE = "kill-machine"
    STOP_SERVER = "stop-server"
    STOP_MACHINE = "stop-machine"
    #: The routers still reach it, but the other databases, their etcd and their Patroni do not.
    PART_FROM_DATABASES = "part-from-databases"
    PART_FROM_ALL = "part-from-all"
    #: Patroni starts it again at once. The last, because little is left to settle after it.
    KILL_SERVER = "kill-server"


class Machine:
    """One of the machines. The others reach it by one network, and routers by another."""

    def __init__(self, number: int, folder: Path) -> None:
        self.name = f"db{number}"
        self.host, self.peer = f"10.77.2.{number}", f"10.77.1.{number}"
        self._folder = folder / self.name
        self._folder.mkdir()
        shutil.chown(self._folder, "postgres", "postgres")
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        for network, address in (("data", self.peer), ("front", self.host)):
            link = f"{network}{number}"
            run("ip", "link", "add", link, "type", "veth", "peer", network, "netns", self.name)
            run("ip", "link", "set", link, "master", network, "up")
            run("ip", "-n", self.name, "address", "add", f"{address}/24", "dev", network)
            run("ip", "-n", self.name, "link", "set", network, "up")

    def start(self, peers: dict[str, str]) -> None:
        """Start etcd and Patroni, which starts the server. `peers` has all machines' addresses."""
        urls = {name: f"http://{peer}:2380" for name, peer in peers.items()}
        own, clients = urls[self.name], f"http://{self.peer}:2379"
        new = not (self._folder / "etcd").exists()
        self._run(
            *("etcd", "--name", self.name, "--data-dir", self._folder / "etcd"),
            *("--listen-peer-urls", own, "--initial-advertise-peer-urls", own),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--initial-cluster", ",".join(f"{name}={url}" for name, url in urls.items())),
            *("--initial-cluster-state", "new" if new else "existing"),
            # A busy machine delays the leader's heartbeats.
            *("--heartbeat-interval", "200", "--election-timeout", "2000"),
        )
        settings = self._folder / "patroni.yml"
        settings.write_text(json.dumps(self._patroni(list(peers.values()))))
        self._run("patroni", settings)

    def signal(self, number: signal.Signals, *, only_server: bool = False) -> None:
        """Send a signal to its processes, or to those of its PostgreSQL server."""
        for pid in map(int, run("ip", "netns", "pids", self.name).split()):
            with suppress(OSError):
                if not only_server or Path(f"/proc/{pid}/comm").read_text() == "postgres\n":
                    os.kill(pid, number)

    def part(self, *networks: str) -> None:
        self._set_ports("0", networks)

    def join(self) -> None:
        self._set_ports("3", ("data", "front"))

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def _set_ports(self, state: str, networks: tuple[str, ...]) -> None:
        """Set the state of bridge ports: 3 forwards, and 0 drops every packet."""
        for network in networks:
            run("bridge", "link", "set", "dev", f"{network}{self.name[2:]}", "state", state)

    def _run(self, *command: str | Path) -> None:
        with (self._folder / "log").open("ab") as log:
            subprocess.Popen(
                ["ip", "netns", "exec", self.name, *_AS_SERVER, *map(str, command)],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _patroni(self, peers: list[str]) -> dict[str, Any]:
        """Return the content of patroni.yml."""
        parameters = {
            "unix_socket_directories": str(self._folder),
            "shared_buffers": "16MB",
            # A primary that is cut off waits so long for its standbys before it shuts down.
            "wal_sender_timeout": "10s",
        }
        return {
            "scope": "ebaas",
            "name": self.name,
            "restapi": {"listen": "0.0.0.0:8008", "connect_address": f"{self.peer}:8008"},
            "etcd3": {"hosts": [f"{peer}:2379" for peer in peers]},
            "bootstrap": {
                "dcs": {**SETTINGS, "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": "*:5432",
                "connect_address": f"{self.peer}:5432",
                "data_dir": str(self._folder / "data"),
                "bin_dir": str(programs()),
                "pgpass": str(self._folder / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "pg_hba": [
                    "local all all trust",
                    "host all all all scram-sha-256",
                    "host replication all all scram-sha-256",
                ],
                "parameters": parameters,
                "remove_data_directory_on_rewind_failure": True,
            },
        }


class Clustered(Database):
    """The routers' database, at any of several hosts."""

    def __init__(self, hosts: list[str], name: str = "ebaas", user: str = USER) -> None:
        self.name = name
        options = "target_session_attrs=read-write"
        self.dsn = f"postgresql://{user}:{QUOTED}@{','.join(hosts)}/{name}?{options}"

    def rows(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, and return the rows of the last one."""
        path = "-c search_path=ebaas_router,public"
        with psycopg.connect(
            self.dsn, autocommit=True, connect_timeout=10, options=path
        ) as connection:
            for sql in statements:
                cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []


class Cluster:
    """The machines, and the networks between them and to this process's own namespace."""

    def __init__(self, folder: Path) -> None:
        for bridge, address in (("data", "10.77.1.254"), ("front", "10.77.2.254")):
            run("ip", "link", "add", bridge, "type", "bridge")
            run("ip", "address", "add", f"{address}/24", "dev", bridge)
            run("ip", "link", "set", bridge, "up")
        self._machines = [Machine(number, folder) for number in (1, 2, 3)]
        self._peers = {machine.name: machine.peer for machine in self._machines}
        self._hosts = [machine.host for machine in self._machines]
        self.database = Clustered(self._hosts)

    def seen(self, nodes: int) -> list[Clustered]:
        """Return the database as each router has it: each tries another machine first."""
        return [Clustered(self._hosts[n:] + self._hosts[:n]) for n in range(nodes)]

    async def start(self) -> None:
        """Start all machines and make the routers' database."""
        for machine in self._machines:
            machine.start(self._peers)
        await self.whole()
        Clustered(self._hosts, "postgres", "postgres").rows(
            f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'",
            f"CREATE DATABASE ebaas OWNER {USER}",
        )
        self.database.rows("CREATE TABLE public.tries ()")

    async def strike(self, fault: Fault, seconds: float) -> float:
        """Strike the primary. End the fault so many seconds after a server accepts writes again,
        and return once the cluster is whole. Return the seconds until that write."""
        primary, began = await self.whole(), time.monotonic()
        self._begin(fault, primary)
        await self._written()
        written = time.monotonic() - began
        await asyncio.sleep(seconds)
        self._end(fault, primary)
        await self.whole()
        return written

    def _begin(self, fault: Fault, primary: Machine) -> None:
        match fault:
            case Fault.KILL_SERVER | Fault.KILL_MACHINE:
                primary.signal(signal.SIGKILL, only_server=fault is Fault.KILL_SERVER)
            case Fault.STOP_SERVER | Fault.STOP_MACHINE:
                primary.signal(signal.SIGSTOP, only_server=fault is Fault.STOP_SERVER)
            case Fault.PART_FROM_DATABASES:
                primary.part("data")
            case Fault.PART_FROM_ALL:
                primary.part("data", "front")

    def _end(self, fault: Fault, primary: Machine) -> None:
        match fault:
            case Fault.KILL_MACHINE:
                primary.start(self._peers)
            case Fault.STOP_SERVER | Fault.STOP_MACHINE:
                primary.signal(signal.SIGCONT)
            case Fault.PART_FROM_DATABASES | Fault.PART_FROM_ALL:
                primary.join()

    async def _written(self) -> None:
        """Return once a commit has succeeded on any server. Raises TimeoutError."""
        trying = [asyncio.create_task(_writes(host)) for host in self._hosts]
        first = asyncio.FIRST_COMPLETED
        done, _ = await asyncio.wait(trying, timeout=PATIENCE, return_when=first)
        for task in trying:
            task.cancel()
        if not done:
            raise TimeoutError(f"no server takes a write\n{self._logs()}")

    async def whole(self) -> Machine:
        """Return the primary, once there are two standbys, one of them synchronous, and all
        machines agree on that. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            views = await asyncio.gather(
                *(asyncio.to_thread(_members, machine.host) for machine in self._machines)
            )
            if views.count(views[0]) == len(views) and sorted(views[0].values()) == _WHOLE:
                return next(m for m in self._machines if views[0][m.name] == _WHOLE[0])
            await asyncio.sleep(0.2)
        raise TimeoutError(f"the cluster is not whole: {views}\n{self._logs()}")

    def _logs(self) -> str:
        return "\n".join(machine.log[-2000:] for machine in self._machines)


async def _writes(host: str) -> None:
    """Return once a commit has succeeded at this host."""
    while True:
        with suppress(psycopg.Error, TimeoutError):
            async with (
                asyncio.timeout(_TRY),
                await psycopg.AsyncConnection.connect(Clustered([host]).dsn) as connection,
            ):
                await connection.execute("INSERT INTO public.tries DEFAULT VALUES")
                await connection.commit()
                return
        await asyncio.sleep(0.1)


#: The roles and states of the members of a whole cluster.
_WHOLE = ["leader, running", "replica, streaming", "sync_standby, streaming"]


def _members(host: str) -> dict[str, str]:
    """Return the members of the cluster as one of them knows them; none if it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{host}:8008/cluster", timeout=_TRY) as answer:
            members = json.load(answer)["members"]
            return {each["name"]: f"{each['role']}, {each['state']}" for each in members}
    except (OSError, ValueError, KeyError):
        return {}


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Provide machines that are not started. Their processes end with this process's namespaces."""
    with TemporaryDirectory(dir=_MEMORY) as folder:
        Path(folder).chmod(0o755)
        yield Cluster(Path(folder))


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
