"""An explanation as text, for a person at three in the morning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.cli.columns import columns, counted, few, quoted
from router.config import Config, shown
from router.model import FIELDS, Event
from router.routing import Explanation, FieldMatch, PlannedTarget, Route, RouteMatch

_UNMATCHED = {
    "reject": "unmatched: reject. EBaaS gets the code 500, and sends the event again",
    "accept": "unmatched: accept. EBaaS gets its 000, and the event goes nowhere",
}


def told(
    event: Event,
    config: Config,
    explanation: Explanation,
    others: Sequence[RouteMatch],
) -> Iterator[str]:
    """`others` are the routes to show that don't match."""
    matching = [route for route in explanation.routes if route.matched]
    yield from _event(event)
    yield ""
    yield "no route matches" if not matching else f"{_routes(len(matching), 'match')}:"
    yield from _matches(matching)
    if others:
        left = len(explanation.routes) - len(matching) - len(others)
        yield ""
        yield f"{_routes(len(others) + left, 'do')} not match{_which(len(others), left)}:"
        yield from _matches(others)
    yield ""
    yield "plan:"
    if matching:
        planned = sorted(explanation.targets, key=lambda target: not target.required)
        yield from columns([_planned(target) for target in planned], indent=2)
    else:
        yield f"  {_UNMATCHED[config.unmatched]}"


def _event(event: Event) -> Iterator[str]:
    yield f"key     {shown(event.event_key)}"
    values = [getattr(event, field) for field in FIELDS[:4]]
    if not any(values):
        count = event.event_key.count(".") + 1
        why = (
            "its four parts are empty"
            if count == 4
            else f"it has {counted(count, 'part')}, not four"
        )
        yield f"        {why}: the other fields are unknown, and taken as empty;"
        yield "        a whole event by --event has them"
        return
    names = (field.removeprefix("event_") for field in FIELDS)
    said = ", ".join(f"{name} {shown(value)}" for name, value in zip(names, values, strict=False))
    origin = "" if event.body else ", from the key's four parts"
    yield f"fields  {said}{origin}"
    if event.derived_key != event.event_key:
        derived = shown(event.derived_key)
        yield f"        they would make the key {derived}, but the given one counts"


def _matches(routes: Sequence[RouteMatch]) -> Iterator[str]:
    for each in routes:
        yield f"  {shown(each.route.name)}  {each.route.where}"
        yield from columns([_field(field) for field in each.fields], indent=6)


def _field(field: FieldMatch) -> tuple[str, ...]:
    value = shown(field.value) if field.value else "(unknown)"
    if field.pattern is not None:
        return field.field, value, f"matches {shown(field.pattern)}"
    patterns = few([shown(pattern) for pattern in field.patterns], " or ")
    return field.field, value, f"is not {patterns}   <-- this stops it"


def _planned(planned: PlannedTarget) -> tuple[str, ...]:
    paused = "; paused: it gets nothing" if planned.target.paused else ""
    if not planned.required:
        return planned.target.name, "optional", f"by {_names(planned.optional_by)}{paused}"
    besides = f"; optional by {_names(planned.optional_by)}" if planned.optional_by else ""
    return planned.target.name, "required", f"by {_names(planned.required_by)}{besides}{paused}"


def _names(routes: Sequence[Route]) -> str:
    return quoted([route.name for route in routes])


def _routes(count: int, verb: str) -> str:
    """`1 route matches`, `2 routes match`."""
    plural = {"match": "matches", "do": "does"}
    return f"{counted(count, 'route')} {verb if count != 1 else plural[verb]}"


def _which(count: int, left: int) -> str:
    return f"; the nearest {count}, --all shows every one" if left else ""
