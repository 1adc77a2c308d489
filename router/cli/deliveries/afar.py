"""Deliveries of a running router, by its API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypedDict

from router.cli.asking import RemoteProblem
from router.cli.deliveries.source import Preview
from router.cli.remote import Remote, part
from router.store.filters import Filters, filter_texts
from router.store.ops import Step, Verb
from router.store.shapes import ActionShape, CountShape, DossierShape, EntryShape, PauseShape

#: The most deliveries of one page.
_PAGE = 500

# What is read of each answer.


class _Page(TypedDict):
    counts: list[CountShape]
    deliveries: list[EntryShape]
    next: str | None


class _Paused(TypedDict):
    pause: PauseShape | None


class _Named(TypedDict):
    name: str


class _Previewed(TypedDict):
    token: str
    action: ActionShape
    counts: list[CountShape]
    left_out: int


class _Done(TypedDict):
    changed: int
    left: int
    more: bool


class RemoteDeliveries:
    """Those of a router that is asked; who acts is the name of the token."""

    routes = "the router's routes.yaml"

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.now = remote.now

    def counts(self, filters: Filters) -> list[CountShape]:
        return self._page(filters, 1)["counts"]

    def pages(self, filters: Filters, limit: int) -> Iterator[Sequence[EntryShape]]:
        after: str | None = None
        while limit > 0:
            page = self._page(filters, min(limit, _PAGE), after)
            if page["deliveries"]:
                yield page["deliveries"]
            limit -= len(page["deliveries"])
            if (after := page["next"]) is None:
                return

    def _page(self, filters: Filters, limit: int, after: str | None = None) -> _Page:
        query = [*filter_texts(filters), ("limit", str(limit))]
        query += [] if after is None else [("after", after)]
        page: _Page = self._remote.get("/deliveries", _Page, query)
        return page

    def actions(self, limit: int) -> list[ActionShape]:
        return self._remote.member("/deliveries/actions", "actions", list[ActionShape])[:limit]

    def pauses(self) -> list[PauseShape]:
        return self._remote.member("/pauses", "pauses", list[PauseShape])

    def dossier(self, event_id: str, *, body: bool) -> DossierShape | None:
        query = [("body", "true")] if body else []
        try:
            found: DossierShape = self._remote.get(
                f"/deliveries/{part(event_id)}", DossierShape, query
            )
        except RemoteProblem as error:
            if error.status == 404:
                return None
            raise
        return found

    def targets(self) -> set[str]:
        found = self._remote.member("/targets", "targets", list[_Named])
        return {target["name"] for target in found}

    def preview(self, verb: Verb, filters: Filters, who: str | None) -> Preview:
        said: _Previewed = self._remote.post(
            f"/deliveries/{verb}", _Previewed, {**_body(filters), "dry_run": True}
        )
        carry_out = partial(self._carry_out, verb, said["token"])
        return Preview(said["action"], said["counts"], said["left_out"], carry_out)

    def _carry_out(self, verb: Verb, token: str) -> Iterator[Step]:
        """What is left at the end has changed since the preview."""
        more = True
        while more:
            done: _Done = self._remote.post(f"/deliveries/{verb}", _Done, {"token": token})
            more = done["more"]
            yield Step(done["changed"] + (0 if more else done["left"]), done["changed"])

    def pause(self, target: str, until: str, because: str, who: str | None) -> PauseShape:
        body = {"until": until, "because": because}
        made = self._act(target, "pause", body)
        if made is None:
            raise RemoteProblem("the router does not say which pause it made")
        return made

    def resume(self, target: str, who: str | None) -> PauseShape | None:
        return self._act(target, "resume", {})

    def _act(self, target: str, verb: str, body: dict[str, str]) -> PauseShape | None:
        said: _Paused = self._remote.post(f"/targets/{part(target)}/{verb}", _Paused, body)
        return said["pause"]


def _body(filters: Filters) -> dict[str, Any]:
    """The filters as JSON has them: a list of those that may be many."""
    body: dict[str, Any] = {}
    for name, text in filter_texts(filters):
        if isinstance(filters[name], list):
            body.setdefault(name, []).append(text)
        else:
            body[name] = text
    return body
