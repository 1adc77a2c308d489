"""What is given to a client to bring back later: it can be read by anybody, and made here alone."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from hashlib import sha256
from typing import Any

_DIGEST = sha256().digest_size


class Seal:
    """By a key that lives as long as the process: nothing has to be remembered for it."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def put(self, value: Any) -> str:
        """A text of letters, digits, `-` and `_`."""
        content = json.dumps(value, separators=(",", ":")).encode()
        sealed = base64.urlsafe_b64encode(self._mark(content) + content)
        return sealed.decode().rstrip("=")

    def take(self, text: str) -> Any:
        """What was put there. ValueError for what was not."""
        if not text.isascii():
            raise ValueError
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        mark, content = sealed[:_DIGEST], sealed[_DIGEST:]
        if not hmac.compare_digest(mark, self._mark(content)):
            raise ValueError
        return json.loads(content)

    def _mark(self, content: bytes) -> bytes:
        return hmac.digest(self._key, content, "sha256")
