"""An explanation as text, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from router.cli.columns import columns, counted, few, quoted
from router.config.document import shown
from router.config.explaining import Explained, ExplainedField, ExplainedRoute, ExplainedTarget
from router.model.event import FIELDS

_UNMATCHED = {
    "reject": "unmatched: reject. EBaaS gets the code 500, and sends the event again",
    "accept": "unmatched: accept. EBaaS gets its 000, and the event goes nowhere",
}


def told(explained: Explained, *, by_key: bool) -> Iterator[str]:
    """`by_key` where no more than that was given."""
    matching = [route for route in explained["routes"] if route["matched"]]
    others = [route for route in explained["routes"] if not route["matched"]]
    yield from _event(explained["event"], by_key=by_key)
    yield ""
    # To a team an event that others' routes match is neither matched nor unmatched.
    to_whom = "" if explained["unmatched"] else " to a target of yours"
    yield f"{_routes(len(matching), 'match')}:" if matching else f"no route{to_whom} matches"
    yield from _matches(matching)
    if others:
        left = explained["left"]
        yield ""
        yield f"{_routes(len(others) + left, 'do')} not match{_which(len(others), left)}:"
        yield from _matches(others)
    yield ""
    yield "plan:"
    if explained["unmatched"] is None:
        if not explained["targets"]:
            yield "  nothing for a target of yours"
        planned = sorted(explained["targets"], key=lambda target: not target["required_by"])
        yield from columns([_planned(target) for target in planned], indent=2)
    else:
        yield f"  {_UNMATCHED[explained['unmatched']]}"


def _event(event: Mapping[str, str], *, by_key: bool) -> Iterator[str]:
    key, values = event["event_key"], [event[field] for field in FIELDS[:4]]
    yield f"key     {shown(key)}"
    if not any(values):
        count = key.count(".") + 1
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
    origin = ", from the key's four parts" if by_key else ""
    yield f"fields  {said}{origin}"
    if (derived := ".".join(values)) != key:
        yield f"        they would make the key {shown(derived)}, but the given one counts"


def _matches(routes: Sequence[ExplainedRoute]) -> Iterator[str]:
    for each in routes:
        yield f"  {shown(each['name'])}  {each['file']}:{each['line']}"
        yield from columns([_field(field) for field in each["fields"]], indent=6)


def _field(field: ExplainedField) -> tuple[str, ...]:
    value = shown(field["value"]) if field["value"] else "(unknown)"
    if field["pattern"] is not None:
        return field["field"], value, f"matches {shown(field['pattern'])}"
    patterns = few([shown(pattern) for pattern in field["patterns"]], " or ")
    return field["field"], value, f"is not {patterns}   <-- this stops it"


def _planned(target: ExplainedTarget) -> tuple[str, ...]:
    required, optional = quoted(target["required_by"]), quoted(target["optional_by"])
    paused = "; paused: it gets nothing" if target["paused"] else ""
    if not target["required_by"]:
        return target["name"], "optional", f"by {optional}{paused}"
    besides = f"; optional by {optional}" if target["optional_by"] else ""
    return target["name"], "required", f"by {required}{besides}{paused}"


def _routes(count: int, verb: str) -> str:
    """`1 route matches`, `2 routes match`."""
    plural = {"match": "matches", "do": "does"}
    return f"{counted(count, 'route')} {verb if count != 1 else plural[verb]}"


def _which(count: int, left: int) -> str:
    return f"; the nearest {count}, --all shows every one" if left else ""
