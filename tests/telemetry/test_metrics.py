"""What is counted, and what a scrape shows of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.contract.schema import shipped_schema
from router.delivery.rules import Cause
from router.model.event import FIELDS, Attempt, Reason
from router.store.protocol import UNSETTLED
from router.store.sqlite.file import _WORDS as SQLITE_WORDS
from router.telemetry.metrics import PROCESS, REMOVED, TARGET, Metric, Metrics
from router.telemetry.scrape import render
from tests.support.command import ROOT

#: Unix time, in seconds.
NOW = 1.8e9

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(copy: Metrics) -> Series:
    """Every sample of a scrape, by its name and labels."""
    families = parse_text(render(copy, "")[1].decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(copy: Metrics, name: str, **labels: str) -> float:
    return series(copy)["ebaas_router_" + name, frozenset(labels.items())]


def counting(*targets: str) -> Metrics:
    metrics = Metrics()
    metrics.adopt(targets)
    return metrics


def expected(metric: Metric, labels: dict[str, str]) -> Iterator[tuple[str, frozenset[object]]]:
    """The samples that a metric has from the start for these labels."""
    name = metric.full_name
    if metric.kind == "histogram":
        bounds = [f"{float(bound)}" for bound in metric.buckets] + ["+Inf"]
        yield from ((f"{name}_bucket", frozenset({**labels, "le": b}.items())) for b in bounds)
        yield f"{name}_count", frozenset(labels.items())
        yield f"{name}_sum", frozenset(labels.items())
    elif metric.kind == "info" or metric.may_be_absent:
        return
    elif metric.label is None:
        yield name, frozenset(labels.items())
    else:
        for word in metric.label.values:
            yield name, frozenset({**labels, metric.label.name: word}.items())


# What a scrape shows.


def test_every_series_is_there_from_the_start() -> None:
    """A fresh process shows every number of the table at 0, for every target and every reason."""
    shown = series(counting("ledger", "audit").copy())
    wanted = {
        sample
        for metric in PROCESS.values()
        if metric.kind != "info"
        for sample in expected(metric, {})
    } | {
        sample
        for metric in TARGET.values()
        for target in ("ledger", "audit", REMOVED)
        for sample in expected(metric, {"target": target})
    }
    assert {sample for sample in shown if not sample[0].endswith("_info")} == wanted
    not_zero = {name for (name, _), number in shown.items() if number}
    assert not_zero == {
        "ebaas_router_build_info",
        "ebaas_router_last_event_timestamp_seconds",
        "ebaas_router_target_info",
    }


def test_what_may_be_absent_has_no_series_until_there_is_something_to_say() -> None:
    """There is no series while nothing waits."""

    def shown(at: float | None) -> float | None:
        metrics = counting("ledger")
        metrics.of("ledger").gives_up = at
        name = "ebaas_router_gives_up_timestamp_seconds", frozenset({("target", "ledger")})
        return series(metrics.copy()).get(name)

    assert shown(None) is None
    assert shown(NOW) == NOW


def test_a_targets_owner_and_role_can_be_joined_by() -> None:
    """One series for each target, always 1."""
    metrics = counting("ledger", "audit")
    metrics.of("ledger").about = {"owner": "payments", "role": "required"}
    copy = metrics.copy()
    found = {labels: n for (name, labels), n in series(copy).items() if "target_info" in name}
    ledger = {"target": "ledger", "owner": "payments", "role": "required"}
    nobodys = {"target": REMOVED, "owner": "", "role": "optional"}
    assert found == {frozenset(each.items()): 1.0 for each in (ledger, nobodys)}


def test_before_the_first_event_the_start_counts() -> None:
    """Before the first one it is the start, so that a silence after a restart is seen."""
    metrics = counting()
    started = metrics.last_event
    assert time.time() - 60 < started <= time.time()
    metrics.event("500", 0.1)
    assert metrics.last_event >= started


def test_a_scraper_may_ask_for_openmetrics() -> None:
    """`Accept` chooses the format; both show the same samples."""
    metrics = counting("ledger")
    metrics.configuration = {"hash": "abc"}
    copy = metrics.copy()
    content_type, body = render(copy, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert samples == series(copy)
    assert render(copy, "*/*")[0].startswith("text/plain")


def test_every_name_keeps_the_conventions() -> None:
    """Counters end in `_total`, durations in `_seconds`, and nothing else does."""
    for metric in [*PROCESS.values(), *TARGET.values()]:
        assert re.fullmatch("[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.name.endswith("_info") == (metric.kind == "info")
        assert metric.kind != "histogram" or metric.unit == "seconds"
        assert metric.help.endswith(".")
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert list(metric.buckets) == sorted(set(metric.buckets))


def test_every_name_is_there_once() -> None:
    """No two lines of the table share a name."""
    names = [metric.name for metric in [*PROCESS.values(), *TARGET.values()]]
    assert len(names) == len(set(names))


# Counting.


def test_an_attempt_is_counted_by_its_reason_and_its_time() -> None:
    """An attempt adds one to its target's reason, and its seconds to the right bucket."""
    metrics = counting("ledger", "audit")
    metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 4.7, at=NOW))
    copy = metrics.copy()
    assert value(copy, "attempts_total", target="ledger", reason="timeout") == 1
    assert value(copy, "attempts_total", target="audit", reason="timeout") == 0
    name = "attempt_duration_seconds_bucket"
    assert value(copy, name, target="ledger", le="4.5") == 0
    assert value(copy, name, target="ledger", le="5.0") == 1
    assert value(copy, name, target="ledger", le="+Inf") == 1
    assert value(copy, "attempt_duration_seconds_sum", target="ledger") == 4.7


@pytest.mark.parametrize(("seconds", "bound"), [(8.0, "8.0"), (8.01, "9.0"), (99.0, "+Inf")])
def test_a_bucket_ends_with_its_bound(seconds: float, bound: str) -> None:
    """A time that is a bucket's bound is within it; what is above all bounds is in the last."""
    metrics = counting()
    metrics.event("000", seconds)
    buckets = {
        dict(labels)["le"]: number
        for (name, labels), number in series(metrics.copy()).items()
        if name == "ebaas_router_event_duration_seconds_bucket"
    }
    assert next(le for le, number in buckets.items() if number) == bound


def test_an_acknowledgement_and_a_failure_leave_their_times() -> None:
    """A target's last acknowledgement is shown with its time, and a failure does not change it."""
    ledger = counting("ledger").of("ledger")
    ledger.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=NOW))
    assert ledger.last_acknowledged == NOW
    assert ledger.failure is None
    ledger.attempt(Attempt(Reason.DNS, True, 0.1, at=NOW + 1))
    assert ledger.last_acknowledged == NOW
    assert ledger.failure is not None
    assert (ledger.failure.reason, ledger.failure.at) == (Reason.DNS, NOW + 1)


def test_what_is_not_counted_is_read_for_each_copy() -> None:
    """A reading is taken when somebody asks, not before."""
    metrics, in_flight = counting("ledger"), [0]

    def read() -> None:
        metrics.of("ledger").in_flight = in_flight[0]

    metrics.readings.append(read)
    for number in (3, 2):
        in_flight[0] = number
        assert value(metrics.copy(), "attempts_in_flight", target="ledger") == number


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("event_topic", "event_topic"),
        ("changes[3].id", "changes"),
        ("", "body"),
        ("tenant", "other"),
        ("event_topic\n", "other"),
        ("reason", "other"),
    ],
)
def test_an_invalid_callback_is_counted_at_its_field(place: str, field: str) -> None:
    """The field is one of the contract's; whatever else a body has in it is `other`."""
    metrics = counting()
    metrics.invalid_at(place)
    assert {name for name, number in metrics.invalid.items() if number} == {field}


@given(st.text())
def test_no_body_makes_a_series(place: str) -> None:
    """Nobody can make the number of series grow from outside."""
    metrics = counting()
    before = set(series(metrics.copy()))
    metrics.invalid_at(place)
    assert set(series(metrics.copy())) == before


# Reloads.


def test_a_target_that_stays_keeps_its_numbers() -> None:
    """A reload neither loses what was counted for a target that stays, nor its prepared numbers."""
    metrics = counting("ledger")
    ledger = metrics.of("ledger")
    ledger.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=NOW))
    metrics.adopt(["audit", "ledger"])
    ledger.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=NOW))
    name = "attempts_total"
    assert value(metrics.copy(), name, target="ledger", reason="acknowledged") == 2


def test_the_series_of_a_removed_target_go() -> None:
    """No series names a target that is in no configuration; should it come back it begins at 0."""
    metrics = counting("ledger", "audit")
    metrics.of("audit").attempt(Attempt(Reason.DNS, True, 0.1, at=NOW))
    metrics.adopt(["ledger"])
    assert b'"audit"' not in render(metrics.copy(), "")[1]
    metrics.adopt(["ledger", "audit"])
    assert value(metrics.copy(), "attempts_total", target="audit", reason="dns") == 0


def test_what_happens_to_a_removed_target_is_still_counted() -> None:
    """It is counted together for all of them."""
    metrics = counting("ledger", "audit")
    metrics.adopt(["ledger"])
    metrics.of("audit").dead_letters["target_removed"] += 1
    name = "dead_letters_total"
    assert value(metrics.copy(), name, target=REMOVED, reason="target_removed") == 1


def test_a_copy_does_not_change_any_more() -> None:
    """What is counted later is in the next one."""
    metrics = counting("ledger")
    metrics.refuse("400")
    before = metrics.copy()
    said = repr(series(before)), repr(before.refused_lately)
    metrics.event("000", 0.1)
    metrics.refuse("400")
    metrics.of("ledger").attempt(Attempt(Reason.DNS, True, 1.0, at=NOW))
    metrics.of("ledger").unsettled["dead"] += 1
    assert (repr(series(before)), repr(before.refused_lately)) == said


# The words, and the pages.


def words(name: str) -> tuple[str, ...]:
    label = {**PROCESS, **TARGET}[name].label
    assert label is not None
    return label.values


def test_the_words_are_those_of_the_code() -> None:
    """Labels are the words that logs and the code have, all of them and no other."""
    assert set(words("attempts")) == set(Reason)
    assert set(words("repeats")) == set(Cause)
    assert set(words("unsettled")) == set(UNSETTLED)
    assert set(SQLITE_WORDS.values()) < set(words("store_errors"))
    schema = json.loads(shipped_schema("callback.schema.json").read_text("utf-8"))
    assert set(words("invalid")) == {*schema["properties"], "body", "other"}
    assert set(FIELDS) < set(words("invalid"))


@pytest.mark.parametrize(
    "page",
    [
        "docs/how-to/monitoring.md",
        "deploy/prometheus/rules.yml",
        "deploy/prometheus/rules.test.yml",
    ],
)
def test_the_pages_ask_for_what_there_is(page: str) -> None:
    """Every query names a metric, a label and a reason that a scrape has."""
    text = (ROOT / page).read_text("utf-8")
    metrics = counting("ledger")
    metrics.configuration, metrics.of("ledger").about = {"hash": "abc"}, {"owner": "payments"}
    metrics.reload_refused = {"file": "routes.yaml", "owner": "payments"}
    metrics.of("ledger").gives_up = NOW
    shown = series(metrics.copy())
    names = {name for name, _ in shown}
    asked = set(re.findall(r"ebaas_router_[a-z_]+", text))
    assert asked
    assert asked <= names
    bounds = {dict(labels).get("le") for _, labels in shown}
    assert set(re.findall(r'bucket\{le="([^"]+)"\}', text)) <= bounds
