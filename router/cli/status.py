"""`status`: how a running router does, in a table that fits a terminal."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router.cli.asking import RemoteProblem, ask
from router.cli.columns import clipped, columns, counted
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, add_format, add_timeout
from router.cli.printing import note, say_json, say_lines
from router.cli.remote import Remote, add_own, add_remote, no_ops_port, ops_url, read_token
from router.cli.times import age, seconds
from router.cli.trust import context_of
from router.contract.replies import why_failed
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import RouterError

HELP = Help(
    about="""Asks a running router's /status and prints what is wrong, and a line for each target,
    the worst first: since when it fails, how many attempts are in flight of how many, how many
    deliveries wait for a retry, how many are dead letters, and why the last attempt failed.
    Without options it asks the ops port of a `serve` with the same variables.""",
    examples=(
        "ebaas-router status",
        "ebaas-router status --url http://router.internal:8081 --token-file ops-token",
        "watch -n 2 ebaas-router status",
        "ebaas-router status --format json",
    ),
    exit_codes={
        GOOD: "all is well",
        BAD: "something is wrong, or it is not reachable",
        NOT_STARTED: "the file of the token is of no use",
    },
)

#: The most that is read of an answer, in bytes: a hundred thousand targets.
_MAX_ANSWER = 64 * 1024 * 1024

#: The most of a target's name that is shown, in cells; JSON has all of it.
_MAX_NAME = 24

#: The cells and lines of what is no terminal.
_UNBOUNDED = (10**6, 24)

_HEAD = ("target", "state", "in flight", "waiting", "dead", "last failure")

#: What is said of a state, where that is not its own name.
_WORDS = {"failing": "fails", "unused": "no attempts"}

Said = Mapping[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    add_own(parser)
    add_remote(parser)
    add_timeout(parser, "the whole question", "5s")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    try:
        said = _ask(args)
        cells = shutil.get_terminal_size(_UNBOUNDED).columns
        lines = [] if args.format == "json" else list(_told(said, cells))
    except RemoteProblem as error:
        note(str(error))
        return BAD
    if args.format == "json":
        say_json(said)
    say_lines(lines)
    return GOOD if said["status"] == "ok" else BAD


def _ask(args: argparse.Namespace) -> Said:
    """What /status says. Raises RemoteProblem, and StartFailed for a token's file of no use."""
    url, token = ops_url(args), read_token(args)
    context = context_of(url, args)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    status, body, _ = ask(url, "/status", args.timeout, context, _MAX_ANSWER, headers)
    if status == 401:
        is_given = "another token than that" if headers else "a token"
        raise RemoteProblem(f"{url} wants {is_given}: see --token-file")
    try:
        said = parse_json(body, ROUTER)
    except Unreadable:
        said = None
    if status == 404 and token and _is_a_teams(Remote(url, token, context)):
        raise RemoteProblem(
            f"{url}: the token is a team's, and a team has none of /status; "
            "`deliveries` and `trace` tell of its targets"
        )
    if status != 200 or not isinstance(said, dict) or "status" not in said:
        raise RemoteProblem(f"{url}: what answers there is {no_ops_port(status)}")
    return said


def _is_a_teams(remote: Remote) -> bool:
    """Whether that is a router, and its token for some targets alone."""
    try:
        return bool(remote.get("/you", {"owner": str | None})["owner"])
    except RouterError:
        return False


def _told(said: Said, cells: int) -> Iterator[str]:
    """Lines of at most so many cells. Raises RemoteProblem for what is no /status."""
    try:
        targets = said["targets"].get("each", {})
        rows = sorted(_row(name, each, said.get("at")) for name, each in targets.items())
        troubles = list(_troubles(said, targets))
        if said["reasons"] and not troubles:
            yield clipped(_cause(said["reasons"]), cells)
            yield _summary(said)
        else:
            yield f"{said['status']}: {_summary(said)}"
        for why in troubles:
            yield from textwrap.wrap(why, cells, subsequent_indent="  ", break_on_hyphens=False)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise RemoteProblem(
            "the router's /status is of another version than this command"
        ) from None
    if rows:
        yield ""
        yield from (clipped(line, cells) for line in columns([_HEAD, *(row for _, row in rows)]))


def _summary(said: Said) -> str:
    requests = said["requests"]
    in_flight = (
        f"{requests['in_flight']:,.0f} of {counted(int(requests['limit']), 'request')} in flight"
    )
    return f"ebaas-router {said['version']}, {in_flight}"


def _cause(reasons: Sequence[str]) -> str:
    """Where targets alone are why: what the table has not in so many words."""
    first, more = reasons[0].removeprefix("targets: "), len(reasons) - 1
    return f"degraded: {first}" + (f", and {counted(more, 'reason')} more" if more else "")


def _troubles(said: Said, targets: Said) -> Iterator[str]:
    """What is wrong but for what the table has."""
    tabled = tuple(f"targets: {name} " for name in targets)
    for why in said["reasons"]:
        if not why.startswith(tabled):
            yield why
    yield from said["configuration"].get("last_reload", {}).get("problems", ())


def _row(name: str, told: Said, now: str | None) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """What a target is sorted by, and its line."""
    from router.ops.api.targets import WORST

    unsettled, pause = told.get("unsettled", {}), told.get("pause")
    dead = unsettled.get("dead", 0)
    waiting = unsettled.get("queued", 0) + unsettled.get("awaiting", 0)
    rank = WORST.index(told["state"])
    failure = told.get("last_failure") if rank < WORST.index("waiting") else None
    cells = (
        clipped(name, _MAX_NAME),
        _state(told, now),
        f"{told['in_flight']:,.0f}/{told['limit']:,.0f}",
        f"{waiting:,.0f}",
        f"{dead:,.0f}",
        f"paused by {pause['who']}: {pause['because']}" if pause else why_failed(failure or {}),
    )
    return (rank, told.get("failing_since") or "~", -dead, -waiting, name), cells


def _state(told: Said, now: str | None) -> str:
    """The word for it, and for how long it is so where that is known."""
    state, pause, since = told["state"], told.get("pause"), told.get("failing_since")
    said: str = _WORDS.get(state, state.replace("_", " "))
    if state == "paused" and pause and now:
        said += f" {age(seconds(pause['until']) - seconds(now))} more"
    if state == "failing" and since and now:
        said += f" {age(seconds(now) - seconds(since))}"
    if state == "failing" and told.get("breaker", {}).keys() & {"open", "half_open"}:
        said += ", breaker open"
    return said
