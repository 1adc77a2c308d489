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

from tests.support.archived import keep, told
from tests.support.command import answering, http_answer
from tests.support.console import Console, console, token_of
from tests.support.inprocess import Ran, ran
from tests.support.postgres import Database
from tests.support.receivers import SECRET, Right
from tests.support.receivers import serving as serving_receiver
from tests.support.rows import option
from tests.support.serving import always, serving, target
from tests.support.sockets import free_port


class Scene(NamedTuple):
    """A router with a past: the options that name it, its store, and its routes.yaml."""

    console: Console
    remote: list[str]
    store: str
    config: list[str]

    def both(self, *arguments: str, by: str) -> tuple[Ran, Ran]:
        """Run a command over a copy of its store, for the router owns its own; and remotely."""
        past = self.past()
        here = {
            "store": past,
            "archive": past[2:],
            "config": self.config,
            "both": [*past[:2], *self.config],
        }
        return ran(*arguments, *here[by]), ran(*arguments, *self.remote)

    def past(self) -> list[str]:
        """Return the options of a copy of its store, and of its archive."""
        path = Path(self.store)
        archive = path.with_name("copy.db-archive")
        if not archive.exists():
            archive.symlink_to(f"{path}-archive")
        with (
            closing(sqlite3.connect(path)) as kept,
            closing(sqlite3.connect(path.with_name("copy.db"))) as copy,
        ):
            kept.backup(copy)
        return ["--store", str(path.with_name("copy.db")), "--archive", str(archive)]

    def as_(self, who: str) -> list[str]:
        return [*self.remote[:-1], str(Path(self.remote[-1]).with_name(who))]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("remote")
    for who in ("ops", "reader", "ledger"):
        (folder / who).write_text(token_of(who))
    with console(folder) as started:
        remote = ["--url", started.url, "--token-file", str(folder / "ops")]
        here = str(folder / "store.db")
        started.targets["ledger"].code = always("700")
        for number in range(12):
            started.send("l.x.past.1", f"past-{number}")
        started.send("p.x.fine.1", "fine-1")
        started.wait_for("dead", 12, "ledger")
        yield Scene(started, remote, here, ["--config", str(folder / "routes.yaml")])


def plain(text: str) -> str:
    """Drop ages, which go on, and the columns that they make."""
    return re.sub(r" +", " ", re.sub(r"\b\d+[dhms]\b(?: \d+[hms]\b)?", "", text))


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    ("command", "by"),
    [
        ("deliveries list", "both"),
        ("deliveries list --target ledger --match l.x.* --newer-than 400h", "both"),
        ("deliveries list --state dead --limit 3 --older-than 0.001s", "both"),
        ("deliveries show EVENT --body", "both"),
        ("deliveries show no-such", "both"),
        ("trace past-3 --body", "store"),
        ("trace l.x.* --limit 3 --since 1h --target ledger --failed", "store"),
        ("trace fine-1 past-1 --body", "store"),
        ("trace no-such", "store"),
        ("archive list", "archive"),
        ("explain l.x.past.1", "config"),
        ("explain nowhere --all", "config"),
    ],
)
def test_what_is_asked_is_told_alike(scene: Scene, command: str, by: str, format: str) -> None:
    """Byte for byte but for the ages, with the same exit code."""
    (one,) = scene.console.get("/deliveries", limit=1, match="l.x.past.1")["deliveries"]
    words = command.replace("EVENT", one["event_id"]).split()
    here, remote = scene.both(*words, "--format", format, by=by)
    assert (remote.code, plain(remote.out), plain(remote.err)) == (
        here.code, plain(here.out), plain(here.err),
    )  # fmt: skip
    assert remote.out or remote.err


@pytest.mark.parametrize(
    ("body", "code"), [(b'{"event_source": "l"}', 1), (b'{"a": 1, "a": 2}', 1)]
)
def test_what_is_no_event_is_refused_alike(scene: Scene, body: bytes, code: int) -> None:
    """In the words of the contract, whoever is asked."""
    here = ran("explain", "--event", "-", *scene.config, stdin=body)
    remote = ran("explain", "--event", "-", *scene.remote, stdin=body)
    assert (remote.code, remote.out) == (here.code, here.out)
    assert remote.code == code


def test_deliveries_are_acted_on_alike(scene: Scene) -> None:
    """Counted, confirmed, done and taken back; who acts is the token's name."""
    which = ("--match", "l.x.past.*")
    here, remote = scene.both("deliveries", "discard", *which, "--dry-run", by="both")
    assert plain(remote.out) == plain(here.out)
    here, remote = scene.both("deliveries", "discard", *which, by="both")
    assert (remote.code, remote.err) == (here.code, here.err)
    assert "needs --yes" in remote.err
    done = ran("deliveries", "discard", *which, "--yes", "--format", "json", *scene.remote).json
    assert (done["who"], done["what"]) == ("ops", "--match 'l.x.past.*'")
    assert (done["selected"], done["deliveries"], done["trouble"]) == (12, 12, None)
    again, from_remote = scene.both("deliveries", "restore", *which, "--dry-run", by="both")
    assert plain(from_remote.out) == plain(again.out)
    restored = ran("deliveries", "restore", *which, "--yes", *scene.remote)
    assert restored.lines[-1] == "12 deliveries restored"


def test_a_target_is_paused_and_goes_on(scene: Scene) -> None:
    """Under the token's name; ended once, it is not paused any more."""
    saying = ("--until", "10m", "--because", "a move")
    (told,) = ran("pause", "billing", *saying, *scene.remote).lines
    assert re.fullmatch(r"billing is paused until 20\S+ \(in 10m\) by 'ops': a move", told)
    here, remote = scene.both("deliveries", "list", by="both")
    assert "billing is paused" in remote.out
    assert plain(remote.out) == plain(here.out)
    ended = ran("resume", "billing", *scene.remote, "--format", "json").json
    assert (ended["kind"], ended["who"], ended["resumed_by"]) == ("pause", "ops", "ops")
    here, remote = scene.both("resume", "billing", by="both")
    assert (remote.code, remote.err) == (here.code, here.err)
    assert remote.code == 1


def test_a_router_alone_lists_no_nodes(scene: Scene) -> None:
    """Its own status says all there is."""
    assert "node" not in ran("status", *scene.remote).out
    assert ran("status", *scene.remote, "--format", "json").json["nodes"] == []


def test_the_nodes_of_a_shared_store_are_told_alike(database: Database, tmp_path: Path) -> None:
    """Every process that writes itself there, whichever router is asked."""
    port = free_port()
    options = ("--ops-port", str(port))
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, store=database, options=options):
        here = ran("status", "--store", option(database))
        remote = ran("status", "--url", f"http://127.0.0.1:{port}")
    assert here.code == 0
    assert plain(remote.out).endswith(plain(here.out))
    assert "1 node" in remote.lines


def test_status_takes_the_same_token(scene: Scene) -> None:
    """And the same variables."""
    assert ran("status", *scene.remote, "--format", "json").json["version"]
    assert "see --token-file" in ran("status", *scene.remote[:2]).err


def test_a_team_is_told_of_its_own_plan(scene: Scene) -> None:
    """What others' routes match is not called unmatched, and the plan is not empty."""
    found = ran("explain", "p.x.fine.1", *scene.as_("ledger"))
    assert found.code == 0, found.err
    assert "no route to a target of yours matches" in found.lines
    assert found.lines[-2:] == ["plan:", "  nothing for a target of yours"]


@pytest.mark.parametrize("command", ["deliveries list", "status"])
def test_a_url_of_no_use_has_an_example_that_fits(scene: Scene, command: str) -> None:
    """It names the ops port; what asks the callback port instead is told so."""
    wrong = refused(2, *command.split(), "--url", "127.0.0.1:8081")
    assert "'127.0.0.1:8081' is not a URL (like http://127.0.0.1:8081)" in wrong
    callbacks = f"http://127.0.0.1:{scene.console.router.port}"
    found = ran(*command.split(), "--url", callbacks, *scene.remote[2:])
    assert (found.code, found.out) == (1 if command == "status" else 3, "")
    assert "is no router's ops port (HTTP 404)" in found.err
    assert found.err.endswith("--url is for that one, not for the callback port\n")


def test_a_teams_status_has_its_targets_alone(scene: Scene) -> None:
    """And nothing of the router but its version."""
    found = ran("status", *scene.as_("ledger"))
    assert (found.code, found.err) == (1, "")
    assert "request" not in found.out
    assert [line.split()[0] for line in found.lines[found.lines.index("") + 2 :]] == ["ledger"]


# Refusals.


def refused(code: int, *arguments: str) -> str:
    """The only line of a command that ends so."""
    finished = ran(*arguments)
    assert (finished.code, finished.out) == (code, "")
    (line,) = finished.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("command", "who", "why"),
    [
        ("deliveries replay --match * --yes", "reader", "it needs replay"),
        ("deliveries show x --body", "reader", "it needs bodies"),
        ("trace past-3 --body", "reader", "it needs bodies"),
        ("pause ledger --until 1m --because x", "reader", "it needs pause"),
        ("archive list", "ledger", "there is no such thing for a team"),
    ],
)
def test_a_token_that_may_not_is_told_so(scene: Scene, command: str, who: str, why: str) -> None:
    """In the router's own words."""
    assert why in refused(3, *command.split(), *scene.as_(who))


@pytest.mark.parametrize("command", ["deliveries list", "trace x", "explain x", "archive list"])
def test_who_can_not_be_asked_is_one_line(scene: Scene, tmp_path: Path, command: str) -> None:
    """A token that is none, nobody there, and what is no router."""
    words = command.split()
    assert "see --token-file" in refused(3, *words, *scene.remote[:2])
    assert "Connection refused" in refused(3, *words, "--url", f"http://127.0.0.1:{free_port()}")
    with answering(http_answer("<html>", "404 Not Found")) as url:
        assert "is no router's ops port (HTTP 404)" in refused(3, *words, "--url", url)


@pytest.mark.parametrize(
    ("command", "answer", "place"),
    [
        ("trace x", {"events": [{"kind": "match"}]}, ": 'more' is missing"),
        ("explain x", {"event": {}}, ": 'routes' is missing"),
        ("deliveries list", {"counts": None}, ""),
        ("deliveries list", [], ""),
    ],
)
def test_another_version_is_told_by_the_field(command: str, answer: Any, place: str) -> None:
    """What can't be read is named, and no traceback."""
    with answering(http_answer(json.dumps(answer))) as url:
        said = refused(3, *command.split(), "--url", url)
    assert f"the router is of another version than this command{place}" in said


def test_a_filter_that_can_not_be_meant_is_a_wrong_command_line(scene: Scene) -> None:
    """Also where only the router knows."""
    assert "at most 20" in refused(2, "trace", "x", "--body", "--limit", "21", *scene.remote)
    saying = ("--until", "31d", "--because", "x", *scene.remote)
    assert "more than 30 days away" in refused(2, "pause", "ledger", *saying)
    assert "did you mean ledger?" in refused(
        2, "deliveries", "list", "--target", "ledgr", *scene.remote
    )


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
def test_what_is_on_this_machine_is_no_matter_from_remote(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option that is of no use there is told, however the router is named."""
    url = f"http://127.0.0.1:{free_port()}"
    assert "can't be given with --url" in refused(2, *command.split(), "--url", url)
    monkeypatch.setenv("EBAAS_ROUTER_URL", url)
    assert "can't be given with EBAAS_ROUTER_URL" in refused(2, *command.split())


def test_an_archive_of_this_machine_is_named_where_a_variable_names_a_router(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a router has is not exported from remote, and another archive is not taken for its own
    unseen."""
    monkeypatch.setenv("EBAAS_ROUTER_URL", f"http://127.0.0.1:{free_port()}")
    said = refused(2, "archive", "export", "--store", str(tmp_path / "store.db"))
    assert "EBAAS_ROUTER_URL names a router" in said
    folder = keep(tmp_path / "archive", told("one"))
    assert ran("archive", "export", "--archive", folder).code == 0


def test_a_token_without_a_router_is_told() -> None:
    """Nobody thinks that a token was of use on a store."""
    said = refused(2, "deliveries", "list", "--token-file", "x", "--store", "y")
    assert "--token-file is for a running router, and not for --store" in said


# Steps and clocks.


def test_an_action_goes_on_until_nothing_is_left() -> None:
    """The token is sent again while there is more; what had changed is counted."""
    action = {
        "kind": "action", "action_id": "a", "verb": "replay", "who": "ops", "what": "--match '*'",
        "at": "2026-11-26T13:00:00Z", "deliveries": 0,
    }  # fmt: skip
    count = {
        "kind": "count", "target": "ledger", "state": "dead", "deliveries": 7,
        "acknowledged_later": 0, "oldest_at": "2026-11-26T12:00:00Z",
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
    """Whatever the clock of this machine says."""
    counts = [
        {
            "kind": "count", "target": "ledger", "state": "dead", "deliveries": 1,
            "acknowledged_later": 0, "oldest_at": "2001-09-09T01:46:40Z",
        }
    ]  # fmt: skip
    body = json.dumps({"counts": counts, "deliveries": [], "next": None, "targets": []})
    answer = http_answer(body).replace(
        b"\r\n", f"\r\ndate: {formatdate(1e9 + 90, usegmt=True)}\r\n".encode(), 1
    )
    with answering(answer) as url:
        told = ran("deliveries", "list", "--state", "dead", "--url", url).lines
    assert told[1].split() == ["ledger", "dead", "1", "1m", "30s"]


# A copy to a URL of one's own.


def test_one_event_is_copied_to_a_url(scene: Scene) -> None:
    """By a store and by a router alike: its body, under an id that no real event has."""
    mine = scene.console.targets["auditors"]
    for options in (scene.past(), scene.remote):
        before = len(mine.got)
        told = ran("resend", "past-3", "--to", mine.url, "--format", "json", *options)
        assert (told.code, told.json["code"]) == (0, "000")
        (got,) = mine.got[before:]
        assert got.event == "past-3"
        assert got.webhook_id == f"copy_{told.json['event_id']}"


def test_a_copy_is_signed_as_a_target_wants_it(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a store and by a router alike, the secret from a variable or a file of this machine; else
    the receiver's 401 leads to the option."""
    monkeypatch.setenv("LEDGER_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET)
    by_file = ("--sign", "${file:secret}", "--secrets-dir", str(tmp_path))
    with serving_receiver(Right) as url:
        for options in (scene.past(), scene.remote):
            asked = ("resend", "past-3", "--to", url, *options)
            for signed in (("--sign", "${LEDGER_SECRET}"), by_file):
                assert ran(*asked, *signed).code == 0
            refused = ran(*asked)
            assert refused.code == 1
            assert refused.err == "ebaas-router: 401: sign it with --sign SECRET\n"


def test_a_copy_that_is_not_acknowledged_is_told(scene: Scene) -> None:
    """By the exit code as well."""
    copied = ran("resend", "past-3", "--to", scene.console.targets["ledger"].url, *scene.past())
    assert (copied.code, "code 700" in copied.out) == (1, True)


@pytest.mark.parametrize(
    ("what", "why"), [("l.x.past.1", "12 events fit; which one?"), ("no-such", "no such event")]
)
def test_it_is_exactly_one_event_that_is_copied(scene: Scene, what: str, why: str) -> None:
    """Else it is said how many there are, and nothing is sent."""
    mine = scene.console.targets["auditors"]
    before = len(mine.got)
    for options in (scene.past(), scene.remote):
        assert why in refused(1, "resend", what, "--to", mine.url, *options)
    assert len(mine.got) == before


def test_a_body_that_was_not_kept_can_not_be_copied(tmp_path: Path) -> None:
    """Nothing is made up in its place."""
    archive = keep(tmp_path / "archive", told("bare", payload=...))
    options = ("--archive", str(archive), "--store", "none")
    said = refused(1, "resend", "bare", "--to", "http://127.0.0.1:1/", *options)
    assert "its body was not kept" in said
