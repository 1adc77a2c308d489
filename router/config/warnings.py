"""What is allowed in routes.yaml but probably not meant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from router.config import access
from router.config.addresses import is_local
from router.config.document import Problems, shown
from router.config.kinds import Placed
from router.config.oddities import oddity
from router.config.parts import Part, Parts
from router.config.redundancy import redundant
from router.config.shape import RoutesFile, TargetSection
from router.config.tls import warn_tls
from router.config.variables import is_placeholder
from router.contract.signing import LEAST_KEY, key_of
from router.routing.table import Route


def warn(parts: Parts, routes: Sequence[Route]) -> None:
    """Report what is dubious in files without errors; `routes` are what they say, in order."""
    required = {name for route in routes for name in route.required}
    used = required.union(*(route.optional for route in routes))
    for part in parts:
        _warn_unused(part, used)
        for name, target in part.said.targets.items():
            _warn_plain(target, part.warnings)
            _warn_weak(target, part.warnings)
            _warn_paused(target, name in required, part.warnings)
            warn_tls(target, target.tls, part.warnings)
            if name in required:
                _warn_cut_off(parts, part, target)
                _warn_rare(parts.file, target, part.warnings)
        _warn_patterns(part)
    access.warn(parts.file.ebaas, parts.common.warnings)
    _warn_redundant(parts, routes)


def _warn_unused(part: Part, used: Collection[str]) -> None:
    for key in part.targets:
        if key.text not in used:
            part.warnings.add(key, f"targets.{key.text}", "no route uses this target")


def _warn_plain(target: TargetSection, problems: Problems) -> None:
    parts = urlsplit(target.url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not (is_local(host) or is_placeholder(host)):
        message = "plain http to a host that is not local: others on the way can read it"
        problems.add(target.nodes["url"], f"{target.path}.url", message)


def _warn_weak(target: TargetSection, problems: Problems) -> None:
    if any(len(key_of(secret)) < LEAST_KEY for secret in target.secret):
        message = f"has a key of less than {LEAST_KEY} bytes, which the standard asks for"
        problems.add(target.nodes["secret"], f"{target.path}.secret", message)


def _warn_paused(target: TargetSection, required: bool, problems: Problems) -> None:
    """Each load says so: a pause that was forgotten looks like a target that is quiet."""
    if target.paused:
        what = "events that require it fail" if required else "its deliveries wait in the queue"
        message = f"the target is paused: {what}"
        problems.add(target.nodes["paused"], f"{target.path}.paused", message)


def _warn_rare(file: RoutesFile, target: TargetSection, problems: Problems) -> None:
    """A rate at which not even the next one in line begins before the reply is due."""
    if target.rate is not None and 1 / target.rate.per_second > file.ebaas.reply_within:
        message = "is less than one in ebaas.reply_within: an event that has to wait fails"
        node = target.rate.nodes["per_second"]
        problems.add(node, f"{target.rate.path}.per_second", message)


def _warn_cut_off(parts: Parts, part: Part, target: TargetSection) -> None:
    """A required target that may answer in time and yet too late for the reply."""
    file = parts.file
    if file.policy(target).timeout <= file.ebaas.reply_within:
        return
    for where, section in ((part, target), (parts.common, file.defaults)):
        if "timeout" in section.nodes:
            message = "goes beyond ebaas.reply_within, which is all that a required target has"
            where.warnings.add(section.nodes["timeout"], f"{section.path}.timeout", message)
            return
    message = "is shorter than the timeout of required targets, which is 5s by default"
    node = file.ebaas.nodes["reply_within"]
    parts.common.warnings.add(node, "ebaas.reply_within", message)


def _warn_patterns(part: Part) -> None:
    for route in part.said.routes:
        for field, patterns in route.match.items():
            for pattern in patterns:
                if said := _odd(pattern) or (field == "event_key" and _short(pattern)):
                    part.warnings.add(pattern.node, f"{route.path}.match", said)


def _odd(pattern: Placed) -> str:
    """What speaks against a pattern; of a variable's value nothing is repeated."""
    found = oddity(pattern.value)
    if found is None:
        return ""
    why, meant = found
    likely = [] if "${" in pattern.node.text else [shown(each.replace("$", "$$")) for each in meant]
    wanted = likely[0] if len(likely) == 1 else f"[{', '.join(likely)}]"
    return f"{why}, did you mean {wanted}?" if likely else why


def _short(pattern: Placed) -> str:
    if "*" in pattern.value or sum(map(pattern.value.count, ".?[")) >= 3:
        return ""
    return f"matches no key of four parts, did you mean {shown(f'{pattern.node.text}.*')}?"


def _warn_redundant(parts: Parts, routes: Sequence[Route]) -> None:
    sections = [(part, section) for part in parts for section in part.said.routes]
    for at, other in redundant(routes):
        part, section = sections[at]
        name = shown(routes[other].name)
        message = f"can be left out: route {name} matches all of it and has its targets"
        part.warnings.add(section.node, section.path, message)
