"""A target that is held back, where routes.yaml changes meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from router.config.holders import TokenHolder
from router.ops.api import targets as pausing
from router.ops.api.endpoint import Asked, Rejected

pytestmark = pytest.mark.anyio


class Parts:
    """The target is there when it is first looked for, and gone from then on."""

    is_running = True

    def __init__(self) -> None:
        self.stored, self.targets = self, {"ledger": SimpleNamespace(paused=False)}

    def view(self, _: TokenHolder) -> Any:
        found, self.targets = self.targets, {}
        return type("View", (), {"targets": found})

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        yield


async def test_a_target_that_goes_meanwhile_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload may remove it between the question and the answer."""

    async def resume(*_: object) -> None:
        """There was no pause."""

    monkeypatch.setattr(pausing, "resume", resume)
    parts: Any = Parts()
    asked = Asked(parts, TokenHolder("ops", frozenset({"pause"})), {"name": "ledger"}, {})
    assert await pausing.resume_target(asked) == {"paused": None, "pause": None}
    with pytest.raises(Rejected):
        await pausing.resume_target(asked)
