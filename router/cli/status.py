"""`status`: how a running router does, in a table that fits a terminal."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from router.cli.asking import RemoteProblem
from router.cli.columns import age, clipped, columns, counted, seconds
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, Parser, add_format, add_timeout
from router.cli.printing import note, say_json, say_lines
from router.cli.remote import Remote, add_remote, add_store, opened, read_url
from router.contract.replies import why_failed
from router.model.errors import StartFailed

HELP = Help(
    about="""Asks the router that runs on this machine, or the one at --url, and prints what is
    wrong, and a line for each target, the worst first: since when it fails, how many attempts are
    in flight of how many, how many deliveries wait for a retry, how many are dead letters, and why
    the last attempt failed. If routers share a store in PostgreSQL, the nodes follow: where each
    takes callbacks, its version, the hash of its configuration (`check --print` shows that of a
    file), what it has done since its start, and its last trouble. A node that was silent for 10 s
    is gone: it crashed, or is cut off from the database. With --store the nodes alone are listed,
    as the store has them.""",
    examples=(
        "ebaas-router status",
        "ebaas-router status --url http://router.internal:8081 --token-file ops-token",
        "watch -n 2 ebaas-router status",
        "ebaas-router status --store postgresql://router@db.example/ebaas",
        "ebaas-router status --format json | jq -r '.nodes[] | select(.gone) | .address'",
    ),
    exit_codes={
        GOOD: "all is well",
        BAD: "something is wrong, or it is not reachable; a node is gone, not ready, or differs",
        NOT_STARTED: "the file of the token is of no use, or the store can't be used",
    },
)

#: How much of a configuration's hash is shown; JSON has all of it.
_DIGITS = 12

#: The most of a target's name that is shown, in cells; JSON has all of it.
_MAX_NAME = 24

#: The cells and lines of what is no terminal.
_UNBOUNDED = (10**6, 24)

_HEAD = ("target", "state", "in flight", "waiting", "dead", "last failure")

#: What is said of a state, where that is not its own name.
_WORDS = {"failing": "fails", "unused": "no attempts"}

Said = Mapping[str, Any]


def configure(parser: Parser) -> None:
    add_store(parser)
    add_remote(parser)
    add_timeout(parser, "the whole question", "5s")
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    is_here = None if args.store is not None or read_url(args) is not None else False
    try:
        with opened(args, timeout=args.timeout, is_here=is_here) as router:
            said, nodes = _ask(router)
            cells = shutil.get_terminal_size(_UNBOUNDED).columns
            lines = (
                [] if args.format == "json" else [*_told(said, cells), *_format_nodes(nodes, said)]
            )
    except RemoteProblem as error:
        note(str(error))
        return BAD
    if args.format == "json":
        say_json({**said, "nodes": nodes})
    say_lines(lines)
    is_well = said.get("status", "ok") == "ok" and not any(_wrong(node, nodes) for node in nodes)
    return GOOD if is_well else BAD


def _ask(router: Remote) -> tuple[dict[str, Any], list[Any]]:
    """How the router does, of which a store alone knows nothing, and the nodes that share its
    store."""
    said = router.get("/status") if router.is_running else {}
    try:
        found = router.get("/nodes")
    except RemoteProblem as error:
        if error.status == 404 and said:
            return said, []  # for a team
        if error.status == 409:
            raise StartFailed("one router alone has this store: ask it by --url") from None
        raise
    nodes = found["nodes"] if found["shared"] else []
    return said, sorted(nodes, key=lambda node: (node["host"], node["address"], node["pid"]))


def _told(said: Said, cells: int) -> Iterator[str]:
    """Lines of at most so many cells."""
    if not said:
        return
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
    if rows:
        yield ""
        yield from (clipped(line, cells) for line in columns([_HEAD, *(row for _, row in rows)]))


def _summary(said: Said) -> str:
    if "requests" not in said:  # not for a team
        return f"ebaas-router {said['version']}"
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
    yield from said.get("configuration", {}).get("last_reload", {}).get("problems", ())


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


def _format_nodes(nodes: Sequence[Said], said: Said) -> Iterator[str]:
    if not nodes:
        return
    if said:
        yield ""
    rows: list[tuple[str, ...]]
    rows = [("node", "address", "version", "config", "up", "events", "failed", "in flight", "")]
    rows += [
        (
            f"{node['host']} {node['pid']}",
            node["address"],
            node["version"],
            node["config"][:_DIGITS],
            age(node["uptime_seconds"]),
            *(f"{node['figures'].get(name, 0):,.0f}" for name in ("events", "failed", "in_flight")),
            "; ".join([*_wrong(node, nodes), *_last_trouble(node)]),
        )
        for node in nodes
    ]
    yield from columns(rows)
    gone = sum(node["gone"] for node in nodes)
    yield ""
    yield counted(len(nodes), "node") + (f", {gone} of them gone" if gone else "")


def _wrong(node: Said, nodes: Sequence[Said]) -> list[str]:
    """What is not as it should be."""
    if node["gone"]:
        return [f"gone, silent for {age(node['silent_seconds'])}"]
    checks = {
        "not ready": not node["ready"],
        "another configuration": node["config"] != _most(nodes, lambda each: each["config"]),
        "another version": node["version"] != _most(nodes, lambda each: each["version"]),
    }
    return [what for what, is_so in checks.items() if is_so]


def _most(nodes: Sequence[Said], what: Callable[[Said], str]) -> str:
    """What most of those have that are not gone; of two, the one that comes first in the list."""
    ((said, _),) = Counter(what(node) for node in nodes if not node["gone"]).most_common(1)
    return said


def _last_trouble(node: Said) -> list[str]:
    return [f"{each['what']}, {each['at']}" for each in node["troubles"][:1]]
