"""What the holder of a token may see."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TypedDict, TypeVar

from router.archive.trace.views import ActedView, MatchView, RequestView, StepView, StoryView
from router.config.holders import TokenHolder
from router.config.loading import Config
from router.ops.api.endpoint import Rejected
from router.ops.insight import Insight, Report
from router.routing.table import Route
from router.routing.target import Target
from router.store.views import ActionView, DossierView, EntryView

T = TypeVar("T")


class RouteFacts(TypedDict):
    """One route: what it matches, by field, and which targets are then required or optional."""

    name: str
    #: Its path, as it was given to the router.
    file: str
    line: int
    match: dict[str, list[str]]
    required: list[str]
    optional: list[str]


class View:
    """What there is for the holder of a token, made for one request. Nothing else of the API
    decides that."""

    def __init__(self, holder: TokenHolder, insight: Insight | None) -> None:
        """`insight` is None if no router runs. Then `report`, and what is of the configuration,
        raise Rejected."""
        self.who, self.is_whole = holder.name, not holder.owner
        self._holder = holder
        self._insight = insight

    @cached_property
    def config(self) -> Config:
        """The configuration in force."""
        return required(self._insight).standing.config

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """The targets of the configuration that there are."""
        targets = self.config.table.targets
        if self.is_whole:
            return targets
        return {name: each for name, each in targets.items() if self._holder.sees(each.owner)}

    def report(self) -> Report:
        """How the router does, as if there were no other targets; numbers of the process are those
        of all. Called on the event loop."""
        report = required(self._insight).report()
        if self.is_whole:
            return report
        return replace(report, metrics=report.metrics.among(self.targets))

    def routes(self) -> Iterator[RouteFacts]:
        """In the files' order. With many routes it takes milliseconds: read them in a thread."""
        for route, required, optional in self._routes():
            yield RouteFacts(
                name=route.name,
                file=route.file,
                line=route.line,
                match={field: [*patterns] for field, patterns in route.match.items()},
                required=required,
                optional=optional,
            )

    def route_names(self) -> set[str]:
        return {route.name for route, _, _ in self._routes()}

    def _routes(self) -> Iterator[tuple[Route, list[str], list[str]]]:
        for route in self.config.table.routes_as_written:
            required = [name for name in route.required if name in self.targets]
            optional = [name for name in route.optional if name in self.targets]
            if required or optional:
                yield route, required, optional

    def has(self, target: str) -> bool:
        """Whether a target is there, be it in no configuration any more."""
        return self.is_whole or target in self.targets

    def among(self, targets: Collection[str]) -> tuple[str, ...] | None:
        """Those of the targets that there are, of all where none is named; None for no bound, where
        all there are is meant and everything is there."""
        if self.is_whole:
            return tuple(targets) or None
        return tuple(each for each in targets or self.targets if each in self.targets)


def required(running: T | None) -> T:
    """What only a running router has. Raises Rejected if none runs."""
    if running is None:
        raise Rejected(409, "only a running router knows that, and none runs here")
    return running


E = TypeVar("E", bound=EntryView)
R = TypeVar("R", bound=RequestView)


class Concern:
    """One holder's part of what the store and the archive tell."""

    def __init__(self, view: View) -> None:
        self._view = view
        #: Whose own actions are told whole.
        self._who = view.who
        self._routes = set() if view.is_whole else view.route_names()

    def action(self, action: ActionView) -> ActionView:
        """Who did it and when; of another's not on what else, nor how much of it there was."""
        if self._view.is_whole or action["who"] == self._who:
            return action
        return {**action, "what": "", "deliveries": 0}

    def entries(self, entries: Iterable[E]) -> list[E]:
        found = [entry for entry in entries if self._view.has(entry["target"])]
        for entry in found:
            if entry["action"] is not None:
                entry["action"] = self.action(entry["action"])
        return found

    def dossier(self, dossier: DossierView) -> DossierView | None:
        """None where nothing of it is left; likewise below."""
        entries = self.entries(dossier["deliveries"])
        return {**dossier, "deliveries": entries} if entries else None

    def match(self, match: MatchView) -> MatchView | None:
        if match["what"] == "kept":
            entries = self.entries(match["deliveries"])
            return {**match, "deliveries": entries} if entries else None
        if match["what"] == "request" or match["what"] == "unmatched":
            return self._request(match)
        if not self._view.has(match["target"]):
            return None
        if "open" in match:
            match["open"] = [each for each in match["open"] if self._view.has(each["target"])]
        return match

    def story(self, story: StoryView) -> StoryView | None:
        entries = self.entries(story["deliveries"])
        steps = [step for each in story["steps"] if (step := self._step(each)) is not None]
        if not (self._view.is_whole or entries or steps):
            return None
        coming = [
            each for each in story["next"] if not each["target"] or self._view.has(each["target"])
        ]
        return {**story, "deliveries": entries, "steps": steps, "next": coming}

    def _step(self, step: StepView) -> StepView | None:
        if step["what"] == "request" or step["what"] == "unmatched":
            return self._request(step)
        if step["what"] == "acted":
            return self._acted(step)
        return step if self._view.has(step["target"]) else None

    def _request(self, request: R) -> R | None:
        if self._view.is_whole:
            return request
        targets = [each for each in request["targets"] if self._view.has(each["target"])]
        if not targets:
            return None
        request["targets"] = targets
        request["routes"] = [name for name in request["routes"] if name in self._routes]
        request["unqueued"] = False
        return request

    def _acted(self, acted: ActedView) -> ActedView | None:
        targets = [name for name in acted["targets"] if self._view.has(name)]
        if not targets:
            return None
        if self._view.is_whole or acted["who"] == self._who:
            return {**acted, "targets": targets}
        return {**acted, "targets": targets, "words": "", "deliveries": 0}
