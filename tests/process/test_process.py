"""What a router's process keeps to itself. Real processes."""

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


def test_what_it_writes_is_its_users_alone(router: Serving) -> None:
    """A file that the process makes can be read by its own user alone, whatever the umask that it
    was started with."""
    status = Path(f"/proc/{router.process.pid}/status").read_text()
    assert re.search(r"^Umask:\s+0077$", status, re.MULTILINE)


def test_a_crash_leaves_no_memory_behind(router: Serving) -> None:
    """The process writes no core file: its memory has secrets in it."""
    limits = Path(f"/proc/{router.process.pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.MULTILINE)


def test_a_store_that_everybody_can_read_is_warned_about(tmp_path: Path) -> None:
    """A store's file that was made readable for everybody is a warning at each start."""
    store = tmp_path / "store.db"
    with target() as endpoint:
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            assert not router.lines("config")
        store.chmod(0o644)
        tmp_path.chmod(0o755)
        with serving(tmp_path, {"one": endpoint}, store=store) as router:
            (line,) = router.lines("config")
    assert "can read the store" in line["problem"]
