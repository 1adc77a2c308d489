"""Who may come in: by a token, by the address that a request comes from, by both, or anybody."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from hashlib import sha256
from typing import Final

from router.model.secret import Secret
from router.net.egress import Address, Networks, address_of

#: The header in which a token comes as `Bearer TOKEN`; in any other it is the whole value.
AUTHORIZATION: Final = "authorization"

#: The shortest token that is not warned about, in characters: 16 of base64 are 96 random bits.
SHORT: Final = 16

_FORWARDED: Final = b"x-forwarded-for"

#: An address as proxies write it: some with its port, IPv6 in brackets then.
_ENTRY: Final = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)

Headers = Iterable[tuple[bytes, bytes]]


class Denial(StrEnum):
    """What a request did not get past, as the log says it."""

    ADDRESS = "an address that ebaas.allow_from does not have"
    UNKNOWN = "an address that x-forwarded-for does not tell"
    MISSING = "no token"
    WRONG = "a wrong token"

    @property
    def is_token(self) -> bool:
        return self in (Denial.MISSING, Denial.WRONG)


class Tokens:
    """The tokens that are good. While one replaces another there are several."""

    def __init__(
        self,
        tokens: Sequence[Secret],
        header: str = AUTHORIZATION,
        digests: Sequence[bytes] = (),
    ) -> None:
        """`digests` are SHA-256 of further ones, which nobody here has to know."""
        self._digests = [*(_digest(token.reveal().encode()) for token in tokens), *digests]
        self._header = header.encode("ascii")
        self._is_bearer = header == AUTHORIZATION

    def __bool__(self) -> bool:
        return bool(self._digests)

    def denial(self, headers: Headers) -> Denial | None:
        """What keeps a request with these headers out; names are in lower case."""
        found = self.find(headers)
        return found if isinstance(found, Denial) else None

    def find(self, headers: Headers) -> int | Denial:
        """Which token a request with these headers has, counted from 0; or what keeps it out."""
        given = [value for name, value in headers if name == self._header]
        if not given:
            return Denial.MISSING
        # Of two, a proxy may have looked at the other one.
        token = self._token(given[0]) if len(given) == 1 else None
        # None at all is never good, not even by the digest of nothing.
        at = self._place_of(token) if token else None
        return Denial.WRONG if at is None else at

    def _token(self, value: bytes) -> bytes | None:
        if not self._is_bearer:
            return value.strip(b" \t")
        scheme, _, token = value.strip(b" \t").partition(b" ")
        return token.strip(b" ") if scheme.lower() == b"bearer" else None

    def _place_of(self, token: bytes) -> int | None:
        """In a time that tells neither how much of a token was right, nor which of them it was."""
        given = _digest(token)
        good = [hmac.compare_digest(given, digest) for digest in self._digests]
        return good.index(True) if any(good) else None


class Access:
    """What stands before a listener: networks to come from, then tokens. Either may be none."""

    def __init__(
        self,
        tokens: Tokens,
        allowed: Networks | None = None,
        trusted: Networks | None = None,
    ) -> None:
        """`allowed` is None for anybody; `trusted` are the proxies whose word on it counts."""
        self._tokens = tokens
        self._allowed = allowed
        self._trusted = trusted or Networks()

    @property
    def is_open(self) -> bool:
        """Whether anybody may come in."""
        return not self._tokens and self._allowed is None

    def denial(self, peer: str, headers: Headers) -> Denial | None:
        """What keeps a request out, None where nothing does. It costs some microseconds, and needs
        nothing of the body."""
        if self._allowed is not None:
            address = self.caller(peer, headers)
            if address is None:
                return Denial.UNKNOWN
            if address not in self._allowed:
                return Denial.ADDRESS
        return self._tokens.denial(headers) if self._tokens else None

    def caller(self, peer: str, headers: Headers) -> Address | None:
        """Where a request comes from, None where that can't be told."""
        forwarded = [value for name, value in headers if name == _FORWARDED]
        return caller_of(peer, forwarded, self._trusted)


def _digest(token: bytes) -> bytes:
    """Of one length whatever the token's: comparing tells nothing of that either."""
    return sha256(token).digest()


def caller_of(peer: str, forwarded: Sequence[bytes], trusted: Networks) -> Address | None:
    """The address of who sent a request to the first proxy that is trusted; None where that can't
    be told.

    `peer` is who is connected, `forwarded` every `x-forwarded-for` in the order they came. Each
    proxy adds whom it heard from at the right end; what is left of an address that is not trusted
    is that caller's own claim, and never read.
    """
    address = address_of(peer)
    if not forwarded:
        return address
    for entry in reversed(b",".join(forwarded).split(b",")):
        if address is None or address not in trusted:
            break
        address = _read(entry)
    return address


def _read(entry: bytes) -> Address | None:
    match = _ENTRY.fullmatch(entry.strip(b" \t").decode("latin-1"))
    return address_of(match[1] or match[2] or match[3]) if match else None
