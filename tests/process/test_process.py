"""Files and memory of a router's process are for its own user. Real processes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Serving, serving, target


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Serving]:
    with target() as endpoint, serving(tmp_path, {"one": endpoint}) as router:
        assert router.post("one") == "000"
        yield router


def test_its_files_are_its_users_alone(router: Serving) -> None:
    """Its umask is 0077, whatever it was started with, and it writes no core file, which would hold
    secrets."""
    status = Path(f"/proc/{router.process.pid}/status").read_text()
    assert re.search(r"^Umask:\s+0077$", status, re.MULTILINE)
    limits = Path(f"/proc/{router.process.pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)


def test_a_store_that_everybody_can_read_is_warned_about(tmp_path: Path) -> None:
    """At each start."""
    store = tmp_path / "store.db"
    with target() as endpoint:
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            assert not router.lines("config")
        store.chmod(0o644)
        tmp_path.chmod(0o755)
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            (line,) = router.lines("config")
    assert "can read the store" in line["problem"]
