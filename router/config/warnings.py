"""What is allowed in routes.yaml but probably not meant."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from router.config.checks import patterns_of
from router.config.document import ListNode, shown
from router.config.parts import Part, Parts
from router.config.patterns import oddity, redundant
from router.config.values import is_local
from router.config.variables import is_placeholder
from router.contract.signing import LEAST_KEY, key_of
from router.net.access import SHORT
from router.net.tls import Tls, day
from router.routing.table import Route
from router.routing.target import Target

#: From how long before its end a certificate is warned about, in seconds: a month.
SOON_FOR_TARGETS = 30 * 24 * 3600.0


def warn(parts: Parts, routes: Sequence[Route], targets: Mapping[str, Target]) -> None:
    """Report what is dubious in files without errors; `routes` are what they say, in order."""
    required = {name for route in routes for name in route.required}
    used = required.union(*(route.optional for route in routes))
    for part in parts:
        for name in part.targets:
            _warn_target(part, name, targets[name], name in required, name in used)
            if name in required:
                _warn_cut_off(parts, part, name, targets[name])
        _warn_patterns(part)
    _warn_callers(parts.common, parts.section("ebaas"))
    _warn_redundant(parts, routes)


def _warn_target(part: Part, name: str, target: Target, required: bool, used: bool) -> None:
    path = ("targets", name)
    if not used:
        part.warn(path, "no route uses this target", key=True)
    url = urlsplit(target.url)
    host = url.hostname or ""
    if url.scheme == "http" and not (is_local(host) or is_placeholder(host)):
        message = "plain http to a host that is not local: others on the way can read it"
        part.warn((*path, "url"), message)
    if any(len(key_of(secret)) < LEAST_KEY for secret in target.secret):
        message = f"has a key of less than {LEAST_KEY} bytes, which the standard asks for"
        part.warn((*path, "secret"), message)
    if target.paused:
        # Each load says so: a pause that was forgotten looks like a target that is quiet.
        what = "events that require it fail" if required else "its deliveries wait in the queue"
        part.warn((*path, "paused"), f"the target is paused: {what}")
    _warn_tls(part, (*path, "tls"), target.tls)


def _warn_tls(part: Part, path: tuple[str, ...], tls: Tls) -> None:
    """Report a target that anybody could pose as, and certificates that end soon."""
    if not tls.verify:
        message = "its certificate is not verified: whoever is on the way can read and answer"
        part.warn((*path, "insecure_skip_verify"), message)
    if tls.vouches_for_itself and tls.ca_ends > time.time():
        message = "a certificate in it is no authority's: another that it signed is refused"
        part.warn((*path, "ca"), message)
    for key, ends in (("ca", tls.ca_ends), ("cert", tls.cert_ends)):
        left = ends - time.time()
        if ends and left < SOON_FOR_TARGETS:
            how = "expires" if left > 0 else "has expired"
            part.warn((*path, key), f"a certificate {how} on {day(ends)}")


def _warn_cut_off(parts: Parts, part: Part, name: str, target: Target) -> None:
    """A required target that may answer in time and yet too late for the reply; or whose rate is
    such that not even the next one in line begins before the reply is due."""
    within = parts.section("ebaas")["reply_within"]
    if target.rate is not None and 1 / target.rate.per_second > within:
        message = "is less than one in ebaas.reply_within: an event that has to wait fails"
        part.warn(("targets", name, "rate", "per_second"), message)
    if target.timeout <= within:
        return
    message = "goes beyond ebaas.reply_within, which is all that a required target has"
    if "timeout" in part.targets[name]:
        part.warn(("targets", name, "timeout"), message)
    elif "timeout" in (parts.common.said.get("defaults") or {}):
        parts.common.warn(("defaults", "timeout"), message)
    else:
        message = "is shorter than the timeout of required targets, which is 5s by default"
        parts.common.warn(("ebaas", "reply_within"), message)


def _warn_callers(common: Part, ebaas: Mapping[str, Any]) -> None:
    """Report what is dubious about who may come in."""
    seen: set[Any] = set()
    for token, path in _placed(common, "token"):
        if len(token.reveal()) < SHORT:
            common.warn(path, f"is shorter than {SHORT} characters: it can be guessed")
        if token in seen:
            common.warn(path, "is here twice")
        seen.add(token)
    for network, path in _placed(common, "allow_from"):
        if network.prefixlen == 0:
            common.warn(path, f"{network} is every IPv{network.version} address there is")
    if "token_header" in (common.said.get("ebaas") or {}) and not ebaas["token"]:
        common.warn(("ebaas", "token_header"), "says nothing without ebaas.token")


def _placed(common: Part, key: str) -> list[tuple[Any, tuple[str | int, ...]]]:
    """The values of a key of `ebaas` that has one or a list, each with its path."""
    values = (common.said.get("ebaas") or {}).get(key, ())
    return [(value, _path(common, ("ebaas", key), at)) for at, value in enumerate(values)]


def _path(part: Part, path: tuple[str | int, ...], at: int) -> tuple[str | int, ...]:
    assert part.tree is not None
    return (*path, at) if isinstance(part.tree.at(path), ListNode) else path


def _warn_patterns(part: Part) -> None:
    for at, route in part.routes():
        for field, patterns in patterns_of(route).items():
            for position, pattern in enumerate(patterns):
                if oddity(pattern) or (field == "event_key" and _is_short(pattern)):
                    match = ("routes", at, "match")
                    own = (field,) if isinstance(route["match"], dict) else ()
                    path = _path(part, (*match, *own), position)
                    message = _odd(pattern, part.written(*path))
                    part.warn(match, message, at=path[len(match) :])


def _odd(pattern: str, written: str) -> str:
    """What speaks against a pattern; of a variable's value nothing is repeated."""
    found = oddity(pattern)
    if found is None:
        return f"matches no key of four parts, did you mean {shown(f'{written}.*')}?"
    why, meant = found
    likely = [] if "${" in written else [shown(each.replace("$", "$$")) for each in meant]
    wanted = likely[0] if len(likely) == 1 else f"[{', '.join(likely)}]"
    return f"{why}, did you mean {wanted}?" if likely else why


def _is_short(pattern: str) -> bool:
    return "*" not in pattern and sum(map(pattern.count, ".?[")) < 3


def _warn_redundant(parts: Parts, routes: Sequence[Route]) -> None:
    places = [(part, at) for part in parts for at, _ in part.routes()]
    for at, other in redundant(routes):
        part, route = places[at]
        name = shown(routes[other].name)
        message = f"can be left out: route {name} matches all of it and has its targets"
        part.warn(("routes", route), message)
