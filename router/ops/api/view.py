"""The part of everything that the holder of a token may see."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict, TypeVar

from router.archive.trace.lines import RequestView
from router.archive.trace.views import ActedView, MatchView, StepView, StoryView
from router.config.holders import TokenHolder
from router.config.loading import Config
from router.ops.insight import RefusedFile, Report, refused_files
from router.routing.target import Target
from router.store.views import ActionView, DossierView, EntryView

if TYPE_CHECKING:
    from router.ops.api.parts import ApiParts

E = TypeVar("E", bound=EntryView)
R = TypeVar("R", bound=RequestView)


#: A selection of targets that no delivery and no event matches.
NO_TARGETS = ("",)


#: One route: its file as it was given to the router, the patterns of what it matches and of its
#: exceptions by field, and its targets. `except` is a keyword of Python's.
RouteFacts = TypedDict(
    "RouteFacts",
    {
        "name": str,
        "file": str,
        "line": int,
        "match": dict[str, list[str]],
        "except": dict[str, list[str]],
        "required": list[str],
        "optional": list[str],
    },
)


class View:
    """Targets, routes, deliveries and events as one holder sees them, for one request.

    A holder with an owner sees that owner's targets alone. Nothing else in the API decides this.
    """

    def __init__(self, holder: TokenHolder, parts: ApiParts) -> None:
        """If no router runs, `report` and the configuration raise Rejected."""
        self.is_whole = not holder.owner
        self._holder = holder
        self._parts = parts

    @cached_property
    def config(self) -> Config:
        """The configuration in force."""
        return self._parts.insight.config_state.config

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """The visible targets of the configuration."""
        targets = self.config.table.targets
        if self.is_whole:
            return targets
        return {name: each for name, each in targets.items() if self._holder.sees(each.owner)}

    def report(self) -> Report:
        """Return the state of the process with the visible targets. Call it on the event loop."""
        report = self._parts.insight.report()
        if self.is_whole:
            return report
        return replace(report, metrics=report.metrics.among(self.targets))

    def routes(self) -> Iterator[RouteFacts]:
        """Return the routes to visible targets in the files' order. Call it in a thread: with many
        routes it takes milliseconds."""
        for route in self.config.table.routes_as_written:
            required = [name for name in route.required if name in self.targets]
            optional = [name for name in route.optional if name in self.targets]
            if required or optional:
                yield {
                    "name": route.name,
                    "file": route.file,
                    "line": route.line,
                    "match": {field: [*texts] for field, texts in route.match.items()},
                    "except": {field: [*texts] for field, texts in route.exception.items()},
                    "required": required,
                    "optional": optional,
                }

    @cached_property
    def route_names(self) -> set[str]:
        return {route["name"] for route in self.routes()}

    def sees(self, owner: str) -> bool:
        return self._holder.sees(owner)

    def refused_files(self) -> list[RefusedFile]:
        files = refused_files(self._parts.insight.config_state)
        return [file for file in files if self.sees(file["owner"] or "")]

    def has(self, target: str) -> bool:
        """Return whether a target is visible. It may be in no configuration any more."""
        return self.is_whole or target in self.targets

    def among(self, targets: Collection[str]) -> tuple[str, ...] | None:
        """Return the visible ones of `targets`, or all visible ones if it is empty; NO_TARGETS if
        none is visible, and None for no restriction."""
        if self.is_whole:
            return tuple(targets) or None
        visible = (name for name in targets or self.targets if name in self.targets)
        return tuple(visible) or NO_TARGETS

    # The rest returns the visible part of a view of the store or the archive, None for nothing.

    def action(self, action: ActionView) -> ActionView:
        """Hide how much else somebody else's action was about."""
        if self.is_whole or action["who"] == self._holder.name:
            return action
        return {**action, "what": "", "deliveries": 0}

    def entries(self, entries: Iterable[E]) -> list[E]:
        visible = [entry for entry in entries if self.has(entry["target"])]
        for entry in visible:
            if entry["action"] is not None:
                entry["action"] = self.action(entry["action"])
        return visible

    def dossier(self, dossier: DossierView) -> DossierView | None:
        entries = self.entries(dossier["deliveries"])
        return {**dossier, "deliveries": entries} if entries else None

    def match(self, match: MatchView) -> MatchView | None:
        if match["what"] == "kept":
            entries = self.entries(match["deliveries"])
            return {**match, "deliveries": entries} if entries else None
        if match["what"] == "request" or match["what"] == "unmatched":
            return self._request(match)
        return match if self.has(match["target"]) else None

    def story(self, story: StoryView) -> StoryView | None:
        entries = self.entries(story["deliveries"])
        steps = [shown for step in story["steps"] if (shown := self._step(step)) is not None]
        if not (self.is_whole or entries or steps):
            return None
        coming = [
            next_ for next_ in story["next"] if not next_["target"] or self.has(next_["target"])
        ]
        return {**story, "deliveries": entries, "steps": steps, "next": coming}

    def _step(self, step: StepView) -> StepView | None:
        if step["what"] == "request" or step["what"] == "unmatched":
            return self._request(step)
        if step["what"] == "acted":
            return self._acted(step)
        return step if self.has(step["target"]) else None

    def _request(self, request: R) -> R | None:
        if self.is_whole:
            return request
        request["targets"] = [result for result in request["targets"] if self.has(result["target"])]
        request["routes"] = [name for name in request["routes"] if name in self.route_names]
        request["unqueued"] = False
        return request if request["targets"] else None

    def _acted(self, acted: ActedView) -> ActedView | None:
        targets = [name for name in acted["targets"] if self.has(name)]
        if not targets:
            return None
        if self.is_whole or acted["who"] == self._holder.name:
            return {**acted, "targets": targets}
        return {**acted, "targets": targets, "words": "", "deliveries": 0}
