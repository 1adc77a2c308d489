"""What the parts of the file must have to do with each other. What breaks it is an error."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from router.config.document import MapNode
from router.config.egress import check_egress
from router.config.kinds import Placed
from router.config.reader import Reader, did_you_mean
from router.config.shape import RouteSection, RoutesFile
from router.config.tls import check_tls
from router.model import OWN_KEYS, OWN_SOURCE


def check(file: RoutesFile, reader: Reader) -> None:
    """Report every contradiction within what could be read."""
    _check_names(file, reader)
    for target in file.targets.values():
        check_egress(file.egress, target, target.url, reader)
        check_tls(target, target.url, reader)
    targets = file.nodes.get("targets")
    # Names count, whatever is wrong with what they stand for. Without any, all would be unknown.
    defined = {key.text for key, _ in targets.entries} if isinstance(targets, MapNode) else set()
    for route in file.routes:
        if not route.nodes.keys() & {"required", "optional"}:
            reader.problems.add(route.node, route.path, "has neither required nor optional targets")
        if defined:
            _check_defined(route, defined, reader)
        _check_once(route, reader)
        _check_own(route, reader)


def _check_names(file: RoutesFile, reader: Reader) -> None:
    lines: dict[str, int] = {}
    for route in file.routes:
        if not route.name:
            continue
        node = route.nodes["name"]
        if route.name in lines:
            message = f"the route in line {lines[route.name]} has this name already"
            reader.problems.add(node, f"{route.path}.name", message)
        lines.setdefault(route.name, node.line)


def _check_defined(route: RouteSection, defined: Collection[str], reader: Reader) -> None:
    told = set()
    for key, target in _targets(route):
        if target.value not in defined and target.value not in told:
            told.add(target.value)
            likely = did_you_mean(reader.likely(target.value, defined))
            message = f"no target {target.written}{likely}"
            reader.problems.add(target.node, f"{route.path}.{key}", message)


def _check_once(route: RouteSection, reader: Reader) -> None:
    seen: dict[str, str] = {}
    for key, target in _targets(route):
        if target.value in seen:
            again = "is here twice" if seen[target.value] == key else "is required here already"
            message = f"{target.written} {again}"
            reader.problems.add(target.node, f"{route.path}.{key}", message)
        seen.setdefault(target.value, key)


def _check_own(route: RouteSection, reader: Reader) -> None:
    """The router's own events are told to whoever wants them; nobody waits for it."""
    patterns = (pattern.value for pattern in route.match.get("event_key", ()))
    if route.required and any(pattern.startswith(OWN_KEYS) for pattern in patterns):
        message = f"nobody waits for events of {OWN_SOURCE}: their targets are optional"
        reader.problems.add(route.nodes["required"], f"{route.path}.required", message)


def _targets(route: RouteSection) -> Iterator[tuple[str, Placed]]:
    """Every target that a route names, and under which key."""
    for target in route.required:
        yield "required", target
    for target in route.optional:
        yield "optional", target
