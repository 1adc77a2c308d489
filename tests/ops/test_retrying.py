"""`deliveries retry`: what waits is sent when a person asks, and everybody sees how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.inprocess import Ran, ran
from tests.support.serving import Serving, Target, always, serving, target, unsettled, with_door
from tests.support.sockets import PLAIN
from tests.support.waiting import wait_until

HOUR = {"retries": 20, "waits": ["1h"]}


@dataclass
class Backlog:
    """A router, its required target `ledger` and its optional target `audit`, and what waits."""

    router: Serving
    ledger: Target
    audit: Target
    names: list[str]
    door: list[str]
    store: Path

    def run(self, *arguments: str) -> Ran:
        return ran(*arguments, *self.door)

    def retry(self, *arguments: str) -> Ran:
        return self.run("deliveries", "retry", *arguments, "--yes")

    def http(self) -> httpx.Client:
        headers = {"authorization": "Bearer the-token-of-this-door"}
        return httpx.Client(**PLAIN, base_url=self.door[1], headers=headers)

    def heal(self) -> None:
        self.ledger.code = self.audit.code = always("000")
        self.ledger.got.clear()
        self.audit.got.clear()

    def waiting(self) -> int:
        """Return how many deliveries the router knows to wait for the ledger."""
        with self.http() as http:
            ledger = http.get("/status").json()["targets"]["each"]["ledger"]
        return int(ledger["unsettled"]["awaiting"])

    def line(self) -> dict[str, Any]:
        """Wait for the end of a recovery, and return its log line."""
        self.router.wait_for(lambda: self.router.lines("recovery"))
        return self.router.lines("recovery")[0]


@contextmanager
def backlog(folder: Path, count: int, **top: Any) -> Iterator[Backlog]:
    """A router whose targets have failed so many events, and whose next retries are in an hour."""
    top = {"recovery": "manual", "ebaas": HOUR, "queue": HOUR, **top}
    with ExitStack() as closing:
        ledger = closing.enter_context(target(always("700")))
        audit = closing.enter_context(target(always("700")))
        options, door = with_door(folder)
        started = serving(folder, {"ledger": ledger}, {"audit": audit}, options=options, **top)
        router = closing.enter_context(started)
        names = [f"event-{number}" for number in range(count)]
        assert {router.post(name) for name in names} == {"500"}
        # Their lines come when the optional attempts have ended, too.
        router.wait_for(lambda: len(router.lines("event")) == count)
        yield Backlog(router, ledger, audit, names, door, folder / "store.db")


def test_what_waits_is_sent_when_a_person_asks(tmp_path: Path) -> None:
    """With `recovery: manual` not before: an event that the targets acknowledge begins nothing. All
    of it comes once, the oldest first, and EBaaS's retry gets its 000 without another call."""
    with backlog(tmp_path, 20) as scene:
        ids = {got.event: got.webhook_id for got in scene.ledger.got}
        scene.heal()
        assert scene.router.post("fresh") == "000"
        event_id = ids["event-7"]
        first = scene.retry("--event", event_id, "--state", "awaiting")
        assert first.lines[-2:] == [
            "1 delivery retried",
            "the router sends them now, the oldest first, until one fails: see `status`",
        ]
        wait_until(lambda: scene.waiting() == 19)
        assert "retried by" in scene.run("trace", event_id).out
        scene.retry("--event", ids["event-9"])
        wait_until(lambda: scene.waiting() == 18)  # the queue has looked for work since
        assert [got.event for got in scene.ledger.got] == ["fresh", "event-7", "event-9"]
        scene.retry("--target", "ledger", "--target", "audit", "--match", "a.*")
        wait_until(lambda: not unsettled(scene.store))
        at_ledger, at_audit = ([got.event for got in to.got] for to in (scene.ledger, scene.audit))
        assert at_ledger[3] == "event-0"  # later ones go side by side
        assert sorted(at_ledger) == sorted(at_audit) == sorted([*scene.names, "fresh"])
        line = scene.line()
        assert (line["target"], line["trigger"], line["failed"]) == ("ledger", "operator", False)
        retried = [each for each in scene.router.lines("retried") if each["target"] == "ledger"]
        assert {each["by"] for each in retried} == {"recovery"}
        assert scene.router.post("event-3") == "000"
        assert len(scene.ledger.of("event-3")) == 1
        with scene.http() as http:
            recovered = 'ebaas_router_recovered_total{target="ledger"} 20.0'
            assert recovered in http.get("/metrics").text


def test_its_progress_is_shown(tmp_path: Path) -> None:
    """In `status`, in `trace`, in /status and in the metrics, as long as it lasts."""
    with backlog(tmp_path, 12, defaults={"timeout": "30s"}) as scene:
        scene.heal()
        answers = 0

        def slowly(*_: str) -> str:
            nonlocal answers
            answers += 1
            wait_until(lambda: answers < 3 or is_seen)
            return "000"

        is_seen = False
        scene.ledger.code = slowly
        try:
            scene.retry("--target", "ledger")
            wait_until(lambda: answers == 3)
            wait_until(lambda: "recovering: 10 left, " in scene.run("status").out)
            last = scene.router.lines("event")[-1]["event_id"]
            traced = scene.run("trace", last).out
            assert "next: ledger is recovering: 10 left, " in traced
            assert "/s, since a person asked\n" in traced
            with scene.http() as http:
                recovery = http.get("/status").json()["targets"]["each"]["ledger"]["recovery"]
                assert 'target_recovering{target="ledger"} 1.0' in http.get("/metrics").text
            assert (recovery["trigger"], recovery["delivered"]) == ("operator", 2)
            assert recovery["left"] == 10
            assert recovery["per_second"] > 0
        finally:
            is_seen = True
        assert scene.line()["delivered"] == 12
        assert "recovering" not in scene.run("status").out


def test_a_preview_warns_of_targets_that_are_paused_or_fail(tmp_path: Path) -> None:
    with backlog(tmp_path, 2) as scene:
        failing = "ebaas-router: {} is failing now: the deliveries may fail again\n"
        warned = scene.retry("--match", "*", "--dry-run").err
        assert warned == failing.format("audit") + failing.format("ledger")
        scene.run("pause", "audit", "--until", "1h", "--because", "a move")
        scene.router.wait_for(lambda: scene.router.lines("target_paused"))
        finished = scene.retry("--match", "*", "--dry-run")
        paused = "ebaas-router: nothing is sent to audit for now: it is paused\n"
        assert finished.err == paused + failing.format("ledger")
        assert finished.lines[-1] == "4 deliveries would be retried"
