"""The checks of a configuration as a whole: contradictions are errors, and settings that are
probably mistakes are warnings."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from router.config.document import ListNode, Steps, did_you_mean, shown
from router.config.files import Part, Parts
from router.config.values import NO_REGEX, as_glob, is_local, literal
from router.config.variables import is_placeholder
from router.contract.signing import LEAST_KEY, key_of
from router.model.event import OWN_KEYS, OWN_SOURCE
from router.net.access import SHORT
from router.net.egress import Egress
from router.net.tls import USUAL, BadCertificate, Tls, day
from router.routing.table import RouteTable
from router.routing.target import Target

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
            path = ("routes", at)
            # Without any target, all would be unknown.
            if defined:
                _check_defined(part, path, route, defined)
            check_once(part, path, route)
            keys = patterns_of(route, "match").get("event_key") or ()
            own = any((key or "").startswith(OWN_KEYS) for key in keys)
            if own and route.get("required"):
                message = f"no reply waits for events of {OWN_SOURCE}: their targets are optional"
                part.report((*path, "required"), message)
            if part is not parts.common:
                _check_leave(parts, part, path, route, defined)


def named(route: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Iterate over the targets that a route names: the key, the position, the name."""
    for key in ("required", "optional"):
        for at, name in enumerate(route.get(key) or ()):
            if name is not None:
                yield key, at, name


def patterns_of(
    route: Mapping[str, Any], key: Literal["match", "except"]
) -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of a route by field; a pattern without a field is for the key."""
    match = route.get(key) or {}
    return match if isinstance(match, dict) else {"event_key": match}


def _defined(parts: Parts) -> dict[str, Part]:
    """Return the name of every target, and the file it is in. A name counts even if its target
    could not be read."""
    defined: dict[str, Part] = {}
    for part in parts:
        for name in part.values.get("targets") or ():
            first = defined.setdefault(name, part)
            if first is not part:
                message = f"{first.name} has a target of this name already"
                part.report(("targets", name), message, key=True)
    return defined


def _check_names(parts: Parts) -> None:
    claims: dict[str, tuple[Part, int]] = {}
    for part in parts:
        for at, route in part.routes():
            if (name := route.get("name")) is None:
                continue
            if name in claims:
                other, position = claims[name]
                line = other.line("routes", position, "name")
                where = f"line {line}" if other is part else f"{other.name}:{line}"
                message = f"the route in {where} has this name already"
                part.report(("routes", at, "name"), message)
            claims.setdefault(name, (part, at))


def _check_target(part: Part, name: str, target: Mapping[str, Any], egress: Egress) -> None:
    """Report an address that egress rules out, TLS options that have no effect or are wrong, and
    another owner than the file's. Names are looked up later."""
    path, url = ("targets", name), target.get("url") or ""
    host = (urlsplit(url).hostname or "").rstrip(".")
    address = literal(host)
    if address is not None and (refusal := egress.refusal(str(address))):
        part.report((*path, "url"), f"{host} is {refusal}, and egress allows no other")
    if "tls" in target and url.startswith("http:"):
        part.report((*path, "tls"), "has no effect on a target that is called by http://")
    if part.owner and target.get("owner") not in (None, part.owner):
        message = f"the file belongs to {shown(part.owner)}, and so do its targets"
        part.report((*path, "owner"), message)
    try:
        tls_of(target)
    except BadCertificate as error:
        key = str(error).partition(" ")[0]  # each message begins with its key
        part.report((*path, "tls", key), str(error))


def tls_of(target: Mapping[str, Any]) -> Tls:
    """Return the TLS settings of a target. Raises BadCertificate."""
    tls = target.get("tls") or {}
    ca, cert = (tls[name].reveal() if tls.get(name) else "" for name in ("ca", "cert"))
    verify = not tls.get("insecure_skip_verify")
    key, name = tls.get("key"), tls.get("server_name") or ""
    return Tls.of(ca, cert, key, name, verify=verify) if tls else USUAL


def _check_defined(
    part: Part, path: Steps, route: Mapping[str, Any], defined: Collection[str]
) -> None:
    reported = set()
    for key, position, name in named(route):
        if name not in defined and name not in reported:
            reported.add(name)
            likely = did_you_mean(part.reader.likely(name, defined))
            message = f"no target {shown(part.written(*path, key, position))}{likely}"
            part.report((*path, key), message, at=(position,))


def check_once(part: Part, path: Steps, route: Mapping[str, Any]) -> None:
    """Report each target that a route or a case names again."""
    seen: dict[str, str] = {}
    for key, position, name in named(route):
        if name in seen:
            again = "is here twice" if seen[name] == key else "is required here already"
            message = f"{shown(part.written(*path, key, position))} {again}"
            part.report((*path, key), message, at=(position,))
        seen.setdefault(name, key)


def _check_leave(
    parts: Parts, part: Part, path: Steps, route: Mapping[str, Any], defined: Mapping[str, Part]
) -> None:
    """Report targets of another owner whose use `share` does not allow."""
    share = parts.common.values.get("share") or {}
    for key, position, name in named(route):
        owner = defined[name].owner if name in defined else ""
        allowed = {owner, *(share.get(name) or ())}
        if owner and not allowed & {part.owner, EVERYBODY}:
            user = shown(part.owner) if part.owner else "a file without an owner"
            message = (
                f"{shown(part.written(*path, key, position))} is the target of {shown(owner)}: "
                f"`share` in {parts.common.name} can let {user} use it"
            )
            part.report((*path, key), message, at=(position,))


def _check_share(parts: Parts, defined: Mapping[str, Part]) -> None:
    """Report a target that does not exist or needs no `share`; warn of an unknown owner."""
    common, owners = parts.common, {part.owner for part in parts} | {EVERYBODY}
    for name, others in (common.values.get("share") or {}).items():
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


# Warnings.

#: A certificate is warned about from a month before it expires; in seconds.
SOON_FOR_TARGETS = 30 * 24 * 3600.0

#: Nearly all patterns have these characters alone, and nothing odd.
_PLAIN = re.compile(r"[A-Za-z0-9_.*?-]+")

#: Texts that mean something elsewhere, and in a pattern only themselves.
_ODD = {
    r"^\s|\s$": "begins or ends with a blank, which only a value with one matches",
    "[\u2018-\u201e«»\u3002\uff01-\uff5e]": "has a quote or a full-width character in it",
    r"^\^|\$$|\\|\[\^": NO_REGEX,
    "^!": "excludes nothing: use `except`; ! negates only in a set, [!…]",
    r"\{[^{}]*,[^{}]*\}|\([^()]*\|[^()]*\)|^[^\[({]*,": (
        "is one pattern: write several as a list, like [a.*, b.*]"
    ),
}


def warn(parts: Parts, table: RouteTable) -> None:
    """Report suspicious settings in files without errors."""
    required = {name for route in table.routes for name in route.required}
    used = required.union(*(route.optional for route in table.routes))
    for part in parts:
        for name in part.targets:
            if name not in used:
                part.warn(("targets", name), "no route uses this target", key=True)
            _warn_target(part, name, table.targets[name], name in required)
            if name in required:
                _warn_cut_off(parts, part, name, table.targets[name])
        for at, route in part.routes():
            _warn_patterns(part, at, route, "match")
            _warn_patterns(part, at, route, "except")
    _warn_callers(parts.common)


def _warn_target(part: Part, name: str, target: Target, required: bool) -> None:
    path, url = ("targets", name), urlsplit(target.url)
    host = url.hostname or ""
    if url.scheme == "http" and not (is_local(host) or is_placeholder(host)):
        message = "plain http to a host that is not local: others on the way can read it"
        part.warn((*path, "url"), message)
    if any(len(key_of(secret)) < LEAST_KEY for secret in target.secret):
        message = f"has a key of less than {LEAST_KEY} bytes, which the standard asks for"
        part.warn((*path, "secret"), message)
    if target.paused:
        # Repeated at each load: a forgotten pause looks like a quiet target.
        effect = "events that require it fail" if required else "its deliveries wait in the queue"
        part.warn((*path, "paused"), f"the target is paused: {effect}")
    _warn_tls(part, (*path, "tls"), target.tls)


def _warn_tls(part: Part, path: tuple[str, ...], tls: Tls) -> None:
    """Report a target that anybody could impersonate, and certificates that expire soon."""
    if not tls.verify:
        message = "its certificate is not verified: whoever is on the way can read and answer"
        part.warn((*path, "insecure_skip_verify"), message)
    if tls.vouches_for_itself and tls.ca_ends > time.time():
        message = (
            "a certificate in it is not an authority's: certificates that it signed are refused"
        )
        part.warn((*path, "ca"), message)
    for key, ends in (("ca", tls.ca_ends), ("cert", tls.cert_ends)):
        left = ends - time.time()
        if ends and left < SOON_FOR_TARGETS:
            how = "expires" if left > 0 else "has expired"
            part.warn((*path, key), f"a certificate {how} on {day(ends)}")


def _warn_cut_off(parts: Parts, part: Part, name: str, target: Target) -> None:
    """Report a required target whose answer may be in time and yet too late for the reply."""
    if target.timeout <= parts.section("ebaas")["reply_within"]:
        return
    message = "goes beyond ebaas.reply_within, which is all that a required target has"
    if "timeout" in part.targets[name]:
        part.warn(("targets", name, "timeout"), message)
    elif "timeout" in (parts.common.values.get("defaults") or {}):
        parts.common.warn(("defaults", "timeout"), message)
    else:
        message = "is shorter than the timeout of required targets, which is 5s by default"
        parts.common.warn(("ebaas", "reply_within"), message)


def _warn_callers(common: Part) -> None:
    """Report tokens that can be guessed, and settings that let everybody in."""
    ebaas = common.values.get("ebaas") or {}
    for at, token in enumerate(ebaas.get("token", ())):
        if len(token.reveal()) < SHORT:
            message = f"is shorter than {SHORT} characters: it can be guessed"
            common.warn(_item(common, ("ebaas", "token"), at), message)
    for at, network in enumerate(ebaas.get("allow_from", ())):
        if network.prefixlen == 0:
            message = f"{network} is every IPv{network.version} address there is"
            common.warn(_item(common, ("ebaas", "allow_from"), at), message)
    if "token_header" in ebaas and "token" not in ebaas:
        common.warn(("ebaas", "token_header"), "has no effect without ebaas.token")


def _item(part: Part, path: Steps, at: int) -> Steps:
    """Return the path of a value of a key that takes one or a list."""
    assert part.tree is not None
    return (*path, at) if isinstance(part.tree.at(path), ListNode) else path


def _warn_patterns(
    part: Part, at: int, route: Mapping[str, Any], key: Literal["match", "except"]
) -> None:
    """Report patterns that can hardly match as meant."""
    match = ("routes", at, key)
    for field, patterns in patterns_of(route, key).items():
        own = (field,) if isinstance(route[key], dict) else ()
        for position, pattern in enumerate(patterns):
            message, meant = _doubt(field, pattern)
            if message:
                path = _item(part, (*match, *own), position)
                # The value of a variable is not repeated.
                is_literal = "${" not in part.written(*path)
                hint = did_you_mean(meant.replace("$", "$$")) if is_literal else ""
                part.warn(match, f"{message}{hint}", at=path[len(match) :])


def _doubt(field: str, pattern: str) -> tuple[str, str]:
    """Return a warning about a pattern, and the pattern that was probably meant."""
    if not _PLAIN.fullmatch(pattern):
        message = next((message for odd, message in _ODD.items() if re.search(odd, pattern)), "")
        return message, as_glob(pattern) if message == NO_REGEX else ""
    if field == "event_key" and "*" not in pattern and sum(map(pattern.count, ".?")) < 3:
        return "matches no key of four parts", f"{pattern}.*"
    return "", ""
