"""Callers that have had a reply, and keep their connections until stdin ends."""

from __future__ import annotations

import argparse
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from bench.caller import event, request

#: Files that a process has open beside their connections.
_SPARE = 100


@contextmanager
def idle_callers(url: str, number: int) -> Iterator[None]:
    """So many, until the block ends; in a process of their own, which may have as many files."""
    if not number:
        yield
        return
    with subprocess.Popen(
        [sys.executable, "-m", "bench.idle", url, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as callers:
        assert callers.stdin is not None
        assert callers.stdout is not None
        if not callers.stdout.readline():
            raise SystemExit(f"{url} does not have {number} callers")
        yield
        callers.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("url", metavar="URL")
    parser.add_argument("number", metavar="NUMBER", type=int)
    args = parser.parse_args()
    hold(args.url, args.number)


def hold(url: str, number: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, number + _SPARE), hard))
    kept = [_caller(urlsplit(url).port or 0, n) for n in range(number)]
    print(len(kept), "callers have had their replies", flush=True)
    sys.stdin.read()


def _caller(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(request("/callback", event("cert", f"idle-{number}")))
    told = b""
    while not told.endswith(b"}"):
        piece = connection.recv(4096)
        if not piece:
            raise SystemExit(f"caller {number} had no reply")
        told += piece
    if b'"000"' not in told:
        raise SystemExit(f"caller {number} was told {told!r}")
    return connection


if __name__ == "__main__":
    main()
