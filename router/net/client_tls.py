"""How TLS is spoken to one target: whom it trusts, and what is shown to it."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from router.model.secret import Secret
from router.net.certificates import BadCertificate, Pair

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
