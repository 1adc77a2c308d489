"""Messages about files: their problems in order; without permission, owner, mode and user."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from router.app import App
from router.cli.check import read_cases
from router.cli.remote import read_token
from router.config.loading import load
from router.config.settings import Settings
from router.config.variables import Unresolved, Variables
from router.contract.schema import Schema
from router.model.errors import ConfigInvalid, Problem, RouterError, why_closed
from router.store.sqlite.file import open_existing, open_file
from router.telemetry.log import Log
from tests.support.filled import fill
from tests.support.house import routes
from tests.support.somebody import as_somebody, reachable


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable() as made:
        yield made


def refusal_of(act: Callable[[], object], kind: type[Exception] = RouterError) -> str:
    """The message for a user without permission."""
    with as_somebody():
        with pytest.raises(kind) as raised:
            act()
        who = f"and this process is {os.geteuid()}:{os.getegid()}"
    text = str(raised.value)
    assert text.endswith(who)
    return text.removesuffix(f", {who}")


def described(sort: str, path: Path, mode: str) -> str:
    status = path.stat()
    return f"the {sort} '{path}' has owner {status.st_uid}:{status.st_gid} and mode {mode}"


def file(folder: Path, mode: int = 0, name: str = "a") -> Path:
    path = folder / name
    path.write_text("{}")
    path.chmod(mode)
    return path


def test_a_closed_secret(folder: Path) -> None:
    """A secret that is root's alone is there, and closed: that is another thing than missing."""
    path = file(folder)
    words = refusal_of(lambda: Variables({}, folder).resolve("${file:a}"), Unresolved)
    assert words == (
        "the secret file 'a' can't be read: permission denied: " + described("file", path, "0000")
    )


def test_a_read_only_file_system_does_not_hide_a_closed_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that can be read is on a read-only file system; of any other, the mode matters."""
    system = os.statvfs(folder)
    read_only = os.statvfs_result((*system[:8], system.f_flag | os.ST_RDONLY, *system[9:]))
    monkeypatch.setattr(os, "statvfs", lambda _: read_only)
    for mode, words in ((0o444, "is on a read-only file system"), (0, "and mode 0000, and this")):
        path = file(folder, mode, f"{mode}")
        with as_somebody():
            assert words in why_closed(path)


def test_problems_are_in_the_order_of_their_files() -> None:
    """A problem of a file as a whole has no line, and comes first; an owner comes last."""
    given = [
        Problem("b", 1, 1, "", "first"),
        Problem("a", 10, 2, "targets.x", "late", "payments"),
        Problem("a", 9, 30, "", "right"),
        Problem("a", 9, 4, "", "left"),
        Problem("a", 0, 0, "", "unreadable"),
    ]
    assert str(ConfigInvalid(given)).splitlines() == [
        "a: unreadable",
        "a:9:4: left",
        "a:9:30: right",
        "a:10:2: targets.x: late (payments)",
        "b:1:1: first",
    ]


READERS: dict[str, Callable[[Path], object]] = {
    "--token-file": read_token,
    "routes.yaml": lambda path: load(path, {}, None),
    "--schema": Schema.load,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_closed_file(reader: str, folder: Path) -> None:
    """The words are the same for every file."""
    path = file(folder)
    words = refusal_of(lambda: READERS[reader](path))
    assert words.endswith("can't be read: permission denied: " + described("file", path, "0000"))


def test_a_file_in_a_closed_folder_is_a_problem_among_others(folder: Path) -> None:
    """`check` lists it with all other problems."""
    closed = folder / "closed"
    closed.mkdir()
    path = file(closed, 0o644)
    read_cases(str(path))  # whose modules somebody may not be able to load
    closed.chmod(0)
    with as_somebody():
        (problem,) = read_cases(str(path)).problems
    assert (problem.file, problem.path) == (str(path), "")
    assert problem.message.startswith("can't be read: permission denied: the folder")


def test_a_closed_folder_for_the_store(folder: Path) -> None:
    """The message is about the folder, or the nearest one above it."""
    closed = folder / "data"
    closed.mkdir()
    closed.chmod(0o555)
    for path in (closed / "x.db", closed / "deep" / "x.db"):
        words = refusal_of(partial(open_file, path))
        why = described("folder", closed, "0555")
        assert words == f"can't use the store {path}: permission denied: {why}"


@pytest.mark.parametrize("opened", [open_file, open_existing])
def test_a_store_of_somebody_else(opened: Callable[[Path], object], folder: Path) -> None:
    """A store's file that may not be written to."""
    path = folder / "x.db"
    fill(path, 0)
    path.chmod(0o400)
    words = refusal_of(lambda: opened(path))
    assert words == f"can't use the store {path}: it can't be written to: " + described(
        "file", path, "0400"
    )


def test_a_store_beside_which_nothing_can_be_made(folder: Path) -> None:
    """The file alone does not do: its log stands beside it."""
    data = folder / "data"
    data.mkdir()
    path = data / "x.db"
    fill(path, 0)
    path.chmod(0o666)
    data.chmod(0o555)
    words = refusal_of(lambda: open_file(path))
    assert words.endswith(described("folder", data, "0555"))


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_an_archive_below_a_closed_folder(folder: Path, mode: int) -> None:
    """A start goes on without one, and says why: nothing depends on it."""
    closed, table = folder / "closed", folder / "routes.yaml"
    closed.mkdir()
    closed.chmod(mode)
    table.write_text(json.dumps(routes({"ledger": "http://127.0.0.1:1/"})))
    loaded = load(table, {}, None)
    settings = Settings(store=None, archive=closed / "deep" / "archive")

    async def warned() -> list[str]:
        app = App(settings, loaded, Log(io.StringIO()))  # reads files of the checkout
        with as_somebody():
            return app.warnings(loaded)

    words = asyncio.run(warned())
    with as_somebody():
        who = f"this process is {os.geteuid()}:{os.getegid()}"
    why = f"{described('folder', closed, f'{mode:04o}')}, and {who}"
    assert f"the archive {settings.archive} can't be written: {why}" in words
