"""Counting, and the output of a scrape."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from router.contract.schema import shipped_schema
from router.delivery.rules import Cause
from router.model.event import FIELDS, Attempt, Reason
from router.store.protocol import UNSETTLED
from router.store.sqlite.file import _WORDS as SQLITE_WORDS
from router.telemetry.metrics import PROCESS, REMOVED, TARGET, Metric, Metrics
from router.telemetry.scrape import scrape_as
from tests.support.command import ROOT

#: Unix time, in seconds.
NOW = 1.8e9

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def series(copy: Metrics) -> Series:
    families = parse_text("".join(scrape_as("")[1](copy)))
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
    """Yield the samples that a metric has from the start for these labels."""
    name = metric.full_name
    if metric.kind == "histogram":
        bounds = [f"{float(bound)}" for bound in metric.buckets] + ["+Inf"]
        yield from ((f"{name}_bucket", frozenset({**labels, "le": b}.items())) for b in bounds)
        yield f"{name}_count", frozenset(labels.items())
        yield f"{name}_sum", frozenset(labels.items())
    elif metric.kind == "info" or metric.name == "expires_timestamp_seconds":
        return
    elif metric.label is None:
        yield name, frozenset(labels.items())
    else:
        for value in metric.label.values:
            yield name, frozenset({**labels, metric.label.name: value}.items())


def test_every_series_exists_from_the_start() -> None:
    """Its value is 0, with few exceptions. A number that is absent has none."""
    metrics = counting("ledger", "audit")
    shown = series(metrics.copy())
    metrics.of("ledger").expires_at = NOW
    assert value(metrics.copy(), "expires_timestamp_seconds", target="ledger") == NOW
    needed = {
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
    assert {sample for sample in shown if not sample[0].endswith("_info")} == needed
    not_zero = {name for (name, _), number in shown.items() if number}
    assert not_zero == {
        "ebaas_router_build_info",
        "ebaas_router_last_event_timestamp_seconds",
        "ebaas_router_target_info",
    }


def test_an_attempt_is_counted_by_its_reason_and_its_time() -> None:
    """An attempt counts for its target and reason, and its time for the right bucket."""
    metrics = counting("ledger", "audit")
    metrics.of("ledger").attempt(Attempt(Reason.TIMEOUT, True, 4.5, at=NOW))
    copy = metrics.copy()
    assert value(copy, "attempts_total", target="ledger", reason="timeout") == 1
    assert value(copy, "attempts_total", target="audit", reason="timeout") == 0
    name = "attempt_duration_seconds_bucket"
    assert value(copy, name, target="ledger", le="4.0") == 0
    assert value(copy, name, target="ledger", le="4.5") == 1
    assert value(copy, name, target="ledger", le="+Inf") == 1
    assert value(copy, "attempt_duration_seconds_sum", target="ledger") == 4.5


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
    """Names outside the contract are counted as `other`: no body creates a series."""
    metrics = counting()
    before = {*metrics.invalid}
    metrics.invalid_at(place)
    assert {name for name, number in metrics.invalid.items() if number} == {field}
    assert metrics.invalid.keys() == before


def test_an_attempt_that_the_router_held_back_is_no_failure() -> None:
    """It is counted by its reason, and has no duration."""
    metrics = counting("one")
    metrics.of("one").attempt(Attempt(Reason.PAUSED, False, 5.0, at=NOW))
    assert value(metrics, "attempts_total", target="one", reason="paused") == 1
    assert value(metrics, "attempt_duration_seconds_count", target="one") == 0
    assert metrics.of("one").failure is None


def test_series_follow_the_targets() -> None:
    """A target that stays keeps its numbers. Dead letters of a removed one count for REMOVED; if it
    comes back, it starts at 0."""
    metrics, attempts = counting("ledger", "audit"), "attempts_total"
    ledger = metrics.of("ledger")
    ledger.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=NOW))
    metrics.of("audit").attempt(Attempt(Reason.DNS, True, 0.1, at=NOW))
    metrics.adopt(["ledger"])
    ledger.attempt(Attempt(Reason.ACKNOWLEDGED, True, 0.1, at=NOW))
    assert value(metrics.copy(), attempts, target="ledger", reason="acknowledged") == 2
    assert "audit" not in {dict(labels).get("target") for _, labels in series(metrics.copy())}
    metrics.of("audit").dead_letters["target_removed"] += 1
    name = "dead_letters_total"
    assert value(metrics.copy(), name, target=REMOVED, reason="target_removed") == 1
    metrics.adopt(["ledger", "audit"])
    assert value(metrics.copy(), attempts, target="audit", reason="dns") == 0


def test_a_copy_does_not_change() -> None:
    """A scrape has no later counts."""
    metrics = counting("ledger")
    before = metrics.copy()
    shown = repr(series(before))
    metrics.event("000", 0.1)
    metrics.of("ledger").attempt(Attempt(Reason.DNS, True, 1.0, at=NOW))
    metrics.of("ledger").unsettled["dead"] += 1
    assert repr(series(before)) == shown


def words(name: str) -> tuple[str, ...]:
    label = {**PROCESS, **TARGET}[name].label
    assert label is not None
    return label.values


def test_labels_agree_with_the_code() -> None:
    """Their values are exactly those of the code and of logs."""
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
def test_queries_name_existing_metrics(page: str) -> None:
    """Every query on a page uses metrics and buckets that a scrape has."""
    text = (ROOT / page).read_text("utf-8")
    metrics = counting("ledger")
    metrics.configuration, metrics.of("ledger").about = {"hash": "abc"}, {"owner": "payments"}
    metrics.reload_refused = {"file": "routes.yaml", "owner": "payments"}
    metrics.config_file_ok = {("routes.yaml", "payments"): 1}
    metrics.of("ledger").expires_at = NOW
    shown = series(metrics.copy())
    names = {name for name, _ in shown}
    asked = set(re.findall(r"ebaas_router_[a-z_]+", text))
    assert asked
    assert asked <= names
    bounds = {dict(labels).get("le") for _, labels in shown}
    assert set(re.findall(r'bucket\{le="([^"]+)"\}', text)) <= bounds
