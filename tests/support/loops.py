"""The loops that a suite runs on: `anyio_backend = on(BOTH)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.effort import LONG

#: The standard library's own, and the one that serves.
BOTH = {"asyncio": False, "uvloop": True}

#: The one that serves, and the other one as well with LONG=1, which `make test-long` sets.
LOOPS = {"uvloop": True, **({"asyncio": False} if LONG else {})}


def on(loops: Mapping[str, bool]) -> Any:
    @pytest.fixture(params=loops)
    def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
        return "asyncio", {"use_uvloop": loops[request.param]}

    return anyio_backend
