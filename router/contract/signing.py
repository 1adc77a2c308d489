"""Signatures of Standard Webhooks: made for targets, checked by whoever receives. Pure.

The scheme is the one of https://www.standardwebhooks.com: HMAC-SHA256 over the id, the time and the
body, joined by dots.
"""

from __future__ import annotations

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping

from router.model.secret import Secret

#: What a secret begins with whose rest is the key in base64.
KEY_PREFIX = "whsec_"

#: How far the clocks of sender and receiver may be apart, in seconds: the specification's.
TOLERANCE = 300.0

#: The shortest key that the specification asks for, in bytes.
LEAST_KEY = 24

_VERSION = b"v1,"


def key_of(secret: Secret) -> bytes:
    """The key that a secret stands for: what follows `whsec_`, in base64, else its own UTF-8.

    Raises ValueError where it stands for none; the text never has the secret in it.
    """
    text = secret.reveal()
    encoded = text.removeprefix(KEY_PREFIX)
    if not encoded:
        raise ValueError("a secret is empty")
    if encoded == text:
        return text.encode()
    try:
        # Its padding may be missing, as the standard's own library has it.
        return a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError:  # binascii.Error, or what is not ASCII
        raise ValueError(f"what follows {KEY_PREFIX} is not base64") from None


class Signer:
    """Signs by all of its secrets, so that a receiver may know the old one or the new one."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        """Raises ValueError, as `key_of` does."""
        #: With the key taken in already: a copy costs less than half of a new one.
        self._prepared = [hmac.new(key_of(secret), digestmod="sha256") for secret in secrets]

    def sign(self, webhook_id: bytes, timestamp: bytes, body: bytes) -> bytes:
        """The value of `webhook-signature`: a signature for each secret, joined by blanks."""
        head = b"%b.%b." % (webhook_id, timestamp)
        return b" ".join(_VERSION + each for each in self._signatures(head, body))

    def _signatures(self, head: bytes, body: bytes) -> Iterable[bytes]:
        for prepared in self._prepared:
            signing = prepared.copy()
            signing.update(head)
            signing.update(body)
            yield b2a_base64(signing.digest(), newline=False)

    def why_not(self, headers: Mapping[str, str], body: bytes, now: float) -> str:
        """Why a request is not to be trusted, in words for people; `""` where it is.

        One signature by one of the secrets is enough. The names of `headers` are in lower case,
        `now` is Unix time. Signatures are compared in constant time.
        """
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        for name in names:
            if not headers.get(name):
                return f"there is no {name}"
        webhook_id, timestamp, signatures = (headers[name] for name in names)
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return "webhook-timestamp is no Unix time"
        if abs(now - int(timestamp)) > TOLERANCE:
            return _out_of_time(now - int(timestamp))
        head = f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogateescape")
        given = [s.encode("utf-8", "surrogateescape") for s in signatures.split()]
        # No first match ends it: how long it takes tells nothing.
        right = [
            hmac.compare_digest(each, _VERSION + ours)
            for ours in self._signatures(head, body)
            for each in given
        ]
        return "" if any(right) else "no signature is right: another secret, or a changed body"


def _out_of_time(age: float) -> str:
    where = "old" if age > 0 else "ahead of this clock"
    return f"webhook-timestamp is {abs(age):.0f} s {where}, {TOLERANCE:.0f} are allowed"
