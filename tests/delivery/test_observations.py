"""The calls of EBaaS, and a routes.yaml that fits them: the counts alone, and a real router."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config import loading
from router.contract.schedule import Schedule, Terms, format_duration
from router.delivery.observations import (
    ENOUGH,
    MAX_FAILED,
    MAX_RETRIES,
    MAX_VALUES,
    Observations,
    ObservedView,
)
from router.store.protocol import Record, Stage
from tests.support.house import routes
from tests.support.inprocess import quick
from tests.support.queueing import TERMS
from tests.support.serving import Code, body, serving, target, with_door
from tests.support.waiting import wait_until

#: The process has run for a day.
SINCE, NOW = 1_000_000.0, 1_086_400.0


def record(requests: int, wait: float) -> Record:
    """Return a record after so many requests, whose reply was so many seconds before NOW."""
    at = NOW - wait
    return Record("event", Stage.OPEN, at, requests, at, at, at, at)


def observed(waits: Sequence[float], retry: int = 5, **changes: Any) -> list[str]:
    """Return the sentences after these waits before a retry."""
    observations = Observations(SINCE)
    for wait in waits:
        observations.retried(replace(record(retry, wait), **changes), NOW, NOW)
    return sentences(observations.view(TERMS))


def sentences(view: ObservedView) -> list[str]:
    return [each["text"] for each in view["differences"]]


@pytest.mark.parametrize(
    ("waits", "retry", "came", "says"),
    [
        ([300.4] * 12, 5, "EBaaS's 5th retry came after 300 s (12 events)", "60 s"),
        ([300.4] * 9 + [9.0], 5, "EBaaS's 5th retry came after 300 s (10 events)", "60 s"),
        ([0.2] * 10, 2, "EBaaS's 2nd retry came after 0.2 s (10 events)", "3 s"),
        ([3601.0] * 10, 21, "EBaaS's 21st retry came after 3600 s (10 events)", "retries: 20"),
    ],
)
def test_a_difference_is_reported_once_enough_retries_agree(
    waits: list[float], retry: int, came: str, says: str
) -> None:
    """One retry that does not agree, after a lost request, does not matter."""
    assert observed(waits, retry) == [f"{came}, routes.yaml says {says}"]


@pytest.mark.parametrize(
    ("waits", "retry"),
    [
        ([300.4] * (ENOUGH - 1), 5),  # too few
        ([60.0, 61.0, 62.0, 70.0] * 5, 5),  # as configured
        ([1.9] * 20, 1),  # within a second
        ([300.0, 3600.0] * 10, 5),  # they do not agree
        ([13 * 3600.0] * 20, 5),  # another event
        ([86401.0] * 20, 5),  # before the process started
        ([-1.0] * 20, 5),  # the clocks of two nodes
    ],
)
def test_no_difference_is_reported_without_enough_reason(waits: list[float], retry: int) -> None:
    """A minimum and a tolerance keep lost requests and slow networks out."""
    assert observed(waits, retry) == []


@pytest.mark.parametrize(
    "changes", [{"stage": Stage.CLOSED}, {"credit_revoked": True}, {"stage": Stage.ENDED}]
)
def test_only_retries_count(changes: dict[str, Any]) -> None:
    """The same bytes after a 000 are another event. EBaaS may make more retries than the record
    expects."""
    assert bool(observed([300.0] * 12, **changes)) == (changes == {"stage": Stage.ENDED})


WAITS = st.lists(st.sampled_from([1.0, 3.0, 7.0, 30.0, 60.0, 300.0, 900.0, 3600.0]), min_size=1)


@given(configured=WAITS, real=WAITS, retries=st.integers(0, 25), more=st.floats(0.0, 0.02))
def test_the_printed_yaml_is_right(
    configured: list[float], real: list[float], retries: int, more: float
) -> None:
    """For any schedule of EBaaS: once it is in routes.yaml, no difference is left."""
    schedule = Schedule(tuple(real), max(retries, len(real)))
    observations = Observations(SINCE)
    for number, wait in enumerate(schedule.all_waits(), 1):
        for _ in range(ENOUGH):
            observations.retried(record(number, wait * (1 + more) + more), NOW, NOW)
    waits = [format_duration(wait) for wait in configured]
    ebaas = {"waits": waits, "retries": retries}
    view = observations.view(terms(ebaas))
    if view["yaml"]:
        ebaas |= yaml.safe_load(view["yaml"])["ebaas"]
    view = observations.view(terms(ebaas))
    assert (view["differences"], view["yaml"]) == ([], "")


def terms(ebaas: dict[str, Any]) -> Terms:
    document = {**routes({"one": "https://one.example/"}), "ebaas": ebaas}
    return loading.parse(json.dumps(document).encode(), "routes.yaml", {}, None).terms


@pytest.mark.parametrize(("after", "printed"), [(5.0, "4s"), (8.0, "6400ms"), (9.0, "")])
def test_hang_ups_before_the_reply(after: float, printed: str) -> None:
    """EBaaS must have its reply before it hangs up."""
    observations = Observations(SINCE)
    for _ in range(ENOUGH):
        observations.hang_ups.add(after)
    view = observations.view(TERMS)
    assert view["yaml"] == (printed and f"ebaas:\n  reply_within: {printed}")
    assert len(sentences(view)) == bool(printed)


def test_other_bytes_are_counted_while_a_retry_is_due() -> None:
    """Not the same bytes, not bytes with a record of their own, and not after the retry."""
    observations = Observations(SINCE)

    def came(digest: bytes, *, until: float = NOW, is_known: bool = False) -> int:
        observations.fail(1, b"first", "first", until)
        observations.came(1, digest, "second", NOW, is_known=is_known)
        return observations.other_bytes

    assert came(b"first") == 0
    assert came(b"other", is_known=True) == 0
    assert came(b"other", until=NOW - 1) == 0
    assert [came(b"other") for _ in range(ENOUGH - 1)][-1] == ENOUGH - 1
    assert sentences(observations.view(TERMS)) == []
    came(b"other")
    [sentence] = sentences(observations.view(TERMS))
    assert sentence.startswith("10 requests came again with other bytes")
    observations.same_bytes = 1000  # so these are likelier to be other events
    assert sentences(observations.view(TERMS)) == []


def test_the_memory_is_bounded() -> None:
    """For any requests; expired events leave at once."""
    observations = Observations(SINCE)
    for number in range(5000):
        observations.retried(record(1 + number % 100, number * 7.7 + 0.1), NOW, NOW)
        observations.hang_ups.add(number / 3)
        observations.fail(number, b"digest", "event", NOW)
    assert len(observations.retries) == MAX_RETRIES
    tallies = [*observations.retries.values(), observations.hang_ups]
    assert max(len(tally.values) for tally in tallies) == MAX_VALUES
    assert observations.hang_ups.count == 5000
    assert len(observations.failed) == MAX_FAILED
    observations.came(-1, b"digest", "event", NOW + 1, is_known=False)
    assert not observations.failed


def test_a_real_routers_status_reports_how_ebaas_calls(tmp_path: Path) -> None:
    """EBaaS retries later than routes.yaml says, with other bytes at times, and hangs up before the
    reply. With the printed YAML, only the bytes remain."""
    recovered: set[str] = set()
    released = threading.Event()

    def answer(name: str, _: str) -> str:
        if name.startswith("slow"):
            return str(released.wait(20))
        return "000" if name in recovered else "500"

    code: Code = answer
    options, client = with_door(tmp_path)
    names = [f"event-{number}" for number in range(24)]

    def status() -> tuple[str, ObservedView]:
        text, as_json = (quick("status", *client, "--format", form) for form in ("text", "json"))
        return text.stdout.decode(), json.loads(as_json.stdout)["observed"]

    with (
        target(code) as one,
        serving(tmp_path, {"one": one}, options=options, ebaas={"waits": ["100ms"]}) as router,
    ):
        for name in names:
            router.post(name)
        time.sleep(1.5)  # as EBaaS does
        recovered |= {*names[12:]}
        for name in names:
            router.post(name)
        recovered |= {*names}
        for name in names:  # the last twelve are new events: their retry is no longer due
            router.ask("POST", "/callback", body(name) + b" ")
        hang_up(router.port, [f"slow-{number}" for number in range(12)])
        released.set()
        wait_until(lambda: len(router.lines("event")) == 3 * 24 + 12)
        text, view = status()
        (config := tmp_path / "routes.yaml").write_text(advised(config.read_text(), text))
        router.process.send_signal(signal.SIGHUP)
        router.wait_for(lambda: router.lines("reload"))
        later, left = status()
    [retry] = view["retries"]
    assert (retry["retry"], retry["count"]) == (1, 24)
    seen = f"EBaaS's 1st retry came after {retry['typical']:g} s (24 events), routes.yaml says"
    assert f"{seen} 0.1 s" in text.splitlines()
    assert "EBaaS hung up after " in text
    assert "12 requests came again with other bytes" in text
    assert (view["other_bytes"]["count"], view["other_bytes"]["same"]) == (12, 24)
    assert view["hang_ups"]["count"] == 12
    assert (view["hang_ups"]["typical"] or 0) >= 0.4
    assert [each["code"] for each in left["differences"]] == ["other_bytes"]
    assert "EBaaS's 1st retry" not in later


def advised(config: str, text: str) -> str:
    """Return a configuration with the YAML that `status` has printed."""
    document, printed = json.loads(config), text.partition("would be right with:\n")[2]
    lines = printed.partition("\n\n")[0]
    document["ebaas"] |= yaml.safe_load(lines)["ebaas"]
    return json.dumps(document)


def hang_up(port: int, names: list[str]) -> None:
    """Send these events at once, and close their connections before a reply."""
    with ExitStack() as closing:
        for name in names:
            caller = closing.enter_context(socket.create_connection(("127.0.0.1", port)))
            content = body(name)
            head = f"POST /callback HTTP/1.1\r\nhost: a\r\ncontent-length: {len(content)}\r\n\r\n"
            caller.sendall(head.encode() + content)
        time.sleep(0.5)  # as EBaaS does
