"""What the holder of a token may see."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TypeVar

from router.archive.trace.shapes import ActedShape, MatchShape, RequestShape, StepShape, StoryShape
from router.config.holders import Holder
from router.ops.insight import Report, RouteFacts, TableFacts
from router.store.shapes import ActionShape, DossierShape, EntryShape


class View:
    """Made anew for each request, of a report. What it has not, is not there for
    the holder: nothing else of the API decides that."""

    def __init__(self, holder: Holder, report: Report, table: TableFacts) -> None:
        self.who, self.is_whole = holder.name, not holder.owner
        if self.is_whole:
            self.table, self.report = table, report
        else:
            names = {name for name, each in table["targets"].items() if holder.sees(each["owner"])}
            self.table = _narrowed_table(table, names)
            self.report = replace(report, metrics=report.metrics.among(names))
        #: The targets of the configuration in force that there are.
        self.targets = self.table["targets"]

    def has(self, target: str) -> bool:
        """Whether a target is there, be it in no configuration any more."""
        return self.is_whole or target in self.targets

    def among(self, targets: Collection[str]) -> tuple[str, ...] | None:
        """Those of the targets that there are, of all where none is named; None for no bound, where
        all there are is meant and everything is there."""
        if self.is_whole:
            return tuple(targets) or None
        return tuple(each for each in targets or self.targets if each in self.targets)


def _narrowed_table(table: TableFacts, names: Collection[str]) -> TableFacts:
    routes: list[RouteFacts] = [
        {
            **each,
            "required": [name for name in each["required"] if name in names],
            "optional": [name for name in each["optional"] if name in names],
        }
        for each in table["routes"]
    ]
    return {
        **table,
        "targets": {name: each for name, each in table["targets"].items() if name in names},
        "routes": [each for each in routes if each["required"] or each["optional"]],
    }


E = TypeVar("E", bound=EntryShape)
R = TypeVar("R", bound=RequestShape)


class Concern:
    """One holder's part of what the store and the archive tell."""

    def __init__(self, view: View) -> None:
        self._view = view
        #: Whose own actions are told whole.
        self._who = view.who
        self._routes = {route["name"] for route in view.table["routes"]}

    def action(self, action: ActionShape) -> ActionShape:
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

    def dossier(self, dossier: DossierShape) -> DossierShape | None:
        """None where nothing of it is left; likewise below."""
        entries = self.entries(dossier["deliveries"])
        return {**dossier, "deliveries": entries} if entries else None

    def match(self, match: MatchShape) -> MatchShape | None:
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

    def story(self, story: StoryShape) -> StoryShape | None:
        entries = self.entries(story["deliveries"])
        steps = [step for each in story["steps"] if (step := self._step(each)) is not None]
        if not (self._view.is_whole or entries or steps):
            return None
        coming = [
            each for each in story["next"] if not each["target"] or self._view.has(each["target"])
        ]
        return {**story, "deliveries": entries, "steps": steps, "next": coming}

    def _step(self, step: StepShape) -> StepShape | None:
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

    def _acted(self, acted: ActedShape) -> ActedShape | None:
        targets = [name for name in acted["targets"] if self._view.has(name)]
        if not targets:
            return None
        if self._view.is_whole or acted["who"] == self._who:
            return {**acted, "targets": targets}
        return {**acted, "targets": targets, "words": "", "deliveries": 0}
