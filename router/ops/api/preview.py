"""What was previewed, kept until it is acted on: a token stands for it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from router.store import Action, Selection

#: How many are kept; the oldest goes.
MOST_PREVIEWS = 100


@dataclass(frozen=True, slots=True)
class Previewed:
    """Which deliveries, and what was seen of them."""

    #: As it will be recorded; it is of the moment of the preview, on the store's clock.
    action: Action
    selection: Selection
    number: int


class Previews:
    """They live as long as the process."""

    def __init__(self) -> None:
        self._kept: dict[str, Previewed] = {}

    def put(self, previewed: Previewed) -> str:
        """The token, which nobody guesses."""
        token = secrets.token_urlsafe()
        self._kept[token] = previewed
        if len(self._kept) > MOST_PREVIEWS:
            del self._kept[next(iter(self._kept))]
        return token

    def get(self, token: str) -> Previewed | None:
        return self._kept.get(token)
