"""TLS at a listener: its certificate, checked before anything is served with it."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from router.model.errors import SettingInvalid, StartFailed
from router.model.secret import is_exposed
from router.net.certificates import BadCertificate, Pair, day

#: From how long before its end a certificate is warned about, in seconds: a fortnight.
SOON_AT_LISTENER = 14 * 24 * 3600.0


def pair_of(cert: Path | None, key: Path | None) -> Pair | None:
    """The pair to serve with, where there is one. Raises SettingInvalid for half of one."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = (
            ("--tls-key", "--tls-cert") if cert is None else ("--tls-cert", "--tls-key")
        )
        raise SettingInvalid(f"{given}: needs {missing}")
    return Pair(cert, key)


def server_context(pair: Pair) -> ssl.SSLContext:
    """What a listener speaks TLS by: 1.2 or newer, HTTP/1.1 only.

    Raises StartFailed with one clear line for a pair that no caller could or should trust.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems' Pythons leave it open
    context.set_alpn_protocols(["http/1.1"])
    try:
        pair.load_into(context)
        first, last = pair.validity()
    except BadCertificate as error:
        raise StartFailed(f"--tls-cert, --tls-key: {error}") from None
    now = time.time()
    if now > last:
        raise StartFailed(f"--tls-cert: {pair.cert} has expired on {day(last)}")
    if now < first:
        raise StartFailed(f"--tls-cert: {pair.cert} is not valid before {day(first)}")
    return context


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """What a listener speaks TLS by. Two of the same files' contents are equal."""

    mark: bytes
    context: ssl.SSLContext = field(compare=False)


def listener_tls(pair: Pair) -> ListenerTls:
    """By the pair as it is now. Raises StartFailed, as `server_context` does."""
    try:
        mark = sha256(b"\0".join(path.read_bytes() for path in (pair.cert, pair.key))).digest()
    except OSError:
        mark = b""  # what is wrong is said below
    return ListenerTls(mark, server_context(pair))


def listener_warnings(pair: Pair, now: float) -> list[str]:
    """What is dubious about a pair that can be used."""
    found = []
    if is_exposed(pair.key):
        found.append(f"--tls-key: everybody on this machine can read {pair.key}: chmod 600")
    last = pair.validity()[1]
    if last - now < SOON_AT_LISTENER:
        found.append(f"--tls-cert: {pair.cert} expires on {day(last)}")
    return found
