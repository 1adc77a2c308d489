"""The rules between the parts of a configuration. Breaking one is an error."""

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

#: In `share`: every owner, and the files without one.
EVERYBODY = "everybody"


def check(parts: Parts, egress: Egress) -> None:
    """Report every contradiction between the values that could be read."""
    defined = _defined(parts)
    _check_names(parts)
    _check_share(parts, defined)
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
                _check_leave(parts, part, at, route, defined)


def named(route: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Iterate over the targets that a route names: the key, the position, the name."""
    for key in ("required", "optional"):
        for at, name in enumerate(route.get(key) or ()):
            if name is not None:
                yield key, at, name


def _defined(parts: Parts) -> dict[str, Part]:
    """Return the name of every target, and the file it is in. A name counts even if its target
    could not be read."""
    defined: dict[str, Part] = {}
    for part in parts:
        for name in part.target_names:
            first = defined.setdefault(name, part)
            if first is not part:
                message = f"{first.name} has a target of this name already"
                part.report(("targets", name), message, key=True)
    return defined


def _check_names(parts: Parts) -> None:
    places: dict[str, tuple[Part, int]] = {}
    for part in parts:
        for at, route in part.routes():
            if (name := route.get("name")) is None:
                continue
            if name in places:
                other, position = places[name]
                line = other.line("routes", position, "name")
                where = f"line {line}" if other is part else f"{other.name}:{line}"
                message = f"the route in {where} has this name already"
                part.report(("routes", at, "name"), message)
            places.setdefault(name, (part, at))


def _check_target(part: Part, name: str, target: Mapping[str, Any], egress: Egress) -> None:
    """Report an address that egress rules out, TLS options that have no effect or are wrong, and
    another owner than the file's. Names are looked up later."""
    path, url = ("targets", name), target.get("url") or ""
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = literal(host)
    if address is not None and (refusal := egress.refusal(str(address))):
        part.report((*path, "url"), f"{host} is {refusal}, and egress allows no other")
    if "tls" in target and url.startswith("http:"):
        part.report((*path, "tls"), "says nothing to a target that is called by http://")
    if part.owner and target.get("owner") not in (None, part.owner):
        message = f"the file belongs to {shown(part.owner)}, and so do its targets"
        part.report((*path, "owner"), message)
    try:
        tls_of(target)
    except BadCertificate as error:
        key = str(error).partition(" ")[0]  # each message begins with its key
        part.report((*path, "tls", key), str(error))


def tls_of(target: Mapping[str, Any]) -> Tls:
    """Return how a target is called by TLS. Raises BadCertificate."""
    tls = target.get("tls") or {}
    ca, cert = (tls[name].reveal() if tls.get(name) else "" for name in ("ca", "cert"))
    verify = not tls.get("insecure_skip_verify")
    key, name = tls.get("key"), tls.get("server_name") or ""
    return Tls.of(ca, cert, key, name, verify=verify) if tls else USUAL


def _check_defined(part: Part, at: int, route: Mapping[str, Any], defined: Collection[str]) -> None:
    reported = set()
    for key, position, name in named(route):
        if name not in defined and name not in reported:
            reported.add(name)
            likely = did_you_mean(part.reader.likely(name, defined))
            path = ("routes", at, key)
            message = f"no target {shown(part.written(*path, position))}{likely}"
            part.report(path, message, at=(position,))


def check_once(part: Part, path: tuple[str | int, ...], route: Mapping[str, Any]) -> None:
    """Report each target that a route or a case names again."""
    seen: dict[str, str] = {}
    for key, position, name in named(route):
        if name in seen:
            again = "is here twice" if seen[name] == key else "is required here already"
            message = f"{shown(part.written(*path, key, position))} {again}"
            part.report((*path, key), message, at=(position,))
        seen.setdefault(name, key)


def _check_own(part: Part, at: int, route: Mapping[str, Any]) -> None:
    """Report a route that requires targets for the router's own events: no reply waits for them."""
    patterns = patterns_of(route).get("event_key") or ()
    own = any(pattern is not None and pattern.startswith(OWN_KEYS) for pattern in patterns)
    if own and route.get("required"):
        message = f"nobody waits for events of {OWN_SOURCE}: their targets are optional"
        part.report(("routes", at, "required"), message)


def patterns_of(route: Mapping[str, Any]) -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of a route by field; a pattern without a field is for the key."""
    match = route.get("match") or {}
    return match if isinstance(match, dict) else {"event_key": match}


def _share(parts: Parts) -> Mapping[str, tuple[str, ...]]:
    return parts.common.values.get("share") or {}


def _check_leave(
    parts: Parts, part: Part, at: int, route: Mapping[str, Any], defined: Mapping[str, Part]
) -> None:
    """Report targets of another owner whose use `share` does not allow."""
    for key, position, name in named(route):
        owner = defined[name].owner if name in defined else ""
        allowed = {owner, *(_share(parts).get(name) or ())}
        if owner and not allowed & {part.owner, EVERYBODY}:
            path = ("routes", at, key)
            user = shown(part.owner) if part.owner else "a file without an owner"
            message = (
                f"{shown(part.written(*path, position))} is the target of {shown(owner)}: "
                f"`share` in {parts.common.name} can let {user} use it"
            )
            part.report(path, message, at=(position,))


def _check_share(parts: Parts, defined: Mapping[str, Part]) -> None:
    """Report a target that does not exist or needs no `share`; warn of an unknown owner."""
    common, owners = parts.common, {part.owner for part in parts} | {EVERYBODY}
    for name, others in _share(parts).items():
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
