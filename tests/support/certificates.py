"""Certificates in files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from router.net.tls import Pair


def issued(folder: Path, name: str = "cert", days: float = 90, since: float = -1) -> Pair:
    """Write a certificate for 127.0.0.1 that is valid for so many days, and its authority's."""
    now = datetime.now(UTC)
    first, last = now + timedelta(days=since), now + timedelta(days=days)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / f"{name}.ca"))
    made = authority.issue_cert("127.0.0.1", not_before=first, not_after=last)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    key.chmod(0o600)
    return Pair(cert, key)


def dateless(certificate: trustme.Blob) -> str:
    """Return a certificate that ends in a thirteenth month, which OpenSSL accepts."""
    der = ssl.PEM_cert_to_DER_cert(certificate.bytes().decode())
    assert der.count(b"30000101000000Z") == 1  # the end that trustme sets
    return ssl.DER_cert_to_PEM_cert(der.replace(b"30000101000000Z", b"30001301000000Z"))


def trusting(folder: Path, name: str = "cert") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / f"{name}.ca")
