"""What differs between two configurations as such: their targets, routes and settings. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import Any, Literal, TypeVar

from router.config import effective
from router.config.document import shown
from router.config.loading import Config
from router.routing.table import Route
from router.routing.target import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Detail:
    """One value that differs, as it may be printed; None: there is none.

    Where both are the same, what differs is masked.
    """

    name: str
    before: Any
    after: Any

    @property
    def masked(self) -> bool:
        return bool(self.before == self.after)

    def __str__(self) -> str:
        return (
            self.name if self.masked else f"{self.name} {_word(self.before)} → {_word(self.after)}"
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """A target, a route or the settings that differ."""

    kind: Literal["target", "route", "settings"]
    #: Of the target or route.
    name: str
    what: Literal["added", "removed", "changed"]
    #: What was changed; empty for what was added or removed.
    details: tuple[Detail, ...] = ()

    def __str__(self) -> str:
        """In a few words, on one line."""
        about = self.kind if self.kind == "settings" else f"{self.kind} {shown(self.name)}"
        return ": ".join(filter(None, (f"{about} {self.what}", ", ".join(map(str, self.details)))))


def edits_of(old: Config, new: Config) -> list[Edit]:
    """Targets, then routes, each by name, then the settings. Order in a file is no difference."""
    found = [
        *_named("target", old.table.targets, new.table.targets, _target_details),
        *_named("route", _routes(old), _routes(new), _route_details),
    ]
    settings = tuple(_details(_settings(old), _settings(new)))
    return [*found, Edit("settings", "", "changed", settings)] if settings else found


def _named(
    kind: Literal["target", "route"],
    old: Mapping[str, T],
    new: Mapping[str, T],
    compare: Callable[[T, T], Iterator[Detail]],
) -> Iterator[Edit]:
    # Those of routes are in order already: to sort both at once takes 5 ms of one piece.
    for name, _ in groupby(merge(sorted(old), sorted(new))):
        if name not in old:
            yield Edit(kind, name, "added")
        elif name not in new:
            yield Edit(kind, name, "removed")
        elif details := tuple(compare(old[name], new[name])):
            yield Edit(kind, name, "changed", details)


def _target_details(old: Target, new: Target) -> Iterator[Detail]:
    yield from _details(_target(old), _target(new))


def _target(target: Target) -> dict[str, Any]:
    """What it says, each header and each part of a section by itself."""
    flat: dict[str, Any] = {}
    for name, value in effective.target(target).items():
        parts = sorted(value.items()) if isinstance(value, dict) else ()
        flat |= {f"{name}.{part}": each for part, each in parts} or {name: value}
    return flat


def _route_details(old: Route, new: Route) -> Iterator[Detail]:
    before, after = effective.route(old), effective.route(new)
    for detail in _details(before, after):
        if _unordered(detail.before) != _unordered(detail.after):
            yield detail


def _routes(config: Config) -> dict[str, Route]:
    return {route.name: route for route in config.table.routes}


def _details(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Detail]:
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield Detail(name, *effective.plain([before.get(name), after.get(name)]))


def _settings(config: Config) -> dict[str, Any]:
    ebaas, queue = effective.caller(config.ebaas), effective.queue(config.queue)
    return {
        "unmatched": config.unmatched,
        **effective.egress(config.egress),
        **{f"ebaas.{name}": value for name, value in ebaas.items()},
        **{f"queue.{name}": value for name, value in queue.items()},
    }


def _word(value: Any) -> str:
    return (
        "none" if value is None else shown(value if isinstance(value, str) else json.dumps(value))
    )


def _unordered(value: Any) -> Any:
    """The same for lists of the same items."""
    if isinstance(value, dict):
        return {name: _unordered(each) for name, each in value.items()}
    return frozenset(value) if isinstance(value, list) else frozenset([value])
