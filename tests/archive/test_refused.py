"""Refused callbacks: kept in a bound of their own, found by any id, and replayed at most once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
import pytest

from router.archive.reading import Question, Sources
from router.archive.refused import (
    KEPT,
    RefusedAnswer,
    RefusedCallback,
    Retries,
    find_refused,
)
from router.archive.segments import LEAST_REFUSED, REFUSED, SegmentStore, segments_in
from router.config.settings import parse_store
from router.contract.intake import Intake
from router.contract.schedule import PLATFORM, Terms
from router.model.event import OutboundEvent
from router.ops.api.refused import record_of
from router.routing.index import Glob
from router.store.admin import Action, Resend, Verb
from router.store.opening import look_into
from router.store.protocol import DeliveryRow, Stage, State
from tests.archive.test_archive import MIB, noise, size_of
from tests.support.archived import archived, event_line, keep, line, refused_line
from tests.support.command import running
from tests.support.disks import Disks
from tests.support.house import event
from tests.support.inprocess import Ran, ran
from tests.support.serving import Serving, Target, always, serving, states, target, with_door
from tests.support.shop import LIMITS, Shop, dead
from tests.support.sockets import PLAIN
from tests.support.waiting import wait_until

#: A schedule whose next request is far away: near it, required targets are left to EBaaS.
LATER = {"retries": 20, "waits": ["1h"]}

UNTYPED = event(event_type="", changes=["order-2"])


class Scene(NamedTuple):
    """A router whose only route matches nothing yet, its target, and how to ask it."""

    router: Serving
    ledger: Target
    folder: Path
    door: list[str]
    #: The bodies of refused callbacks so far.
    refused: list[bytes]

    @property
    def archive(self) -> Path:
        return self.folder / "store.db-archive"

    def refuse(self, body: bytes, code: str) -> None:
        assert self.router.ask("POST", "/callback", body)[1] == code
        self.refused.append(body)

    def wait(self) -> None:
        refused = Sources(self.archive / REFUSED)
        wait_until(lambda: len([*refused.lines()]) >= len(self.refused))

    def kept(self) -> list[dict[str, Any]]:
        self.wait()
        kinds = [archived(self.archive / REFUSED, kind) for kind in ("refused", "unmatched")]
        return [line for lines in kinds for line in lines]

    def correct(self) -> None:
        config = self.folder / "routes.yaml"
        config.write_text(config.read_text().replace("elsewhere.*", "*"))
        self.router.process.send_signal(signal.SIGHUP)
        self.router.wait_for(lambda: self.router.lines("reload"))

    def ask(self, *words: str) -> Ran:
        self.wait()
        return ran(*words, *self.door)

    def trace(self, *words: str) -> Ran:
        self.wait()
        return ran("trace", *words, "--archive", self.archive, "--store", "none")

    def replay(self, *words: str) -> Ran:
        return self.ask("archive", "replay", "--refused", "--rate", "1000/s", *words)


@contextmanager
def scene(folder: Path, *options: str, **top: Any) -> Iterator[Scene]:
    own, door = with_door(folder)
    with (
        target() as ledger,
        serving(
            folder,
            {"ledger": ledger},
            options=[*own, *options],
            **{"match": "elsewhere.*", "ebaas": LATER, **top},
        ) as router,
    ):
        yield Scene(router, ledger, folder, door, [])


def test_refused_callbacks_are_listed_and_replayed(tmp_path: Path) -> None:
    """By fault and key, a body once; those that are accepted now are delivered, and once only."""
    with scene(tmp_path) as here:
        for _ in range(3):
            here.refuse(event(changes=["order-1"]), "500")
        here.refuse(event(changes=["order-3"]), "500")
        encoded = {"content-encoding": "gzip"}
        reply = httpx.post(
            f"http://127.0.0.1:{here.router.port}/callback", headers=encoded, **PLAIN
        )
        assert reply.status_code == 415  # is not kept
        here.refuse(UNTYPED, "400")
        listed = here.ask("archive", "list", "--refused", "--format", "json").json
        numbers = {
            (fault["why"], fault["event_key"]): (fault["callbacks"], fault["requests"])
            for fault in listed["faults"]
        }
        assert numbers == {
            ("no route matches", "a.gs.cert.1"): (2, 4),
            ("event_type: minLength", "a.gs.cert.1"): (1, 1),
        }
        assert here.replay("--dry-run").lines[-2] == "0 would be delivered now, 3 still refused"
        here.correct()
        preview = here.replay("--dry-run", "--format", "json").json
        assert {fault["now"]: fault["callbacks"] for fault in preview["faults"]} == {
            "": 2,
            "event_type: minLength": 1,
        }
        asked = here.replay()
        assert (asked.code, "to replay 2 callbacks needs --yes" in asked.err) == (2, True)
        assert "2 would be delivered now, 1 still refused" in asked.lines
        assert here.replay("--yes").lines[-1] == "2 callbacks replayed"
        wait_until(lambda: len(here.ledger.got) == 2)
        again = here.replay("--yes").lines
        assert again[-2:] == ["left out, replayed before: 2", "0 callbacks replayed"]
    assert sorted(got.event for got in here.ledger.got) == ["order-1", "order-3"]
    assert {got.cause for got in here.ledger.got} == {"replay"}


def test_ebaas_gets_its_000_for_a_replayed_callback(tmp_path: Path) -> None:
    """The retry calls nobody. A callback that EBaaS has retried first is left out."""
    with scene(tmp_path) as here:
        for name in ("order-1", "order-2"):
            here.refuse(event(changes=[name]), "500")
        here.correct()
        assert here.router.post("order-2") == "000"
        wait_until(lambda: archived(here.archive))
        lines = here.replay("--yes").lines
        assert "left out, accepted since by EBaaS's own retry: 1" in lines
        assert lines[-1] == "1 callback replayed"
        wait_until(lambda: len(here.ledger.got) == 2)
        here.router.wait_for(lambda: here.router.lines("retried"))
        assert here.router.post("order-1") == "000"
        wait_until(lambda: len(archived(here.archive)) == 2)
        found = here.ask("trace", "order-1")
    assert [got.event for got in here.ledger.got] == ["order-2", "order-1"]
    for text in (
        "a request: reply to EBaaS: 500",
        "no route matches",
        "replay by 'ops': ledger",
        "(replay): ledger acknowledged",
        "request 2 of 21: reply to EBaaS: 000",
        "skipped: acknowledged",
    ):
        assert text in found.out, text


# Found by what can be read of them.

BROKEN = '{"event_key":"x.y.z.9","changes":["order-17", "库-18"], "more": tru'.encode()
ODD = (
    b'{"event_source": 7, "event_key": "o.d.d.1", "changes": {"id": 4711, "of": [{"n": "deep-1"}]}}'
)


def test_a_callback_is_found_by_any_id_in_its_body(tmp_path: Path) -> None:
    """Even if the body is not JSON, or has ids of other types, but not by a part of an id."""
    digest = hashlib.sha256(BROKEN).hexdigest()
    with scene(tmp_path) as here:
        here.refuse(BROKEN, "400")
        here.refuse(ODD, "400")
        here.refuse(b"\xff order-19", "400")
        here.refuse(b"", "400")
        words = {
            **dict.fromkeys(("order-17", "库-18", "x.y.z.9", "x.y.*", digest[:8], digest), BROKEN),
            **dict.fromkeys(("4711", "deep-1", "o.d.d.1"), ODD),
            "order-19": b"",
        }
        for word, body in words.items():
            found = here.trace(word, "--format", "json", "--body")
            assert found.code == 0, word
            assert found.json["steps"][0]["what"] == "refused"
            assert not body or found.json["body"] == body.decode(), word
        for word in ("order-1", "order", "471", "eep-1", "x.y", "tru-"):
            assert here.trace(word).code == 1, word
        story = here.trace("4711")
        assert "reply to EBaaS: 400" in story.out
        assert "refused: event_source has the wrong type" in story.out
        assert (
            story.lines[-1] == "next: EBaaS may retry it; once corrected: archive replay --refused"
        )


def test_without_bodies_nothing_else_of_a_body_is_kept(tmp_path: Path) -> None:
    """With --archive-bodies off the ids are kept as for events, and nothing can be replayed."""
    sent = event(changes=["order-1"], secret="canary-1")
    with scene(tmp_path, "--archive-bodies", "off") as here:
        here.refuse(sent, "500")
        here.refuse(sent[:-1], "400")
        here.refuse(b"canary-2 order-2", "400")
        assert "canary" not in json.dumps(here.kept())
        assert here.trace("order-1").code == 0
        here.correct()
        preview = here.replay("--dry-run", "--format", "json").json
    assert {fault["now"] for fault in preview["faults"]} == {"its body was not kept whole"}


def test_the_beginning_of_a_large_body_is_kept(tmp_path: Path) -> None:
    """It is not replayed, exported or sent again in part; smaller ones are, however many."""
    large = event(changes=["large", "x" * 2 * KEPT])
    some = [event(changes=[f"some-{number}", "y" * (KEPT - 500)]) for number in range(70)]
    with scene(tmp_path) as here:
        for body in (large, *some):
            here.refuse(body, "500")
        (kept,) = [line for line in here.kept() if line.get("clipped")]
        assert kept["payload"].encode() == large[:KEPT]
        assert kept["bytes"] == len(large)
        assert ran("archive", "export", "--archive", here.archive).out.count("\n") == 70
        resent = here.ask("resend", "large", "--to", here.ledger.url)
        assert (resent.code, "its body was not kept" in resent.err) == (1, True)
        here.correct()
        done = here.replay("--yes")
        assert done.lines[-1] == "70 callbacks replayed", done.err
        wait_until(lambda: len(here.ledger.got) == 70)
    assert {got.event for got in here.ledger.got} == {f"some-{number}" for number in range(70)}


def garbage(seed: int, size: int = 3000) -> bytes:
    return b'{"x": "' + Random(seed).randbytes(size // 2).hex().encode() + b'"'


def test_a_flood_of_garbage_costs_no_event(tmp_path: Path) -> None:
    """It has a limit and a queue of its own: each event is still there, and the newest garbage."""
    archive = tmp_path / "store.db-archive"
    with scene(tmp_path, "--archive-max-bytes", "1MiB", match="*") as here:
        names = [f"good-{number}" for number in range(200)]
        with ThreadPoolExecutor(4) as callers:
            for at in range(0, 200, 10):
                flood = [garbage(seed) for seed in range(at * 10, at * 10 + 100)]
                asked = callers.map(lambda body: here.router.ask("POST", "/callback", body), flood)
                assert {here.router.post(name) for name in names[at : at + 10]} == {"000"}
                assert {code for _, code in asked} == {"400"}
        wait_until(lambda: len(archived(archive)) == 200)
        last = garbage(10**6)
        here.router.ask("POST", "/callback", last)
        wait_until(lambda: last.decode() in [line.get("payload") for line in here.kept()])
        assert 0 < len(here.kept()) < 2000
        kept = [json.loads(line["payload"])["changes"][0] for line in archived(archive)]
        assert sorted(kept) == sorted(names)
        assert size_of(archive / REFUSED) <= LEAST_REFUSED
        for number in range(100):  # until the rest is full as well
            assert here.router.post(Random(number).randbytes(15_000).hex()) == "000"
        last_one = Random(99).randbytes(15_000).hex()
        wait_until(lambda: last_one in str(archived(archive)))
        assert not here.router.lines("archive_lost")
        assert size_of(archive) <= MIB - LEAST_REFUSED


def test_a_full_disk_costs_refused_callbacks_before_events(tmp_path: Path, disks: Disks) -> None:
    """As long as there are any, no segment of events is deleted for room on the disk."""
    archive = disks.tmpfs(20) / "archive"
    events = SegmentStore(archive, 1 << 30, 3600.0)
    refused = SegmentStore(archive, 1 << 30, 3600.0, part=REFUSED)
    for number in range(10):
        events.append(noise(MIB // 5, number))
        refused.append(noise(MIB // 5, number))
    before = segments_in(archive)
    for number in range(300):
        refused.append(noise(MIB // 5, number % 9))
    assert set(before) <= set(segments_in(archive))
    while len([each for each in segments_in(archive / REFUSED) if each.last]) > 0:
        events.append(noise(MIB // 5))
        assert before[-1] in segments_in(archive)
    for number in range(40):
        events.append(noise(MIB // 5, number % 9))
    assert before[-1] not in segments_in(archive)


def test_a_full_disk_changes_no_reply(tmp_path: Path, disks: Disks) -> None:
    """A refused callback that finds no room gets its 400, and is counted as lost."""
    disk = disks.tmpfs(2)
    (disk / "ballast").write_bytes(bytes(2 * MIB - 64 * 1024))
    with scene(tmp_path, "--archive", str(disk / "archive"), match="*") as here:
        for number in range(20):
            assert here.router.ask("POST", "/callback", garbage(number, 20_000))[1] == "400"
        here.router.wait_for(lambda: here.router.lines("archive_lost"))
        lost = here.router.lines("archive_lost")[0]
        assert (lost["why"], lost["archive"]) == ("disk_full", str(disk / "archive" / REFUSED))
        assert here.ask("status", "--format", "json").json["archive"]["lines_lost"] > 0
        assert here.router.post("order-1") == "000"


# At most once.


def about(body: bytes) -> str:
    event_id: str = json.loads(refused_line(body, 0))["event_id"]
    return event_id


END = 60000.0
RETRIES = Retries(PLATFORM.due(), END)


def find(folder: Path, **selected: Any) -> RefusedAnswer:
    answer = asyncio.run(find_refused(Question(**selected), RETRIES, Sources(folder), None))
    assert answer is not None
    return answer


def test_a_callback_that_was_accepted_since_is_left_out(tmp_path: Path) -> None:
    """By EBaaS's own retry; a failed one is in the store as long as EBaaS retries it."""
    one, two, three = (event(changes=[name]) for name in ("one", "two", "three"))
    keep(tmp_path, *(refused_line(each, 300) for each in (one, two, three)), part=REFUSED)
    keep(tmp_path, refused_line(two, 100), part=REFUSED)
    keep(tmp_path, event_line("id-1", 200, one), event_line("id-2", 200, two))
    keep(tmp_path, event_line("id-3", 500, three, code="500"))
    answer = find(tmp_path)
    assert answer["accepted"] == 2
    (left,) = answer["callbacks"]
    assert (left["event_id"], left["requests"]) == (about(two), 1)


def test_the_last_request_decides_about_the_time(tmp_path: Path) -> None:
    """A callback is selected with all of its requests, or not."""
    keep(tmp_path, *(refused_line(event(), ago) for ago in (300, 100)), part=REFUSED)
    between = time.time() - 200
    (selected,) = find(tmp_path, since=between)["callbacks"]
    assert selected["requests"] == 2
    assert find(tmp_path, until=between)["callbacks"] == []
    assert find(tmp_path, keys=(Glob("b.*"),))["callbacks"] == []


def test_a_target_that_has_a_replayed_callback_is_named(tmp_path: Path) -> None:
    """As long as EBaaS may retry it; a later request with the same bytes is another event."""
    one, two = event(changes=["one"]), event(changes=["two"])
    keep(tmp_path, refused_line(one, END + 900), refused_line(two, END + 900), part=REFUSED)
    keep(tmp_path, refused_line(one, 950), refused_line(two, 700), part=REFUSED)
    lines = [
        line("retried", END + 800, event_id=about(body), target=name, reason="acknowledged")
        for body, name in ((one, "ledger"), (two, "ledger"))
    ]
    keep(tmp_path, *lines)
    had = {
        each["event_id"]: (each["had"], each["requests"]) for each in find(tmp_path)["callbacks"]
    }
    assert had == {about(one): (["ledger"], 2), about(two): ([], 1)}


@pytest.mark.parametrize(
    ("times", "is_unknown"),
    [
        ((7000.0,), True),
        ((7000.0, 6999.0), True),
        ((80000.0, *(80000.0 - PLATFORM.total(),)), False),
        # The first request came before the archive's events, the last one after them.
        ((602.0, 598.0), False),
    ],
)
def test_a_callback_that_may_have_been_accepted_is_left_out(
    tmp_path: Path, times: tuple[float, ...], is_unknown: bool
) -> None:
    """If the archive has no events of that time any more, unless EBaaS has given up."""
    keep(tmp_path, *(refused_line(event(), ago) for ago in times), part=REFUSED)
    keep(tmp_path, event_line("old", 8000))
    assert (len(find(tmp_path)["callbacks"]), find(tmp_path)["unknown"]) == (1, 0)
    keep(tmp_path, event_line("new", 600))
    (first,) = [segment.path for segment in segments_in(tmp_path) if segment.number == 1]
    first.unlink()
    assert (len(find(tmp_path)["callbacks"]), find(tmp_path)["unknown"]) == (
        (0, 1) if is_unknown else (1, 0)
    )


def test_a_required_target_that_fails_is_retried_and_becomes_a_dead_letter(tmp_path: Path) -> None:
    """EBaaS does not retry a replayed callback, so the router does, by the queue's schedule."""
    with scene(tmp_path, queue={"retries": 1, "waits": ["50ms"]}) as here:
        here.ledger.code = always("700")
        here.refuse(event(changes=["order-1"]), "500")
        here.correct()
        assert here.replay("--yes").code == 0
        here.router.wait_for(lambda: here.router.lines("dead_letter"))
        here.ledger.code = always("000")
        assert here.ask("deliveries", "replay", "--match", "*").lines[-1] == "1 delivery replayed"
        wait_until(lambda: here.ledger.got[-1].code == "000")
    assert {got.webhook_id for got in here.ledger.got} == {about(event(changes=["order-1"]))}


def callback_of(requests: int, first: float, last: float) -> RefusedCallback:
    return RefusedCallback(
        event_id="one", event_key="", code="500", why="", requests=requests, first=first, last=last,
        request_id="r", bytes=1, is_whole=True, had=[],
    )  # fmt: skip


def test_a_delivery_that_the_store_has_is_not_queued_again(shop: Shop) -> None:
    """A replay of its callback adds only missing deliveries, whatever state the others have."""
    body = event(changes=["order-1"])
    fine = DeliveryRow("fine", State.ACKNOWLEDGED, "acknowledged")
    shop.add("one", fine, dead("dead"), stage=Stage.OPEN, body=body)
    callback = callback_of(1, 1.0, 2.0)
    terms = Terms(PLATFORM, 60.0, 8.0, PLATFORM)
    letter = OutboundEvent.of(Intake.of(None).read(body), "r")
    resend = Resend(record_of(callback, terms, 3.0), letter, once=True)

    async def work() -> list[int]:
        store = parse_store(shop.option)
        assert store is not None
        admin = await look_into(store, LIMITS)
        action = Action("action", Verb.REPLAY, "ops", "archive --refused", 1.0)
        try:
            every = ("fine", "dead", "missing", "missing")
            return [(await admin.resend(action, name, [resend])).changed for name in every]
        finally:
            await admin.close()

    assert asyncio.run(work()) == [0, 0, 1, 0]
    assert shop.states() == {
        "one fine": "acknowledged acknowledged",
        "one dead": "dead timeout",
        "one missing": "queued ",
    }


@pytest.mark.parametrize(
    ("times", "requests", "stage", "due"),
    [
        ((0.0,), 1, Stage.OPEN, 1.0),
        ((0.0, 1.1), 2, Stage.OPEN, 1.1 + 3),
        ((0.0, 500.0), 7, Stage.OPEN, 500.0 + 3600),
        ((0.0, PLATFORM.total()), 21, Stage.ENDED, None),
    ],
)
def test_the_record_of_a_callback(
    times: tuple[float, ...], requests: int, stage: Stage, due: float | None
) -> None:
    """Open while EBaaS retries; its requests are counted by their times."""
    now = 1e9
    callback = callback_of(len(times), now + times[0], now + times[-1])
    terms = Terms(PLATFORM, 60.0, 8.0, PLATFORM)
    record = record_of(callback, terms, now + times[-1])
    assert (record.requests, record.stage) == (requests, stage)
    assert due is None or record.due_at == now + due
    late = record_of(callback, terms, now + 10 * END)
    assert (late.stage, late.credit_revoked) == (Stage.ENDED, True)


def test_a_replay_that_is_cut_off_is_run_again_and_sends_nothing_twice(tmp_path: Path) -> None:
    """The only repeated attempt was in flight when the router was killed; its id is the same."""
    names = [f"order-{number}" for number in range(50)]
    own, door = with_door(tmp_path)
    replay = ("archive", "replay", "--refused", "--yes", *door)
    with target() as ledger:
        with serving(
            tmp_path, {"ledger": ledger}, options=own, match="elsewhere.*", ebaas=LATER
        ) as router:
            here = Scene(router, ledger, tmp_path, door, [])
            for name in names:
                here.refuse(event(changes=[name]), "500")
            here.wait()
            here.correct()
            with running(*replay, "--rate", "10/s") as cut_off:
                wait_until(lambda: len(ledger.got) > 2)
                cut_off.process.kill()
                cut_off.wait()
            with running(*replay, "--rate", "10/s") as cut_off:
                wait_until(lambda: len(ledger.got) > 10)
                router.process.kill()
                cut_off.wait()
        stored = states(tmp_path / "store.db")
        assert 10 < len(stored) < 50
        # The queue makes these attempts again, half a minute later.
        cut = {name for name, state in stored.items() if state["ledger"] != "acknowledged"}
        with serving(tmp_path, {"ledger": ledger}, options=own, ebaas=LATER):
            done = ran(*replay, "--rate", "1000/s")
            assert done.lines[-1] == f"{50 - len(stored)} callbacks replayed"
            wait_until(lambda: {got.event for got in ledger.got} >= set(names) - cut)
            assert ran(*replay).lines[-1] == "0 callbacks replayed"
    times = Counter(got.event for got in ledger.got if got.event not in cut)
    assert times == Counter(set(names) - cut)
