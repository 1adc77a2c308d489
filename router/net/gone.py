"""Whether a caller has hung up: asked for each event, and hardly ever so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Gone(Protocol):
    """Told as a future tells that it is done, which any future may do."""

    def done(self) -> bool: ...

    def add_done_callback(self, told: Callable[[Any], object], /) -> None: ...

    def remove_done_callback(self, told: Callable[[Any], object], /) -> int: ...
