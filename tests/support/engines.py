"""The engines under test, and their pools."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import trustme

from router.model.secret import Secret
from router.net.egress import ANYWHERE, Egress
from router.net.tls import USUAL, Tls
from router.transport.engine import Answer, Failure, Pool, TargetExchange, as_it_came, lines_of
from router.transport.httpx_engine import HttpxPool
from router.transport.native import NativePool

Engine = Callable[..., Pool]

ENGINES: dict[str, Engine] = {"native": NativePool, "httpx": HttpxPool}

HEADERS = [(b"content-type", b"application/json"), (b"x-request-id", b"7")]
BODY = b'{"changes":["id1"]}'

#: Seconds for results that must come, even on a busy machine, and for results that must not.
LONG, SHORT = 10.0, 0.3

AUTHORITY = trustme.CA()


@asynccontextmanager
async def opened(
    engine: Engine, url: str, tls: Tls = USUAL, egress: Egress = ANYWHERE
) -> AsyncIterator[Pool]:
    pool = engine(url, tls=tls, egress=egress)
    try:
        yield pool
    finally:
        await pool.close()


async def post(pool: Pool, timeout: float = LONG, body: bytes = BODY) -> Answer | Failure:
    return await begun(pool, timeout, body)


def begun(
    pool: Pool, timeout: float = LONG, body: bytes = BODY
) -> TargetExchange[Answer | Failure]:
    return pool.post(lines_of(HEADERS), body, timeout, as_it_came)


def certified(
    name: str = "127.0.0.1", *, by: trustme.CA = AUTHORITY, ends: datetime | None = None
) -> ssl.SSLContext:
    """Return the context of a target that speaks TLS under this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    by.issue_cert(name, not_after=ends).configure_cert(context)
    return context


def trusting(**more: Any) -> Tls:
    return Tls.of(pem(AUTHORITY), **more)


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def shown(by: trustme.CA = AUTHORITY, name: str = "router.example") -> dict[str, Any]:
    pair = by.issue_cert(name)
    cert = "".join(part.bytes().decode() for part in pair.cert_chain_pems)
    return {"cert": cert, "key": Secret(pair.private_key_pem.bytes().decode())}
