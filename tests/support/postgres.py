"""A real PostgreSQL server for a test session, and pgbouncer. scripts/postgresql installs what is
missing."""

from __future__ import annotations

import fcntl
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.command import PATIENCE, ROOT
from tests.support.sockets import HOST, HeldPort, listens
from tests.support.waiting import wait_until

#: True if tests that need a server must run: `make postgresql` sets it.
REQUIRED = "POSTGRESQL" in os.environ

#: The router's role on the server. It is not a superuser, like the role of a real router.
USER, PASSWORD = "router", "not/so@secret"
QUOTED = "not%2Fso%40secret"

#: The settings of every server. Without fsync, a crash of the server loses nothing: only a test of
#: power cuts would need it.
_CONFIG = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "min_wal_size": "2MB",
    "max_wal_size": "64MB",
    "autovacuum_naptime": "3600",
    "log_min_messages": "log",
}

_INITDB = (
    *("--username=postgres", "--encoding=UTF8", "--locale=C", "--wal-segsize=1", "--no-sync"),
    *("--auth-local=trust", "--auth-host=scram-sha-256"),
)

#: Seconds for one of the server's programs, which a busy machine starts slowly.
_PATIENCE = 60.0

_numbers = itertools.count()


class NoServer(Exception):
    """There is no PostgreSQL on this machine, or no user to run it as."""


def programs() -> Path:
    """Return the folder of the server's programs. Raises NoServer."""
    script = ROOT / "scripts/postgresql"
    found = subprocess.run([script, "--programs"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise NoServer("no PostgreSQL server on this machine: scripts/postgresql installs one")
    return Path(found.stdout.strip())


def _as_server(*command: str | Path) -> list[str]:
    """Return a command that runs as a user PostgreSQL accepts, and ends with the test's process."""
    identity: list[str] = []
    if os.geteuid() == 0:
        identity = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
    return ["setpriv", "--pdeathsig=INT", *identity, *map(str, command)]


def _folder() -> Path:
    """Return a folder that the server's user may write to."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            raise NoServer("no user named postgres on this machine") from None
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def _copied(source: Path, destination: Path) -> None:
    """Copy a folder with its owners and modes."""
    subprocess.run(["cp", "-a", source, destination], check=True)


class Database:
    """A database of a server, with its `dsn`."""

    def __init__(self, server: Server, name: str, port: int | None = None) -> None:
        self.server = server
        self.name = name
        self.dsn = f"postgresql://{USER}:{QUOTED}@{HOST}:{port or server.port}/{name}"

    def through(self, port: int) -> Database:
        """Return the same database behind another port."""
        return Database(self.server, self.name, port)

    def rows(self, sql: str) -> list[tuple[str, ...]]:
        """Run a query, past every proxy and pool, and return its rows as text."""
        return self.server.rows(sql, self.name)


class Server:
    """A PostgreSQL server in a temporary folder, on a reserved port, not started."""

    def __init__(self, wal: Path | None = None, primary: Server | None = None) -> None:
        """`wal` is a separate folder for its write-ahead log. With a running `primary`, the server
        is its standby. Raises NoServer."""
        self._programs = programs()
        self._port = HeldPort()
        self.port = self._port.number
        self.folder = _folder()
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "server.log"
        try:
            if primary is None:
                self._make(wal)
            else:
                self._copy(primary)
            self._settle()
        except BaseException:
            self.close()
            raise

    def _make(self, wal: Path | None) -> None:
        """Copy a prepared data folder, because initdb takes seconds. It is made once."""
        version, user = self._programs.parent.name, self.folder.owner()
        made = ROOT / ".tools/postgresql" / f"{version}-{user}"
        made.parent.mkdir(parents=True, exist_ok=True)
        with (made.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                self._run("initdb", "-D", self.data, *_INITDB)
                new = made.with_suffix(".new")
                shutil.rmtree(new, ignore_errors=True)
                _copied(self.data, new)
                new.rename(made)
        if not self.data.exists():
            _copied(made, self.data)
        if wal is not None:
            _copied(self.data / "pg_wal", wal)
            shutil.rmtree(self.data / "pg_wal")
            (self.data / "pg_wal").symlink_to(wal)

    def _copy(self, primary: Server) -> None:
        place = ["-h", str(primary.folder), "-p", str(primary.port), "-U", "postgres"]
        self._run("pg_basebackup", *place, "-D", self.data, "-R", "-c", "fast", "--no-sync")

    def _settle(self) -> None:
        fixed = {**_CONFIG, "port": str(self.port), "listen_addresses": HOST}
        fixed["unix_socket_directories"] = str(self.folder)
        with (self.data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in fixed.items())
            file.write("include_if_exists 'test.conf'\n")

    def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        assert self._process is None or self._process.poll() is not None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                _as_server(self._programs / "postgres", "-D", self.data),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self, *, immediately: bool = False) -> None:
        """End connections and roll back transactions; `immediately` is a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT if immediately else signal.SIGINT)
            process.wait(PATIENCE)

    @contextmanager
    def down(self, *, immediately: bool = False) -> Iterator[None]:
        """Stop the server while the block runs."""
        self.stop(immediately=immediately)
        try:
            yield
        finally:
            self.start()

    def restart(self, *, immediately: bool = False) -> None:
        with self.down(immediately=immediately):
            pass

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Suspend all of its processes while the block runs."""
        assert self._process is not None
        # First the process that starts the others.
        pids = [self._process.pid]
        self._signal(pids, signal.SIGSTOP)
        pids += self._children()
        self._signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(pids, signal.SIGCONT)

    @contextmanager
    def configured(self, **config: str) -> Iterator[None]:
        """Restart the server with these settings, and after the block without them."""
        self._set(config)
        self.restart()
        try:
            yield
        finally:
            self._set({})
            self.restart()

    @contextmanager
    def reloaded(self, **config: str) -> Iterator[None]:
        """Apply settings that need no restart while the block runs."""
        before = {name: self.rows(f"SHOW {name}") for name in config}
        self._set(config)
        self._reload({name: [(value,)] for name, value in config.items()})
        try:
            yield
        finally:
            self._set({})
            self._reload(before)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[Database]:
        """Create a database from a template, and drop it after the block."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.rows(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE {template}")
        try:
            yield Database(self, name)
        finally:
            with suppress(subprocess.CalledProcessError):
                self.rows(f"DROP DATABASE {name} WITH (FORCE)")

    def rows(self, sql: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """Run a query as the server's administrator, and return its rows as text."""
        found = self._psql(sql, database)
        return [tuple(line.split("\x1f")) for line in found.stdout.splitlines()]

    @property
    def owner(self) -> tuple[int, int]:
        """The user and group that the server runs as."""
        about = self.folder.stat()
        return about.st_uid, about.st_gid

    def give(self, name: str, content: str) -> Path:
        """Write a private file in the server's folder."""
        path = self.folder / name
        path.write_text(content)
        path.chmod(0o600)
        shutil.chown(path, *self.owner)
        return path

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def processes(self) -> list[int]:
        """Return the server's processes, including one for each connection."""
        assert self._process is not None
        return [self._process.pid, *self._children()]

    def close(self) -> None:
        self.stop(immediately=True)
        self._port.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            self._psql(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'router') THEN "
                f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; "
                "ALTER ROLE postgres SET search_path = ebaas_router, public; END IF; END $$",
                "postgres",
            )
        except subprocess.CalledProcessError:
            return False
        return True

    def _psql(self, sql: str, database: str) -> subprocess.CompletedProcess[str]:
        options = ["-X", "-q", "-A", "-t", "-F", "\x1f", "-v", "ON_ERROR_STOP=1"]
        place = ["-h", str(self.folder), "-p", str(self.port), "-U", "postgres", "-d", database]
        return self._run("psql", *options, *place, "-c", sql)

    def _run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _as_server(self._programs / program, *arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )

    def _set(self, config: dict[str, str]) -> None:
        lines = "".join(f"{name} = '{value}'\n" for name, value in config.items())
        self.give("data/test.conf", lines)

    def _reload(self, expected: dict[str, list[tuple[str, ...]]]) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: all(self.rows(f"SHOW {name}") == value for name, value in expected.items())
        )

    def _children(self) -> list[int]:
        assert self._process is not None
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        return list(map(int, children.split()))

    def _signal(self, pids: Sequence[int], number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def running() -> Iterator[Server]:
    """Run a server. Raises NoServer if there is none on this machine."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextmanager
def pgbouncer(database: Database, connections: int = 5) -> Iterator[Database]:
    """Run pgbouncer in front of a database; each transaction uses any of so many connections."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise NoServer("no pgbouncer on this machine: scripts/postgresql installs it")
    server, port = database.server, HeldPort()
    name = f"pgbouncer-{port.number}"
    users = server.give(f"{name}.users", f'"{USER}" "{PASSWORD}"\n')
    settings = server.give(
        f"{name}.ini",
        f"[databases]\n* = host={HOST} port={server.port}\n[pgbouncer]\n"
        f"listen_addr = {HOST}\nlisten_port = {port.number}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\npool_mode = transaction\n"
        f"default_pool_size = {connections}\nmax_client_conn = 200\n",
    )
    for file in (users, settings):
        file.chmod(0o644)  # the server's user reads them
    with settings.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            _as_server(program, settings), cwd=server.folder, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: listens(port.number))
        yield database.through(port.number)
    finally:
        process.kill()
        process.wait(PATIENCE)
        port.close()
