"""TLS: certificates and keys out of files, TLS to one target, TLS at a listener."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path

from router.model.errors import SettingInvalid, StartFailed, why_not
from router.model.secret import Secret, is_exposed

#: The most that is read of a file to see what it is, in bytes: some hundred certificates.
_MAX_FILE = 1024 * 1024

#: What is said of a pair that OpenSSL does not take, by its own word for it.
_WHY = {
    "KEY_VALUES_MISMATCH": "{key} is not the key of {cert}",
    "EE_KEY_TOO_SMALL": "{cert} has a key that is too short",
    "CA_MD_TOO_WEAK": "{cert} is signed by a method that is too weak",
}


class BadCertificate(Exception):
    """A certificate or key that can't be used; the text is for people."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file with a certificate and those that vouch for it, and a file with its key; both PEM."""

    cert: Path
    key: Path
    #: What they are called in errors, where that is not their paths.
    names: tuple[str, str] | None = None

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have connections show this certificate. Raises BadCertificate."""
        cert, key = self._called
        _check(self.cert, cert, b"-----BEGIN CERTIFICATE-----", "certificate")
        _check(self.key, key, b"PRIVATE KEY-----", "key")
        try:
            context.load_cert_chain(self.cert, self.key, password=_no_password)
        except ssl.SSLError as error:
            why = _WHY.get(error.reason or "", "{cert} and {key} can't be used together")
            raise BadCertificate(why.format(cert=cert, key=key)) from None
        except _HasPassword:
            raise BadCertificate(f"{key} needs a password: store it without") from None
        except OSError:  # OpenSSL does not say which
            raise BadCertificate(f"{cert} or {key} can't be read any more") from None

    def validity(self) -> tuple[float, float]:
        """From when until when the certificate is good; Unix time. Raises BadCertificate."""
        try:
            # The standard library's own reader, which has no public name.
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
    """When a certificate ends, or begins, as people are told it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


class _HasPassword(Exception):
    """A key is encrypted."""


def _no_password() -> str:
    """Instead of asking on the terminal."""
    raise _HasPassword


def _check(path: Path, name: str, mark: bytes, what: str) -> None:
    """Raises BadCertificate where the file can't be read, or is of another sort."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE)
    except OSError as error:
        raise BadCertificate(f"{name} can't be read: {why_not(path, error)}") from None
    if mark not in content:
        raise BadCertificate(f"{name} has no {what} in PEM in it")


_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")

#: All that HTTP clients here speak.
_PROTOCOLS = ["http/1.1"]


@dataclass(frozen=True, slots=True)
class Tls:
    """Two are equal that were made of the same. `of` makes one."""

    #: Who may vouch for the target, in PEM; where it is empty, whom the system trusts.
    ca: str = field(default="", repr=False)
    #: What is shown to a target that asks who is calling, in PEM: a certificate, followed by those
    #: that vouch for it, and its key.
    cert: str = field(default="", repr=False)
    key: Secret = field(default=Secret(""), repr=False)
    #: The name that the target's certificate has to have; where it is empty, the URL's host.
    server_name: str = ""
    #: Whether the target's certificate is looked at at all.
    verify: bool = True
    #: When the last certificate of `ca` ends, since old ones stay in such a file, and when the
    #: first one of `cert` does; in Unix time, 0 where there is none.
    ca_ends: float = field(default=0.0, compare=False)
    cert_ends: float = field(default=0.0, compare=False)
    #: None for what is the same for every target: see `trust`.
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
        """When the first of the two ends, in Unix time; 0 where there is none."""
        return min(filter(None, (self.ca_ends, self.cert_ends)), default=0.0)

    @property
    def vouches_for_itself(self) -> bool:
        """Whether a certificate in `ca` is no authority's: what others it signed are refused."""
        stored = self.trust.cert_store_stats() if self.ca else {"x509": 0, "x509_ca": 0}
        return stored["x509_ca"] < stored["x509"]

    @property
    def trust(self) -> ssl.SSLContext:
        """What connections to the target are made with."""
        return self._context or system_trust()


#: How TLS is spoken to whoever has nothing of its own said about it.
USUAL = Tls()


@cache
def system_trust() -> ssl.SSLContext:
    """Trusts whom the system trusts, or who is named by `SSL_CERT_FILE`; one for the process.

    It is made on first use, since reading some hundred certificates takes milliseconds.
    """
    return _context("", verify=True)


def certificates_in(pem: str) -> list[str]:
    """Every certificate of a text, whatever stands around them."""
    return _CERTIFICATE.findall(pem)


def _vouching(ca: str) -> str:
    """The certificates of a text alone. None of them is left out because it can't be read: fewer
    would be trusted then, or for want of any, all that the system trusts."""
    found = certificates_in(ca)
    if len(found) != max(bool(ca), ca.count("-----BEGIN CERTIFICATE-----")):
        raise BadCertificate("ca has a certificate that can't be read")
    return "\n".join(found)


def _context(ca: str, verify: bool) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca or None)
    except ssl.SSLError:
        raise BadCertificate("ca has a certificate that can't be read") from None
    # Alike on every Python, whose own choice changed with 3.13: RFC 5280 to the letter is not asked
    # for, since a plain `openssl req -x509` makes no such authority; and whoever is in `ca` is
    # trusted, with or without who vouches for them in turn.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some systems' Pythons leave it open
    context.set_alpn_protocols(_PROTOCOLS)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _ends(pem: str, name: str) -> Iterator[float]:
    """When each certificate of a text ends, in Unix time."""
    for certificate in certificates_in(pem):
        with _in_memory(certificate) as path:
            yield Pair(path, path, names=(name, name)).validity()[1]


@contextmanager
def _in_memory(text: str) -> Iterator[Path]:
    """A file for OpenSSL, which takes keys from files alone; it is on no disk, and gone after."""
    with ExitStack() as stack:
        descriptor = os.memfd_create("pem")
        stack.callback(os.close, descriptor)
        os.write(descriptor, text.encode("utf-8", "surrogatepass"))
        yield Path(f"/proc/self/fd/{descriptor}")


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
