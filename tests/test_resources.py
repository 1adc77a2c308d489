"""What the system allows: files, between callers and targets, and memory, for callbacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import StartFailed
from router.resources import Callers, memory_limit, memory_note, share_out

ASKED = Callers(4096, 256)


def test_what_there_is_enough_of_is_as_asked() -> None:
    """With files enough callers have the connections that the settings say, and nothing is told."""
    assert share_out(65536, ASKED, targets=768, store=16) == ASKED


@pytest.mark.parametrize("files", [256, 512, 1024, 4096])
@pytest.mark.parametrize("targets", [0, 64, 10_000])
def test_all_of_it_fits(files: int, targets: int) -> None:
    """Callers, whoever is told that the house is full, and half of the targets' wants or more have
    room together; the line names the option and the limit."""
    callers = share_out(files, ASKED, targets, store=16)
    left = files - callers.connections - callers.reserve - 16 - 128
    assert left >= min(targets, (files - 144) // 2)
    assert callers.connections >= 32
    assert callers.reserve > 0
    assert callers.note.startswith(f"--max-connections: {callers.connections} and not 4096: ")
    assert f"allows {files} open files" in callers.note


def test_too_few_files_end_the_start() -> None:
    """Where hardly anybody could call, the start fails, and says how many files would do."""
    with pytest.raises(StartFailed, match=r"at least 208 open files are needed, .* allows 100"):
        share_out(100, ASKED, targets=64, store=16)
    assert share_out(208, ASKED, targets=64, store=16).connections >= 28


def test_memory_that_is_enough_is_not_spoken_of() -> None:
    """A limit that all bodies fit in, or none, is no matter."""
    assert memory_note(None, 1024, 2**20, 4) == memory_note(2**30, 1024, 2**20, 1) == ""


def test_memory_that_is_not_enough_is_told() -> None:
    """The line says what the bodies may take, the limit, and the options that it comes from."""
    assert memory_note(300 * 2**20, 1024, 2**20, 2) == (
        "--max-requests x --max-body x --workers: callbacks in flight may take 2048 MiB, and the "
        "limit of memory is 300 MiB: lower one of them"
    )


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"a/memory.max": "9\n", "a/b/memory.max": "max\n"}, 9),
        ("0::/elsewhere\n", {"memory.max": "7\n"}, 7),
        ("1:cpu:/a\n4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "5\n"}, 5),
        ("0::/a\n", {}, None),
    ],
)
def test_the_limit_of_a_control_group(
    tmp_path: Path, groups: str, files: dict[str, str], limit: int | None
) -> None:
    """The least one on the way to the root counts, in both versions of control groups."""
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert memory_limit(tmp_path / "groups", tmp_path / "fs") == limit


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    """Where nothing can be read there is nothing to say."""
    assert memory_limit(tmp_path / "none", tmp_path) is None
