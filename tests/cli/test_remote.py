"""Commands that ask a running router by --url print what they print beside its store."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from router.cli.remote import read_token
from router.model.errors import StartFailed
from tests.support.archived import event_line, keep
from tests.support.command import answering, http_answer
from tests.support.console import Console, console, token_of
from tests.support.inprocess import Ran, ran
from tests.support.postgres import Database
from tests.support.receivers import SECRET, Right
from tests.support.receivers import serving as serving_receiver
from tests.support.rows import option
from tests.support.serving import always, serving, target
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

PAUSE = ("--until", "10m", "--because", "a move")


class Scene(NamedTuple):
    """A router with a past: its folder, and the options that name it with a token."""

    console: Console
    folder: Path
    remote: list[str]

    def here(self) -> list[str]:
        """Return the options of a copy of its store, which it owns, of its archive and routes."""
        store, archive = self.folder / "copy.db", self.folder / "copy.db-archive"
        if not archive.exists():
            archive.symlink_to(self.folder / "store.db-archive")
        with (
            closing(sqlite3.connect(self.folder / "store.db")) as kept,
            closing(sqlite3.connect(store)) as copy,
        ):
            kept.backup(copy)
        return ["--store", str(store), "--archive", str(archive)]

    def both(self, *arguments: str) -> tuple[Ran, Ran]:
        here = self.here()
        if arguments[0] in ("deliveries", "resume"):
            here[2:] = ["--config", str(self.folder / "routes.yaml")]
        return ran(*arguments, *here), ran(*arguments, *self.remote)

    def by(self, who: str) -> list[str]:
        return [*self.remote[:-1], str(self.folder / who)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("remote")
    for who in ("ops", "reader", "ledger"):
        (folder / who).write_text(token_of(who))
    with console(folder) as started:
        started.targets["ledger"].code = always("700")
        for number in range(12):
            started.send("l.x.past.1", f"past-{number}")
        started.send("p.x.fine.1", "fine-1")
        started.wait_for("dead", 12, "ledger")
        # The archive's thread writes a moment later.
        lines = b'"happening":"dead_letter"'
        archive = folder / "store.db-archive"
        wait_until(lambda: sum(f.read_bytes().count(lines) for f in archive.glob("*.jsonl")) == 12)
        yield Scene(started, folder, ["--url", started.url, "--token-file", str(folder / "ops")])


def plain(text: str) -> str:
    """Drop ages, which go on, and the columns that they make."""
    return re.sub(r" +", " ", re.sub(r"\b\d+[dhms]\b(?: \d+[hms]\b)?", "", text))


def refused(code: int, *arguments: str) -> str:
    """Return the only line of a command that ends with this code."""
    finished = ran(*arguments)
    assert (finished.code, finished.out) == (code, "")
    (line,) = finished.err.splitlines()
    return line


# Both ways.


@pytest.mark.parametrize(
    "command",
    [
        "deliveries list --state dead --limit 3 --target ledger --match l.x.* --newer-than 400h",
        "trace past-3 --body",
        "trace l.x.* --limit 3 --since 1h --target ledger --failed --format json",
        "trace no-such",
        "archive list",
    ],
)
def test_a_router_and_its_store_give_the_same_output(scene: Scene, command: str) -> None:
    """Byte for byte but for the ages, with the same exit code."""
    words = command.split()
    if words[0] == "archive":
        here, remote = ran(*words, *scene.here()[2:]), ran(*words, *scene.remote)
    else:
        here, remote = scene.both(*words)
    assert (remote.code, plain(remote.out), plain(remote.err)) == (
        here.code, plain(here.out), plain(here.err),
    )  # fmt: skip
    assert remote.out or remote.err


@pytest.mark.parametrize("key", ["l.x.past.1", "nowhere", ""])
def test_explain_gives_the_same_output(scene: Scene, key: str) -> None:
    """For a key, and for an event that the contract refuses."""
    which = (key, "--all") if key else ("--event", "-")
    body, config = b'{"a": 1, "a": 2}', str(scene.folder / "routes.yaml")
    here = ran("explain", *which, "--config", config, stdin=body)
    remote = ran("explain", *which, *scene.remote, stdin=body)
    assert (remote.code, remote.out) == (here.code, here.out)
    assert remote.code == (0 if key else 1)


def test_status_lists_the_nodes_of_a_shared_store(database: Database, tmp_path: Path) -> None:
    port = free_port()
    options = ("--ops-port", str(port))
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, store=database, options=options):
        here = ran("status", "--store", option(database))
        remote = ran("status", "--url", f"http://127.0.0.1:{port}")
    assert here.code == 0
    assert plain(remote.out).endswith(plain(here.out))
    assert "1 node" in remote.lines


def test_a_team_sees_its_own_targets_alone(scene: Scene) -> None:
    """Nothing of the router but its version. The routes of others don't make an event unmatched."""
    explained = ran("explain", "p.x.fine.1", *scene.by("ledger"))
    assert explained.code == 0, explained.err
    assert "no route to a target of yours matches" in explained.lines
    assert explained.lines[-2:] == ["plan:", "  nothing for a target of yours"]
    status = ran("status", *scene.by("ledger"))
    assert (status.code, status.err) == (1, "")
    assert "request" not in status.out
    assert [line.split()[0] for line in status.lines[status.lines.index("") + 2 :]] == ["ledger"]


# Refusals.


@pytest.mark.parametrize(
    ("command", "who", "why"),
    [
        ("deliveries replay --match * --yes", "reader", "it needs replay"),
        ("trace past-3 --body", "reader", "it needs bodies"),
        ("pause ledger --until 1m --because x", "reader", "it needs pause"),
        ("archive list", "ledger", "there is no such thing for a team"),
    ],
)
def test_a_token_without_the_permission(scene: Scene, command: str, who: str, why: str) -> None:
    assert why in refused(3, *command.split(), *scene.by(who))


@pytest.mark.parametrize(
    "command",
    ["deliveries list", "trace x", "explain x", "archive list", "status", "listen --no-forward"],
)
def test_a_router_that_can_not_be_asked_is_one_line(scene: Scene, command: str) -> None:
    """A missing token, nobody there, the callback port, another server, and no URL."""
    code, words = (1 if command == "status" else 3), command.split()
    assert "see --token-file" in refused(code, *words, *scene.remote[:2])
    closed = f"http://127.0.0.1:{free_port()}"
    assert "Connection refused" in refused(code, *words, "--url", closed)
    callbacks = f"http://127.0.0.1:{scene.console.router.port}"
    why = refused(code, *words, "--url", callbacks, *scene.remote[2:])
    assert "is not a router's ops port (HTTP 404)" in why
    assert why.endswith("--url names the ops port, not the callback port")
    with answering(http_answer("<html>", "404 Not Found")) as url:
        assert "is not a router's ops port (HTTP 404)" in refused(code, *words, "--url", url)
    why = refused(2, *words, "--url", "127.0.0.1:8081")
    assert "'127.0.0.1:8081' is not a URL (like http://127.0.0.1:8081)" in why


@pytest.mark.parametrize(
    ("command", "answer", "place"),
    [
        ("trace x", {"events": [{"kind": "match"}]}, ": 'looked_in' is missing"),
        ("explain x", {"event": {}}, ": 'routes' is missing"),
        ("deliveries list", {"counts": None}, ""),
        ("deliveries list", [], ""),
    ],
)
def test_a_router_of_another_version(command: str, answer: Any, place: str) -> None:
    """The field that is missing is named."""
    with answering(http_answer(json.dumps(answer))) as url:
        why = refused(3, *command.split(), "--url", url)
    assert f"the router is of another version than this command{place}" in why


def test_an_endless_answer_does_not_fill_the_memory() -> None:
    """A response that is larger than any of a router is not read to its end."""
    begun = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    with answering(begun, then="flood") as url:
        why = refused(1, "status", "--url", url, "--timeout", "20s")
    assert why == "ebaas-router: the response is larger than 64 MiB: the server is not a router"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("trace x --body --limit 21", "at most 20"),
        ("pause ledger --until 31d --because x", "more than 30 days away"),
        *(
            (f"{command} --target ledgr", "did you mean ledger?")
            for command in ("deliveries list", "trace", "listen --no-forward")
        ),
    ],
)
def test_an_argument_that_the_router_refuses(scene: Scene, command: str, why: str) -> None:
    """It is a wrong command line, exit 2."""
    assert why in refused(2, *command.split(), *scene.remote)


@pytest.mark.parametrize(
    "command",
    [
        "deliveries list --store x",
        "deliveries replay --match * --as me",
        "trace x --archive y",
        "archive list --archive y",
        "explain x --config y",
        "resend x --to http://127.0.0.1:1/ --store y",
    ],
)
def test_an_option_of_this_machine_is_refused(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the router is named."""
    url = f"http://127.0.0.1:{free_port()}"
    assert "can't be given with --url" in refused(2, *command.split(), "--url", url)
    monkeypatch.setenv("EBAAS_ROUTER_URL", url)
    assert "can't be given with EBAAS_ROUTER_URL" in refused(2, *command.split())


def test_an_option_of_this_machine_is_refused_if_a_router_runs_here(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --url it is the router at the settings' ops port."""
    monkeypatch.setenv("EBAAS_ROUTER_OPS_PORT", scene.console.url.rpartition(":")[2])
    why = refused(2, "deliveries", "replay", "--match", "*", "--as", "me")
    assert f"--as can't be given with the router that runs here, {scene.console.url}" in why


def test_export_needs_an_archive_that_is_named_if_a_variable_names_a_router(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The archive of this machine may be another one than the router's."""
    monkeypatch.setenv("EBAAS_ROUTER_URL", f"http://127.0.0.1:{free_port()}")
    why = refused(2, "archive", "export", "--store", str(tmp_path / "store.db"))
    assert "EBAAS_ROUTER_URL names a router" in why
    folder = keep(tmp_path / "archive", event_line("one"))
    assert ran("archive", "export", "--archive", folder).code == 0


# Steps and clocks.


def test_an_action_goes_on_until_nothing_is_left() -> None:
    """The token is sent again while there is more; deliveries that had changed are counted."""
    action = {"verb": "replay", "who": "ops", "what": "--match '*'"}
    count = {
        "target": "ledger", "state": "dead", "deliveries": 7, "acknowledged_later": 0,
        "oldest_at": "2026-11-26T12:00:00Z",
    }  # fmt: skip
    answers = iter((
        {"token": "t", "action": action, "counts": [count], "left_out": 0},
        {"targets": [{"name": "ledger"}]},
        {"changed": 4, "left": 3, "more": True},
        {"changed": 2, "left": 1, "more": False},
    ))  # fmt: skip
    with answering(lambda: http_answer(json.dumps(next(answers)))) as url:
        finished = ran("deliveries", "replay", "--match", "*", "--url", url)
    assert finished.lines[-2:] == [
        "6 deliveries replayed",
        "1 had changed meanwhile and stayed as they were",
    ]


def test_ages_are_counted_by_the_routers_clock() -> None:
    """Not by the clock of this machine."""
    count = {
        "target": "ledger", "state": "dead", "deliveries": 1, "acknowledged_later": 0,
        "oldest_at": "2001-09-09T01:46:40Z",
    }  # fmt: skip
    body = json.dumps({"counts": [count], "deliveries": [], "next": None, "targets": []})
    date = f"\r\ndate: {formatdate(1e9 + 90, usegmt=True)}\r\n".encode()
    with answering(http_answer(body).replace(b"\r\n", date, 1)) as url:
        lines = ran("deliveries", "list", "--state", "dead", "--url", url).lines
    assert lines[1].split() == ["ledger", "dead", "1", "1m", "30s"]


# A copy to a URL of one's own.


def test_one_event_is_copied_to_a_url(scene: Scene) -> None:
    """From a store and from a router: its body, under an id that no real event has. The exit code
    says whether it was acknowledged."""
    mine, theirs = scene.console.targets["auditors"], scene.console.targets["ledger"]
    for options in (scene.here(), scene.remote):
        before = len(mine.got)
        copied = ran("resend", "past-3", "--to", mine.url, "--format", "json", *options)
        assert (copied.code, copied.json["code"]) == (0, "000")
        (got,) = mine.got[before:]
        assert got.event == "past-3"
        assert got.webhook_id == f"copy_{copied.json['event_id']}"
        copied = ran("resend", "past-3", "--to", theirs.url, *options)
        assert (copied.code, "code 700" in copied.out) == (1, True)


def test_a_copy_is_signed(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret of this machine, from a variable or a file. After a 401 a note has the
    option."""
    monkeypatch.setenv("LEDGER_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET)
    by_file = ("--sign", "${file:secret}", "--secrets-dir", str(tmp_path))
    with serving_receiver(Right) as url:
        for options in (scene.here(), scene.remote):
            resend = ("resend", "past-3", "--to", url, *options)
            for signed in (("--sign", "${LEDGER_SECRET}"), by_file):
                assert ran(*resend, *signed).code == 0
            unsigned = ran(*resend)
            assert unsigned.code == 1
            assert unsigned.err == "ebaas-router: 401: sign it with --sign SECRET\n"


@pytest.mark.parametrize(
    ("what", "why"), [("l.x.past.1", "12 events fit; which one?"), ("no-such", "no such event")]
)
def test_exactly_one_event_is_copied(scene: Scene, what: str, why: str) -> None:
    mine = scene.console.targets["auditors"]
    before = len(mine.got)
    for options in (scene.here(), scene.remote):
        assert why in refused(1, "resend", what, "--to", mine.url, *options)
    assert len(mine.got) == before


def test_an_event_without_a_body_is_not_copied(tmp_path: Path) -> None:
    archive = keep(tmp_path / "archive", event_line("bare", payload=...))
    options = ("--archive", str(archive), "--store", "none")
    why = refused(1, "resend", "bare", "--to", "http://127.0.0.1:1/", *options)
    assert "its body was not kept" in why


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "can't be read: no such file or directory"),
        (b" \n\n", "needs a token on a line, in ASCII and without blanks in it"),
        (b"canary two\n", "needs a token on a line, in ASCII and without blanks in it"),
        (b"canary\xff\n", "needs a token on a line, in ASCII and without blanks in it"),
    ],
)
def test_a_token_file_of_no_use(
    tmp_path: Path, content: bytes | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the file as it was given, and no token."""
    monkeypatch.chdir(tmp_path)
    path = Path("tokens")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartFailed) as caught:
        read_token(path)
    assert str(caught.value) == f"--token-file: tokens {why}"
