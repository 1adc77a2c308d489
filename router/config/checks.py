"""What the parts of a configuration must have to do with each other. What breaks it is an error."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from router.config.document import Problems
from router.config.egress import check_egress
from router.config.kinds import Placed
from router.config.parts import Part, Parts
from router.config.reader import Reader, did_you_mean
from router.config.shape import RouteSection
from router.config.sharing import check_leave, targets_of
from router.config.tls import check_tls
from router.model.event import OWN_KEYS, OWN_SOURCE


def check(parts: Parts) -> None:
    """Report every contradiction within what could be read."""
    egress = parts.file.egress
    defined = _defined(parts)
    _check_names(parts)
    for part in parts:
        for target in part.said.targets.values():
            check_egress(egress, target, target.url, part.reader)
            check_tls(target, target.url, part.reader)
        for route in part.said.routes:
            if not route.nodes.keys() & {"required", "optional"}:
                message = "has neither required nor optional targets"
                part.problems.add(route.node, route.path, message)
            # Without any target, all would be unknown.
            if defined:
                _check_defined(route, defined, part.reader)
            check_once(targets_of(route), route.path, part.problems)
            _check_own(route, part.reader)
    check_leave(parts, defined)


def _defined(parts: Parts) -> dict[str, Part]:
    """Every target's name, and where it is. A name counts, whatever is wrong with what it stands
    for; within one file the document tells of a key that is there twice."""
    defined: dict[str, Part] = {}
    for part in parts:
        for key in part.targets:
            there = defined.setdefault(key.text, part)
            if there is not part:
                message = f"{there.name} has a target of this name already"
                part.problems.add(key, f"targets.{key.text}", message)
    return defined


def _check_names(parts: Parts) -> None:
    places: dict[str, tuple[Part, int]] = {}
    named = ((part, route) for part in parts for route in part.said.routes if route.name)
    for part, route in named:
        node = route.nodes["name"]
        if route.name in places:
            there, line = places[route.name]
            where = f"line {line}" if there is part else f"{there.name}:{line}"
            message = f"the route in {where} has this name already"
            part.problems.add(node, f"{route.path}.name", message)
        places.setdefault(route.name, (part, node.line))


def _check_defined(route: RouteSection, defined: Collection[str], reader: Reader) -> None:
    told = set()
    for key, target in targets_of(route):
        if target.value not in defined and target.value not in told:
            told.add(target.value)
            likely = did_you_mean(reader.likely(target.value, defined))
            message = f"no target {target.written}{likely}"
            reader.problems.add(target.node, f"{route.path}.{key}", message)


def check_once(named: Iterable[tuple[str, Placed]], path: str, problems: Problems) -> None:
    """Report each target that is named once more; those that are required come first."""
    seen: dict[str, str] = {}
    for key, target in named:
        if target.value in seen:
            again = "is here twice" if seen[target.value] == key else "is required here already"
            problems.add(target.node, f"{path}.{key}", f"{target.written} {again}")
        seen.setdefault(target.value, key)


def _check_own(route: RouteSection, reader: Reader) -> None:
    """The router's own events are told to whoever wants them; nobody waits for it."""
    patterns = (pattern.value for pattern in route.match.get("event_key", ()))
    if route.required and any(pattern.startswith(OWN_KEYS) for pattern in patterns):
        message = f"nobody waits for events of {OWN_SOURCE}: their targets are optional"
        reader.problems.add(route.nodes["required"], f"{route.path}.required", message)
