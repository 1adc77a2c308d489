"""Access: callers are admitted by a token, by their address, by both, or always."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from router.model.secret import Secret
from router.net.egress import Address, Network, address_of, within

#: The header that has a token as `Bearer TOKEN`; in any other header it is the whole value.
AUTHORIZATION: Final = "authorization"

#: The shortest token without a warning, in characters: 16 of base64 are 96 random bits.
SHORT: Final = 16

_FORWARDED: Final = b"x-forwarded-for"

#: An address as proxies write it: with or without a port, IPv6 in brackets before a port.
_ENTRY: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)

Headers = Iterable[tuple[bytes, bytes]]


class Denial(StrEnum):
    """The reason for which a request is not admitted, in the log's words."""

    ADDRESS = "an address that ebaas.allow_from does not have"
    UNKNOWN = "an address that x-forwarded-for does not tell"
    MISSING = "no token"
    WRONG = "a wrong token"


class Tokens:
    """The valid tokens: several while one replaces another."""

    def __init__(
        self,
        tokens: Sequence[Secret],
        header: str = AUTHORIZATION,
        digests: Sequence[bytes] = (),
    ) -> None:
        """`digests` are the SHA-256 of further tokens, which need not be known here."""
        self._digests = [*(_digest(token.reveal().encode()) for token in tokens), *digests]
        self._header = header.encode("ascii")
        self._is_bearer = header == AUTHORIZATION

    def __bool__(self) -> bool:
        return bool(self._digests)

    def find(self, headers: Headers) -> int | Denial:
        """Return the index of the token that a request with these headers has, or its denial. The
        names of headers are in lower case."""
        given = [value for name, value in headers if name == self._header]
        if not given:
            return Denial.MISSING
        # Of two headers, a proxy may have checked the other one.
        token = self._token(given[0]) if len(given) == 1 else None
        # An empty token is never valid, not even by the digest of nothing.
        index = self._index_of(token) if token else None
        return Denial.WRONG if index is None else index

    def _token(self, value: bytes) -> bytes | None:
        if not self._is_bearer:
            return value.strip(b" \t")
        scheme, _, token = value.strip(b" \t").partition(b" ")
        return token.strip(b" ") if scheme.lower() == b"bearer" else None

    def _index_of(self, token: bytes) -> int | None:
        """The time that this takes reveals neither how much of a token is right, nor which."""
        given = _digest(token)
        equal = [hmac.compare_digest(given, digest) for digest in self._digests]
        return equal.index(True) if any(equal) else None


class Access:
    """The access rules of a listener: networks to come from, then tokens. Either may be missing."""

    def __init__(
        self,
        tokens: Tokens,
        allowed: Sequence[Network] = (),
        trusted: Sequence[Network] = (),
    ) -> None:
        """An empty `allowed` admits every address. `trusted` are the proxies that are believed."""
        self._tokens = tokens
        self._allowed = allowed
        # The same few callers and proxies come again and again, and there may be many networks.
        self._is_allowed = lru_cache(4096)(partial(within, networks=allowed))
        self._is_trusted = lru_cache(4096)(partial(within, networks=trusted))

    @property
    def is_open(self) -> bool:
        """Return whether every request is admitted."""
        return not self._tokens and not self._allowed

    def denial(self, peer: str, headers: Headers) -> Denial | None:
        """Return why a request is denied, if it is, without its body."""
        if self._allowed:
            address = self.caller(peer, headers)
            if address is None:
                return Denial.UNKNOWN
            if not self._is_allowed(address):
                return Denial.ADDRESS
        found = self._tokens.find(headers) if self._tokens else None
        return found if isinstance(found, Denial) else None

    def caller(self, peer: str, headers: Headers) -> Address | None:
        """Return the address that sent a request to the first trusted proxy; None if it is unknown.

        Each proxy adds the address of its own peer at the right end of `x-forwarded-for`. Entries
        to the left of an address that is not trusted are that caller's claims, and never read.
        """
        address = address_of(peer)
        forwarded = [value for name, value in headers if name == _FORWARDED]
        if not forwarded:
            return address
        for entry in reversed(b",".join(forwarded).split(b",")):
            if address is None or not self._is_trusted(address):
                break
            match = _ENTRY.fullmatch(entry.strip(b" \t").decode("latin-1"))
            address = address_of(match[1] or match[2] or match[3]) if match else None
        return address


def _digest(token: bytes) -> bytes:
    """Hashed, so that the comparison does not reveal the length either."""
    return sha256(token).digest()
