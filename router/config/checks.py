"""What the parts of a configuration must have to do with each other. What breaks it is an error."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from router.config.document import did_you_mean, shown
from router.config.parts import Part, Parts
from router.config.values import literal
from router.model.event import OWN_KEYS, OWN_SOURCE
from router.net.egress import Egress
from router.net.tls import USUAL, BadCertificate, Tls

#: Instead of an owner: all of them, and files of nobody.
EVERYBODY = "everybody"


def check(parts: Parts, egress: Egress) -> None:
    """Report every contradiction within what could be read."""
    defined = _defined(parts)
    share = parts.common.said.get("share") or {}
    _check_names(parts)
    _check_share(parts, share, defined)
    for part in parts:
        for name, target in part.targets.items():
            _check_target(part, name, target, egress)
        for at, route in part.routes():
            # Without any target, all would be unknown.
            if defined:
                _check_defined(part, at, route, defined)
            check_once(part, ("routes", at), route)
            _check_own(part, at, route)
            if part is not parts.common:
                _check_leave(parts, part, (at, route), share, defined)


def named(route: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Every target that a route names: under which key, at which position."""
    for key in ("required", "optional"):
        for at, name in enumerate(route.get(key) or ()):
            if name is not None:
                yield key, at, name


def _defined(parts: Parts) -> dict[str, Part]:
    """Every target's name, and where it is. A name counts, whatever is wrong with what it stands
    for; within one file the document tells of a key that is there twice."""
    defined: dict[str, Part] = {}
    for part in parts:
        for name in part.target_keys:
            there = defined.setdefault(name, part)
            if there is not part:
                message = f"{there.name} has a target of this name already"
                part.report(("targets", name), message, key=True)
    return defined


def _check_names(parts: Parts) -> None:
    places: dict[str, tuple[Part, int]] = {}
    for part in parts:
        for at, route in part.routes():
            if (name := route.get("name")) is None:
                continue
            if name in places:
                there, other = places[name]
                line = there.line("routes", other, "name")
                where = f"line {line}" if there is part else f"{there.name}:{line}"
                message = f"the route in {where} has this name already"
                part.report(("routes", at, "name"), message)
            places.setdefault(name, (part, at))


def _check_target(part: Part, name: str, target: Mapping[str, Any], egress: Egress) -> None:
    """Report a target whose URL has an address that egress rules out, and one that is told how to
    speak TLS, and then does not. Names are looked up later."""
    url = target.get("url") or ""
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = literal(host)
    if address is not None and (refusal := egress.refusal(str(address))):
        message = f"{host} is {refusal}, and egress allows no other"
        part.report(("targets", name, "url"), message)
    if "tls" in target and url.startswith("http:"):
        message = "says nothing to a target that is called by http://"
        part.report(("targets", name, "tls"), message)
    if part.owner and target.get("owner") not in (None, part.owner):
        message = f"the file belongs to {shown(part.owner)}, and so do its targets"
        part.report(("targets", name, "owner"), message)
    try:
        tls_of(target)
    except BadCertificate as error:
        at = str(error).partition(" ")[0]  # each begins with the text that it is about
        part.report(("targets", name, "tls", at), str(error))


def tls_of(target: Mapping[str, Any]) -> Tls:
    """Raises BadCertificate."""
    said = target.get("tls") or {}
    ca, cert = (said[name].reveal() if said.get(name) else "" for name in ("ca", "cert"))
    verify = not said.get("insecure_skip_verify")
    key, name = said.get("key"), said.get("server_name") or ""
    return Tls.of(ca, cert, key, name, verify=verify) if said else USUAL


def _check_defined(part: Part, at: int, route: Mapping[str, Any], defined: Collection[str]) -> None:
    told = set()
    for key, position, name in named(route):
        if name not in defined and name not in told:
            told.add(name)
            likely = did_you_mean(part.reader.likely(name, defined))
            path = ("routes", at, key)
            message = f"no target {shown(part.written(*path, position))}{likely}"
            part.report(path, message, at=(position,))


def check_once(part: Part, path: tuple[str | int, ...], route: Mapping[str, Any]) -> None:
    """Report each target that is named once more; those that are required come first."""
    seen: dict[str, str] = {}
    for key, position, name in named(route):
        if name in seen:
            again = "is here twice" if seen[name] == key else "is required here already"
            message = f"{shown(part.written(*path, key, position))} {again}"
            part.report((*path, key), message, at=(position,))
        seen.setdefault(name, key)


def _check_own(part: Part, at: int, route: Mapping[str, Any]) -> None:
    """The router's own events are told to whoever wants them; nobody waits for it."""
    patterns = patterns_of(route).get("event_key") or ()
    own = any(pattern is not None and pattern.startswith(OWN_KEYS) for pattern in patterns)
    if own and route.get("required"):
        message = f"nobody waits for events of {OWN_SOURCE}: their targets are optional"
        part.report(("routes", at, "required"), message)


def patterns_of(route: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    """By field what a route matches; a pattern without a field is for the key."""
    match = route.get("match") or {}
    return match if isinstance(match, dict) else {"event_key": match}


def _check_leave(
    parts: Parts,
    part: Part,
    route: tuple[int, Mapping[str, Any]],
    share: Mapping[str, tuple[str, ...]],
    defined: Mapping[str, Part],
) -> None:
    """Report who names another's target without leave. Routes in the common file need none."""
    for key, position, name in named(route[1]):
        owner = defined[name].owner if name in defined else ""
        allowed = {owner, *(share.get(name) or ())}
        if owner and not allowed & {part.owner, EVERYBODY}:
            path = ("routes", route[0], key)
            me = shown(part.owner) if part.owner else "a file without an owner"
            message = (
                f"{shown(part.written(*path, position))} is the target of {shown(owner)}: "
                f"`share` in {parts.common.name} can let {me} use it"
            )
            part.report(path, message, at=(position,))


def _check_share(
    parts: Parts, share: Mapping[str, tuple[str, ...]], defined: Mapping[str, Part]
) -> None:
    """Report a target that needs no leave, or is not there; warn of an owner that has no file."""
    common, owners = parts.common, {part.owner for part in parts} | {EVERYBODY}
    for name, others in share.items():
        path = ("share", name)
        if name not in defined:
            likely = did_you_mean(common.reader.likely(name, defined))
            common.report(path, f"no target {shown(name)}{likely}", key=True)
        elif not defined[name].owner:
            message = "the target is everybody's: its file has no owner"
            common.warn(path, message, key=True)
        for unknown in sorted({*filter(None, others or ())} - owners):
            likely = did_you_mean(common.reader.likely(unknown, owners))
            common.warn(path, f"no file has the owner {shown(unknown)}{likely}", key=True)
