"""Signatures of https://www.standardwebhooks.com: HMAC-SHA256 over the id, the time and the body,
joined by dots.
"""

from __future__ import annotations

import hmac
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Mapping

from router.model.secret import Secret

#: The prefix of a secret whose rest is the key in base64.
KEY_PREFIX = "whsec_"

#: The largest difference between the clocks of sender and receiver, in seconds, by the
#: specification.
TOLERANCE = 300.0

#: The shortest key that the specification allows, in bytes.
LEAST_KEY = 24

_VERSION = b"v1,"


def key_of(secret: Secret) -> bytes:
    """The key of a secret: base64 after `whsec_`, otherwise the secret itself in UTF-8.

    Raises ValueError, whose text never contains the secret.
    """
    text = secret.reveal()
    encoded = text.removeprefix(KEY_PREFIX)
    if not encoded:
        raise ValueError("a secret is empty")
    if encoded == text:
        return text.encode()
    try:
        # The padding may be missing, as the standard's library allows.
        return a2b_base64(encoded + "=" * (-len(encoded) % 4), strict_mode=True)
    except ValueError:  # binascii.Error, or not ASCII
        raise ValueError(f"what follows {KEY_PREFIX} is not base64") from None


class Signer:
    """Signs with all of its secrets, so that a receiver may have the old one or the new one."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        """Raises ValueError, as `key_of` does."""
        #: Keyed already: a copy costs less than half of a new one.
        self._prepared = [hmac.new(key_of(secret), digestmod="sha256") for secret in secrets]

    def sign(self, webhook_id: bytes, timestamp: bytes, body: bytes) -> bytes:
        """The value of `webhook-signature`: one signature for each secret, joined by blanks."""
        head = b"%b.%b." % (webhook_id, timestamp)
        return b" ".join(_VERSION + signature for signature in self._signatures(head, body))

    def _signatures(self, head: bytes, body: bytes) -> Iterable[bytes]:
        for prepared in self._prepared:
            signing = prepared.copy()
            signing.update(head)
            signing.update(body)
            yield b2a_base64(signing.digest(), newline=False)

    def why_not(self, headers: Mapping[str, str], body: bytes, now: float) -> str:
        """Return why a request is not trusted, in words for people; `""` if it is.

        One valid signature is enough. The names of `headers` are in lower case, `now` is Unix time.
        Signatures are compared in constant time.
        """
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        for name in names:
            if not headers.get(name):
                return f"there is no {name}"
        webhook_id, timestamp, signatures = (headers[name] for name in names)
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return "webhook-timestamp is not a Unix time"
        if abs(now - int(timestamp)) > TOLERANCE:
            return _out_of_time(now - int(timestamp))
        head = f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogateescape")
        given = [s.encode("utf-8", "surrogateescape") for s in signatures.split()]
        # All are compared, so that the time does not depend on which one matches.
        valid = [
            hmac.compare_digest(theirs, _VERSION + ours)
            for ours in self._signatures(head, body)
            for theirs in given
        ]
        return "" if any(valid) else "no signature is valid: another secret, or a changed body"


def _out_of_time(age: float) -> str:
    where = "old" if age > 0 else "ahead of this clock"
    return f"webhook-timestamp is {abs(age):.0f} s {where}, {TOLERANCE:.0f} are allowed"
