"""`trace`: by whatever an event is known, it is found, told whole, and forges nothing."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from router.archive.reading import lines_with
from router.archive.trace.lines import parse_line
from router.archive.trace.question import Question
from router.cli.history.stories import format_story
from router.model.event import Reason
from router.store.protocol import DeliveryRow, Stage, State
from tests.support.archived import ACKNOWLEDGED, REFUSED, archived, keep, line, told
from tests.support.effort import LONG
from tests.support.house import event
from tests.support.inprocess import Ran, complaint, ran
from tests.support.serving import SOON, always, serving, target, with_door
from tests.support.shop import Shop, SqliteShop, dead
from tests.support.waiting import wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def trace(folder: Path, *arguments: str) -> Ran:
    """In an archive alone."""
    return ran("trace", "--archive", folder, "--store", "none", *arguments)


def story(folder: Path, *arguments: str) -> Any:
    found = trace(folder, "--format", "json", *arguments)
    assert found.code == 0, found.err
    assert found.json["kind"] == "story"
    return found.json


def names(found: Ran) -> list[str]:
    """The events of a table."""
    assert found.code == 0, found.err
    return [json.loads(each)["event_id"] for each in found.lines]


# By what an event is found.


@pytest.mark.parametrize(
    "word",
    [
        "one",
        "request-of-one",
        "x.y.z.1",
        "x.y.*",
        "?.y.z.1",
        TRACE,
        "order 库",
        "17",
        "deep",
        "hash",
        "whole hash",
    ],
)
def test_an_event_is_found_by_whatever_it_is_known_by(tmp_path: Path, word: str) -> None:
    """Its id, its request's, its key, a pattern, its trace, an id in `changes`, its body's hash."""
    changes = [*map(str, range(20, 60)), "order 库", 17, {"id": "deep"}]
    sent = json.dumps({"changes": changes}, ensure_ascii=False).encode()
    one = told("one", body=sent, event_key="x.y.z.1", trace_id=TRACE, changes=["20"])
    keep(tmp_path, told("two"), one, told("three"))
    digest = hashlib.sha256(sent).hexdigest()
    spelt = {"hash": digest[:8], "whole hash": digest}.get(word, word)
    assert story(tmp_path, spelt)["event_id"] == "one"


def test_what_is_only_like_it_is_not_found(tmp_path: Path) -> None:
    """A part of an id, a word of another field, a key without its wildcard."""
    keep(tmp_path, told("one", body=event(changes=["order-17"])))
    for word in ("order", "order-1", "cert", "a.gs", "on", "acknowledged", "request-of"):
        assert trace(tmp_path, word).code == 1, word


def test_one_of_ten_thousand_is_found_by_an_id_of_the_business(tmp_path: Path) -> None:
    """Across segments, finished and not."""
    for part in range(10):
        lines = [told(f"event-{part}-{n}", ago=3600 - part * 60 - n / 20) for n in range(1000)]
        keep(tmp_path, *lines)
    assert story(tmp_path, "event-3-777")["event_id"] == "event-3-777"


def test_a_table_has_each_event_once_and_the_newest_first(tmp_path: Path) -> None:
    """Over the segments of two processes that wrote at the same time."""
    keep(
        tmp_path,
        told("one", ago=90, code="500"),
        told("one", ago=50, request=2),
        told("four", ago=10),
    )
    keep(tmp_path, told("two", ago=70), told("three", ago=30))
    assert names(trace(tmp_path, "a.gs.*", "--format", "json")) == ["four", "three", "one", "two"]
    text = trace(tmp_path, "a.gs.*", "--limit", "2")
    assert [each.split()[2] for each in text.lines[1:3]] == ["four", "three"]
    assert text.lines[3:] == ["and more: --limit, --since"]


KEY = {"event_key": "a.gs.cert.1"}
LEDGER = {**KEY, "target": "ledger", "reason": "acknowledged"}
AUDIT = {**KEY, "target": "audit", "reason": "status", "status": 500}


def test_a_row_has_what_was_told_and_what_is_open(tmp_path: Path) -> None:
    """Also where the newest line is about one target's replay: the last code, and the dead letter
    of the other. What came right since is not open."""
    keep(
        tmp_path,
        told("one", ago=90, code="500", targets={"ledger": REFUSED, "audit": REFUSED}),
        told("one", ago=80, code="500", request=2, targets={"ledger": REFUSED, "audit": REFUSED}),
        line("dead_letter", ago=70, event_id="one", **LEDGER | {"reason": "code"}),
        line("dead_letter", ago=60, event_id="one", **AUDIT),
        line("retried", ago=50, event_id="one", **LEDGER, cause="replay"),
        told("two", ago=40, targets={"audit": {"as": "optional", "skipped": "queued"}}),
        line("retried", ago=30, event_id="three", **AUDIT),
    )
    said = [each.split(maxsplit=3) for each in trace(tmp_path, "--since", "1h").lines[1:]]
    assert [row[1] for row in said] == ["three", "000", "500"]
    assert said[1][3] == "a.gs.cert.1  audit: skipped: queued"
    assert said[2][3] == "a.gs.cert.1  retry: ledger: acknowledged; audit: dead"
    found = trace(tmp_path, "--since", "1h", "--format", "json").lines
    assert json.loads(found[2])["open"] == [{"target": "audit", "state": "dead"}]
    assert "told" not in json.loads(found[0])


def test_a_row_waits_not_for_ever(tmp_path: Path) -> None:
    """One whose request was long ago holds up neither the table nor who reads it."""
    lines = [told(f"event-{n}", ago=3600 - n / 10) for n in range(6000)]
    late = line("retried", ago=1, event_id="one", **LEDGER)
    keep(tmp_path, told("one", ago=7200), *lines, late)
    found = trace(tmp_path, "--since", "1d", "--limit", "2", "--format", "json")
    assert names(found) == ["one", "event-5999"]
    assert "told" not in json.loads(found.lines[0])
    assert "told" in trace(tmp_path, "one", "event-1", "--format", "json").lines[0]


def test_a_row_of_the_store_has_what_was_told(tmp_path: Path, shop: Shop) -> None:
    """Which the store itself does not know."""
    for name in ("one", "two"):
        shop.add(name, dead("audit"), DeliveryRow("ledger", State.ACKNOWLEDGED))
        keep(tmp_path, told(name, ago=90, code="500", targets={"audit": REFUSED}))
    found = ran("trace", "--since", "1h", "--archive", tmp_path, "--store", shop.option)
    for each in found.lines[1:]:
        assert each.split()[1] == "500"
        assert each.endswith("  audit: dead; ledger: acknowledged")


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
def test_what_narrows_it_down(tmp_path: Path, options: str, expected: list[str]) -> None:
    """Every filter has to fit; of several words any."""
    keep(
        tmp_path,
        told("one", ago=90),
        told("two", ago=70, code="500", targets={"ledger": REFUSED}),
        told("three", ago=40, targets={"ledger": ACKNOWLEDGED, "audit": ACKNOWLEDGED}),
        told("four", ago=20, targets={"ledger": ACKNOWLEDGED, "audit": {**REFUSED, "status": 503}}),
        told("five", ago=10, code="500", unqueued=True),
    )
    found = trace(tmp_path, *options.split(), "--format", "json")
    if len(expected) == 1:
        assert found.json["event_id"] == expected[0]
    else:
        assert names(found) == expected


# How it is told.


FAILED_LINES = [
    *(
        told(f"{r}", targets={"a": ACKNOWLEDGED, "b": {"reason": r}})
        for r in Reason
        if r != "acknowledged"
    ),
    *(line("event", event_id=f"code-{code}", code=code) for code in ("", "400", "500")),
    line("unmatched", request_id="r", code="500"),
    line("dead_letter", event_id="dead", target="a", reason="acknowledged"),
    line("lost", event_id="lost", target="a", reason="acknowledged"),
    line("retried", event_id="retried", target="a", reason="status"),
]

FINE_LINES = [
    told("reason", body=event(changes=['"reason":"status"', '"happening":"lost"'])),
    told("skipped", targets={"a": {"skipped": "queued"}}),
    line("unmatched", code="000", request_id="accepted"),
    line("retried", event_id="well", target="a", reason="acknowledged"),
]


def test_whatever_has_failed_is_found_by_its_bytes() -> None:
    """Every failed reason, code and happening is found; hardly any other line is parsed."""
    needles = Question(failed=True).needles
    assert len(list(lines_with(b"".join(FAILED_LINES), needles))) == len(FAILED_LINES)
    assert not list(lines_with(b"".join(FINE_LINES[1:]), needles))


def test_what_others_said_does_not_count_for_a_team() -> None:
    """An event has failed for those of whose targets an attempt has."""
    both = told("both", targets={"a": {"reason": "status"}, "b": {"reason": "acknowledged"}})
    found = parse_line(both)
    assert found is not None
    asked = {name: Question(failed=True, seen=(name,)) for name in ("a", "b")}
    assert {name: each.fits(found) for name, each in asked.items()} == {"a": True, "b": False}


def test_what_is_well_is_not_taken_for_failed(tmp_path: Path) -> None:
    """Not even where its body says so."""
    keep(tmp_path, *FINE_LINES)
    assert trace(tmp_path, "--failed").code == 1


def test_one_event_is_told_whole(tmp_path: Path) -> None:
    """By real processes: every request and what it was told, the receiver's words, what was
    skipped, how it stands and what comes next."""
    with target() as ledger, target(always("700")) as audit:
        ebaas = {"waits": ["1h"], "retries": 20}
        both = {"ledger": ledger, "audit": audit}
        own, asking = with_door(tmp_path)
        with serving(tmp_path, both, ebaas=ebaas, options=own) as router:
            assert [router.post("order-1"), router.post("order-1")] == ["500", "500"]
            wait_until(lambda: len(archived(tmp_path / "store.db-archive")) == 2)
            found = ran("trace", "order-1", *asking)
            router.interrupt(signal.SIGTERM)
    assert found.code == 0, found.err
    text = found.out
    assert "request 1 of 21: EBaaS was told 500" in text
    assert "request 2 of 21: EBaaS was told 500" in text
    assert len(re.findall(r"audit +required .*700", text)) == 2
    assert re.search(r"ledger +required +skipped: acknowledged", text)
    assert re.search(r"next: EBaaS's request 3, in (59m|1h)", text)


def test_the_queues_retries_are_told_until_the_end(tmp_path: Path) -> None:
    """Also when nothing of it is open any more."""
    queue = {"retries": 2, "waits": ["50ms"]}
    own, asking = with_door(tmp_path)
    with (
        target() as ledger,
        target(always("700")) as audit,
        serving(tmp_path, {"ledger": ledger}, {"audit": audit}, options=own, queue=queue) as router,
    ):
        assert router.post("order-1") == "000"
        wait_until(lambda: archived(tmp_path / "store.db-archive", "dead_letter"))
        found = ran("trace", "order-1", *asking, "--format", "json")
    steps = found.json["steps"]
    assert [(step["what"], step.get("retry")) for step in steps] == [
        ("request", None),
        ("retried", 1),
        ("dead_letter", 2),
    ]
    assert found.json["deliveries"][0]["state"] == "dead"


@pytest.mark.parametrize("archive", ["auto", "none"])
def test_a_failed_attempt_is_told_once(tmp_path: Path, archive: str) -> None:
    """In the receiver's words, whether the archive has it, or the store alone."""
    own, asking = with_door(tmp_path)
    options = ["--archive", archive, *own]
    with (
        target(always("700")) as audit,
        serving(tmp_path, {"audit": audit}, ebaas={"waits": ["1h"]}, options=options) as router,
    ):
        assert router.post("order-1") == "500"
        wait_until(lambda: archive == "none" or archived(tmp_path / "store.db-archive"))
        found = ran("trace", "order-1", *asking)
    assert found.code == 0, found.err
    assert len(re.findall("audit.*'700'", found.out)) == 1
    assert "next: EBaaS's request 2" in found.out


def test_what_was_acknowledged_long_ago_is_told_too(tmp_path: Path) -> None:
    """No store has it; the archive does."""
    keep(tmp_path, told("one", ago=3 * 86400))
    found = trace(tmp_path, "one")
    assert "EBaaS was told 000" in found.out
    assert found.lines[-1] == "next: nothing, it is settled"


def test_a_person_s_action_is_a_part_of_it(tmp_path: Path) -> None:
    """Who replayed what, and when; the text is made of the JSON."""
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


def test_bodies_are_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    """They may be secret."""
    sent = event(changes=["one", "canary"])
    keep(tmp_path, told("one", body=sent, changes=["one"]))
    assert "canary" not in trace(tmp_path, "one").out
    assert trace(tmp_path, "one", "--body").lines[-1] == sent.decode()
    assert story(tmp_path, "one", "--body")["body"] == sent.decode()


def test_an_event_that_no_route_matches_is_told(tmp_path: Path) -> None:
    """It has no id of its own; its request has."""
    fields: dict[str, Any] = {"code": "500", "request_id": "r-1", "event_key": "x.y.z.1"}
    keep(tmp_path, line("unmatched", payload=event(changes=["order-1"]).decode(), **fields))
    found = trace(tmp_path, "order-1")
    assert "no route matches" in found.out
    assert "EBaaS was told 500" in found.out


# Where is looked.


@pytest.mark.parametrize("word", ["one", "r", "order-1", "a.gs.cert.1", "a.gs.*"])
def test_the_store_is_enough(shop: Shop, word: str) -> None:
    """What is open is found without any archive, by its body too."""
    awaiting = DeliveryRow("ledger", State.AWAITING)
    shop.add("one", awaiting, stage=Stage.OPEN, body=event(changes=["order-1"]))
    nowhere_else = ("--store", shop.option, "--archive", "none")
    assert ran("trace", word, *nowhere_else, "--format", "json").json["event_id"] == "one"
    assert ran("trace", "cert", *nowhere_else).code == 1


def test_an_attempt_that_was_not_recorded_is_told_as_that(tmp_path: Path) -> None:
    """The store may show another state: what the target has had is in the log alone."""
    again = {"event_id": "one", "target": "ledger", "reason": "timeout"}
    keep(
        tmp_path,
        told("one", ago=70, code="500"),
        line("retried", ago=60, **again, retry=1, unrecorded="lease_over"),
        line("retried", ago=50, **again, retry=2),
    )
    found = trace(tmp_path, "one")
    marked = [each for each in found.lines if "not recorded, the store: lease_over" in each]
    assert len(marked) == 1
    assert "retry 1: ledger timeout" in marked[0]
    steps = trace(tmp_path, "one", "--format", "json").json["steps"]
    assert [step["unrecorded"] for step in steps] == ["", "lease_over", ""]


def test_no_such_event_says_where_was_looked(tmp_path: Path) -> None:
    """One line, with how far back each reaches; exit 1."""
    keep(tmp_path, told("one"))
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
        (["x", "--archive", "nothing"], 3, "--archive: nothing is no folder"),
        (["x", "--store", "nothing.db"], 3, "there is no such file"),
        (["x", "--archive", "none", "--store", "none"], 3, "nowhere to look, neither an archive"),
        (["x", "--limit", "0"], 2, "--limit"),
        ([""], 2, "empty"),
    ],
)
def test_what_cant_be_done_says_why(arguments: list[str], code: int, why: str) -> None:
    """One line, no path of the machine, no traceback."""
    found = ran("trace", *arguments)
    assert (found.code, found.out) == (code, "")
    assert why in found.err
    assert found.err.count("\n") == 1


# What can't be trusted.


def test_an_empty_variable_names_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everywhere else: it is looked for where it is by default, and need not be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EBAAS_ROUTER_STORE", "")
    assert "there is nowhere to look" in complaint(ran("trace", "one"), 3)


def test_lines_that_are_cut_or_garbled_are_counted(tmp_path: Path) -> None:
    """The rest is told all the same."""
    one, two = told("one", ago=90, code="500"), told("one", request=2)
    garbled = [
        one[:200] + b"\n",
        b'{"time":"x","happening":"event","event_id":"one"}\n',
        b"one\xff\n",
    ]
    older = b'{"time":"2026-11-26T12:00:00.000Z","happening":"event","event_id":"one"}\n'
    keep(tmp_path, one, *garbled, older, two[:-20])
    found = trace(tmp_path, "one", "--format", "json")
    assert len(found.json["steps"]) == 2
    assert "could not be read" in found.err


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
def test_no_words_forge_a_line_a_colour_or_a_column(tmp_path: Path, text: str) -> None:
    """Whatever a receiver, a body, or somebody else's log says."""
    said = {**REFUSED, "msg": text, "code": text, "detail": text, "reason": text, "as": text}
    fields: dict[str, Any] = {
        "event_key": text,
        "changes": [text],
        "trace_id": text,
        "routes": [text],
    }
    hostile = told("one", ago=70, targets={"ledger": said, text: said}, **fields)
    plain = told(
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
    keep(tmp_path / "hostile", told("two"))
    table = trace(tmp_path / "hostile", "--since", "1h")
    assert len(table.lines) == 3
    assert all(each.isprintable() for each in table.lines)


def test_what_strangers_say_stands_in_quotes(tmp_path: Path) -> None:
    """So that nothing of it looks like a column, or like what the router says itself."""
    text = "x  ledger  acknowledged"
    names = ("as", "reason", "skipped", "code", "msg")
    said = {**REFUSED, **dict.fromkeys(names, text)}
    fields: dict[str, Any] = dict.fromkeys(("event_key", "trace_id", "request_id", "cause"), text)
    one = told("one", targets={text: said}, changes=[text], routes=[text], **fields)
    later = line(
        "retried", event_id="one", target=text, cause=text, retry=1, reason=text, unrecorded=text
    )
    found = trace(keep(tmp_path, one, later), "one").out
    assert found.count(text) > 10
    assert found.count(f"'{text}'") == found.count(text)


def test_random_bytes_are_no_traceback(tmp_path: Path) -> None:
    """Noise, and lines whose members are of any kind."""
    random = Random(7)
    kinds: list[Any] = [None, True, 17, -0.5, "x", [], {}, ["x"], {"ledger": 1}, 10**400]
    fields = list(json.loads(told("one")))
    lines: list[bytes] = []
    for _ in range(500):
        lines.append(b'one {"' + random.randbytes(60) + b"\n")
        members = json.loads(told("one"))
        for name in random.sample(fields, 3):
            members[name] = random.choice(kinds)
        lines.append(json.dumps(members, separators=(",", ":")).encode() + b"\n")
    found = trace(keep(tmp_path, *lines), "one")
    assert found.code == 0
    assert "could not be read" in found.err


#: More with LONG=1, which `make test-long` sets.
KILLS = 8 if LONG else 2


def test_a_kill_at_any_moment_leaves_what_can_be_traced(tmp_path: Path) -> None:
    """What failed is in the store whatever happens; what went well is in the archive a moment
    later."""
    random = Random(11)
    with target() as ledger, target(lambda name, _: "700" if "bad" in name else "000") as other:
        for number in range(KILLS):
            with serving(tmp_path, {"ledger": ledger, "other": other}, ebaas=SOON) as router:
                good = f"good-{number}"
                assert router.post(good) == "000"
                bad = [f"bad-{number}-{each}" for each in range(random.randrange(1, 30))]
                assert {router.post(name) for name in bad} == {"500"}
                router.process.send_signal(signal.SIGKILL)
                router.wait()
            for name in bad:
                assert ran("trace", name, "--store", tmp_path / "store.db").code == 0, name
    for number in range(KILLS - 1):
        assert ran("trace", f"good-{number}", "--store", tmp_path / "store.db").code in (0, 1)
