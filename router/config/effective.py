"""A Config in the words of routes.yaml, every default filled in.

Secrets are Secrets in it, so that two configurations can be compared; `plain` masks them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.contract.schedule import Schedule
from router.model.secret import MASK, Secret
from router.net.egress import Egress
from router.net.tls import USUAL, Tls
from router.routing.table import Route
from router.routing.target import BreakerPolicy, Target

if TYPE_CHECKING:
    from router.config.loading import Caller, Config


def effective_of(config: Config) -> dict[str, Any]:
    """The whole of it as plain data. Written to a file, it is a routes.yaml of the same meaning,
    but for what is masked. Targets and routes are in the files' order."""
    said: dict[str, Any] = {
        "version": config.version,
        "unmatched": config.unmatched,
        "ebaas": caller(config.ebaas),
        "queue": queue(config.queue),
        **egress(config.egress),
        "targets": {name: target(each) for name, each in config.table.targets.items()},
        "routes": [{"name": each.name, **route(each)} for each in config.table.routes_as_written],
    }
    masked: dict[str, Any] = plain(said)
    return masked


def plain(value: Any) -> Any:
    """A value as it may be printed."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Secret) else value


def caller(ebaas: Caller) -> dict[str, Any]:
    said = {
        "reply_within": duration(ebaas.reply_within),
        **queue(ebaas.schedule),
        "grace": duration(ebaas.grace),
        "http_status": ebaas.http_status,
    }
    if ebaas.token:
        said |= {"token": list(ebaas.token), "token_header": ebaas.token_header}
    if ebaas.allow_from:
        said["allow_from"] = list(map(str, ebaas.allow_from))
    if ebaas.silent_after is not None:
        said["silent_after"] = duration(ebaas.silent_after)
    return said


def queue(schedule: Schedule) -> dict[str, Any]:
    return {"retries": schedule.retries, "waits": [duration(wait) for wait in schedule.waits]}


def egress(egress: Egress) -> dict[str, Any]:
    """Nothing where it narrows nothing."""
    said = [*(["public"] if egress.public else []), *map(str, egress.networks)]
    return {"egress": said} if said else {}


def tls(tls: Tls) -> dict[str, Any]:
    pem = {"ca": tls.ca, "cert": tls.cert, "key": tls.key.reveal()}
    said: dict[str, Any] = {name: Secret(text) for name, text in pem.items() if text}
    if tls.server_name:
        said["server_name"] = tls.server_name
    return said if tls.verify else {**said, "insecure_skip_verify": True}


def target(target: Target) -> dict[str, Any]:
    """Without its name."""
    said: dict[str, Any] = {
        "url": Secret(target.url, target.public_url or MASK),
        "timeout": duration(target.timeout),
        "acknowledge": target.acknowledge,
        "max_in_flight": target.max_in_flight,
    }
    if target.headers:
        said["headers"] = dict(target.headers)
    if target.secret:
        said["secret"] = list(target.secret)
    if target.breaker is not None:
        said["breaker"] = _breaker(target.breaker)
    if target.rate is not None:
        said["rate"] = {"per_second": _number(target.rate.per_second), "burst": target.rate.burst}
    if target.paused:
        said["paused"] = True
    if target.owner:
        said["owner"] = target.owner
    if target.tls != USUAL:
        said["tls"] = tls(target.tls)
    return said


def _breaker(policy: BreakerPolicy) -> dict[str, Any]:
    return {
        "failures": f"{policy.failures:.0%}",
        "of_at_least": policy.of_at_least,
        "within": duration(policy.within),
        "pause": duration(policy.pause),
        "refusals": policy.refusals,
    }


def route(route: Route) -> dict[str, Any]:
    """Without its name."""
    fields = {field: _alone(patterns) for field, patterns in route.match.items()}
    said: dict[str, Any] = {"match": fields["event_key"] if [*fields] == ["event_key"] else fields}
    if route.required:
        said["required"] = list(route.required)
    if route.optional:
        said["optional"] = list(route.optional)
    return said


def duration(seconds: float) -> str:
    """`8s`, `1500ms`: what parse_duration reads."""
    rounded = round(seconds, 9)
    if rounded == int(rounded):
        return f"{int(rounded)}s"
    return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def _number(value: float) -> int | float:
    """`5` for 5.0, as one writes it."""
    return int(value) if value == int(value) else value


def _alone(patterns: tuple[str, ...]) -> str | list[str]:
    return patterns[0] if len(patterns) == 1 else list(patterns)
