"""Recovery by a real router: a target that works again gets what it missed within seconds, once."""

from __future__ import annotations

import threading
import time
from bisect import bisect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from router.delivery.recovery import MOST_AT_ONCE
from tests.support.serving import Gate, Serving, Target, always, serving, target, unsettled
from tests.support.waiting import wait_until

#: The waits of EBaaS and of the queue: without recovery no test would see a second attempt.
HOUR = {"retries": 20, "waits": ["1h"]}
WAITS: dict[str, Any] = {"ebaas": HOUR, "queue": HOUR}

#: How long everything that waits may take to arrive, in seconds.
SOON = 20.0


def fail(router: Serving, count: int) -> list[str]:
    names = [f"event-{number}" for number in range(count)]
    assert {router.post(name) for name in names} == {"500"}
    # Their lines come once the attempts at optional targets have ended.
    router.wait_for(lambda: len(router.lines("event")) == count)
    return names


def heal(*targets: Target) -> None:
    for each in targets:
        each.code = always("000")
        each.got.clear()


def ordered(got: list[str], names: list[str]) -> bool:
    """Return whether each event came once, the oldest first as far as attempts are in turn."""
    moved = max(abs(names.index(name) - place) for place, name in enumerate(got))
    return sorted(got) == sorted(names) and got[0] == names[0] and moved < MOST_AT_ONCE


def test_all_that_waits_arrives_soon_and_once(tmp_path: Path) -> None:
    """One live `000` is enough; EBaaS's next requests get their `000` without a call."""
    with (
        target(always("700")) as ledger,
        target(always("700")) as audit,
        serving(tmp_path, {"ledger": ledger}, {"audit": audit}, **WAITS) as router,
    ):
        names = fail(router, 60)
        heal(ledger, audit)
        assert router.post("live") == "000"
        wait_until(lambda: not unsettled(tmp_path / "store.db"), SOON)
        for each in (ledger, audit):
            live, *others = [got.event for got in each.got]
            assert live == "live"
            assert ordered(others, names), others
        assert {router.post(name) for name in names} == {"000"}
        assert [len(each.got) for each in (ledger, audit)] == [61, 61]


def test_a_retry_joins_the_attempt_of_a_recovery(tmp_path: Path) -> None:
    """EBaaS comes while it is in flight: one call in all, and a `000` by it."""
    with (
        target(always("700")) as ledger,
        serving(tmp_path, {"ledger": ledger}, **WAITS) as router,
        ThreadPoolExecutor(1) as caller,
    ):
        fail(router, 1)
        heal(ledger)
        gate = Gate()
        ledger.code = lambda *about: "000" if about[0] == "live" else gate(*about)
        try:
            assert router.post("live") == "000"
            wait_until(lambda: gate.come)
            retry = caller.submit(router.post, "event-0")
            time.sleep(0.3)
            assert not retry.done()
        finally:
            gate.open()
        assert retry.result() == "000"
        assert len(ledger.of("event-0")) == 1


@contextmanager
def lag_measured() -> Iterator[list[float]]:
    """Measure for how long this process is kept waiting, in seconds."""
    over, lags = threading.Event(), [0.0]

    def measure() -> None:
        began = time.monotonic()
        while not over.wait(0.01):
            now = time.monotonic()
            lags.append(now - began - 0.01)
            began = now

    measuring = threading.Thread(target=measure)
    measuring.start()
    try:
        yield lags
    finally:
        over.set()
        measuring.join()


def test_a_target_with_a_rate_never_sees_more(tmp_path: Path) -> None:
    """Hundreds wait while live events come, after a pause in which its burst has filled up."""
    rate, count = 200, 400
    with target(always("700")) as ledger:
        began: list[float] = []

        def code(name: str, _: str) -> str:
            began.append(time.monotonic())
            return "000"

        with serving(tmp_path, {"ledger": ledger}, **WAITS) as router:
            fail(router, count)
        config = tmp_path / "routes.yaml"
        text = config.read_text().replace(
            f'"{ledger.url}"', f'"{ledger.url}", "rate": {{"per_second": {rate}}}'
        )
        config.write_text(text)
        ledger.code = code
        restarted = closing(Serving(config, tmp_path / "store.db", (), {}))
        with restarted as router, lag_measured() as lags:
            live, until = 0, time.monotonic() + 3 * SOON
            while not live or unsettled(tmp_path / "store.db"):
                assert time.monotonic() < until
                assert router.post(f"live-{live}") == "000"
                live += 1
                time.sleep(0.02)
    assert len(began) == count + live
    most = max(bisect(began, first + 1.0) - number for number, first in enumerate(sorted(began)))
    assert most <= 1.15 * rate + rate * max(lags)
