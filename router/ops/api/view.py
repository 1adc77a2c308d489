"""A request to the API with the parts that all share, and what the holder of its token may see."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypedDict, TypeVar, cast

from router.archive.trace.lines import RequestView
from router.archive.trace.views import MatchView, StepView, StoryView
from router.config.holders import TokenHolder
from router.config.loading import Config
from router.model.errors import StartFailed
from router.net.loops import RestingReader
from router.ops.answers import Answers
from router.ops.guard import OpsTokens
from router.ops.insight import Insight, RefusedFile, Report, refused_files
from router.ops.problems import Rejected
from router.ops.searching import Search, Work
from router.routing.target import Target
from router.store.admin import Admin
from router.store.protocol import StoreFailed
from router.store.views import ActionView, EntryView
from router.telemetry.log import Log

#: The longest question to a running router's store, in seconds.
STORE_TIMEOUT = 10.0


class Stored:
    """The store, for one question at a time, and one change: cancelling one interrupts the store's
    current work. However many questions wait, a change does not wait for them."""

    def __init__(
        self,
        open_: Callable[[], Awaitable[Admin]] | None,
        log: Log | None,
        timeout: float | None = STORE_TIMEOUT,
    ) -> None:
        """`open_` raises StartFailed, which is logged; it is None if there is no store. A question
        may take `timeout` seconds, its wait for its turn included."""
        self._open = open_
        self._timeout = timeout
        self._log = log
        #: By whether they are for changes.
        self._turns = {False: asyncio.Lock(), True: asyncio.Lock()}
        self._admins: dict[bool, Admin] = {}

    @asynccontextmanager
    async def question(self, *, changes: bool = False) -> AsyncIterator[Admin]:
        """Return the store for one question. Raises Rejected if it does not answer in time."""
        if self._open is None:
            raise Rejected("no_store")
        try:
            async with asyncio.timeout(self._timeout), self._turns[changes]:
                if changes not in self._admins:
                    self._admins[changes] = await self._open()
                yield self._admins[changes]
        except TimeoutError:
            raise Rejected("store_slow", seconds=round(self._timeout or 0)) from None
        except StoreFailed as error:
            raise Rejected("store_failed", why=error.text) from None
        except StartFailed as error:
            if self._log is not None:
                self._log.warning("store_awaited", error=str(error))
            raise Rejected("store_closed") from None

    async def aclose(self) -> None:
        for admin in self._admins.values():
            await admin.close()


#: The number of previews of one holder that are kept; the oldest goes.
MAX_PREVIEWS = 32

P = TypeVar("P")


class Previews:
    """Previews by their tokens, for as long as the process runs."""

    def __init__(self) -> None:
        #: By the holder who made them, and by token.
        self._kept: defaultdict[str, dict[str, Any]] = defaultdict(dict)

    def put(self, who: str, preview: object) -> str:
        """Keep a preview and return its token, which cannot be guessed."""
        token, kept = secrets.token_urlsafe(), self._kept[who]
        kept[token] = preview
        if len(kept) > MAX_PREVIEWS:
            del kept[next(iter(kept))]
        return token

    def get(self, who: str, token: str, kind: type[P]) -> P:
        """Return a preview of that kind, which this holder made. Raises Rejected."""
        preview = self._kept[who].get(token)
        if isinstance(preview, kind):
            return preview
        is_others = any(token in kept for kept in self._kept.values())
        raise Rejected("other_preview" if is_others else "preview_gone")


@dataclass(slots=True)
class ApiParts:
    """One for the whole API."""

    #: The running router; None if none runs. Likewise its tokens.
    router: Insight | None
    tokens: OpsTokens | None
    stored: Stored
    search: Search
    #: True if other routers have the same store.
    is_shared: bool = field(kw_only=True)
    previews: Previews = field(default_factory=Previews)
    answers: Answers = field(default_factory=Answers)
    #: Parses bodies.
    reader: RestingReader = field(default_factory=RestingReader)

    @property
    def insight(self) -> Insight:
        """The running router. Raises Rejected if none runs."""
        if self.router is None:
            raise Rejected("no_router")
        return self.router


A = TypeVar("A")
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
        #: The file's, if it is visible.
        "owner": str | None,
        "match": dict[str, list[str]],
        "except": dict[str, list[str]],
        "required": list[str],
        "optional": list[str],
    },
)


class ApiCall:
    """A request that is allowed, parsed and validated: its parameters; and the targets, routes,
    deliveries and events that its holder may see.

    A holder with an owner sees that owner's targets alone. Nothing else in the API decides this.
    """

    def __init__(self, parts: ApiParts, holder: TokenHolder, given: Mapping[str, Any]) -> None:
        """If no router runs, the configuration raises Rejected."""
        self.parts = parts
        self.holder = holder
        #: The names in its path and all parameters: a tuple if there may be several, else a value
        #: or None.
        self.given = given
        self.who = holder.name or ""
        self.is_whole = not holder.owner

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def require_no_team(self) -> None:
        """Raise Rejected if the token is a team's: the answer would be about everybody's events."""
        if not self.is_whole:
            raise Rejected("not_for_teams")

    async def search_archive(
        self, work: Work[A | None], timeout: float | None = None, *, store: bool = True
    ) -> A:
        """Return the result of a search for everybody's events. Raises Rejected, also if there is
        no archive: then the result is None."""
        result = await self.parts.search.run(work, timeout=timeout, store=store)
        if result is None:
            raise Rejected("no_archive")
        return result

    @cached_property
    def config(self) -> Config:
        """The configuration in force."""
        return self.parts.insight.config_state.config

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """The visible targets of the configuration."""
        targets = self.config.table.targets
        if self.is_whole:
            return targets
        return {name: each for name, each in targets.items() if self.holder.sees(each.owner)}

    def visible(self, report: Report) -> Report:
        """Return a report with the visible targets. Call it in a thread, like all that goes through
        the targets."""
        if self.is_whole:
            return report
        own = {name: of for name, of in report.metrics.targets.items() if name in self.targets}
        return replace(report, metrics=replace(report.metrics, targets=own))

    def target(self, name: str) -> Target | None:
        """Return a visible target of the configuration."""
        known = self.config.table.targets.get(name)
        return known if known is not None and self.holder.sees(known.owner) else None

    def routes(self) -> Iterable[RouteFacts]:
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
                    "owner": self._owner_of(route.file),
                    "match": {field: [*texts] for field, texts in route.match.items()},
                    "except": {field: [*texts] for field, texts in route.exception.items()},
                    "required": required,
                    "optional": optional,
                }

    def _owner_of(self, file: str) -> str | None:
        """Return the owner of a file of the configuration, None if it has none or is another's."""
        known = self.config.files.get(file)
        return known.owner if known and known.owner and self.holder.sees(known.owner) else None

    @cached_property
    def route_names(self) -> set[str]:
        return {route["name"] for route in self.routes()}

    def refused_files(self) -> list[RefusedFile]:
        files = refused_files(self.parts.insight.config_state)
        return [file for file in files if self.holder.sees(file["owner"] or "")]

    def has(self, target: str) -> bool:
        """Return whether a target is visible. It may be in no configuration any more."""
        return self.is_whole or self.target(target) is not None

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
        if self.is_whole or action["who"] == self.who:
            return action
        return {**action, "what": "", "deliveries": 0}

    def entries(self, entries: Iterable[EntryView]) -> list[EntryView]:
        visible = [entry for entry in entries if self.has(entry["target"])]
        for entry in visible:
            if entry["action"] is not None:
                entry["action"] = self.action(entry["action"])
        return visible

    def match(self, match: MatchView) -> MatchView | None:
        if match["what"] == "kept":
            entries = self.entries(match["deliveries"])
            return {**match, "deliveries": entries} if entries else None
        return cast("MatchView | None", self._step(match))

    def story(self, story: StoryView) -> StoryView | None:
        entries = self.entries(story["deliveries"])
        steps = [shown for step in story["steps"] if (shown := self._step(step)) is not None]
        if not (self.is_whole or entries or steps):
            return None
        coming = [step for step in story["next"] if not step["target"] or self.has(step["target"])]
        return {**story, "deliveries": entries, "steps": steps, "next": coming}

    def _step(self, step: StepView) -> StepView | None:
        # Refused callbacks are for no target, so a team sees none of them.
        if step["what"] == "request" or step["what"] == "unmatched" or step["what"] == "refused":
            return self._request(step)
        if step["what"] != "acted":
            return step if self.has(step["target"]) else None
        own = [name for name in step["targets"] if self.has(name)]
        if not (self.is_whole or step["who"] == self.who):
            step = {**step, "words": "", "deliveries": 0}
        return {**step, "targets": own} if own else None

    def _request(self, request: R) -> R | None:
        if self.is_whole:
            return request
        request["targets"] = [result for result in request["targets"] if self.has(result["target"])]
        request["routes"] = [name for name in request["routes"] if name in self.route_names]
        request["unqueued"] = False
        return request if request["targets"] else None
