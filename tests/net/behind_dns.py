"""A program that posts to hostile host names, in a network namespace of its own.

It needs 127.0.0.1:53 and an /etc/resolv.conf that names it. The system's resolver looks up every
name of the table and asks the stub DNS server here. The results are printed as JSON, by engine.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import cycle

from router.net.egress import ANYWHERE
from router.net.tls import USUAL
from router.transport import addresses as names
from router.transport.engine import Answer, Failure
from tests.support.engines import ENGINES, LONG, Engine, opened, post

ADDRESSES = {
    "metadata.test": ["169.254.169.254"],
    "alibaba.test": ["100.100.100.200"],
    "zero.test": ["0.0.0.0"],
    "multicast.test": ["224.0.0.1"],
    "broadcast.test": ["255.255.255.255"],
    "link-local-6.test": ["fe80::1"],
    "amazon-6.test": ["fd00:ec2::254"],
    "mapped.test": ["::ffff:169.254.169.254"],
    "nat64.test": ["64:ff9b::169.254.169.254"],
    "6to4.test": ["2002:a9fe:a9fe::1"],
    "teredo.test": ["2001:0:808:808:0:ffff:5601:5601"],
    "all-bad.test": ["169.254.169.254", "0.0.0.0", "fe80::1"],
    "good.test": ["127.0.0.1"],
    "one-good.test": ["169.254.169.254", "127.0.0.1"],
}
ALIASES = {"alias.test": "metadata.test"}
#: Resolves to another address each time.
REBINDS = "rebinds.test"
ODD = ["0xa9fea9fe", "2852039166", "169.254.43518", "[::ffff:a9fe:a9fe]"]
HANGING = [f"hangs-{number}.test" for number in range(12)]

OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 14\r\n\r\n" + b'{"code":"000"}'


class Stub:
    """A DNS server over UDP with the names above. It does not answer queries for HANGING."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        self._rebound = cycle(["127.0.0.1", "169.254.169.254"])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            query, peer = self._socket.recvfrom(512)
            end = query.index(b"\0", 12)
            name, kind = _text(query[12:end]), query[end + 2]
            if name not in HANGING:
                records = list(self._records(name, kind))
                counts = b"\0\1" + len(records).to_bytes(2, "big") + b"\0\0\0\0"
                head = query[:2] + b"\x81\x80" + counts + query[12 : end + 5]
                self._socket.sendto(head + b"".join(records), peer)

    def _records(self, name: str, kind: int) -> Iterator[bytes]:
        owner = name
        if name in ALIASES:
            owner = ALIASES[name]
            yield _record(name, 5, _wire(owner))
        found = [next(self._rebound)] if name == REBINDS and kind == 1 else ADDRESSES.get(owner, [])
        for text in found:
            address = ip_address(text)
            if kind == (1 if address.version == 4 else 28):
                yield _record(owner, kind, address.packed)


def _text(wire: bytes) -> str:
    labels = []
    while wire:
        labels.append(wire[1 : 1 + wire[0]].decode())
        wire = wire[1 + wire[0] :]
    return ".".join(labels).lower()


def _wire(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


def _record(owner: str, kind: int, data: bytes) -> bytes:
    fixed = kind.to_bytes(2, "big") + b"\0\1\0\0\0\0" + len(data).to_bytes(2, "big")
    return _wire(owner) + fixed + data


class Everywhere:
    """A target at every address of this network, including the metadata service's."""

    def __init__(self) -> None:
        #: The local address of each connection.
        self.reached: list[str] = []

    async def serve(self) -> int:
        server = await asyncio.start_server(self._answer, "0.0.0.0", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"}")
        writer.write(OK)
        writer.close()


def _format(result: Answer | Failure) -> str:
    return "answer" if isinstance(result, Answer) else f"{result.reason}: {result.detail}"


async def table(engine: Engine, port: int) -> dict[str, str]:
    """Return the result of a request to each name and notation."""
    results = {}
    for host in [*ADDRESSES, *ALIASES, *ODD]:
        async with opened(engine, f"http://{host}:{port}/") as pool:
            results[host] = _format(await post(pool))
    names.TTL = 0.0
    async with opened(engine, f"http://{REBINDS}:{port}/") as pool:
        results[REBINDS] = " then ".join([_format(await post(pool)), _format(await post(pool))])
    return results


async def hanging(engine: Engine, port: int) -> list[str]:
    """Return the result of a healthy target, and how many hanging look-ups had ended by then."""
    pools = [engine(f"http://{host}:{port}/", USUAL, ANYWHERE) for host in HANGING]
    posting = [asyncio.ensure_future(post(pool, LONG)) for pool in pools]
    await asyncio.sleep(0.1)
    async with opened(engine, f"http://good.test:{port}/") as pool:
        result = _format(await post(pool))
    over = sum(request.done() for request in posting)
    for pool in pools:
        await pool.close()
    return [result, f"{over} of {len(posting)} over"]


async def main() -> None:
    Stub()
    target = Everywhere()
    port = await target.serve()
    results = {
        name: {"table": await table(engine, port), "hanging": await hanging(engine, port)}
        for name, engine in ENGINES.items()
    }
    print(json.dumps({**results, "reached": sorted(set(target.reached))}))


if __name__ == "__main__":
    asyncio.run(main())
