"""`trace`: finding events, showing their stories, and text that cannot be trusted."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from router.cli.trace import format_story
from router.model.event import Reason
from router.store.protocol import DeliveryRow, Stage, State
from tests.support.archived import ACKNOWLEDGED, REFUSED, archived, event_line, keep, line
from tests.support.house import event
from tests.support.inprocess import Ran, complaint, ran
from tests.support.serving import always, serving, target, with_door
from tests.support.shop import Shop, SqliteShop, dead
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def trace(folder: Path, *arguments: str) -> Ran:
    return ran("trace", "--archive", folder, "--store", "none", *arguments)


def story(folder: Path, *arguments: str) -> Any:
    found = trace(folder, "--format", "json", *arguments)
    assert found.code == 0, found.err
    assert found.json["kind"] == "story"
    return found.json


def names(found: Ran) -> list[str]:
    assert found.code == 0, found.err
    return [json.loads(row)["event_id"] for row in found.lines]


# Finding events.


@pytest.mark.parametrize(
    "word",
    [
        *("one", "request-of-one", "x.y.z.1", "x.y.*", "?.y.z.1", TRACE),
        *("order 库", "17", "deep", "hash", "whole hash"),
    ],
)
def test_an_event_is_found_by_whatever_it_is_known_by(tmp_path: Path, word: str) -> None:
    """Ids, also in `changes`, its key or a pattern, its trace, and its body's hash."""
    changes = [*map(str, range(20, 60)), "order 库", 17, {"id": "deep"}]
    sent = json.dumps({"changes": changes}, ensure_ascii=False).encode()
    one = event_line("one", body=sent, event_key="x.y.z.1", trace_id=TRACE, changes=["20"])
    keep(tmp_path, event_line("two"), one, event_line("three"))
    digest = hashlib.sha256(sent).hexdigest()
    spelt = {"hash": digest[:8], "whole hash": digest}.get(word, word)
    assert story(tmp_path, spelt)["event_id"] == "one"


def test_similar_events_are_not_found(tmp_path: Path) -> None:
    """Part of an id, a word of another field, and a key without its wildcard find nothing."""
    keep(tmp_path, event_line("one", body=event(changes=["order-17"])))
    for word in ("order", "order-1", "cert", "a.gs", "on", "acknowledged", "request-of"):
        assert trace(tmp_path, word).code == 1, word


def test_a_table_has_each_event_once_and_the_newest_first(tmp_path: Path) -> None:
    """Lines of two processes that wrote at the same time are merged."""
    keep(
        tmp_path,
        event_line("one", ago=90, code="500"),
        event_line("one", ago=50, request=2),
        event_line("four", ago=10),
    )
    keep(tmp_path, event_line("two", ago=70), event_line("three", ago=30))
    assert names(trace(tmp_path, "a.gs.*", "--format", "json")) == ["four", "three", "one", "two"]
    text = trace(tmp_path, "a.gs.*", "--limit", "2")
    assert [each.split()[2] for each in text.lines[1:3]] == ["four", "three"]
    assert text.lines[3:] == ["and more: --limit, --since"]


def test_a_row_shows_the_newest_line_of_its_event(tmp_path: Path) -> None:
    """It is an attempt after the request, or the request."""
    about = {"event_key": "a.gs.cert.1", "target": "ledger", "reason": "acknowledged"}
    keep(
        tmp_path,
        event_line("one", ago=80, code="500", targets={"ledger": REFUSED, "audit": REFUSED}),
        line("retried", ago=50, event_id="one", **about, cause="replay"),
        event_line("two", ago=40, targets={"audit": {"as": "optional", "skipped": "queued"}}),
    )
    two, one = (each.split(maxsplit=1)[1] for each in trace(tmp_path, "--since", "1h").lines[1:])
    assert two.split() == ["000", "two", "a.gs.cert.1", "audit:", "skipped:", "queued"]
    assert one.split() == ["one", "a.gs.cert.1", "retry:", "ledger:", "acknowledged"]


def test_a_row_of_the_store_has_the_states(tmp_path: Path, shop: Shop) -> None:
    """The store's row is shown if its deliveries changed after the last request."""
    shop.add("one", dead("audit"), DeliveryRow("ledger", State.ACKNOWLEDGED))
    keep(tmp_path, event_line("two", ago=95), event_line("one", ago=90, code="500"))
    found = ran("trace", "--since", "1h", "--archive", tmp_path, "--store", shop.option)
    assert found.lines[1].endswith("  audit: dead; ledger: acknowledged")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--since 45s", ["five", "four", "three"]),
        ("--until 45s", ["two", "one"]),
        ("--since 80s --until 45s", ["two"]),
        ("--failed", ["five", "four", "two"]),
        ("--code 700", ["four", "two"]),
        ("--code 500", ["five", "two"]),
        ("--code 503", ["four"]),
        ("--target audit", ["four", "three"]),
        ("a.gs.* --target audit --failed", ["four"]),
        ("one three", ["three", "one"]),
    ],
)
def test_filters(tmp_path: Path, options: str, expected: list[str]) -> None:
    """All filters must fit, and any of several words."""
    keep(
        tmp_path,
        event_line("one", ago=90),
        event_line("two", ago=70, code="500", targets={"ledger": REFUSED}),
        event_line("three", ago=40, targets={"ledger": ACKNOWLEDGED, "audit": ACKNOWLEDGED}),
        event_line(
            "four", ago=20, targets={"ledger": ACKNOWLEDGED, "audit": {**REFUSED, "status": 503}}
        ),
        event_line("five", ago=10, code="500", unqueued=True),
    )
    found = trace(tmp_path, *options.split(), "--format", "json")
    if len(expected) == 1:
        assert found.json["event_id"] == expected[0]
    else:
        assert names(found) == expected


def test_failures_of_every_kind_are_found(tmp_path: Path) -> None:
    """Every reason, reply and happening but a success, and no line that resembles one."""
    failed = [
        *(
            event_line(r, targets={"a": ACKNOWLEDGED, "b": {"reason": r}})
            for r in Reason
            if r != "acknowledged"
        ),
        *(line("event", event_id=f"code-{code}", code=code) for code in ("", "400", "500")),
        line("dead_letter", event_id="dead", target="a", reason="acknowledged"),
        line("lost", event_id="lost", target="a", reason="acknowledged"),
        line("retried", event_id="retried", target="a", reason="status"),
    ]
    fine = [
        event_line("reason", body=event(changes=['"reason":"status"', '"happening":"lost"'])),
        event_line("skipped", targets={"a": {"skipped": "queued"}}),
        line("unmatched", code="000", request_id="accepted"),
        line("retried", event_id="well", target="a", reason="acknowledged"),
    ]
    keep(tmp_path, *failed, *fine)
    found = names(trace(tmp_path, "--failed", "--limit", "100", "--format", "json"))
    assert sorted(found) == sorted(json.loads(each)["event_id"] for each in failed)


@pytest.mark.parametrize("archive", ["auto", "none"])
def test_the_story_of_an_event(tmp_path: Path, archive: str) -> None:
    """The story has every failed attempt once with the target's words, from the archive or only
    from the store, and the next step; from the archive also every request, its reply and skipped
    targets."""
    own, door = with_door(tmp_path)
    options = ["--archive", archive, *own]
    with target() as ledger, target(always("700")) as audit:
        ebaas = {"waits": ["1h"], "retries": 20}
        both = {"ledger": ledger, "audit": audit}
        with serving(tmp_path, both, ebaas=ebaas, options=options) as router:
            assert [router.post("order-1"), router.post("order-1")] == ["500", "500"]
            folder = tmp_path / "store.db-archive"
            wait_until(lambda: archive == "none" or len(archived(folder)) == 2)
            found = ran("trace", "order-1", *door)
    assert found.code == 0, found.err
    text = found.out
    assert len(re.findall(r"audit .*'700'", text)) == 2
    assert re.search(r"next: EBaaS's request 3, in (59m|1h)", text)
    if archive == "auto":
        assert "request 1 of 21: reply to EBaaS: 500" in text
        assert "request 2 of 21: reply to EBaaS: 500" in text
        assert re.search(r"ledger +required +skipped: acknowledged", text)


def test_a_story_has_the_retries_of_the_queue(tmp_path: Path) -> None:
    """The story has them even if no delivery is open any more."""
    queue = {"retries": 2, "waits": ["50ms"]}
    own, door = with_door(tmp_path)
    with (
        target() as ledger,
        target(always("700")) as audit,
        serving(tmp_path, {"ledger": ledger}, {"audit": audit}, options=own, queue=queue) as router,
    ):
        assert router.post("order-1") == "000"
        wait_until(lambda: archived(tmp_path / "store.db-archive", "dead_letter"))
        found = ran("trace", "order-1", *door, "--format", "json")
    steps = found.json["steps"]
    assert [(step["what"], step.get("retry")) for step in steps] == [
        ("request", None),
        ("retried", 1),
        ("dead_letter", 2),
    ]
    assert found.json["deliveries"][0]["state"] == "dead"


@pytest.mark.parametrize("archive", ["auto", "none"])
def test_an_attempt_of_recovery_is_told_from_a_retry(tmp_path: Path, archive: str) -> None:
    """Each is shown once, by the archive or by the store, which may count differently."""
    own, door = with_door(tmp_path)
    options, queue = ["--archive", archive, *own], {"waits": ["50ms", "1h"]}
    with (
        target(always("700")) as audit,
        serving(tmp_path, {}, {"audit": audit}, options=options, queue=queue) as router,
    ):
        assert router.post("order-1") == "000"
        router.wait_for(lambda: router.lines("retried"))
        assert ran("deliveries", "retry", "--target", "audit", *door).code == 0
        router.wait_for(lambda: len(router.lines("retried")) == 2)
        folder = tmp_path / "store.db-archive"
        wait_until(lambda: archive == "none" or len(archived(folder, "retried")) == 2)
        found = ran("trace", "order-1", *door)
    of = {"auto": ("retry 1, attempt 2", "recovery, attempt 3"), "none": ("retry 1", "recovery")}
    assert len(re.findall("audit .*'700'", found.out)) == 3
    for what in of[archive]:
        assert found.out.count(f"Z  {what}: audit code '700'") == 1


def test_a_story_has_the_actions_of_people(tmp_path: Path) -> None:
    """The story says who replayed what; the text is rendered from the JSON."""
    shop = SqliteShop(tmp_path / "store.db")
    shop.add("one", dead(), dead("audit"))
    shop.close()
    store = ["--store", str(tmp_path / "store.db")]
    replay = ("deliveries", "replay", "--target", "ledger", "--as", "mia")
    assert ran(*replay, *store).code == 0
    found = ran("trace", "one", "--archive", "none", *store)
    assert "replay by 'mia': ledger" in found.out
    assert "next: retry 1 of ledger, now" in found.out
    shown = ran("trace", "one", "--archive", "none", *store, "--format", "json").json
    (step,) = shown["steps"]
    assert (step["what"], step["who"], step["words"]) == ("acted", "mia", "--target ledger")
    assert list(format_story(shown, time.time())) == found.lines


def test_bodies_are_shown_on_request(tmp_path: Path) -> None:
    """Bodies may be secret, so they are shown only on request."""
    sent = event(changes=["one", "canary"])
    keep(tmp_path, event_line("one", body=sent, changes=["one"]))
    assert "canary" not in trace(tmp_path, "one").out
    assert trace(tmp_path, "one", "--body").lines[-1] == sent.decode()
    assert story(tmp_path, "one", "--body")["body"] == sent.decode()


def test_an_unmatched_event_is_found(tmp_path: Path) -> None:
    """Such an event has no id; it is known by its request's."""
    fields: dict[str, Any] = {"code": "500", "request_id": "r-1", "event_key": "x.y.z.1"}
    keep(tmp_path, line("unmatched", payload=event(changes=["order-1"]).decode(), **fields))
    found = trace(tmp_path, "order-1")
    assert "no route matches" in found.out
    assert "reply to EBaaS: 500" in found.out


# Sources.


@pytest.mark.parametrize("word", ["one", "r", "order-1", "a.gs.cert.1", "a.gs.*"])
def test_the_store_is_enough(shop: Shop, word: str) -> None:
    """Open events are found without an archive, also by their body."""
    awaiting = DeliveryRow("ledger", State.AWAITING)
    shop.add("one", awaiting, stage=Stage.OPEN, body=event(changes=["order-1"]))
    nowhere_else = ("--store", shop.option, "--archive", "none")
    assert ran("trace", word, *nowhere_else, "--format", "json").json["event_id"] == "one"
    assert ran("trace", "cert", *nowhere_else).code == 1


def test_an_unrecorded_attempt_is_marked(tmp_path: Path) -> None:
    """The story marks it, because the store may show another state."""
    again = {"event_id": "one", "target": "ledger", "reason": "timeout"}
    keep(
        tmp_path,
        event_line("one", ago=70, code="500"),
        line("retried", ago=60, **again, retry=1, unrecorded="lease_over"),
        line("retried", ago=50, **again, retry=2),
    )
    found = trace(tmp_path, "one")
    marked = [each for each in found.lines if "not recorded, the store: lease_over" in each]
    assert len(marked) == 1
    assert "retry 1: ledger timeout" in marked[0]
    steps = trace(tmp_path, "one", "--format", "json").json["steps"]
    assert [step["unrecorded"] for step in steps] == ["", "lease_over", ""]


def test_a_search_without_result_names_its_sources(tmp_path: Path) -> None:
    """The message is one line with the reach of each source; the exit code is 1."""
    keep(tmp_path, event_line("one"))
    found = trace(tmp_path, "two")
    assert (found.code, found.out) == (1, "")
    assert re.fullmatch(
        r"ebaas-router: no such event; looked in the archive \(back to \S+Z\)\n", found.err
    )


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        ([], 2, "which event?"),
        (["x", "--since", "yesterday"], 2, "--since: 'yesterday' is neither"),
        (["x", "--archive", "nothing"], 3, "--archive: nothing is not a folder"),
        (["x", "--store", "nothing.db"], 3, "there is no such file"),
        (["x", "--archive", "none", "--store", "none"], 3, "nowhere to look, neither an archive"),
        (["x", "--limit", "0"], 2, "--limit"),
        ([""], 2, "empty"),
    ],
)
def test_invalid_arguments(arguments: list[str], code: int, why: str) -> None:
    """The message is one line, without a traceback."""
    found = ran("trace", *arguments)
    assert (found.code, found.out) == (code, "")
    assert why in found.err
    assert found.err.count("\n") == 1


# Text that cannot be trusted.


def test_an_empty_variable_names_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable counts as not set: the default store is used, which need not exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBAAS_ROUTER_STORE", "")
    monkeypatch.setenv("EBAAS_ROUTER_OPS_PORT", str(free_port()))  # no router of this machine
    assert "there is nowhere to look" in complaint(ran("trace", "one"), 3)


def test_unreadable_lines_are_counted(tmp_path: Path) -> None:
    """The remaining lines are shown."""
    one, two = event_line("one", ago=90, code="500"), event_line("one", request=2)
    garbled = [
        one[:200] + b"\n",
        b'{"time":"x","happening":"event","event_id":"one"}\n',
        b"one\xff\n",
    ]
    older = b'{"time":"2026-11-26T12:00:00.000Z","happening":"event","event_id":"one"}\n'
    keep(tmp_path, one, *garbled, older, two[:-20])
    found = trace(tmp_path, "one", "--format", "json")
    assert len(found.json["steps"]) == 2
    assert "3 lines could not be read" in found.err


HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\r\nnext: nothing, it is settled",
    "\u202e\u2066txt.exe",
    "\x00\x07\x08",
    "\x9b31m\x85",
    "\u2028\u2029\ufeff\u200b",
    "a\tb   ledger    acknowledged",
    "'; '\"",
    "😀" * 300,
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:8]))
def test_no_text_forges_a_line_or_a_colour(tmp_path: Path, text: str) -> None:
    """This holds for every text of a target or of a body."""
    output = {**REFUSED, "msg": text, "code": text, "detail": text, "reason": text, "as": text}
    fields: dict[str, Any] = {
        "event_key": text,
        "changes": [text],
        "trace_id": text,
        "routes": [text],
    }
    hostile = event_line("one", ago=70, targets={"ledger": output, text: output}, **fields)
    plain = event_line(
        "one", ago=70, targets={"ledger": REFUSED, "x": REFUSED}, trace_id="t", changes=["c"]
    )
    later = line(
        "retried", event_id="one", target=text, cause=text, retry=1, reason=text, unrecorded=text
    )
    keep(
        tmp_path / "plain", plain, line("retried", event_id="one", target="x", reason="x", retry=1)
    )
    keep(tmp_path / "hostile", hostile, later)
    found, expected = trace(tmp_path / "hostile", "one"), trace(tmp_path / "plain", "one")
    assert found.code == 0, found.err
    assert len(found.lines) == len(expected.lines)
    assert all(each.isprintable() for each in found.lines)
    assert [each for each in found.lines if each.startswith("next")] == expected.lines[-1:]
    keep(tmp_path / "hostile", event_line("two"))
    table = trace(tmp_path / "hostile", "--since", "1h")
    assert len(table.lines) == 3
    assert all(each.isprintable() for each in table.lines)


def test_texts_of_others_are_quoted(tmp_path: Path) -> None:
    """In quotes, no text looks like a column or like the router's own words."""
    text = "x  ledger  acknowledged"
    names = ("as", "reason", "skipped", "code", "msg")
    output = {**REFUSED, **dict.fromkeys(names, text)}
    fields: dict[str, Any] = dict.fromkeys(("event_key", "trace_id", "request_id", "cause"), text)
    one = event_line("one", targets={text: output}, changes=[text], routes=[text], **fields)
    later = line(
        "retried", event_id="one", target=text, cause=text, retry=1, reason=text, unrecorded=text
    )
    found = trace(keep(tmp_path, one, later), "one").out
    assert found.count(text) > 10
    assert found.count(f"'{text}'") == found.count(text)


def test_random_bytes_cause_no_traceback(tmp_path: Path) -> None:
    """The archive has noise, and lines with values of wrong types."""
    random = Random(7)
    kinds: list[Any] = [None, True, 17, -0.5, "x", [], {}, ["x"], {"ledger": 1}, 10**400]
    fields = list(json.loads(event_line("one")))
    lines: list[bytes] = []
    for _ in range(500):
        lines.append(b'one {"' + random.randbytes(60) + b"\n")
        members = json.loads(event_line("one"))
        for name in random.sample(fields, 3):
            members[name] = random.choice(kinds)
        lines.append(json.dumps(members, separators=(",", ":")).encode() + b"\n")
    found = trace(keep(tmp_path, *lines), "one")
    assert found.code == 0
    assert "could not be read" in found.err
