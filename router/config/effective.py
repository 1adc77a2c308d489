"""A Config in the words of routes.yaml, every default filled in.

Secrets stay Secrets, so that two configurations can be compared; `plain` masks them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from router.config.schema import Shape, shape_of
from router.contract.schedule import format_duration
from router.model.secret import MASK, Secret
from router.net.tls import USUAL, Tls
from router.routing.table import Route
from router.routing.target import Target

if TYPE_CHECKING:
    from router.config.loading import Config


def effective_of(config: Config) -> dict[str, Any]:
    """Return all of it as plain data. As a file it is a routes.yaml of the same meaning, but for
    the masked values. Targets and routes are in the files' order."""
    effective = {
        **settings(config),
        "targets": {name: target(one) for name, one in config.table.targets.items()},
        "routes": [{"name": one.name, **route(one)} for one in config.table.routes_as_written],
    }
    return dict(plain(effective))


def plain(value: Any) -> Any:
    """Return a value as it may be printed."""
    return mapped(value, lambda one: str(one) if isinstance(one, Secret) else one)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return plain data with each of its single values changed."""
    if isinstance(value, dict):
        return {name: mapped(below, change) for name, below in value.items()}
    return [mapped(item, change) for item in value] if isinstance(value, list) else change(value)


def settings(config: Config) -> dict[str, Any]:
    """Return everything besides targets and routes."""
    ebaas, egress = config.ebaas, config.egress
    values = {
        "version": config.version,
        "unmatched": config.unmatched,
        "recovery": config.recovery,
        "ebaas": {
            **_fields(ebaas.schedule),
            **_fields(ebaas),
            "token_header": ebaas.token_header if ebaas.token else None,
        },
        "queue": config.queue,
        "egress": [*(["public"] if egress.public else []), *egress.networks],
    }
    return dict(_words(values, shape_of("routes")))


def target(target: Target) -> dict[str, Any]:
    """Return a target without its name."""
    values = {
        **_fields(target),
        "url": Secret(target.url, target.public_url or MASK),
        "headers": dict(target.headers),
        "tls": _tls(target.tls) if target.tls != USUAL else None,
    }
    return dict(_words(values, shape_of("routes").at(("targets", ""))))


def route(route: Route) -> dict[str, Any]:
    """Return a route without its name."""
    targets = {"required": list(route.required), "optional": list(route.optional)}
    return {
        "match": _match(route.match),
        **({"except": _match(route.exception)} if route.exception else {}),
        **{role: names for role, names in targets.items() if names},
    }


def _match(match: Mapping[str, Sequence[str]]) -> Any:
    """Return patterns as briefly as they may be written."""
    short = {
        field: patterns[0] if len(patterns) == 1 else [*patterns]
        for field, patterns in match.items()
    }
    return short["event_key"] if [*short] == ["event_key"] else short


def _tls(tls: Tls) -> dict[str, Any]:
    pem = {"ca": tls.ca, "cert": tls.cert, "key": tls.key.reveal()}
    return {
        **{name: Secret(text) for name, text in pem.items() if text},
        "server_name": tls.server_name,
        "insecure_skip_verify": not tls.verify,
    }


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, as they are."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _words(value: Any, shape: Shape) -> Any:
    """Return a value as its schema has it; values that are off or empty are left out."""
    if is_dataclass(value) and shape.keys:
        value = _fields(value)
    if isinstance(value, dict):
        return {
            key: _words(one, below)
            for key, one in value.items()
            if (below := shape.keys.get(key, shape.rest)) and not _is_off(one)
        }
    if isinstance(value, tuple | list):
        return [_words(item, shape.item or shape) for item in value]
    kind = shape.leaf["x-kind"] if shape.leaf else ""
    return _FORMATS[kind](value) if kind in _FORMATS else value


def _is_off(value: Any) -> bool:
    return value is None or value is False or value in ("", (), [], {})


def _number(value: float) -> int | float:
    """Return 5 for 5.0, as people write it."""
    return int(value) if value == int(value) else value


#: By x-kind.
_FORMATS: dict[str, Callable[[Any], Any]] = {
    "duration": format_duration,
    "share": "{:.0%}".format,
    "number": _number,
    "network": str,
    "destination": str,
}
