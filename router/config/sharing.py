"""Who may send events to whose targets: owners of files, and the leave that `share` gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.config.document import MapNode, shown
from router.config.kinds import Placed
from router.config.parts import Part, Parts
from router.config.reader import did_you_mean
from router.config.shape import CommonFile, RouteSection

#: Instead of an owner: all of them, and files of nobody.
EVERYBODY = "everybody"


def check_leave(parts: Parts, defined: Mapping[str, Part]) -> None:
    """Report who names another's target without leave. Routes in the common file need none."""
    share = parts.file.share if isinstance(parts.file, CommonFile) else {}
    _check_share(parts, share, defined)
    for part in parts.teams:
        _check_owners(part)
        for route in part.said.routes:
            for key, target in targets_of(route):
                owner = defined[target.value].owner if target.value in defined else ""
                allowed = {owner, *share.get(target.value, ())}
                if owner and not allowed & {part.owner, EVERYBODY}:
                    _report(parts, part, owner, route, key, target)


def targets_of(route: RouteSection) -> Iterator[tuple[str, Placed]]:
    """Every target that a route names, and under which key."""
    for target in route.required:
        yield "required", target
    for target in route.optional:
        yield "optional", target


def _report(
    parts: Parts, part: Part, owner: str, route: RouteSection, key: str, target: Placed
) -> None:
    me = shown(part.owner) if part.owner else "a file without an owner"
    message = (
        f"{target.written} is the target of {shown(owner)}: `share` in {parts.common.name} can let "
        f"{me} use it"
    )
    part.problems.add(target.node, f"{route.path}.{key}", message)


def _check_owners(part: Part) -> None:
    """Report a target whose own owner is not its file's."""
    for target in part.said.targets.values():
        if part.owner and target.owner not in ("", part.owner):
            message = f"the file belongs to {shown(part.owner)}, and so do its targets"
            part.problems.add(target.nodes["owner"], f"{target.path}.owner", message)


def _check_share(
    parts: Parts, share: Mapping[str, tuple[str, ...]], defined: Mapping[str, Part]
) -> None:
    """Report a target that needs no leave, or is not there; warn of an owner that has no file."""
    node = parts.file.nodes.get("share")
    keys = {key.text: key for key, _ in node.entries} if isinstance(node, MapNode) else {}
    owners = {part.owner for part in parts} | {EVERYBODY}
    problems, warnings = parts.common.problems, parts.common.warnings
    for name, others in share.items():
        path = f"share.{name}"
        if name not in defined:
            likely = did_you_mean(parts.common.reader.likely(name, defined))
            problems.add(keys[name], path, f"no target {shown(name)}{likely}")
        elif not defined[name].owner:
            warnings.add(keys[name], path, "the target is everybody's: its file has no owner")
        for unknown in sorted({*others} - owners):
            likely = did_you_mean(parts.common.reader.likely(unknown, owners))
            warnings.add(keys[name], path, f"no file has the owner {shown(unknown)}{likely}")
