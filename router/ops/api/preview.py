"""What was previewed, kept until it is acted on: a token stands for it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from router.store.ops import Action, Selection

#: How many are kept of one holder; the oldest goes.
MOST_PREVIEWS = 32


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
        #: By who made them, and by token.
        self._kept: dict[str, dict[str, Previewed]] = {}

    def put(self, previewed: Previewed) -> str:
        """The token, which nobody guesses."""
        token = secrets.token_urlsafe()
        kept = self._kept.setdefault(previewed.action.who, {})
        kept[token] = previewed
        if len(kept) > MOST_PREVIEWS:
            del kept[next(iter(kept))]
        return token

    def get(self, token: str) -> Previewed | None:
        return next((kept[token] for kept in self._kept.values() if token in kept), None)
