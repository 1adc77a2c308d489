"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.disks import Disks


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with closing(Disks(tmp_path)) as own:
        yield own
