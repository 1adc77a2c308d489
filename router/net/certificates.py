"""Certificates and their keys, out of files: what is wrong with them is said in a few words."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from router.model.files import why_not

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
