"""Problems of the ops port: a code with its HTTP status and its sentence, as RFC 9457 has them.

The code and its parameters are in the reply too, so that the page can say it in another language.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, TypedDict

from starlette.responses import Response

#: The kinds of parameters.
_KINDS = ("event", "flag", "moment", "number", "pattern", "span", "text", "word")

#: Statuses and sentences by code. A sentence names the fault and, if possible, the remedy.
PROBLEMS: Mapping[str, tuple[int, str]] = {
    "bodies_limit": (400, "limit: with bodies it is at most {most}"),
    "broken_body": (400, "the body is not whole"),
    "given_twice": (400, "{name}: is given twice"),
    **{f"invalid_{kind}": (400, "{name}: {why}") for kind in _KINDS},
    "invalid_list": (400, "{name}: is not a list of at most {most}"),
    "invalid_pause": (400, "{why}"),
    "invalid_state": (400, "state: {why}"),
    "key_or_event": (400, "send either key or event"),
    "missing": (400, "{name}: is missing"),
    "no_selection": (400, "select the deliveries to {verb}, or match * for all"),
    "preview_first": (400, "ask for a preview first, by dry_run, then send its token"),
    "replay_selection": (400, "send a target, and event, since or match"),
    "token_alone": (400, "token: no other member can be sent with it"),
    "unknown_parameter": (400, "no parameter is named {name}; known: {known}"),
    "unknown_target": (400, "target: routes.yaml has no target {name!r}"),
    "unreadable_body": (400, "the body: {why}"),
    "wrong_token": (401, "{why}: send authorization: Bearer TOKEN"),
    "local_only": (403, "without --ops-tokens only this machine may use the console, by localhost"),
    "no_tokens": (403, "this needs a token, and the router has no --ops-tokens"),
    "not_allowed": (403, "the token does not allow this: it needs {may}"),
    "no_archive": (404, "there is no archive"),
    "no_endpoint": (404, "there is no such endpoint"),
    "no_event": (404, "there is no such event, or it is no longer kept"),
    "no_store": (404, "there is no store: the router keeps no records"),
    "no_target": (404, "there is no such target"),
    "not_for_teams": (404, "there is no such thing for a team"),
    "no_method": (405, "the endpoint does not have this method"),
    "nothing_sends": (409, "nothing sends while no router runs; start it, or name it by --url"),
    "no_router": (409, "only a running router can answer this, and none runs here"),
    "other_preview": (409, "token: belongs to another preview; preview again"),
    "preview_gone": (409, "token: the preview is no longer kept; preview again"),
    "target_gone": (409, "token: a target no longer exists; preview again"),
    "place_gone": (410, "after: the delivery there no longer exists; begin anew"),
    "large_body": (413, "the body is larger than {kib} KiB"),
    "wrong_type": (415, "the body has to be application/json"),
    "failed": (500, "the router has failed: see its log"),
    "search_failed": (503, "the search failed: the archive or the store can't be read"),
    "search_slow": (503, "the search took longer than {seconds} s: add since, or a target"),
    "search_unstarted": (503, "the search can't be started: {why}"),
    "unread_answers": (503, "{mib} MiB of earlier answers wait to be read: read them first"),
    "store_closed": (503, "the store can't be opened: see the router's log"),
    "store_failed": (503, "the store failed: {why}"),
    "store_slow": (503, "the store did not answer within {seconds} s: ask for less, or try again"),
    "streams_full": (503, "{count} streams are open already"),
}


class ProblemView(TypedDict):
    """An error, and its remedy."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    #: The parameters of the code's sentence.
    params: dict[str, Any]


class Rejected(Exception):
    """A request that cannot be answered. Its sentence names no target of another team."""

    def __init__(self, code: str, **params: Any) -> None:
        self.code, self.params = code, params
        self.status, sentence = PROBLEMS[code]
        super().__init__(sentence.format(**params))


async def problem(_: object, rejected: Exception) -> Response:
    """Return the reply to a rejected request."""
    assert isinstance(rejected, Rejected)
    view = ProblemView(
        type="about:blank",
        title=HTTPStatus(rejected.status).phrase,
        status=rejected.status,
        detail=str(rejected),
        code=rejected.code,
        params=rejected.params,
    )
    response = Response(json.dumps(view), rejected.status, media_type="application/problem+json")
    if rejected.status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    return response
