"""The command line in real processes."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

from tests.support.forked import Forked

ROOT = Path(__file__).parents[2]

#: Seconds that a test waits for a process before it fails.
PATIENCE = 20.0

_WAITS = re.compile(
    rb"(?m)^ebaas-router: (?:.* has not answered for \d+ s|looked through .* \d+ of \d+)\n"
)

Finished = subprocess.CompletedProcess[bytes]


def shipped(room: str, pattern: str = "*") -> list[Path]:
    """Return the files below a folder of the repository, sorted, except packages from npm."""
    found = sorted((ROOT / room).rglob(pattern))
    return [path for path in found if path.is_file() and "node_modules" not in path.parts]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "router", *arguments]


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the test's environment without variables that change a router, plus `given`."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("EBAAS_ROUTER_", "PYTHON"))}
    fixed = {"COLUMNS": "100", "PYTHONUTF8": "1", "EBAAS_ROUTER_OPS_PORT": "0"}
    return {**own, **fixed, **(given or {})}


def run(*arguments: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None) -> Finished:
    """Run `ebaas-router` to its end. Messages about waiting are removed from stderr."""
    finished = subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=environment(environ),
        timeout=PATIENCE,
        check=False,
    )
    finished.stderr = without_waits(finished.stderr)
    return finished


def script(
    code: str, environ: Mapping[str, str] | None = None, stdout: int | IO[str] = subprocess.PIPE
) -> Finished:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(environ),
        timeout=PATIENCE,
        check=False,
    )


def without_waits(stderr: bytes) -> bytes:
    """Remove the messages about slow work, which a busy machine may cause."""
    return _WAITS.sub(b"", stderr)


def one_line(stream: bytes) -> str:
    lines = stream.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


class Running:
    """A command that runs until it is stopped, with its output so far."""

    def __init__(
        self,
        *arguments: str,
        handed: Mapping[str, socket.socket] | None = None,
        before: str = "",
    ) -> None:
        """`handed` are sockets that it inherits by name; its shell runs `before` first."""
        self.process = (
            _by_a_shell(arguments, handed or {}, before)
            if handed or before
            else Forked(arguments, ROOT, environment())
        )
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=pair)
            for pair in ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: Iterator[bytes], lines: list[str]) -> None:
        for line in pipe:
            with self._changed:
                lines.append(line.decode().rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait for a condition, which is checked after each line of output."""
        with self._changed:
            held = self._changed.wait_for(condition, PATIENCE)
        assert held, (self.stdout, self.stderr)

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, by default Ctrl-C, and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, once the process has ended and its output is read."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def close(self) -> None:
        self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


def _by_a_shell(
    arguments: Sequence[str], handed: Mapping[str, socket.socket], before: str
) -> subprocess.Popen[bytes]:
    """Start a command that inherits these sockets. Their descriptors are high, so that they do not
    collide with the numbers that the command expects."""
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 100) for each in handed.values()]
    redirections = " ".join(f"{number}<&{each}" for number, each in enumerate(high, 3))
    if handed:
        names = ":".join(handed)
        before += f"export LISTEN_PID=$$ LISTEN_FDS={len(high)} LISTEN_FDNAMES={names}"
    shell = ["bash", "-c", f'{before or ":"}; exec "$@" {redirections}', "bash"]
    process = subprocess.Popen(
        [*shell, *command(*arguments)],
        pass_fds=high,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    for descriptor in high:
        os.close(descriptor)
    return process


def running(*arguments: str, **how: Any) -> closing[Running]:
    return closing(Running(*arguments, **how))


def start_failure(*options: str, **how: Any) -> str:
    """Return the one line of a `serve` that does not start. `how` has arguments of `Running`."""
    with running("serve", "--store", "none", "--port", "0", *options, **how) as started:
        assert started.wait() == 3
        return one_line("\n".join(started.stderr).encode())


class Receiver(Running):
    def __init__(self, *arguments: str) -> None:
        super().__init__("receive", "--port", "0", *arguments)
        self.wait_for(lambda: self.stderr)
        found = re.search(r"http://\S+:\d+", self.stderr[0])
        assert found, self.stderr
        self.url = found.group()


def receiver(*arguments: str) -> closing[Receiver]:
    return closing(Receiver(*arguments))


_FLOOD = b" " * 65536


@contextmanager
def answering(answer: bytes | Callable[[], bytes], then: str = "close") -> Iterator[str]:
    """Run a server that reads a request and sends these bytes; yields its URL.

    Afterwards it closes the connection. If `then` is `hold`, it leaves it open; if it is `crumbs`,
    it sends a byte every 50 ms; and if it is `flood`, it sends on without an end.
    """
    make = answer if callable(answer) else lambda: answer
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            _read_request(connection)
            connection.sendall(make())
            while then in ("crumbs", "flood"):
                try:
                    connection.sendall(b"x" if then == "crumbs" else _FLOOD)
                except OSError:
                    break
                time.sleep(0.05 if then == "crumbs" else 0)
            if then == "close":
                connection.close()
            else:
                held.append(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(PATIENCE)
        for connection in held:
            connection.close()


def _read_request(connection: socket.socket) -> None:
    """Read the whole request: closing with a part unread would reset the connection."""
    with connection.makefile("rb") as stream:
        size = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.lower().partition(b":")
            size = int(value) if name == b"content-length" else size
        stream.read(size)


def http_answer(body: str, status: str = "200 OK") -> bytes:
    """Return an HTTP answer that announces the end of its connection."""
    content = body.encode()
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content
