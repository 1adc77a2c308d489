"""Troubles as `/status` and `status` show them: real routers with targets that fail."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.telemetry.health import FEW, LATELY, LONGEST, MINUTE, Health, Minute, health_of
from router.telemetry.log.lines import utc
from tests.support.archived import REFUSED, event_line, keep, line
from tests.support.command import PATIENCE, Finished
from tests.support.house import event
from tests.support.inprocess import quick
from tests.support.serving import Serving, Target, always, serving, target, with_door
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until

#: EBaaS retries after this test.
LATE: dict[str, Any] = {"ebaas": {"waits": ["1h"]}}


class Router:
    """A running router, as its operators see it."""

    def __init__(self, serve: Serving, url: str) -> None:
        self.serve = serve
        self.url = url

    def get(self, path: str, **params: Any) -> Any:
        answer = httpx.get(f"{self.url}{path}", params=params, **PLAIN)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def target(self, name: str = "one") -> dict[str, Any]:
        """Return a target as /status has it; the API has the same."""
        each: dict[str, Any] = self.get("/status")["targets"]["each"][name]
        (view,) = (t for t in self.get("/api/v1/targets")["targets"] if t["name"] == name)
        assert {key: view[key] for key in ("state", "severity")} == {
            key: each[key] for key in ("state", "severity")
        }
        return each

    def causes(self) -> list[tuple[str, str]]:
        return [(cause["severity"], cause["code"]) for cause in self.get("/status")["causes"]]

    def status(self) -> Finished:
        return quick("status", "--url", self.url)

    def kill(self) -> None:
        self.serve.process.send_signal(signal.SIGKILL)
        self.serve.process.wait(PATIENCE)


@contextmanager
def router(folder: Path, targets: dict[str, Target], *options: str, **top: Any) -> Iterator[Router]:
    port = free_port()
    given = ("--ops-port", str(port), *options)
    with serving(folder, targets, options=given, **{**LATE, **top}) as serve:
        yield Router(serve, f"http://127.0.0.1:{port}")


def text_of(finished: Finished) -> str:
    return " ".join(finished.stdout.decode().split())


def test_a_target_that_fails_now_and_then_is_degraded(tmp_path: Path) -> None:
    """Since its first failure, whatever the next attempt does; its metrics say the same."""
    codes = cycle(["500", "000"])
    with target(lambda *_: next(codes)) as one, router(tmp_path, {"one": one}) as here:
        here.serve.post("0")
        first = here.target()
        assert (first["state"], first["lately"]) == ("failing", {"attempts": 1, "failed": 1})
        for number in range(1, 12):
            here.serve.post(f"{number}")
            now = here.target()
            assert now["failing_since"] == first["failing_since"]
            assert number < 4 or now["state"] == "degraded"
        assert here.causes() == [("warning", "degraded")]
        finished, metrics = here.status(), httpx.get(f"{here.url}/metrics", **PLAIN).text
    assert finished.returncode == 1
    assert re.search(r"^one +degraded \d+s ", finished.stdout.decode(), re.MULTILINE)
    for state, value in (("failing", 0), ("degraded", 1)):
        assert f'target_state{{state="{state}",target="one"}} {value}.0' in metrics


def test_a_failing_target_that_is_paused_is_nothing_wrong(tmp_path: Path) -> None:
    """Required ones come first, then those with more at stake. A pause is a notice; when it has
    ended, the target is failing as before."""
    with target(always("700")) as bad, target() as good:
        targets = {"a-little": bad, "b-more": bad, "c-good": good}
        routes = [
            {"name": "all", "match": "*", "required": ["b-more", "c-good"]},
            {"name": "some", "match": "*.first", "required": ["a-little"]},
        ]
        options, remote = with_door(tmp_path)

        def status() -> tuple[int, list[str]]:
            finished = quick("status", *remote)
            rows = finished.stdout.decode().partition("\ntarget ")[2].splitlines()[1:]
            return finished.returncode, [" ".join(row.split()[:2]) for row in rows]

        with serving(tmp_path, targets, options=options, **LATE) as serve:
            document = json.loads((tmp_path / "routes.yaml").read_text())
            (tmp_path / "routes.yaml").write_text(json.dumps({**document, "routes": routes}))
            serve.process.send_signal(signal.SIGHUP)
            serve.wait_for(lambda: serve.lines("reload"))
            for kind in ("first", "second", "third"):
                content = event(event_source="a", event_topic="b", event_type="c",
                                event_status=kind, event_key=f"a.b.c.{kind}")  # fmt: skip
                serve.ask("POST", "/callback", content)
            # The store is asked now and then what is at stake.
            before = (1, ["b-more failing", "a-little failing", "c-good healthy"])
            wait_until(lambda: status() == before)
            for name in ("a-little", "b-more"):
                words = ("--until", "1h", "--because", "a move")
                assert quick("pause", name, *words, *remote).returncode == 0
            wait_until(lambda: status()[0] == 0)
            paused = status()
            assert quick("resume", "b-more", *remote).returncode == 0
            wait_until(lambda: status()[0] == 1)
            resumed = status()
    assert paused[1] == ["b-more paused", "a-little paused", "c-good healthy"]
    assert resumed[1] == ["b-more failing", "a-little paused", "c-good healthy"]


def test_rejected_events_are_shown_with_their_keys_and_faults(tmp_path: Path) -> None:
    """Each callback once, until when EBaaS retries it; `status` is exit code 1."""
    with target() as good, router(tmp_path, {"one": good}, match="elsewhere.*") as here:
        for name in ("one", "another", "one"):
            assert here.serve.post(name) == "500"
        assert here.serve.ask("POST", "/callback", b"{}")[1] == "400"
        callbacks, finished = here.get("/status")["callbacks"], here.status()
        causes, metrics = here.causes(), httpx.get(f"{here.url}/metrics", **PLAIN).text
    for kind, count in (("unmatched", 2), ("400", 1), ("401", 0)):
        assert f'recent_rejections{{kind="{kind}"}} {count}.0' in metrics
    unmatched, key = callbacks["unmatched"], json.loads(event())["event_key"]
    assert (unmatched["count"], unmatched["keys"]) == (2, {key: 2})
    # LATE: 20 retries, an hour apart.
    assert unmatched["retried_until"] > time.strftime(
        "%Y-%m-%dT%H", time.gmtime(time.time() + 72e3)
    )
    assert [*callbacks["refused"]["400"]["faults"].values()] == [1]
    assert causes == [("critical", "unmatched"), ("critical", "callbacks_refused")]
    assert finished.returncode == 1
    assert f"2 events matched no route since {unmatched['since']}" in text_of(finished)
    assert f"'{key}' (2); EBaaS retries until {unmatched['retried_until']}" in text_of(finished)


def test_callers_with_a_wrong_token_are_counted_and_not_alarming(tmp_path: Path) -> None:
    top = {"ebaas": {"token": "the-token-of-ebaas", **LATE["ebaas"]}}
    with target() as good, router(tmp_path, {"one": good}, **top) as here:
        for name in ("one", "two", "three"):
            assert here.serve.post(name) == "401"
        finished, status = here.status(), here.get("/status")
    assert (finished.returncode, status["status"], status["reasons"]) == (0, "ok", [])
    assert status["callbacks"]["turned_away"]["401"]["count"] == 3
    assert "callbacks: 3 requests turned away with 401 since" in text_of(finished)


@pytest.mark.parametrize("archive", [True, False])
def test_a_restart_does_not_make_it_well(tmp_path: Path, *, archive: bool) -> None:
    """With an archive, a killed router goes on with its minutes, its rejections and since when a
    target is failing; corrected routes count. Without one it says since when it counts."""
    kept = ("--archive", str(tmp_path / "archive") if archive else "none")
    lost = event(event_key="no.route.has.it", changes=["lost"])
    with target(always("700")) as bad, target() as good:
        targets = {"one": bad, "two": good}
        with router(tmp_path, targets, *kept, match="*.gs.*") as here:
            here.serve.post("event")
            begun = here.get("/status")["at"]
            time.sleep(2.1)  # the first failure is older than the last, and than the restart
            here.serve.post("another")
            sent = time.time()
            assert here.serve.ask("POST", "/callback", lost)[1] == "500"
            answered = time.time()
            before = here.target()
            if archive:
                wait_until(lambda: len(here.get("/api/v1/events", since="1h")["events"]) == 3)
            here.kill()
        started = time.time()

        def restarted(here: Router) -> Any:
            if archive:
                wait_until(lambda: here.get("/status")["counted_since"] <= begun)
            return here.get("/status")

        with router(tmp_path, targets, *kept, match="*.gs.*") as here:
            status, after, other = restarted(here), here.target(), here.target("two")
            finished, minutes = here.status(), here.get("/api/v1/minutes")
            here.kill()
        with router(tmp_path, targets, *kept) as here:
            corrected = restarted(here)["callbacks"]["unmatched"]
    assert "counted since 2" in text_of(finished)
    assert corrected["count"] == 0
    if not archive:
        assert (after["state"], sum(minutes["events"])) == ("idle", 0)
        assert _seconds(minutes["counted_since"]) >= int(started)
        assert minutes["counted_since"] == status["counted_since"]
        return
    assert (after["state"], other["state"]) == ("failing", "healthy")
    assert abs(_seconds(after["failing_since"]) - _seconds(before["failing_since"])) <= 1
    assert after["last_failure"]["reason"] == before["last_failure"]["reason"] == "code"
    assert after["lately"] == {"attempts": 2, "failed": 2}
    assert (sum(minutes["events"]), sum(minutes["failed"])) == (3, 3)
    assert minutes["counted_since"] <= begun
    unmatched = status["callbacks"]["unmatched"]
    assert unmatched["keys"] == {"no.route.has.it": 1}
    assert int(sent) <= _seconds(unmatched["since"]) <= answered
    assert finished.returncode == 1


def test_a_long_trouble_keeps_its_beginning_over_a_restart(tmp_path: Path) -> None:
    """From before the minutes that its state is decided by. Retries of the queue count as well."""
    failed: dict[str, Any] = {"targets": {"one": REFUSED}, "code": "500"}
    retried = {"event_id": "e", "event_key": "a.b.c.d", "target": "two", "reason": "timeout",
               "ms": 5000.0, "retry": 1}  # fmt: skip
    ages = range(50 * 60, 0, -5 * 60)
    lines = [event_line(f"e-{ago}", ago, request=2, **failed) for ago in ages]
    keep(tmp_path / "archive", line("retried", 3000.0, **retried), *lines)
    began = time.time() - max(ages)
    with target() as good:
        options = ("--archive", str(tmp_path / "archive"))
        with router(tmp_path, {"one": good, "two": good}, *options) as here:
            wait_until(lambda: here.get("/status")["counted_since"] < utc(began + 60))
            one, two, minutes = here.target(), here.target("two"), here.get("/api/v1/minutes")
    assert (one["state"], two["state"]) == ("failing", "failing")
    assert abs(_seconds(one["failing_since"]) - began) < 30
    assert two["last_failure"]["reason"] == "timeout"
    assert (sum(minutes["events"]), sum(minutes["retries"])) == (len(ages), len(ages))


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


# The decision about one target, with the time as an argument.

#: The beginning of a minute, in Unix time.
START = 30_000_000 * MINUTE


def judged(*minutes: tuple[int, int], before: Health | None = None, **more: bool) -> Health:
    """Return the health at the end of these minutes, each with its failed attempts and all."""
    lately, health = dict[int, Minute](), before or Health()
    for number, (failed, attempts) in enumerate(minutes):
        at = START // MINUTE + number
        if attempts:
            lately[at] = Minute(attempts, failed, at * MINUTE + 1.0 if failed else 0.0)
        facts = {"recent": True, "unsettled": False, "is_open": False, **more}
        health = health_of(health, lately, (at + 1) * MINUTE - 1, **facts)
    return health


@pytest.mark.parametrize(
    ("minutes", "state"),
    [
        ([(0, 100)], "healthy"),
        ([(1, 100)], "healthy"),
        ([(5, 100)], "degraded"),
        ([(89, 100)], "degraded"),
        ([(90, 100)], "failing"),
        # It leaves a state later than it came to it.
        ([(90, 100), *[(85, 100)] * LATELY], "failing"),
        ([(90, 100), *[(79, 100)] * LATELY], "degraded"),
        ([(5, 100), *[(3, 100)] * LATELY], "degraded"),
        ([(5, 100), *[(1, 100)] * LATELY], "healthy"),
        ([*[(100, 100)] * LATELY, (0, 200)], "degraded"),
        ([(1, 1), (0, 1)], "degraded"),
        ([(1, 1), *[(0, 0)] * LATELY, (0, 1)], "healthy"),
    ],
)
def test_the_share_that_failed_decides(minutes: list[tuple[int, int]], state: str) -> None:
    """Only the attempts of the last minutes count."""
    assert judged(*minutes).state == state


def test_a_trouble_begins_with_its_first_failure_and_lasts_until_it_is_over() -> None:
    """It keeps its beginning while it becomes better or worse, and has none afterwards."""
    minutes = [(0, 50), (20, 20), (0, 20), *[(20, 20)] * LONGEST, (10, 20)]
    health = judged(*minutes)
    assert (health.state, health.since) == ("failing", START + MINUTE + 1.0)
    over = judged(*minutes, *[(0, 100)] * LATELY)
    assert (over.state, over.since) == ("healthy", 0.0)


def test_without_attempts_it_stays_while_a_retry_may_follow() -> None:
    """Then it is idle. Few attempts count longer, and are not enough, while deliveries wait."""
    silent = [(3, 3), *[(0, 0)] * 2 * LONGEST]
    assert judged(*silent, unsettled=True).state == "failing"
    assert judged(*silent, (0, 1), unsettled=True).state == "degraded"
    assert judged(*silent, (0, FEW), unsettled=True).state == "healthy"
    assert judged((8, 9), *[(0, 0)] * LATELY, (1, 1), unsettled=True).state == "failing"
    assert judged(*silent).state == "healthy"
    assert judged(*silent, recent=False).state == "idle"
    assert judged((0, 50), is_open=True).state == "failing"
