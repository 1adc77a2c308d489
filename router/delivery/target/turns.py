"""How long the event loop's turns take while it has events to handle."""

from __future__ import annotations

import asyncio
import time
from typing import Final

#: For how long the longest turn counts at least, and at most twice as long, in seconds. A process
#: that is limited to a part of a core is stopped once in each tenth of a second.
_LATELY: Final = 0.5


class Turns:
    """Measures the loop's turns in which somebody looks; the others cost nothing."""

    def __init__(self) -> None:
        self._began = 0.0
        self._is_measuring = False
        #: The longest turns of this period and of the one before, and when this period ends.
        self._longest = self._before = self._until = 0.0

    def look(self) -> float:
        """Return the longest turn of late, this one so far included, in seconds."""
        now = time.monotonic()
        if not self._is_measuring:
            self._is_measuring, self._began = True, now
            asyncio.get_running_loop().call_soon(self._end)
        return max(self._longest, self._before, now - self._began)

    def _end(self) -> None:
        now = time.monotonic()
        self._is_measuring = False
        if now >= self._until:
            # What was before a pause is long ago.
            self._before = self._longest if now < self._until + _LATELY else 0.0
            self._longest, self._until = 0.0, now + _LATELY
        self._longest = max(self._longest, now - self._began)
