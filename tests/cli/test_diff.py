"""`diff`: the events whose plan changes, from cases or real traffic, the most dangerous first."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cli.explain import MAX_EVENT_LINE, Traffic
from router.config.comparison import Comparison
from router.config.loading import parse
from router.model.event import FIELDS, Event
from router.telemetry.log import Log
from tests.support.command import run
from tests.support.house import event, house
from tests.support.inprocess import Ran, ran

#: In every value that must not be printed.
CANARY = "canary-7f3a"

TARGETS: dict[str, Any] = {
    name: {"url": f"https://{name}.example.com/callback"} for name in ("certs", "ledger", "audit")
}
ROUTES: dict[str, Any] = {
    "under gs": {"match": "a.gs.*", "required": ["certs", "ledger"]},
    "auditors": {"match": "*.cert.*", "optional": ["audit"]},
}
OLD: dict[str, Any] = {"version": 1, "targets": TARGETS, "routes": ROUTES}


def text(config: dict[str, Any]) -> str:
    routes = [{"name": name, **route} for name, route in config["routes"].items()]
    return json.dumps({**config, "routes": routes})


def changed(**routes: Any) -> dict[str, Any]:
    """OLD with other routes; one that is None is left out."""
    named = {name.replace("_", " "): route for name, route in routes.items()}
    kept = {name: route for name, route in {**ROUTES, **named}.items() if route is not None}
    return {**OLD, "routes": kept}


@pytest.fixture
def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """`diff` of OLD and another configuration, by `events` on stdin or else by `options`."""
    monkeypatch.chdir(tmp_path)

    def run_diff(new: dict[str, Any], *options: str, events: str = "", old: Any = OLD) -> Ran:
        (tmp_path / "old.yaml").write_text(text(old), encoding="utf-8")
        (tmp_path / "new.yaml").write_text(text(new), encoding="utf-8")
        given = ("--events", "-") if events else ()
        return ran("diff", "old.yaml", "new.yaml", *given, *options, stdin=events.encode())

    return run_diff


Diff = Callable[..., Ran]


# Plans.


def test_nothing_changes(diff: Diff) -> None:
    """If every plan stays, the output counts the events, exit code 0."""
    result = diff(OLD, events="a.gs.cert.1\nx.y.z.1\n")
    assert (result.code, result.out) == (0, "no plan changes: 2 events compared\n")


def test_a_required_target_that_becomes_optional(diff: Diff) -> None:
    """Its events are one group: the number, the target, the keys, and the route behind it."""
    new = changed(under_gs={"match": "a.gs.*", "required": ["certs"], "optional": ["ledger"]})
    result = diff(new, events="a.gs.cert.1\na.gs.key.2\na.gs.cert.1\nb.gs.cert.1\n")
    assert result.code == 1
    assert result.lines == [
        "3 events (2 keys): required → optional",
        "  ledger  required → optional",
        "  keys    'a.gs.cert.1' (2 times), 'a.gs.key.2'",
        "  routes  with other targets 'under gs'",
        "",
        "routes that differ:",
        "  'under gs'  required  certs, ledger → certs",
        "  'under gs'  optional  none → ledger",
        "",
        "3 of 4 events no longer require ledger",
        "3 of 4 events would get another plan",
    ]


def test_newly_unmatched(diff: Diff) -> None:
    """Events that no route matches any more are listed with the reply to their caller."""
    result = diff({**changed(under_gs=None), "unmatched": "accept"}, events="a.gs.key.1\n")
    assert result.lines[0] == "1 event (1 key): newly unmatched, accepted (000)"
    assert result.lines[1] == "  certs   required → not in the plan"
    assert "  routes  no longer 'under gs'" in result.lines


def test_the_most_dangerous_first() -> None:
    """Newly unmatched, then required to optional, then other changes, then the most events."""
    plans = {
        "1 all": (("a", ""), ("", "")),
        "2 soft": (("a", "b"), ("b", "a")),
        "3 gone": (("ab", ""), ("b", "")),
        "4 less": (("a", "b"), ("a", "")),
        "5 harder": (("b", "a"), ("ab", "")),
        "6 more": (("b", ""), ("b", "a")),
        "7 more": (("b", ""), ("b", "c")),
        "8 new": (("", ""), ("b", "")),
    }

    def config(which: int) -> Any:
        routes = {}
        for name, both in plans.items():
            roles = zip(("required", "optional"), both[which], strict=True)
            if targets := {role: [*names] for role, names in roles if names}:
                routes[name] = {"match": f"{name[0]}*", **targets}
        urls = {name: {"url": "http://127.0.0.1/"} for name in "abc"}
        made = text({"version": 1, "targets": urls, "routes": routes})
        return parse(made.encode(), "routes.yaml", {}, None)

    compared = Comparison(config(0), config(1))
    for key in "87654321":
        compared.add(Event.of({"event_key": key}), times=int(key))
    order = [next(iter(group.keys)) for group in compared.groups()]
    assert order == ["1", "2", "3", "4", "5", "8", "7", "6"]


def test_a_summed_line_stands_for_many_events(diff: Diff) -> None:
    """A line of the log that sums up unmatched events counts for all of them."""
    stream = io.StringIO()
    log = Log(stream, "json")
    for _ in range(20):
        log.warning("unmatched", code="500", **dict.fromkeys(FIELDS, "z"), bytes=9)
    log.close()
    result = diff({**OLD, "unmatched": "accept"}, events=stream.getvalue())
    assert result.lines[0].startswith("20 events (1 key): unmatched as before")


def test_another_reply_to_unmatched_events(diff: Diff) -> None:
    """Another `unmatched` is a difference for every event that no route matches."""
    result = diff({**OLD, "unmatched": "accept"}, events="x.y.z.1\na.gs.key.1\n")
    assert result.code == 1
    heading = "1 event (1 key): unmatched as before, a failure (500) → accepted (000)"
    assert result.lines[0] == heading
    assert result.lines[-3:] == [
        "  unmatched  reject → accept",
        "",
        "1 of 2 events would get another plan",
    ]


def test_a_route_that_no_event_matches_is_named(diff: Diff) -> None:
    """The effect of an edited route that no compared event matches is unknown."""
    result = diff(changed(spare={"match": "s.*", "required": ["certs"]}), events="a.gs.cert.1\n")
    assert result.code == 0
    assert "  'spare'  added" in result.lines
    assert "no event that was compared matches 'spare'" in result.lines


def test_order_is_no_difference(diff: Diff) -> None:
    """Routes, targets, patterns and lists in another order are the same."""
    old = {**OLD, "routes": {**ROUTES, "two": {"match": ["x", "y"], "required": ["certs"]}}}
    new = {
        **OLD,
        "targets": dict(reversed(TARGETS.items())),
        "routes": {
            "two": {"match": {"event_key": ["y", "x"]}, "required": ["certs"]},
            "auditors": ROUTES["auditors"],
            "under gs": {"match": "a.gs.*", "required": ["ledger", "certs"]},
        },
    }
    assert diff(new, events="a.gs.cert.1\n", old=old).out.startswith("no plan changes")


# Edits.


def test_targets_that_differ(diff: Diff, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed values are shown; of a value that may be a secret, only that it changed."""
    monkeypatch.setenv("OLD_TOKEN", f"{CANARY}-1")
    monkeypatch.setenv("NEW_TOKEN", f"{CANARY}-2")

    def targets(which: str) -> dict[str, Any]:
        return {
            "ledger": {
                "url": f"https://ledger.example.com/hook?token=${{{which}_TOKEN}}",
                "headers": {"Authorization": f"Bearer ${{{which}_TOKEN}}", f"X-{which}": "x"},
                "timeout": "5s" if which == "OLD" else "1500ms",
                "secret": [f"${{{which}_TOKEN}}", "the same in both of them"],
                "breaker": which == "NEW" or {"pause": "3s"},
                "paused": which == "NEW",
            },
            "certs": {"url": f"https://certs.example.com/${{{which}_TOKEN}}"},
            "audit": {"url": f"http://127.0.0.1/{which.lower()}"},
            which.lower(): {"url": "http://127.0.0.1/"},
        }

    old, new = ({**OLD, "targets": targets(which)} for which in ("OLD", "NEW"))
    result = diff(new, events="x\n", old=old)
    assert (result.code, CANARY in result.out + result.err) == (0, False)
    assert result.lines[: result.lines.index("")] == [
        "targets that differ:",
        "  audit   url                    http://127.0.0.1/old → http://127.0.0.1/new",
        "  certs   url                    changed (https://certs.example.com/***)",
        "  ledger  url                    changed (https://ledger.example.com/hook?***)",
        "  ledger  timeout                5s → 1500ms",
        "  ledger  headers.authorization  changed (***)",
        "  ledger  headers.x-old          *** → none",
        "  ledger  secret                 changed (***, ***)",
        "  ledger  breaker.pause          3s → 10s",
        "  ledger  headers.x-new          none → ***",
        "  ledger  paused                 none → true",
        "  new     added",
        "  old     removed",
    ]


def test_settings_that_differ(diff: Diff) -> None:
    """Settings of EBaaS and the queue are listed by their keys."""
    new = {**OLD, "ebaas": {"retries": 3}, "queue": {"waits": ["1s", "5m"]}}
    assert diff(new, events="x\n").lines[:3] == [
        "settings that differ:",
        "  ebaas.retries  20 → 3",
        "  queue.waits    1s, 3s, 7s, 30s, 60s, 2 more → 1s, 300s",
    ]


def test_json(diff: Diff) -> None:
    """--format json is one object with groups and edits."""
    new = changed(under_gs={"match": "a.gs.*", "required": ["certs"]})
    result = diff(new, "--format", "json", events="a.gs.key.1\nx\n")
    assert result.code == 1
    assert result.json == {
        "events": 2,
        "changed": 1,
        "targets": [
            {"name": "ledger", "owner": "", "before": "required", "after": None, "events": 1}
        ],
        "groups": [
            {
                "before": "matched",
                "after": "matched",
                "targets": [{"name": "ledger", "before": "required", "after": None}],
                "events": 1,
                "keys": {"a.gs.key.1": 1},
                "routes_before": ["under gs"],
                "routes_after": ["under gs"],
            }
        ],
        "edits": [
            {
                "kind": "route",
                "name": "under gs",
                "what": "changed",
                "details": {"required": {"before": ["certs", "ledger"], "after": ["certs"]}},
            }
        ],
    }


def test_the_losses_of_a_target_are_summed_up(diff: Diff) -> None:
    """A target that several groups of events lose has one line."""
    new = changed(under_gs=None, gs={"match": "a.gs.*.1", "required": ["certs"]})
    lines = diff(new, events="a.gs.cert.1\na.gs.key.1\na.gs.key.2\n").lines
    assert lines[-3:] == [
        "3 of 3 events lose ledger",
        "1 of 3 events loses certs",
        "3 of 3 events would get another plan",
    ]


# Where events come from.


CASES = "version: 1\ncases: [{key: a.gs.key.1, required: [x]}, {key: q, unmatched: true}]"


def test_the_tests_file_beside_new(diff: Diff) -> None:
    """It is read if nothing else is given."""
    Path("new.test.yaml").write_text(CASES)
    assert diff(OLD).out == "no plan changes: 2 events compared\n"


def test_files_of_events(diff: Diff) -> None:
    """--events can be repeated; an event may have no key."""
    Path("one.txt").write_bytes(event() + b"\n" + event(event_key=...) + b"\n")
    result = diff(OLD, "--events", "one.txt", events="a\nb\n")
    assert result.out == "no plan changes: 4 events compared\n"
    result = diff(OLD, "--events", "missing.jsonl")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "ebaas-router: --events: 'missing.jsonl' can't be read: No such file or directory\n"
    )


def test_no_events_at_all(diff: Diff) -> None:
    """It is an error, exit code 2."""
    result = diff(OLD)
    assert (result.code, result.out) == (2, "")
    assert "no tests file new.test.yaml beside NEW" in result.err
    result = diff(OLD, events="\n\nnot an event\n")
    assert (result.code, result.out) == (2, "")
    assert "no line of it has an event or a key" in result.err
    assert "--log-format json" in result.err


def test_one_of_the_files_may_be_stdin(tmp_path: Path) -> None:
    """OLD may come from version control by stdin."""
    new = tmp_path / "new.yaml"
    new.write_text(text(OLD))
    (tmp_path / "new.test.yaml").write_text(CASES)
    result = ran("diff", "-", new, stdin=text(OLD).encode())
    assert (result.code, result.out) == (0, "no plan changes: 2 events compared\n")


@pytest.mark.anyio
async def test_the_routers_own_log_as_it_is(tmp_path: Path) -> None:
    """`diff` compares the events that a running router logs, matched and unmatched."""
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(text(changed(auditors=None)))
    new.write_text(
        text(changed(auditors=None, under_gs=None, rest={"match": "*", "optional": ["audit"]}))
    )
    config = json.loads(old.read_text())
    config["targets"] = {name: {"url": "http://127.0.0.1:9/"} for name in TARGETS}
    async with house(config) as router:
        await router.post(event())
        await router.post(event(event_key="z.z.z.成"))
        await router.post(b"{}")
        await router.line("event")
        await router.line("unmatched")
        await router.line("refused")
        log = router.stream.getvalue()
    finished = run(
        "diff", str(old), str(new), "--events", "-", "--format", "json", stdin=log.encode()
    )
    assert (finished.returncode, finished.stderr) == (1, b"")
    result = json.loads(finished.stdout)
    keys = {key: times for group in result["groups"] for key, times in group["keys"].items()}
    assert keys == {"a.gs.cert.1": 1, "z.z.z.成": 1}


# Reading traffic.


def logged(key: str = "a.gs.cert.1", happening: str = "event", **fields: Any) -> str:
    """A line of the router's log."""
    line = {
        "time": "2026-11-25T11:09:55.123Z",
        "level": "info",
        "happening": happening,
        "targets": {"ledger": {"as": "required", "detail": 'says "event_key":"x.x.x.x"'}},
        "event_key": key,
        "event_source": "a",
        "event_topic": "gs",
        "event_type": "cert",
        "event_status": "1",
        "bytes": 112,
        **fields,
    }
    return json.dumps(line, separators=(",", ":"))


def traffic(*lines: str) -> tuple[dict[tuple[str, str], int], int]:
    """Return the counts of keys and statuses, and the number of skipped lines."""
    read = Traffic(io.BytesIO("\n".join(lines).encode()))
    found = {(event.event_key, event.event_status): times for event, times in read}
    return found, read.skipped


@pytest.mark.parametrize(
    "line",
    [
        logged(),
        logged(happening="unmatched"),
        json.dumps(json.loads(logged())),
        "2026-11-25T11:09:55.123456789Z " + logged(),
        "router-1  | " + logged(),
        "\x1b[36mrouter-1  |\x1b[0m " + logged(),
        "[pod/router-7d9/router] 2026-11-25T11:09:55.1Z " + logged() + "\r",
        "2026-11-25T11:09:55.1Z stdout F " + logged(),
        event().decode(),
        event(event_key=None).decode(),
        '"a.gs.cert.1"',
        "  a.gs.cert.1 ",
        '{"event_key": "a.gs.cert.1"}',
    ],
)
def test_lines_with_an_event(line: str) -> None:
    """Log lines, whatever a collector puts before them; events; keys as JSON and as they are."""
    assert traffic(line) == ({("a.gs.cert.1", "1"): 1}, 0)


def test_escapes_in_a_log_line() -> None:
    key = 'a."成.\\.1'
    assert traffic(logged(key)) == ({(key, "1"): 1}, 0)


@pytest.mark.parametrize("happening", ["refused", "serving", "reload", "lost"])
def test_other_lines_of_the_log_are_passed_over(happening: str) -> None:
    """They are not events, and not counted as skipped."""
    line = json.dumps({"happening": happening, "event_key": "a.gs.cert.1"})
    assert traffic(line, logged(happening=happening), "") == ({}, 0)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "two words",
        '{"event_key": 7}',
        '{"event_source": "a"}',
        '{"changes": [{"event_key": "a.gs.cert.1"}]}',
        '"open',
        '"a" "b"',
        "[" * 5000,
        '{"event_key": "a", "event_key": "b"}',
        '{"event_key":"\\ud800"}',
        "x" * MAX_EVENT_LINE * 2,
    ],
)
def test_lines_without_an_event_are_counted(line: str) -> None:
    """A line that is neither an event nor a key is counted, and the next one is read."""
    found, skipped = traffic(line, "k")
    assert (found, skipped) == ({("k", ""): 1}, 1)


_PIECES = (
    b"{", b"}", b'"event_key":', b'"a.b.c.d"', b",", b"\n", b" ", b"a.b", b'"happening":', b"[",
    b'"unmatched"', b'"count":',
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES) | st.binary(max_size=8), max_size=30).map(b"".join))
def test_any_bytes_are_traffic(content: bytes) -> None:
    """Each line is an event, a line of another kind, or counted as skipped."""
    read = Traffic(io.BytesIO(content))
    events = sum(times for _, times in read)
    assert events + read.skipped <= content.count(b"\n") + 1


def test_skipped_lines_are_noted(diff: Diff) -> None:
    """The number of lines without an event is a message beside the result."""
    result = diff(OLD, events="a.gs.cert.1\nWARN something else\n")
    assert result.code == 0
    assert result.err == "ebaas-router: --events: 1 line has no event or key\n"
