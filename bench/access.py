"""What it costs to decide who may call: python -m bench.access

In microseconds of CPU: each decision by itself, and then whole refusals of a running router, log,
metrics and system calls included, by callers that keep their connections.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from bench.caller import request
from bench.metrics import seconds
from bench.processes import Started, free_port
from router.model.secret import Secret
from router.net.access import Access, Headers, Tokens
from router.net.networks import Networks
from tests.support.house import SAMPLE

REQUESTS = 20_000
CONNECTIONS = 16

TOKEN = "an-example-of-a-token-of-some-length"
GOOD = f"authorization: Bearer {TOKEN}".encode()
WRONG = b"authorization: Bearer something-else"

#: What a caller like EBaaS sends besides.
_HEADERS = [
    (b"host", b"router.example.com"),
    (b"user-agent", b"Apache-HttpClient/4.5.13 (Java/1.8.0_291)"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
    (b"content-length", b"128"),
]


def headers(**more: bytes) -> Headers:
    return [*_HEADERS, *((name.replace("_", "-").encode(), value) for name, value in more.items())]


def decisions() -> dict[str, Callable[[], object]]:
    """By what is decided, the work."""
    one, five = ([Secret(f"{TOKEN}{number}") for number in range(n)] for n in (1, 5))
    house = Networks([ip_network("10.0.0.0/8")])
    many = Networks(ip_network((number << 12, 20)) for number in range(10_000))
    token, closed = Access(Tokens(one)), Access(Tokens([]), house)
    bearer = headers(authorization=b"Bearer " + TOKEN.encode() + b"0")
    chain = headers(x_forwarded_for=b"203.0.113.9, 198.51.100.4, 10.1.1.2")
    behind = Access(Tokens([]), Networks([ip_network("198.51.100.0/24")]), house)
    return {
        "anybody may come in": partial(Access(Tokens([])).denial, "10.1.1.1", _HEADERS),
        "a good token": partial(token.denial, "10.1.1.1", bearer),
        "a wrong token": partial(token.denial, "10.1.1.1", headers(authorization=b"Bearer x")),
        "a wrong token, of five that are good": partial(
            Access(Tokens(five)).denial, "10.1.1.1", headers(authorization=b"Bearer x")
        ),
        "no token": partial(token.denial, "10.1.1.1", _HEADERS),
        "a foreign address": partial(closed.denial, "192.0.2.1", _HEADERS),
        "a foreign address, 10,000 networks": partial(
            Access(Tokens([]), many).denial, "192.0.2.1", _HEADERS
        ),
        "an address behind two proxies": partial(behind.denial, "10.1.1.1", chain),
    }


def refusals() -> dict[str, tuple[dict[str, object], bytes]]:
    """By what is measured: `ebaas` of routes.yaml, and the header that a caller sends."""
    return {
        "400, for comparison: the body is no JSON": ({"token": TOKEN}, GOOD),
        "401, a wrong token": ({"token": TOKEN}, WRONG),
        "401, no token": ({"token": TOKEN}, b"x-nothing: here"),
        "403, a foreign address": ({"allow_from": "192.0.2.0/24"}, GOOD),
    }


def measure(folder: Path, ebaas: dict[str, object], header: bytes) -> float:
    """CPU seconds of the router's process for one such request."""
    table = {
        "version": 1,
        "ebaas": ebaas,
        "targets": {"nobody": {"url": "http://127.0.0.1:9/"}},
        "routes": [{"name": "all", "match": "*", "required": ["nobody"]}],
    }
    path, port = folder / "routes.yaml", free_port()
    path.write_text(json.dumps(table))
    options = ("--config", str(path), "--port", str(port), "--store", "none", "--ops-port", "0")
    command = (sys.executable, "-m", "router", "serve", *options, "--log-format", "json")
    router = Started("the router", command, {}, port, 0)
    try:
        drive(port, request("/callback", SAMPLE[:-1], header), REQUESTS // 10)
        before = router.cpu_seconds
        drive(port, request("/callback", SAMPLE[:-1], header), REQUESTS)
        return (router.cpu_seconds - before) / REQUESTS
    finally:
        router.stop()


def drive(port: int, said: bytes, times: int) -> None:
    """Say it so often, on all connections in turn, and hear every answer."""
    lines = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for _ in range(times // CONNECTIONS):
        for line in lines:
            line.sendall(said)
        for line in lines:
            if b'"code":"4' not in line.recv(4096):
                raise SystemExit("the router did not refuse")
    for line in lines:
        line.close()


def main() -> None:
    print("| the decision alone | µs |\n| --- | --- |")
    for name, work in decisions().items():
        print(f"| {name} | {seconds(work, 20_000) * 1e6:.1f} |")
    print("\n| a whole refusal | µs |\n| --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, (ebaas, header) in refusals().items():
            print(f"| {name} | {measure(Path(folder), ebaas, header) * 1e6:.0f} |")


if __name__ == "__main__":
    main()
