"""One matcher: for random configurations and events the router and its commands agree."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.config import loading
from router.config.loading import Config
from router.model.event import FIELDS, Event
from tests.support.effort import examples
from tests.support.folders import written
from tests.support.house import House, house
from tests.support.inprocess import ran
from tests.support.waiting import until

_pieces = st.sampled_from(("a", "b", ".", "1", "*", "?", "[ab]", "[!a]"))
_patterns = st.lists(_pieces, min_size=1, max_size=6).map("".join)
_pattern_lists = st.lists(_patterns, min_size=1, max_size=3)
_matches = _pattern_lists | st.dictionaries(
    st.sampled_from(FIELDS), _patterns | _pattern_lists, min_size=1, max_size=3
)
_targets = st.sets(st.sampled_from("ABCD"), min_size=1, max_size=4).flatmap(
    lambda names: st.sets(st.sampled_from(sorted(names))).map(
        lambda required: {"required": sorted(required), "optional": sorted(names - required)}
    )
)
_values = st.text("ab.1", min_size=1, max_size=5)
_events = st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, _values)), min_size=1, max_size=4)


@st.composite
def _configs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid routes.yaml as plain data."""
    exceptions = st.none() | _matches
    drawn = draw(st.lists(st.tuples(_matches, _targets, exceptions), min_size=1, max_size=6))
    return {
        "version": 1,
        "unmatched": draw(st.sampled_from(("reject", "accept"))),
        "targets": {name: {"url": "http://127.0.0.1/"} for name in "ABCD"},
        "routes": [
            {
                "name": f"r{at}",
                "match": match,
                **({"except": exception} if exception else {}),
                **{role: names for role, names in by.items() if names},
            }
            for at, (match, by, exception) in enumerate(drawn)
        ],
    }


def naive_plan(given: dict[str, Any], event: dict[str, str]) -> dict[str, str]:
    """Return the role of each target, by the plainest reading of the routes."""
    roles: dict[str, str] = {}
    for route in given["routes"]:
        if _fits_rule(route["match"], event) and not (
            "except" in route and _fits_rule(route["except"], event)
        ):
            roles |= {name: roles.get(name, "optional") for name in route.get("optional", ())}
            roles |= dict.fromkeys(route.get("required", ()), "required")
    return roles


def _fits_rule(rule: Any, event: dict[str, str]) -> bool:
    fields = rule if isinstance(rule, dict) else {"event_key": rule}
    return all(_fits(patterns, event[field]) for field, patterns in fields.items())


def _fits(patterns: str | list[str], value: str) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatchcase(value, pattern) for pattern in listed)


def matched(loaded: Config, event: dict[str, str]) -> dict[str, str]:
    return dict(loaded.table.match(Event(**event, body=b"")).roles)


@contextmanager
def folder(*configs: dict[str, Any]) -> Iterator[list[Path]]:
    """Each configuration as a file."""
    with tempfile.TemporaryDirectory() as name:
        paths = [Path(name) / f"routes{at}.yaml" for at in range(len(configs))]
        for path, given in zip(paths, configs, strict=True):
            path.write_text(json.dumps(given), encoding="utf-8")
        yield paths


@examples(60)
@given(_configs(), _events)
def test_explain_and_test_agree_with_match(
    given: dict[str, Any], events: list[dict[str, str]]
) -> None:
    """The plan is the naive one, `explain` shows it, and a case that expects it holds."""
    cases = []
    with folder(given) as (path,):
        loaded = loading.load(path, {}, None)
        for event in events:
            plan = naive_plan(given, event)
            assert matched(loaded, event) == plan
            assert _explained(path, event) == plan
            cases.append({"event": event, **_expectation(plan)})
        result = ran("test", "--config", path, "-", stdin=_tests_file(cases))
        assert result.code == 0, result.out
        wrong = [_wrong(case) for case in cases]
        result = ran("test", "--config", path, "-", "--format", "json", stdin=_tests_file(wrong))
        assert (result.code, len(result.json["failed"])) == (1, len(cases))


@examples(60)
@given(_configs(), _events, st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_files_of_a_folder_are_one_file(
    given: dict[str, Any], events: list[dict[str, str]], places: list[int]
) -> None:
    """Every plan of a folder is the plan of one file with all routes, wherever they are."""
    everybodys = {name: given[name] for name in ("version", "unmatched", "targets")}
    files: list[dict[str, Any]] = [everybodys, {"version": 1}, {"version": 1}]
    for route, place in zip(given["routes"], places, strict=False):
        files[place].setdefault("routes", []).append(route)
    texts = map(json.dumps, files)
    names = ("routes.yaml", "routes.d/a.yaml", "routes.d/b/c.yaml")
    with tempfile.TemporaryDirectory() as name:
        loaded = loading.load(written(dict(zip(names, texts, strict=True)), Path(name)), {}, None)
    for event in events:
        assert matched(loaded, event) == naive_plan(given, event)


def _explained(path: Path, event: dict[str, str]) -> dict[str, str]:
    body = json.dumps({**event, "changes": []}).encode()
    result = ran("explain", "--config", path, "--event", "-", "--format", "json", stdin=body)
    assert result.code == 0, result.err
    plan = result.json["plan"]
    return {name: role for role in ("required", "optional") for name in plan[role]}


def _expectation(plan: dict[str, str]) -> dict[str, Any]:
    roles = {
        role: sorted(name for name in plan if plan[name] == role)
        for role in ("required", "optional")
    }
    return {role: names for role, names in roles.items() if names} or {"unmatched": True}


def _wrong(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case that can't hold: it expects an unknown target."""
    kept = {name: value for name, value in case.items() if name != "unmatched"}
    return {**kept, "required": [*case.get("required", ()), "E"]}


def _tests_file(cases: list[dict[str, Any]]) -> bytes:
    return json.dumps({"version": 1, "cases": cases}).encode()


@examples(60)
@given(_configs(), _configs(), _events)
def test_diff_agrees_with_match(
    old: dict[str, Any], new: dict[str, Any], events: list[dict[str, str]]
) -> None:
    """`diff` names exactly the events whose plan or reply differs."""
    lines = "\n".join(map(json.dumps, events)).encode()
    with folder(old, new) as (before, after):
        result = ran("diff", before, after, "--events", "-", "--format", "json", stdin=lines)
    expected = [event for event in events if _fate(old, event) != _fate(new, event)]
    assert result.code == int(bool(expected))
    shape = result.json
    assert (shape["events"], shape["changed"]) == (len(events), len(expected))
    keys = {key for group in shape["groups"] for key in group["keys"]}
    assert keys == {event["event_key"] for event in expected}
    for group in shape["groups"]:
        assert _moves(group) in [_difference(old, new, event) for event in expected]


def _fate(given: dict[str, Any], event: dict[str, str]) -> Any:
    return naive_plan(given, event) or given["unmatched"]


def _moves(group: Any) -> dict[str, Any]:
    return {move["name"]: (move["before"], move["after"]) for move in group["targets"]}


def _difference(old: Any, new: Any, event: dict[str, str]) -> dict[str, Any]:
    before, after = naive_plan(old, event), naive_plan(new, event)
    return {
        name: (before.get(name), after.get(name))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    }


@examples(60)
@given(_configs(), _events)
def test_the_effective_configuration_routes_alike(
    given: dict[str, Any], events: list[dict[str, str]]
) -> None:
    """`diff` finds no difference between a configuration and its output of `check --print`."""
    lines = "\n".join(map(json.dumps, events)).encode()
    with folder(given, given) as (before, after):
        after.write_text(ran("check", "--print", before).out, encoding="utf-8")
        result = ran("diff", before, after, "--events", "-", "--format", "json", stdin=lines)
    assert (result.code, result.json["changed"], result.json["edits"]) == (0, 0, [])


@examples(12)
@given(_configs(), _events)
def test_the_running_router_agrees(given: dict[str, Any], events: list[dict[str, str]]) -> None:
    """A real router sends each event to the targets of the naive plan, with their roles."""
    lines = asyncio.run(_served(given, events))
    expected = [[event[name] for name in FIELDS] for event in events]
    assert sorted([line[name] for name in FIELDS] for line in lines) == sorted(expected)
    for line in lines:
        roles = {name: target["as"] for name, target in line.get("targets", {}).items()}
        assert roles == naive_plan(given, {name: line[name] for name in FIELDS})


async def _served(given: dict[str, Any], events: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Serve the events, and return the log lines about them."""
    nobody = {name: {"url": "http://127.0.0.1:9/"} for name in given["targets"]}
    async with house({**given, "targets": nobody}) as router:
        for event in events:
            await router.post(json.dumps({**event, "changes": []}).encode())
        await until(lambda: len(_about_events(router)) >= len(events))
        return _about_events(router)


def _about_events(router: House) -> list[dict[str, Any]]:
    return [line for line in router.lines if line["happening"] in ("event", "unmatched")]
