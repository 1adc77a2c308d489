"""Contradictions within a file, which are errors, and settings that are probably mistakes, which
are warnings. `fitting` compares files."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

from router.config.document import ListNode, Steps, did_you_mean, shown
from router.config.files import Part, named
from router.config.values import NO_REGEX, as_glob, is_local
from router.config.variables import is_placeholder
from router.contract.signing import LEAST_KEY, key_of
from router.model.event import OWN_KEYS, OWN_SOURCE
from router.net.access import SHORT
from router.net.tls import USUAL, BadCertificate, Tls, day
from router.routing.table import RouteTable
from router.routing.target import Target

#: In `share`: every owner, and the files without one.
EVERYBODY = "everybody"


def check_file(part: Part) -> None:
    """Report every contradiction within a file, between the values that could be read."""
    for target_name, target in part.targets.items():
        _check_target(part, target_name, target)
    names: dict[str, int] = {}
    for at, route in part.routes():
        path = ("routes", at)
        check_once(part, path, route)
        if (name := route.get("name")) is not None:
            if name in names:
                line = part.line("routes", names[name], "name")
                part.report((*path, "name"), f"the route in line {line} has this name already")
            names.setdefault(name, at)
        keys = patterns_of(route, "match").get("event_key") or ()
        if any((key or "").startswith(OWN_KEYS) for key in keys) and route.get("required"):
            message = f"no reply waits for events of {OWN_SOURCE}: their targets are optional"
            part.report((*path, "required"), message)


def patterns_of(
    route: Mapping[str, Any], key: Literal["match", "except"]
) -> Mapping[str, tuple[str, ...]]:
    """Return the patterns of a route by field; a pattern without a field is for the key."""
    match = route.get(key) or {}
    return match if isinstance(match, dict) else {"event_key": match}


def _check_target(part: Part, name: str, target: Mapping[str, Any]) -> None:
    """Report TLS options that have no effect or are wrong, and another owner than the file's."""
    path = ("targets", name)
    if "tls" in target and (target.get("url") or "").startswith("http:"):
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


def check_once(part: Part, path: Steps, route: Mapping[str, Any]) -> None:
    """Report each target that a route or a case names again."""
    seen: dict[str, str] = {}
    for key, position, name in named(route):
        if name in seen:
            again = "is here twice" if seen[name] == key else "is required here already"
            message = f"{shown(part.text(*path, key, position))} {again}"
            part.report((*path, key), message, at=(position,))
        seen.setdefault(name, key)


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


def warn(parts: Sequence[Part], table: RouteTable) -> None:
    """Report suspicious settings in files without errors; the common file is the first."""
    common = parts[0]
    required = {name for route in table.routes for name in route.required}
    used = required.union(*(route.optional for route in table.routes))
    void = {route.name for route in table.routes if not table.can_match(route)}
    for part in parts:
        for name in part.targets:
            if name not in used:
                part.warn(("targets", name), "no route uses this target", key=True)
            _warn_target(part, name, table.targets[name], name in required)
            if name in required:
                _warn_cut_off(common, part, name, table.targets[name])
        for at, route in part.routes():
            _warn_patterns(part, at, route, "match")
            _warn_patterns(part, at, route, "except")
            if route["name"] in void:
                message = "leaves nothing of match: the route can never match"
                part.warn(("routes", at, "except"), message)
    _warn_callers(common)
    _warn_share(parts)


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


def _warn_cut_off(common: Part, part: Part, name: str, target: Target) -> None:
    """Report a required target whose answer may be in time and yet too late for the reply."""
    if target.timeout <= common.section("ebaas")["reply_within"]:
        return
    message = "goes beyond ebaas.reply_within, which is all that a required target has"
    if "timeout" in part.targets[name]:
        part.warn(("targets", name, "timeout"), message)
    elif "timeout" in (common.values.get("defaults") or {}):
        common.warn(("defaults", "timeout"), message)
    else:
        message = "is shorter than the timeout of required targets, which is 5s by default"
        common.warn(("ebaas", "reply_within"), message)


def _warn_share(parts: Sequence[Part]) -> None:
    """Report a target that does not exist, perhaps because of another file, or needs no `share`,
    and owners that no file has."""
    common, owners = parts[0], {part.owner for part in parts} | {EVERYBODY}
    defined = {name: part for part in parts for name in part.targets}
    for name, others in (common.values.get("share") or {}).items():
        path = ("share", name)
        if name not in defined:
            likely = did_you_mean(common.reader.likely(name, defined))
            common.warn(path, f"no target {shown(name)}{likely}", key=True)
        elif not defined[name].owner:
            common.warn(path, "the target is everybody's: its file has no owner", key=True)
        for unknown in sorted({*others} - owners):
            likely = did_you_mean(common.reader.likely(unknown, owners))
            common.warn(path, f"no file has the owner {shown(unknown)}{likely}", key=True)


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
                is_literal = "${" not in part.text(*path)
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
