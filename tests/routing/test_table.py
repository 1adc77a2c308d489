"""RouteTable: which targets an event goes to, and why."""

from __future__ import annotations

import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.schema import shipped_schema
from router.model.event import FIELDS, Event
from router.routing.table import Route, RouteTable, nearest_routes
from router.routing.target import BreakerPolicy, Target
from tests.support.effort import examples

TARGETS = {name: Target(name, f"http://{name}.example.com/") for name in "ABCDE"}


def event(key: str = "a.gs.cert.1", **fields: str) -> Event:
    sample = {"source": "a", "topic": "gs", "type": "cert", "status": "1", **fields}
    named = {f"event_{name}": value for name, value in sample.items()}
    return Event(**named, event_key=key, body=b"")


def route(
    name: str,
    required: str = "",
    optional: str = "",
    exception: Mapping[str, str | Sequence[str]] | None = None,
    **match: str | Sequence[str],
) -> Route:
    """A route whose targets are one letter each, and whose fields go without their `event_`."""
    patterns, excepted = (
        {
            f"event_{field}": (given,) if isinstance(given, str) else tuple(given)
            for field, given in rule.items()
        }
        for rule in (match, exception or {})
    )
    return Route(name, patterns, tuple(required), tuple(optional), excepted)


def table(*routes: Route) -> RouteTable:
    return RouteTable(routes, TARGETS)


def _names(routes: Sequence[Route]) -> str:
    return " ".join(route.name for route in routes)


def matching(routes: RouteTable, event: Event) -> str:
    return _names(routes.match(event).routes)


def letters(targets: Sequence[Target]) -> str:
    return "".join(target.name for target in targets)


def naive_matches(route: Route, event: Event) -> bool:
    excepted = route.exception and naive_fits(route.exception, event)
    return naive_fits(route.match, event) and not excepted


def naive_fits(rule: Mapping[str, Sequence[str]], event: Event) -> bool:
    return all(
        any(fnmatchcase(getattr(event, field), pattern) for pattern in patterns)
        for field, patterns in rule.items()
    )


_pieces = st.sampled_from(("a", "b", ".", "1", "]", "*", "?", "[ab]", "[!a]", "[.1]", "[]a]"))
_patterns = st.lists(_pieces, max_size=6).map("".join)
_values = st.text("ab.1]", max_size=7)
_events = st.builds(Event, *[_values] * len(FIELDS), st.just(b""), st.just(()))
_targets = st.lists(st.sampled_from("ABCDE"), max_size=3).map(tuple)


@st.composite
def _routes(draw: st.DrawFn) -> list[Route]:
    # Few patterns for many routes, so that routes share literals.
    patterns = draw(st.lists(_patterns, min_size=1, max_size=8))
    lists = st.lists(st.sampled_from(patterns), max_size=3).map(tuple)
    matches = st.dictionaries(st.sampled_from(FIELDS), lists, max_size=3)
    none: dict[str, tuple[str, ...]] = {}
    exceptions = st.just(none) | matches
    drawn = draw(st.lists(st.tuples(matches, _targets, _targets, exceptions), max_size=40))
    return [Route(f"r{at:02}", *values) for at, values in enumerate(drawn)]


@given(_routes(), st.lists(_events, min_size=1, max_size=5))
def test_a_plan_is_what_a_naive_reading_of_the_routes_gives(
    routes: list[Route], events: list[Event]
) -> None:
    """Routes and targets agree with a naive match, for any table and events."""
    made = RouteTable(routes, TARGETS)
    for each in events * 2:  # the second time from memory
        expected = [route for route in routes if naive_matches(route, each)]
        required = {name for route in expected for name in route.required}
        optional = {name for route in expected for name in route.optional} - required
        plan = made.match(each)
        assert list(plan.routes) == expected
        assert letters(plan.required) == "".join(sorted(required))
        assert letters(plan.optional) == "".join(sorted(optional))


@given(_routes(), _events)
def test_explain_shows_every_field_and_agrees_with_match(routes: list[Route], event: Event) -> None:
    """It shows the first pattern that matches; an exception only if the event fits it."""
    made = RouteTable(routes, TARGETS)
    explained = made.explain(event)
    assert [shown.route for shown in explained] == list(made.routes)
    assert tuple(shown.route for shown in explained if shown.matched) == made.match(event).routes
    for shown in explained:
        rules = [(shown.fields, shown.route.match)]
        if shown.route.exception and naive_fits(shown.route.exception, event):
            rules.append((shown.exception, shown.route.exception))
        else:
            assert shown.exception == []
        for fields, rule in rules:
            assert [one["field"] for one in fields] == [f for f in FIELDS if f in rule]
            for each in fields:
                assert each["value"] == getattr(event, each["field"])
                assert each["patterns"] == [*rule[each["field"]]]
                fitting = [p for p in each["patterns"] if fnmatchcase(each["value"], p)]
                assert each["pattern"] == (fitting[0] if fitting else None)


@given(_routes(), st.lists(_events, max_size=5))
def test_a_route_that_cannot_match_matches_nothing(
    routes: list[Route], events: list[Event]
) -> None:
    """`can_match` is false only of routes that no event matches."""
    made = RouteTable(routes, TARGETS)
    void = {route.name for route in routes if not made.can_match(route)}
    for each in events:
        assert not void & {route.name for route in made.match(each).routes}


@pytest.mark.parametrize(
    ("match", "exception", "can"),
    [
        ({"key": "a.*"}, {}, True),
        ({"key": "a.*"}, {"key": "*"}, False),
        ({"key": "a.*"}, {"key": "a.*"}, False),
        ({"key": "a.?.[bc].1"}, {"key": "a.*.1"}, False),
        ({"key": "a.?"}, {"key": "a.?"}, False),
        ({"key": ["a.b.*", "a.c.*"]}, {"key": ["a.c.*", "a.b*"]}, False),
        ({"key": ["a.b.*", "b.*"]}, {"key": "a.*"}, True),
        ({"key": "a.*"}, {"key": "a.*.b"}, True),
        ({"key": "a.*"}, {"key": "a.?"}, True),
        ({"key": "a.*", "type": "x"}, {"type": ["x", "y"]}, False),
        ({"key": "a.*"}, {"type": "x"}, True),
        ({"key": "a.*"}, {"key": "*", "type": "x"}, True),
        ({"key": "a.*"}, {"key": "*", "type": "*"}, False),
        # The router's own events fit only patterns that begin like their keys.
        ({"key": "ebaas-router.*"}, {"key": "*"}, True),
        ({"key": "ebaas-router.*"}, {"type": "*"}, True),
        ({"key": "ebaas-router.target.*"}, {"key": "ebaas-router.*"}, False),
    ],
)
def test_an_exception_can_leave_nothing(match: Any, exception: Any, can: bool) -> None:
    """A route whose exception has all that it would match cannot match."""
    made = table(route("one", "A", exception=exception, **match))
    assert made.can_match(made.routes[0]) is can


def test_required_wins() -> None:
    """A target that any matching route requires is required, and not optional as well."""
    routes = table(
        route("one", optional="AB", key="*"),
        route("two", required="A", key="a.*"),
        route("three", required="B", key="b.*"),
    )
    plan = routes.match(event())
    assert (letters(plan.required), letters(plan.optional)) == ("A", "B")
    assert [_names(plan.giving(name)) for name in "ABC"] == ["two", "one", ""]


def test_a_target_that_some_route_requires_is_required_to_the_table() -> None:
    """One route that requires it is enough; a target without routes is optional."""
    shared = table(route("one", optional="AB"), route("two", "A", key="a.gs.*"))
    assert [shared.role_of(name) for name in "ABC"] == ["required", "optional", "optional"]


def test_a_table_does_not_change_with_what_it_was_made_of() -> None:
    """Requests in flight go on with the targets that they began with."""
    targets = dict(TARGETS)
    routes = RouteTable([route("one", required="A", key="*")], targets)
    targets.clear()
    assert routes.targets == TARGETS
    with pytest.raises(TypeError):
        routes.targets["A"] = TARGETS["B"]  # type: ignore[index]


def test_routes_are_listed_as_they_were_written() -> None:
    """In the order of their files, and by line within each: 10 comes after 9."""
    places = {"one": ("b.yaml", 1), "two": ("a.yaml", 10), "three": ("a.yaml", 9)}
    routes = table(*(Route(n, {}, line=line, file=file) for n, (file, line) in places.items()))
    assert _names(routes.routes_as_written) == "three two one"
    assert [each.where for each in routes.routes_as_written] == [
        "a.yaml:9",
        "a.yaml:10",
        "b.yaml:1",
    ]


def test_a_policy_without_a_word_is_the_documented_one() -> None:
    """The defaults are those of the schema of routes.yaml, which its page lists."""
    given = json.loads(shipped_schema("routes.schema.json").read_text())["definitions"]
    target, breaker = TARGETS["A"], BreakerPolicy()
    assert [given[name]["default"] for name in ("timeout", "acknowledge", "max_in_flight")] == [
        f"{target.timeout:.0f}s",
        target.acknowledge,
        target.max_in_flight,
    ]
    documented = given["breaker"]["anyOf"][1]["properties"]
    assert {name: each["default"] for name, each in documented.items()} == {
        "failures": f"{breaker.failures:.0%}",
        "of_at_least": breaker.of_at_least,
        "within": f"{breaker.within:.0f}s",
        "pause": f"{breaker.pause:.0f}s",
        "refusals": breaker.refusals,
    }
    assert target.paused is given["target"]["properties"]["paused"]["default"]


@pytest.mark.parametrize(
    ("near", "far"),
    [
        # A mistyped pattern, and one about something else.
        ({"key": "a.gs.crt.*"}, {"key": "b.*"}),
        # One of two fields matches, and none.
        ({"key": "a.*", "status": "9"}, {"key": "zz", "type": "qq"}),
        # A pattern that nearly matches, and one of two fields.
        ({"key": "a.gs.cert.2"}, {"source": "a", "key": "zz"}),
    ],
)
def test_the_nearest_route(near: dict[str, Any], far: dict[str, Any]) -> None:
    """It is the one with the most likeness to the event; matching ones are left out."""
    routes = table(route("far", **far), route("near", **near), route("matching", key="a.*"))
    nearest = nearest_routes(routes.explain(event()), 3)
    assert [match.route.name for match in nearest] == ["near", "far"]


def test_hostile_keys_are_answered() -> None:
    """A key of 100 KB that nearly fits is looked up at once; else this never ends."""
    routes = table(
        route("stars", key="*a*a*a*b"),
        route("sets", key="*[ab]*[ab]*?b*c"),
        route("infix", key="*" + "a" * 50 + "b*"),
        *(route(f"near {n}", key=f"*{'a' * n}c*") for n in range(1, 20)),
    )
    assert matching(routes, event("a" * 100_000)) == ""
    assert matching(routes, event("a" * 100_000 + "b")) == "infix stars"


def test_routes_alike_are_all_found_in_time() -> None:
    """Thousands of literals or long lists in every field cost little; else this never ends."""
    pieces = [f".{n}." for n in range(2_000)]
    deep = table(*(route(f"r{n}", key=f"*{'*'.join(pieces)}*") for n in range(20)))
    assert len(matching(deep, event("".join(pieces))).split()) == 20
    fields = dict.fromkeys(("source", "topic", "type", "status"), "19")
    lists = dict.fromkeys(FIELDS, tuple(map(str, range(20))))
    wide = table(*(Route(f"r{n}", lists) for n in range(20)))
    assert len(matching(wide, event("19", **fields)).split()) == 20
    assert matching(wide, event("20", **fields)) == ""


@pytest.mark.parametrize(
    ("length", "routes", "events", "megabytes"),
    [(900, 1, 9_000, 7), (50_000, 1, 500, 1), (50, 400, 500, 1)],
)
def test_what_a_table_remembers_is_bounded(
    length: int, routes: int, events: int, megabytes: int
) -> None:
    """Many events, long ones, and ones with many routes do not fill the memory."""
    made = table(*(route(f"r{n}", key="a*") for n in range(routes)))
    tracemalloc.start()
    try:
        for turn in range(events):
            made.match(event("a" * length + str(turn)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < megabytes * 1_000_000


_SHAPES: Mapping[str, tuple[Callable[[int], Route], Event]] = {
    "exact": (lambda n: route(f"r{n}", key=f"a.gs.cert{n}.1"), event("a.gs.cert7.1")),
    "prefix": (lambda n: route(f"r{n}", key=f"a.gs{n}.*"), event("a.gs7.cert.1")),
    "suffix": (lambda n: route(f"r{n}", key=f"*.cert.{n}"), event("a.gs.cert.7")),
    "infix": (lambda n: route(f"r{n}", key=f"*.cert{n}.*"), event("a.gs.cert7.1")),
    "infix of many lengths": (
        lambda n: route(f"r{n}", key=f"*.{n}{'x' * (n % 40)}.*"),
        event("a.gs.7xxxxxxx.1"),
    ),
    "several stars": (lambda n: route(f"r{n}", key=f"a.*.cert{n}.*"), event("a.gs.cert7.1")),
    "one field": (lambda n: route(f"r{n}", topic=f"gs{n}.*"), event(topic="gs7.1")),
    "two fields": (
        lambda n: route(f"r{n}", source=f"s{n % 50}", topic=f"gs{n // 50}"),
        event(source="s7", topic="gs0"),
    ),
    "a list": (lambda n: route(f"r{n}", key=[f"a.{n}.*", f"b.{n}.*"], type="cert"), event("b.7.1")),
    "exceptions": (
        lambda n: route(f"r{n}", key=f"a.gs{n}.*", exception={"key": f"a.gs{n}.test.*"}),
        event("a.gs7.cert.1"),
    ),
    "sets": (lambda n: route(f"r{n}", key=f"a.gs{n}.*.[34]"), event("a.gs7.cert.3")),
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_a_look_up_does_the_same_work_among_ten_routes_and_thousands(shape: str) -> None:
    """Counted in calls, not in seconds: at most a few probes more."""
    make, sought = _SHAPES[shape]
    few, many = (table(*map(make, range(count))) for count in (10, 2_500))
    assert matching(many, sought) == matching(few, sought) == "r7"
    assert _work(many, sought) <= _work(few, sought) + 30


def _work(routes: RouteTable, sought: Event) -> int:
    """The number of calls, of Python and of C, for an event that is not cached."""
    unseen = sought.replace(event_status="not seen before")
    calls = 0

    def count(frame: FrameType, what: str, argument: object) -> None:
        nonlocal calls
        calls += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        routes.match(unseen)
    finally:
        sys.setprofile(before)
    return calls


def de_bruijn(digits: int) -> str:
    """Every number of so many digits, within as few characters as they fit into."""
    found, seen = "0" * digits, {"0" * digits}
    while len(seen) < 10**digits:
        last = found[1 - digits :]
        digit = next(d for d in "9876543210" if last + d not in seen)
        seen.add(last + digit)
        found += digit
    return found


def test_a_key_that_has_every_literal_is_not_matched_at_once() -> None:
    """`match_at_once` leaves expensive keys to a thread, and answers usual ones."""
    numbers = [f"{n * 7919 % 10_000:04}" for n in range(10_000)]
    pairs = list(zip(numbers, numbers[1:] + numbers[:1], strict=True))
    routes = table(*(route(f"r{one}", "A", key=f"*{one}*{two}*") for one, two in pairs))
    hard = event(de_bruijn(4))
    assert routes.match_at_once(hard) is None
    ordered = [
        f"r{one}"
        for one, two in sorted(pairs)
        if two in hard.event_key[hard.event_key.index(one) + 4 :]
    ]
    assert matching(routes, hard).split() == ordered
    usual = event("order.0000.7919.paid")
    plan = routes.match_at_once(usual)
    assert plan is not None
    assert _names(plan.routes) == "r0000"

    alike = table(*(route(f"r{n}", "A", key=f"*{n % 1000:04}*{n % 9}*") for n in range(8_000)))
    short = event("".join(f"{n:04}." for n in range(200)))
    assert len(short.event_key) <= 1024
    assert alike.match_at_once(short) is None


@given(st.integers(0, 40) | st.integers(1000, 1100))
def test_what_is_matched_at_once_is_matched_as_ever(size: int) -> None:
    """`match_at_once` agrees with `match`, unless the fields have more than 1024 characters."""
    routes = table(*(route(f"r{n}", "A", key=f"a.{n}*") for n in range(40)))
    asked = event(f"a.{size:x<{size}}")
    is_short = len("agscert1") + len(asked.event_key) <= 1024
    expected = table(*routes.routes).match(asked) if is_short else None
    assert routes.match_at_once(asked) == expected


@examples(12)
@given(st.integers(0, 2**32))
def test_a_table_of_hundreds_agrees_with_the_naive_reading(seed: int) -> None:
    """Enough routes on few literals that they are filed several anchors deep."""
    chance = random.Random(seed)

    def pattern() -> str:
        return "".join(chance.choice(("a.", "b.", ".a", "*", "*", "?", "1")) for _ in range(5))

    fields = ("event_source", "event_key")
    routes = [
        Route(
            f"r{at:03}",
            {field: (pattern(),) for field in chance.sample(fields, 1 + at % 2)},
            exception={"event_key": (pattern(),)} if at % 3 == 0 else {},
        )
        for at in range(400)
    ]
    made = table(*routes)
    for _ in range(20):
        source, key = ("".join(chance.choices("ab.1", k=chance.randint(3, 9))) for _ in range(2))
        each = event(key, source=source)
        assert list(made.match(each).routes) == [r for r in routes if naive_matches(r, each)]


# The router's own events.

OWN = Event.of({"event_key": "ebaas-router.target.failing.ledger"})


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"key": "ebaas-router.*"}, True),
        ({"key": "ebaas-router.target.failing.ledger"}, True),
        ({"key": ["*", "ebaas-router.target.*"]}, True),
        ({"key": "ebaas-router.target.*", "type": "failing"}, True),
        ({"key": "ebaas-router.delivery.*"}, False),
        ({"key": "*"}, False),
        ({"key": "ebaas*"}, False),
        ({"key": "*.failing.*"}, False),
        ({"key": "[e]baas-router.*"}, False),
        ({"source": "ebaas-router"}, False),
        ({"source": "*", "topic": "target"}, False),
    ],
)
def test_own_events_fit_what_is_meant_for_them_alone(match: dict[str, Any], fits: bool) -> None:
    """A catch-all gets no surprise; `explain` says the same."""
    routes = table(route("one", optional="A", **match))
    assert matching(routes, OWN) == ("one" if fits else "")
    (shown,) = routes.explain(OWN)
    assert shown.matched == fits
    foreign = event(source="ebaas-router.old", topic="ebaas-router.x")
    assert matching(table(route("one", source="*", topic="*.x")), foreign) == "one"
