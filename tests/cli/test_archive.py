"""`archive list`, `export` and `replay` on each kind of store."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest

from router.archive.reading import Question, Sources
from router.archive.segments import REFUSED as PART
from router.archive.segments import SegmentStore
from router.archive.trace.replay import events, id_of, resend
from router.store.protocol import DeliveryRow, Stage, State
from tests.support.archived import (
    ACKNOWLEDGED,
    REFUSED,
    archived,
    event_line,
    keep,
    line,
    refused_line,
)
from tests.support.command import running
from tests.support.house import event, routes
from tests.support.inprocess import Ran, ran
from tests.support.rows import query
from tests.support.serving import always, serving, target, with_door
from tests.support.shop import Shop, dead
from tests.support.somebody import as_somebody, reachable
from tests.support.waiting import wait_until


def archive(folder: Path, verb: str, *arguments: str | Path) -> Ran:
    return ran("archive", verb, "--archive", folder, *arguments)


def replay(folder: Path, shop: Shop, *arguments: str | Path) -> Ran:
    usual = ("--target", "ledger", "--since", "1h", "--rate", "1000/s")
    return archive(folder, "replay", "--store", shop.option, *usual, *arguments)


# Listing.


def test_list_shows_times_and_counts(tmp_path: Path) -> None:
    """By the code of the reply and by target; also without a verb."""
    keep(
        tmp_path,
        event_line("one", ago=7200),
        event_line("two", ago=60, code="500", targets={"ledger": REFUSED, "audit": ACKNOWLEDGED}),
        event_line("two", ago=50, request=2, payload=...),
        line("retried", ago=40, event_id="two", target="audit", reason="timeout", retry=1),
        line("unmatched", ago=30, code="500", event_key='"code":"000"', payload='{"as":"x"}'),
    )
    found = archive(tmp_path, "list", "--format", "json").json
    assert (found["requests"], found["bodies"]) == (4, 3)
    assert found["codes"] == {"000": 2, "500": 2}
    assert found["targets"] == {"ledger": 3, "audit": 1}
    assert found["later"]["retried"] == 1
    assert found["first"] < found["last"]
    lines = archive(tmp_path, "list").lines
    assert {"requests  4", "bodies    3", "targets   ledger 3, audit 1"} <= set(lines)
    assert ran("archive", "--archive", tmp_path).lines == lines


def test_an_archive_may_be_empty_but_not_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert archive(tmp_path / "empty", "list").lines == ["the archive is empty"]
    assert archive(tmp_path / "empty", "export").out == ""
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("nothing", "file", "dangling", "loop", "file/below"):
        for found in looked_into(tmp_path / name):
            output = f"ebaas-router: --archive: {tmp_path / name} is not a folder\n"
            assert (found.code, found.out, found.err) == (3, "", output)


def looked_into(folder: Path) -> list[Ran]:
    verbs = ("list", "export")
    traced = ran("trace", "one", "--archive", folder, "--store", "none")
    return [*(archive(folder, verb) for verb in verbs), traced]


@pytest.mark.parametrize("closed", ["archive", "."])
def test_an_archive_that_is_closed_says_whose_it_is(closed: str) -> None:
    """If its folder, or the one it is in, is closed to us: exit 3, and one line with its owner."""
    with reachable() as folder:
        keep(folder / "archive", event_line("one"))
        looked_into(folder / "archive")  # all that it imports may be root's alone
        (folder / closed).chmod(0)
        with as_somebody():
            every = looked_into(folder / "archive")
        (folder / closed).chmod(0o755)
        for found in every:
            assert (found.code, found.out) == (3, "")
            assert f"permission denied: the folder '{folder / closed}' has owner" in found.err
            assert found.err.count("\n") == 1


def test_damage_is_counted(tmp_path: Path, shop: Shop) -> None:
    """A segment that is cut, an empty one, a folder, and lines that are not the router's: every
    reader names the segments, counts all, reads the rest, and ends with 1."""
    folder = tmp_path / "archive"
    keep(folder, *[event_line(f"event-{n}", ago=300 - n / 10) for n in range(2000)])
    SegmentStore(folder, 1 << 30, 30 * 86400.0).tidy()
    (segment,) = folder.iterdir()
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    empty, unreadable = (
        folder / f"20261126T120000000Z-20991126T120000000Z-000000000{n}-0123abcd.jsonl.zst"
        for n in (1, 2)
    )
    empty.touch()
    unreadable.mkdir()
    good = event_line("good")
    keep(folder, good, b"noise" + good, good[:60] + b"\n")
    exported = archive(folder, "export")
    assert exported.code == 1
    assert json.loads(exported.lines[-1])["changes"] == ["good"]
    done = replay(folder, shop, "--yes")
    assert (done.code, len(shop.states())) == (1, len(exported.lines))
    for found in (exported, done):
        assert "the archive is damaged: 3 segments and 2 lines could not be read" in found.err
        assert f"{segment.name} is damaged: only " in found.err
        assert f"{empty.name} is damaged: only 0 bytes" in found.err
        assert f"{unreadable.name} can't be read: is a directory" in found.err
    shown = replay(folder, shop, "--dry-run", "--format", "json")
    assert (shown.code, shown.json["damaged_segments"], shown.json["damaged_lines"]) == (1, 3, 2)
    listed = archive(folder, "list", "--format", "json")
    assert (listed.code, listed.json["cut"]) == (1, 3)


def test_a_replay_leaves_out_events_whose_targets_were_cut(tmp_path: Path, shop: Shop) -> None:
    """Ours may have been among them, or not."""
    keep(tmp_path / "archive", event_line("good"), event_line("cut", targets="…", cut=["targets"]))
    assert (
        replay(tmp_path / "archive", shop, "--dry-run", "--format", "json").json["targets_cut"] == 1
    )
    done = replay(tmp_path / "archive", shop)
    assert "1 event whose line has not all targets, left out" in done.lines
    assert shop.states() == {"good ledger": "queued "}


def test_refused_callbacks_are_listed_without_a_router(tmp_path: Path, shop: Shop) -> None:
    """But a replay needs one: its schema and its routes decide."""
    fields: dict[str, Any] = {"code": "400", "event_id": "one", "event_key": "a\x1b[2J"}
    folder = tmp_path / "archive"
    keep(folder, line("refused", **fields, why="event_type: required"), part=PART)
    listed = archive(folder, "list", "--refused")
    assert listed.lines[1].split()[4:] == ["400", "'a\\x1b[2J'", "event_type", "is", "missing"]
    assert archive(folder, "list", "--refused", "--match", "b*").lines == ["no refused callbacks"]
    alone = archive(folder, "replay", "--refused", "--store", shop.option)
    assert (alone.code, "nothing sends while no router runs" in alone.err) == (3, True)


# Export.


def test_export_writes_events_as_they_came(tmp_path: Path) -> None:
    """Each once, one a line, the oldest first, selected as by trace."""
    pretty = json.dumps(json.loads(event(changes=["a\u2028b"])), indent=1, ensure_ascii=False)
    keep(
        tmp_path,
        event_line("one", ago=90, body=pretty.encode(), event_key="x.y.z.1"),
        event_line("two", ago=80),
        event_line("two", ago=70, request=2),
        event_line("three", ago=60, payload=...),
    )
    found = archive(tmp_path, "export")
    assert [json.loads(each)["changes"] for each in found.lines] == [["a\u2028b"], ["two"]]
    assert "1 event left out: without a body" in found.err
    assert len(archive(tmp_path, "export", "--match", "x.*").lines) == 1
    assert len(archive(tmp_path, "export", "--limit", "1").lines) == 1


def test_a_limit_counts_only_what_is_exported(tmp_path: Path) -> None:
    """Events without a body are left out, and do not take the place of others."""
    keep(
        tmp_path,
        *(event_line(f"bare-{number}", ago=90 - number, payload=...) for number in range(3)),
        *(event_line(f"event-{number}", ago=60 - number) for number in range(3)),
    )
    done = archive(tmp_path, "export", "--limit", "2")
    assert [json.loads(each)["changes"] for each in done.lines] == [["event-0"], ["event-1"]]
    assert "3 events left out: without a body" in done.err


def test_diff_and_send_read_exported_events(tmp_path: Path) -> None:
    keep(tmp_path / "archive", event_line("one"))
    out = archive(tmp_path / "archive", "export").out.encode()
    table = tmp_path / "routes.yaml"
    with target() as ledger:
        table.write_text(json.dumps(routes({"ledger": ledger.url})))
        compared = ran("diff", table, table, "--events", "-", stdin=out)
        sent = ran("send", "-", "--url", ledger.url, stdin=out)
    assert "1 event compared" in compared.out
    assert sent.code == 0
    assert [got.event for got in ledger.got] == ["one"]


# Replay.


def test_a_replay_queues_the_targets_events(tmp_path: Path, shop: Shop) -> None:
    """Under the same id and body, in order of time, each event once."""
    keep(
        tmp_path / "archive",
        event_line("two", ago=80, code="500"),
        event_line("two", ago=70, request=2),
        event_line("one", ago=90),
        event_line("old", ago=7200),
        event_line("other", targets={"audit": ACKNOWLEDGED}),
        event_line("bodiless", payload=...),
    )
    done = replay(tmp_path / "archive", shop)
    assert done.code == 0, done.err
    assert done.lines[-1] == "2 deliveries replayed"
    assert "1 event without a body, left out" in done.lines
    assert shop.states() == {"one ledger": "queued ", "two ledger": "queued "}
    order = shop.query("SELECT event_id FROM events ORDER BY seq")
    assert [event_id for (event_id,) in order] == ["one", "two"]
    ((verb, who, count),) = shop.query("SELECT verb, who, deliveries FROM actions")
    assert (verb, count) == ("replay", 2)
    assert "@" in who


def test_a_replay_keeps_to_its_rate(tmp_path: Path, shop: Shop) -> None:
    keep(tmp_path / "archive", *[event_line(f"event-{n}") for n in range(3)])
    began = time.monotonic()
    assert replay(tmp_path / "archive", shop, "--rate", "2/s").code == 0
    assert time.monotonic() - began > 0.9


def test_a_replayed_event_is_read_from_its_body(tmp_path: Path) -> None:
    """The line's key may be cut. The trace of then is over, but hops count on: else a router that
    sends events back would call every target again for each line of the loop."""
    key, trace = "k" * 2000, "4bf92f3577b34da6a3ce929d0e0e4736"
    body = event(event_key=key)
    keep(tmp_path, event_line("one", body=body, event_key=key[:1024] + "…", hops=2, trace_id=trace))
    (found,) = events(Sources(tmp_path), Question())
    again = resend(
        at=found.at,
        event_id=id_of(found),
        request_id=found.view["request_id"],
        number=found.view["request"],
        hops=found.hops,
        body=found.body or "",
    )
    assert again is not None
    assert again.letter.event.event_key == key
    assert (again.letter.traceparent, again.letter.tracestate, again.letter.hops) == ("", "", 2)


def test_forged_lines_are_left_out(tmp_path: Path, shop: Shop) -> None:
    """Ids that would end a header, payloads that are not an event: counted, not queued."""
    keep(
        tmp_path / "archive",
        event_line("good"),
        event_line("one\r\nx-evil: 1"),
        event_line("two", request_id="r\r\nx-evil: 1"),
        event_line("three", payload="{}"),
        event_line("four", payload="\ud800"),
        event_line("five", hops=2**70),
    )
    done = replay(tmp_path / "archive", shop)
    assert done.code == 0, done.err
    assert done.lines[-1] == "1 delivery replayed"
    assert "4 lines that the router can't have written, left out" in done.lines
    assert "1 event without a body, left out" in done.lines
    assert shop.states() == {"good ledger": "queued "}


def test_a_preview_changes_nothing(tmp_path: Path, shop: Shop) -> None:
    """--dry-run counts; many are not queued without a yes."""
    keep(tmp_path / "archive", *[event_line(f"event-{n}") for n in range(11)])
    preview = replay(tmp_path / "archive", shop, "--dry-run")
    assert preview.lines[-2:] == [
        "11 deliveries would be replayed",
        "at most: deliveries that EBaaS or the queue is still retrying are left alone",
    ]
    unasked = replay(tmp_path / "archive", shop)
    assert (unasked.code, "needs --yes" in unasked.err) == (2, True)
    assert shop.states() == {}
    assert replay(tmp_path / "archive", shop, "--yes").lines[-1] == "11 deliveries replayed"


def test_deliveries_that_are_still_retried_are_left_alone(tmp_path: Path, shop: Shop) -> None:
    """By EBaaS or the queue. Any other delivery of the target is queued again, whatever the event
    still waits for elsewhere."""
    ledger = DeliveryRow("ledger", State.ACKNOWLEDGED, "acknowledged")
    shop.add("theirs", ledger, DeliveryRow("audit", State.AWAITING), stage=Stage.OPEN)
    shop.add("new", DeliveryRow("audit", State.AWAITING), stage=Stage.OPEN)
    shop.add("open", DeliveryRow("ledger", State.AWAITING), stage=Stage.OPEN)
    shop.add("queued", DeliveryRow("ledger", State.QUEUED, retries=3), stage=Stage.CLOSED)
    shop.add("done", DeliveryRow("ledger", State.ACKNOWLEDGED, "acknowledged"), stage=Stage.CLOSED)
    shop.add("dead", dead())
    shop.add("elsewhere", DeliveryRow("audit", State.QUEUED), stage=Stage.CLOSED)
    ids = ("open", "queued", "done", "dead", "elsewhere", "theirs", "new")
    keep(
        tmp_path / "archive", *[event_line(event_id, ago=60 - n) for n, event_id in enumerate(ids)]
    )
    done = replay(tmp_path / "archive", shop)
    assert done.lines[-2:] == [
        "5 deliveries replayed",
        "2 left alone: still being retried, or already replayed by this command",
    ]
    states = shop.states()
    assert states.pop("open ledger") == "awaiting "
    assert states.pop("theirs audit") == states.pop("new audit") == "awaiting "
    assert states.pop("elsewhere audit") == "queued "
    assert states == {
        f"{each} ledger": "queued "
        for each in ("queued", "done", "dead", "elsewhere", "theirs", "new")
    }
    assert shop.query("SELECT max(retries) FROM deliveries") == [(3,)]


def test_a_killed_replay_continues(tmp_path: Path, shop: Shop) -> None:
    """Run again, it queues every event once; run once more, it is a new replay."""
    keep(tmp_path / "archive", *[event_line(f"event-{n}", ago=90 - n / 10) for n in range(60)])
    options = ("--archive", str(tmp_path / "archive"), "--store", shop.option, "--yes")
    words = ("archive", "replay", "--target", "ledger", "--since", "1h", *options)
    with running(*words, "--rate", "20/s") as slow:
        wait_until(lambda: shop.states())
        slow.process.send_signal(signal.SIGKILL)
        slow.wait()
    before = len(shop.states())
    assert 0 < before < 60
    # As if they had been sent, and their time were over.
    shop.forget()
    again = ran(*words, "--rate", "1000/s")
    assert "continuing what" in again.err
    assert again.lines[-1] == f"{60 - before} deliveries replayed"
    assert len(shop.states()) == 60 - before
    anew = ran(*words, "--rate", "1000/s", "--dry-run")
    assert "60 deliveries would be replayed" in anew.lines
    assert "did the same at 20" in anew.err


def test_a_backfill_replays_events_that_were_not_for_the_target(tmp_path: Path, shop: Shop) -> None:
    """Also unmatched ones that got their 000. The target has to be in routes.yaml."""
    fields: dict[str, Any] = {"event_key": "a.gs.cert.1", "payload": event(changes=["x"]).decode()}
    keep(
        tmp_path / "archive",
        event_line("one"),
        event_line("two", targets={"audit": ACKNOWLEDGED}),
        line("unmatched", code="000", request_id="r-1", **fields),
        line("unmatched", code="500", request_id="r-2", event_id="three", **fields),
    )
    table = tmp_path / "routes.yaml"
    table.write_text(json.dumps(routes({"audit": "http://127.0.0.1:1/"})))
    wrong = replay(tmp_path / "archive", shop, "--backfill", "--config", table)
    assert (wrong.code, "no target 'ledger'" in wrong.err) == (2, True)
    table.write_text(json.dumps(routes({"ledger": "http://127.0.0.1:1/"})))
    done = replay(tmp_path / "archive", shop, "--backfill", "--config", table)
    assert done.lines[-1] == "2 deliveries replayed"
    assert "two ledger" in shop.states()
    assert "one ledger" not in shop.states()


@pytest.mark.parametrize("command", ["replay", "export", "trace"])
def test_a_mistyped_target_is_an_error(tmp_path: Path, shop: Shop, command: str) -> None:
    """If neither the archive nor routes.yaml has it: exit 2, with a suggestion."""
    keep(tmp_path / "archive", event_line("one", targets={"retired": ACKNOWLEDGED}))
    table = tmp_path / "routes.yaml"
    table.write_text(json.dumps(routes({"ledger": "http://127.0.0.1:1/"})))
    words = ("trace",) if command == "trace" else ("archive", command)
    options = ("--archive", tmp_path / "archive", "--store", shop.option)

    def asked(target: str, config: Path = table) -> Ran:
        which = ("--since", "1h", "--target", target, "--config", config)
        return ran(*words, *which, *options)

    for wrong, meant in (("ledgre", "ledger"), ("retird", "retired")):
        found = asked(wrong)
        assert (found.code, found.out) == (2, "")
        assert f"no target {wrong!r} in " in found.err
        assert f"did you mean {meant}?" in found.err
    assert asked("ledger").code == (1 if command == "trace" else 0)
    retired = asked("retired")
    assert retired.code == 0
    is_told = f"{table} has no target 'retired': nothing is sent to it" in retired.err
    assert is_told == (command == "replay")
    (tmp_path / "broken").write_text("targets: [")
    for name in ("no", "broken"):
        found = asked("retird", tmp_path / name)
        assert "can't be read (--config), did you mean retired?" in found.err


def test_a_replay_sends_exactly_the_acknowledged_events(tmp_path: Path) -> None:
    """By a real router: those in the target's own log, whatever other targets did with them."""
    names = [
        f"{kind}-{n}" for kind in ("both", "other", "ours", "neither", "late") for n in range(4)
    ]
    is_up = False

    def of_ledger(name: str, _: str) -> str:
        fails = name.startswith(("ours", "neither")) or (name.startswith("late") and not is_up)
        return "700" if fails else "000"

    def of_audit(name: str, _: str) -> str:
        return "700" if name.startswith(("other", "neither")) else "000"

    def replayed() -> list[str]:
        return [got.webhook_id for got in ledger.got if got.cause == "replay"]

    both = {"retries": 20, "waits": ["1h"]}
    own, asking = with_door(tmp_path)
    with target(of_ledger) as ledger, target(of_audit) as audit, target(always("700")) as search:
        required, optional = {"ledger": ledger, "audit": audit}, {"search": search}
        started = serving(tmp_path, required, optional, ebaas=both, queue=both, options=own)
        with started as router:
            for name in names:
                router.post(name)
            is_up = True  # EBaaS retries
            for name in names:
                router.post(name)
            log = {got.webhook_id for got in ledger.got if got.code == "000"}
            wait_until(lambda: len(archived(tmp_path / "store.db-archive")) == 2 * len(names))
            until = time.time()
            wait_until(lambda: time.time() > until + 1)  # a replay takes what was written by then
            words = ("archive", "replay", "--target", "ledger", "--since", "1h", "--yes")
            done = ran(*words, *asking, "--rate", "1000/s")
            assert done.code == 0, done.err
            wait_until(lambda: len(replayed()) >= len(log))
            wait_until(lambda: not [each for each in queued(tmp_path) if each[1] == "ledger"])
        assert Counter(replayed()) == Counter(log)
        assert len(log) >= 12


def queued(folder: Path) -> Sequence[tuple[Any, ...]]:
    return query(folder / "store.db", "SELECT seq, target FROM deliveries WHERE state = 'queued'")


@pytest.mark.parametrize("what", ["--target=ledger", "--refused"])
def test_a_replay_stays_within_the_targets_share(tmp_path: Path, what: str) -> None:
    """It waits for room, which a running router makes as it delivers."""
    names = [f"event-{n}" for n in range(40)]
    # A quarter of the store has room for some twenty of them, half of it for all.
    bodies = [event(changes=[name, "x" * 11_000]) for name in names]
    lines = [
        event_line(n, 90 - at / 10, b) for at, (n, b) in enumerate(zip(names, bodies, strict=True))
    ]
    keep(tmp_path / "store.db-archive", *lines)
    if what == "--refused":
        shutil.rmtree(tmp_path / "store.db-archive")
        keep(tmp_path / "store.db-archive", *(refused_line(b, 90) for b in bodies), part=PART)
    own, asking = with_door(tmp_path)
    own += ["--store-max-bytes", "1MiB"]
    released = Event()

    def after_a_while(*_: str) -> str:
        released.wait()
        return "000"

    with (
        target(after_a_while) as ledger,
        serving(tmp_path, {"ledger": ledger}, options=own) as router,
    ):
        Timer(2, released.set).start()
        words = ("archive", "replay", what, "--since", "1h", "--yes")
        done = ran(*words, *asking, "--rate", "1000/s")
        assert done.code == 0, done.err
        assert re.match("40 (callbacks|deliveries) replayed", done.lines[-1])
        assert "waiting: the target's share of the store is full" in done.err
        wait_until(lambda: len(ledger.got) == 40)
        retried = router.lines("retried")
    assert Counter(got.event for got in ledger.got) == Counter(names)
    assert {each["cause"] for each in retried} == {"replay"}
