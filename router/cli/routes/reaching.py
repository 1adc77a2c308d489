"""What one target gets: the routes that lead to it, and which of the last events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from router.archive.reading import Sources
from router.archive.trace.lines import CallerInfo
from router.archive.trace.question import Question
from router.cli.columns import columns, counted, few, quoted
from router.config.document import shown
from router.config.effective import effective_of
from router.config.loading import Config
from router.routing.table import Role, Route
from router.telemetry.log.lines import utc

#: How many of the events that go to it are shown.
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Reached:
    """An event that goes to the target as the configuration is now."""

    told: CallerInfo
    role: Role
    routes: tuple[Route, ...]


@dataclass(slots=True)
class Reach:
    """How many of the last events go to it. It grows while they are looked through."""

    looked_at: int = 0
    #: When the oldest of them came; Unix time, in seconds.
    since: float | None = None
    roles: Counter[Role] = field(default_factory=Counter)
    #: The newest of them.
    newest: list[Reached] = field(default_factory=list)


def reach_of(target: str, config: Config, sources: Sources, last: int) -> Reach:
    """What it would get of the last requests in the sources. Raises OSError."""
    reach = Reach()
    found = (each for each in sources.look(Question()) if isinstance(each, CallerInfo))
    for told in islice(found, last):
        reach.looked_at += 1
        reach.since = told.at
        plan = config.table.match(told.event)
        if (role := plan.roles.get(target)) is None:
            continue
        reach.roles[role] += 1
        if len(reach.newest) < _SHOWN:
            reach.newest.append(Reached(told, role, plan.giving(target)))
    return reach


def routes_to(target: str, config: Config) -> list[tuple[Route, Role]]:
    """Every route that names it, in the files' order."""
    found: list[tuple[Route, Role]] = []
    for route in config.table.routes_as_written:
        if target in route.required:
            found.append((route, "required"))
        elif target in route.optional:
            found.append((route, "optional"))
    return found


def told(name: str, config: Config, reach: Reach | None) -> Iterator[str]:
    about = effective_of(config)["targets"][name]
    owner = f"  owner {about['owner']}" if "owner" in about else ""
    yield f"{name}  {about['url']}{owner}"
    if config.table.targets[name].paused:
        yield "the target is paused: it gets nothing"
    yield ""
    routes = routes_to(name, config)
    lead = "leads" if len(routes) == 1 else "lead"
    yield f"{counted(len(routes), 'route')} {lead} to it:" if routes else "no route leads to it"
    for route, role in routes:
        yield f"  {shown(route.name)}  {route.where}  {role}"
        yield from columns([_field(*each) for each in route.match.items()], indent=6)
    yield ""
    yield from _events(reach)


def _field(name: str, patterns: Sequence[str]) -> tuple[str, str]:
    return name, few([shown(pattern) for pattern in patterns], " or ")


def _events(reach: Reach | None) -> Iterator[str]:
    if reach is None:
        yield "no events to look at: there is no archive here"
        return
    if reach.since is None:
        yield "no events to look at: nothing is archived yet"
        return
    roles = ", ".join(f"{count:,} {role}" for role, count in sorted(reach.roles.items()))
    number, total = f"{reach.roles.total():,}", counted(reach.looked_at, "request")
    counts = f": {roles}" if roles else ""
    yield f"it would get {number} of the last {total}, back to {utc(reach.since)}{counts}"
    rows = [
        (utc(each.told.at), shown(each.told.event_key), each.role, f"by {_names(each.routes)}")
        for each in reach.newest
    ]
    yield from columns(rows, indent=2)


def _names(routes: Sequence[Route]) -> str:
    return quoted([route.name for route in routes])


def as_json(name: str, config: Config, reach: Reach | None) -> dict[str, Any]:
    return {
        "target": {"name": name, **effective_of(config)["targets"][name]},
        "routes": [
            {
                "name": route.name,
                "file": route.file,
                "line": route.line,
                "as": role,
                "match": {field: list(patterns) for field, patterns in route.match.items()},
            }
            for route, role in routes_to(name, config)
        ],
        "events": _events_json(reach) if reach else None,
    }


def _events_json(reach: Reach) -> dict[str, Any]:
    return {
        "looked_at": reach.looked_at,
        "since": utc(reach.since) if reach.since is not None else None,
        "required": reach.roles["required"],
        "optional": reach.roles["optional"],
        "newest": [
            {
                "time": utc(each.told.at),
                "event_id": each.told.event_id,
                "event_key": each.told.event_key,
                "as": each.role,
                "routes": [route.name for route in each.routes],
            }
            for each in reach.newest
        ],
    }
