"""Warnings: settings that routes.yaml allows and that are probably mistakes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from router.config.checks import patterns_of
from router.config.document import ListNode, did_you_mean
from router.config.parts import Part, Parts
from router.config.values import NO_REGEX, as_glob, is_local
from router.config.variables import is_placeholder
from router.contract.signing import LEAST_KEY, key_of
from router.net.access import SHORT
from router.net.tls import Tls, day
from router.routing.table import Route
from router.routing.target import Target

#: A certificate is warned about from a month before it expires; in seconds.
SOON_FOR_TARGETS = 30 * 24 * 3600.0

#: Nearly all patterns have these characters alone, and nothing odd.
_PLAIN = re.compile(r"[A-Za-z0-9_.*?-]+")

#: Texts that mean something elsewhere, and in a pattern only themselves.
_ODD = tuple(
    (re.compile(odd), message)
    for odd, message in (
        (r"^\s|\s$", "begins or ends with a blank, which only a value with one matches"),
        ("[\u2018-\u201e«»\u3002\uff01-\uff5e]", "has a quote or a full-width character in it"),
        (r"^\^|\$$|\\|\[\^", NO_REGEX),
        ("^!", "excludes nothing: ! stands for itself, and only in a set, [!…], negates"),
        (
            r"\{[^{}]*,[^{}]*\}|\([^()]*\|[^()]*\)|^[^\[({]*,",
            "is one pattern: write several as a list, like [a.*, b.*]",
        ),
    )
)


def warn(parts: Parts, routes: Sequence[Route], targets: Mapping[str, Target]) -> None:
    """Report suspicious settings in files without errors."""
    required = {name for route in routes for name in route.required}
    used = required.union(*(route.optional for route in routes))
    for part in parts:
        for name in part.targets:
            _warn_target(part, name, targets[name], name in required, name in used)
            if name in required:
                _warn_cut_off(parts, part, name, targets[name])
        _warn_patterns(part)
    _warn_callers(parts.common, parts.section("ebaas"))


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
        message = "a certificate in it is no authority's: another that it signed is refused"
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


def _warn_callers(common: Part, ebaas: Mapping[str, Any]) -> None:
    """Report tokens that can be guessed, and settings that let everybody in."""
    written = common.values.get("ebaas") or {}
    for at, token in enumerate(written.get("token", ())):
        if len(token.reveal()) < SHORT:
            message = f"is shorter than {SHORT} characters: it can be guessed"
            common.warn(_item(common, ("ebaas", "token"), at), message)
    for at, network in enumerate(written.get("allow_from", ())):
        if network.prefixlen == 0:
            message = f"{network} is every IPv{network.version} address there is"
            common.warn(_item(common, ("ebaas", "allow_from"), at), message)
    if "token_header" in written and not ebaas["token"]:
        common.warn(("ebaas", "token_header"), "says nothing without ebaas.token")


def _item(part: Part, path: tuple[str | int, ...], at: int) -> tuple[str | int, ...]:
    """Return the path of a value of a key that takes one or a list."""
    assert part.tree is not None
    return (*path, at) if isinstance(part.tree.at(path), ListNode) else path


def _warn_patterns(part: Part) -> None:
    for at, route in part.routes():
        for field, patterns in patterns_of(route).items():
            for position, pattern in enumerate(patterns):
                message, meant = _doubt(field, pattern)
                if message:
                    match = ("routes", at, "match")
                    own = (field,) if isinstance(route["match"], dict) else ()
                    path = _item(part, (*match, *own), position)
                    # The value of a variable is not repeated.
                    is_literal = "${" not in part.written(*path)
                    hint = did_you_mean(meant.replace("$", "$$")) if is_literal else ""
                    part.warn(match, f"{message}{hint}", at=path[len(match) :])


def _doubt(field: str, pattern: str) -> tuple[str, str]:
    """Return why a pattern can hardly match as meant, and what was probably meant."""
    if not _PLAIN.fullmatch(pattern):
        message = next((message for odd, message in _ODD if odd.search(pattern)), "")
        return message, as_glob(pattern) if message == NO_REGEX else ""
    if field == "event_key" and "*" not in pattern and sum(map(pattern.count, ".?")) < 3:
        return "matches no key of four parts", f"{pattern}.*"
    return "", ""
