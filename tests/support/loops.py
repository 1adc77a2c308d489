"""The event loops of a suite: `anyio_backend = on(BOTH)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.effort import LONG

#: The loop of the standard library, and the one of `serve`.
BOTH = {"asyncio": False, "uvloop": True}

#: The loop of `serve`; with LONG=1 the other one.
LOOPS = {"asyncio": False} if LONG else {"uvloop": True}


def on(loops: Mapping[str, bool]) -> Any:
    @pytest.fixture(params=loops)
    def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
        return "asyncio", {"use_uvloop": loops[request.param]}

    return anyio_backend
