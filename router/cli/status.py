"""`status`: the health of a running router, its targets and its nodes, to fit a terminal."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from router.cli.options import Exit, Help, Parser
from router.cli.printing import age, clipped, columns, counted, note, say_as, seconds
from router.cli.remote import Remote, RemoteProblem, add_remote, add_store, opened
from router.contract.replies import why_failed
from router.model.errors import StartFailed

STATUS = Help(
    about="""Asks the router that runs on this machine, or the one at --url. Prints what is wrong,
    and a line for each target, the worst first: since when it fails, attempts in flight and their
    limit, deliveries that wait for a retry, dead letters, and why the last attempt failed. If
    routers share a store in PostgreSQL, a line for each node follows: its address, version, the
    hash of its configuration (`check --print` shows that of a file), its counts since its start,
    and its last trouble. A node that was silent for 10 s is gone: it crashed, or is cut off from
    the database. With --store the nodes alone are listed, as the store has them.""",
    examples=(
        "ebaas-router status",
        "ebaas-router status --url http://router.internal:8081 --token-file ops-token",
        "ebaas-router status --store postgresql://router@db.example/ebaas",
        "ebaas-router status --format json | jq -r '.nodes[] | select(.gone) | .address'",
    ),
    exit_codes={
        Exit.GOOD: "all is well",
        Exit.BAD: "something is wrong; it is not reachable; a node is gone, not ready, or differs",
        Exit.NOT_STARTED: "the token's file or the store can't be used",
    },
)

#: How many digits of a configuration's hash, and cells of a target's name, are shown; JSON has all.
_DIGITS, _MAX_NAME = 12, 24

#: The cells and lines of an output that is not a terminal.
_UNBOUNDED = (10**6, 24)

_HEAD = ("target", "state", "in flight", "waiting", "dead", "last failure")

#: The console's words for states that are not shown by their names.
_WORDS = {"well": "healthy", "unused": "idle"}

Json = Mapping[str, Any]


def configure_status(parser: Parser) -> None:
    add_store(parser)
    add_remote(parser)
    parser.timeout("the whole question", "5s")
    parser.format()


def run_status(args: argparse.Namespace) -> int:
    try:
        with opened(args, timeout=args.timeout, must_run=args.store is None) as router:
            status, nodes = _ask(router)
            cells = shutil.get_terminal_size(_UNBOUNDED).columns
            lines, table = [*_format_status(status, cells)], [*_format_nodes(nodes)]
    except RemoteProblem as error:
        note(str(error))
        return Exit.BAD
    gap = [""] if lines and table else []
    say_as(args.format, [{**status, "nodes": nodes}], [*lines, *gap, *table])
    is_well = status.get("status", "ok") == "ok" and not any(_wrong(node, nodes) for node in nodes)
    return Exit.GOOD if is_well else Exit.BAD


def _ask(router: Remote) -> tuple[dict[str, Any], list[Any]]:
    """Return the router's status, which a store alone does not have, and the nodes that share its
    store."""
    status = router.get("/status") if router.is_running else {}
    try:
        found = router.get("/nodes")
    except RemoteProblem as error:
        if error.status == 404 and status:
            return status, []  # for a team
        if error.status == 409:
            raise StartFailed("one router alone has this store: ask it by --url") from None
        raise
    nodes = found["nodes"] if found["shared"] else []
    return status, sorted(nodes, key=itemgetter("host", "address", "pid"))


def _format_status(status: Json, cells: int) -> Iterator[str]:
    """Yield lines of at most so many cells."""
    if not status:
        return
    yield f"{status['status']}: ebaas-router {status['version']}{_load(status)}"
    targets = status["targets"].get("each", {})
    for why in _troubles(status, targets):
        yield from textwrap.wrap(why, cells, subsequent_indent="  ", break_on_hyphens=False)
    rows = sorted(_row(name, target, status.get("at")) for name, target in targets.items())
    if rows:
        yield ""
        yield from (clipped(line, cells) for line in columns([_HEAD, *(row for _, row in rows)]))


def _load(status: Json) -> str:
    if "requests" not in status:  # not for a team
        return ""
    requests = status["requests"]
    limit = counted(int(requests["limit"]), "request")
    return f", {requests['in_flight']:,.0f} of {limit} in flight"


def _troubles(status: Json, targets: Json) -> Iterator[str]:
    """Yield what is wrong, except for targets whose row in the table says so."""
    bad = [name for name, target in targets.items() if target["state"] not in ("well", "unused")]
    in_table = tuple(f"targets: {name} " for name in bad)
    for why in status["reasons"]:
        if not why.startswith(in_table):
            yield why
    yield from status.get("configuration", {}).get("last_reload", {}).get("problems", ())


def _row(name: str, target: Json, now: str | None) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Return the sort key of a target, and its row."""
    from router.ops.api.targets import WORST

    unsettled, pause = target.get("unsettled", {}), target.get("pause")
    dead = unsettled.get("dead", 0)
    waiting = unsettled.get("queued", 0) + unsettled.get("awaiting", 0)
    rank = WORST.index(target["state"])
    failure = target.get("last_failure") if rank < WORST.index("waiting") else None
    cells = (
        clipped(name, _MAX_NAME),
        _state(target, now),
        f"{target['in_flight']:,.0f}/{target['limit']:,.0f}",
        f"{waiting:,.0f}",
        f"{dead:,.0f}",
        f"paused by {pause['who']}: {pause['because']}" if pause else why_failed(failure or {}),
    )
    return (rank, target.get("failing_since") or "~", -dead, -waiting, name), cells


def _state(target: Json, now: str | None) -> str:
    """Return the state, and for how long it is so, if that is known."""
    state, pause, since = target["state"], target.get("pause"), target.get("failing_since")
    words = str(_WORDS.get(state, state.replace("_", " ")))
    if state == "paused" and pause and now:
        words += f" {age(seconds(pause['until']) - seconds(now))} more"
    if state == "failing" and since and now:
        words += f" {age(seconds(now) - seconds(since))}"
    if state == "failing" and target.get("breaker", {}).keys() & {"open", "half_open"}:
        words += ", breaker open"
    return words


def _format_nodes(nodes: Sequence[Json]) -> Iterator[str]:
    if not nodes:
        return
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
    yield counted(len(nodes), "node") + (f", {gone} of them gone" if gone else "")


def _wrong(node: Json, nodes: Sequence[Json]) -> list[str]:
    if node["gone"]:
        return [f"gone, silent for {age(node['silent_seconds'])}"]
    checks = {
        "not ready": not node["ready"],
        "another configuration": node["config"] != _most_common("config", nodes),
        "another version": node["version"] != _most_common("version", nodes),
    }
    return [problem for problem, is_so in checks.items() if is_so]


def _most_common(name: str, nodes: Sequence[Json]) -> str:
    """Return the most common value; of two, the first in the list."""
    ((value, _),) = Counter(str(node[name]) for node in nodes if not node["gone"]).most_common(1)
    return value


def _last_trouble(node: Json) -> list[str]:
    return [f"{trouble['what']}, {trouble['at']}" for trouble in node["troubles"][:1]]
