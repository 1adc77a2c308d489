"""TLS: certificates and keys, contexts for targets, contexts for listeners."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

from router.model.errors import SettingInvalid, StartFailed, why_not
from router.model.secret import Secret, is_exposed

#: The most that is read of a file to check its kind, in bytes: some hundred certificates.
_MAX_FILE = 1024 * 1024

#: Messages for pairs that OpenSSL refuses, by its own reason.
_WHY = {
    "KEY_VALUES_MISMATCH": "{key} is not the key of {cert}",
    "EE_KEY_TOO_SMALL": "{cert} has a key that is too short",
    "CA_MD_TOO_WEAK": "{cert} is signed by a method that is too weak",
}


class BadCertificate(Exception):
    """A certificate or key that can't be used; the message is for people."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file with a certificate chain and a file with its key, both in PEM."""

    cert: Path
    key: Path
    #: Their names in errors, if not their paths.
    names: tuple[str, str] | None = None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Use this certificate for connections. Raises BadCertificate."""
        cert, key = self._called
        _read(self.cert, cert, b"-----BEGIN CERTIFICATE-----", "certificate")
        if b"ENCRYPTED" in _read(self.key, key, b"PRIVATE KEY-----", "key"):
            raise BadCertificate(f"{key} needs a password: store it without")
        try:
            # With a password, OpenSSL never asks for one on the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except OSError as error:  # an SSLError is one, too
            reason = getattr(error, "reason", None) or ""
            why = _WHY.get(reason, "{cert} and {key} can't be used together")
            raise BadCertificate(why.format(cert=cert, key=key)) from None

    def validity(self) -> tuple[float, float]:
        """Return the start and the end of the validity, in Unix time. Raises BadCertificate."""
        try:
            # The standard library's own parser, which has no public name.
            read = ssl._ssl._test_decode_cert(self.cert)  # type: ignore[attr-defined]
        except OSError:
            raise BadCertificate(f"{self._called[0]} is no certificate in PEM") from None
        try:
            first, last = (ssl.cert_time_to_seconds(read[n]) for n in ("notBefore", "notAfter"))
        except ValueError:
            raise BadCertificate(f"{self._called[0]} has a date that can't be read") from None
        return first, last

    @property
    def _called(self) -> tuple[str, str]:
        return self.names or (str(self.cert), str(self.key))


def day(at: float) -> str:
    """Format the start or the end of a validity for people."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(path: Path, name: str, mark: bytes, what: str) -> bytes:
    """Raises BadCertificate if the file can't be read, or is of another kind."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE)
    except OSError as error:
        raise BadCertificate(f"{name} can't be read: {why_not(path, error)}") from None
    if mark not in content:
        raise BadCertificate(f"{name} has no {what} in PEM in it")
    return content


#: A certificate in PEM.
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")

#: The only protocol that is spoken here.
_PROTOCOLS = ["http/1.1"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to one target; made by `of`. Equal if made of equal parts."""

    #: Certificates to trust, in PEM; if empty, those that the system trusts.
    ca: str = field(default="", repr=False)
    #: The client certificate in PEM, followed by the rest of its chain, and its key.
    cert: str = field(default="", repr=False)
    key: Secret = field(default=Secret(""), repr=False)
    #: The name that the target's certificate has to have; if empty, the URL's host.
    server_name: str = ""
    #: Whether the target's certificate is verified.
    verify: bool = True
    #: When the last certificate of `ca` expires, since old ones stay in such files, and when the
    #: first one of `cert` does; in Unix time, 0 for none.
    ca_ends: float = field(default=0.0, compare=False)
    cert_ends: float = field(default=0.0, compare=False)
    #: None for the context that targets share: see `trust`.
    _context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        ca: str = "",
        cert: str = "",
        key: Secret | None = None,
        server_name: str = "",
        *,
        verify: bool = True,
    ) -> Tls:
        """Raises BadCertificate for PEM that can't be used."""
        context = None
        if ca or cert or not verify:
            context = _context(_vouching(ca), verify)
        if context and cert and key and key.reveal():
            with _in_memory(cert) as one, _in_memory(key.reveal()) as other:
                Pair(one, other, names=("cert", "key")).load_into(context)
        ca_ends = max(_ends(ca, "ca"), default=0.0)
        cert_ends = min(_ends(cert, "cert"), default=0.0)
        return cls(ca, cert, key or Secret(""), server_name, verify, ca_ends, cert_ends, context)

    @property
    def expires(self) -> float:
        """The first expiry of the two, in Unix time; 0 for none."""
        return min(filter(None, (self.ca_ends, self.cert_ends)), default=0.0)

    @property
    def vouches_for_itself(self) -> bool:
        """Return whether a certificate in `ca` is not an authority's: those that it signed are
        refused."""
        stored = self.trust.cert_store_stats() if self.ca else {"x509": 0, "x509_ca": 0}
        return stored["x509_ca"] < stored["x509"]

    @property
    def trust(self) -> ssl.SSLContext:
        """The context for connections to the target."""
        return self._context or system_trust()


#: TLS to targets without settings of their own.
USUAL = Tls()


@cache
def system_trust() -> ssl.SSLContext:
    """Return the process's one context with the certificates of the system or of `SSL_CERT_FILE`.

    It is made on first use, since reading some hundred certificates takes milliseconds.
    """
    return _context("", verify=True)


def certificates_in(pem: str) -> list[str]:
    """Return all certificates in a text."""
    return _CERTIFICATE.findall(pem)


def _vouching(ca: str) -> str:
    """Return the certificates of a text alone. An unreadable one is an error: without it fewer
    would be trusted, or if it was the only one, all that the system trusts."""
    certificates = certificates_in(ca)
    if len(certificates) != max(bool(ca), ca.count("-----BEGIN CERTIFICATE-----")):
        raise BadCertificate("ca has a certificate that can't be read")
    return "\n".join(certificates)


def _context(ca: str, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError:
        raise BadCertificate("ca has a certificate that can't be read") from None
    # The same on every Python, whose defaults changed with 3.13. Strict RFC 5280 is not required,
    # since a plain `openssl req -x509` does not meet it; and every certificate in `ca` is trusted,
    # with or without its own issuer.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems' Pythons leave it open
    context.set_alpn_protocols(_PROTOCOLS)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _ends(pem: str, name: str) -> Iterator[float]:
    """Yield when each certificate of a text expires, in Unix time."""
    for certificate in certificates_in(pem):
        with _in_memory(certificate) as path:
            yield Pair(path, path, names=(name, name)).validity()[1]


@contextmanager
def _in_memory(text: str) -> Iterator[Path]:
    """Make a temporary file in memory for OpenSSL, which reads keys from files alone."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode("utf-8", "surrogatepass"))
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


#: How long before its end a certificate causes a warning, in seconds: two weeks.
SOON_AT_LISTENER = 14 * 24 * 3600.0


def pair_of(cert: Path | None, key: Path | None) -> Pair | None:
    """Return the pair to serve with, if any. Raises SettingInvalid for half of one."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        given, missing = (
            ("--tls-key", "--tls-cert") if cert is None else ("--tls-cert", "--tls-key")
        )
        raise SettingInvalid(f"{given}: needs {missing}")
    return Pair(cert, key)


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """TLS of a listener. Equal for the same contents of files."""

    mark: bytes
    context: ssl.SSLContext = field(compare=False)


def listener_tls(pair: Pair) -> ListenerTls:
    """Return a listener's TLS for the pair as it is now: 1.2 or newer, HTTP/1.1 only.

    Raises StartFailed with one line for a pair that callers could not trust.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems' Pythons leave it open
    context.set_alpn_protocols(_PROTOCOLS)
    try:
        mark = sha256(b"\0".join(path.read_bytes() for path in (pair.cert, pair.key))).digest()
    except OSError:
        mark = b""  # `load_into` raises
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
    return ListenerTls(mark, context)


def listener_warnings(pair: Pair, now: float) -> list[str]:
    """Return what is suspicious about a usable pair."""
    warnings = []
    if is_exposed(pair.key):
        warnings.append(f"--tls-key: everybody on this machine can read {pair.key}: chmod 600")
    last = pair.validity()[1]
    if last - now < SOON_AT_LISTENER:
        warnings.append(f"--tls-cert: {pair.cert} expires on {day(last)}")
    return warnings
