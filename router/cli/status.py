"""`status` and `health`: the health of a running router, its targets and its nodes."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import shutil
import ssl
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any
from urllib.parse import urlsplit

from router.cli.options import Exit, Help, Parser, read_setting
from router.cli.printing import (
    age,
    clipped,
    columns,
    counted,
    format_recovery,
    note,
    say,
    say_as,
    seconds,
)
from router.cli.remote import (
    Remote,
    RemoteProblem,
    deadline,
    no_response,
    opened,
    own_url,
    why_unreachable,
)
from router.contract.replies import why_failed
from router.contract.strictjson import ANSWER, Unreadable, parse_json
from router.model.errors import StartFailed
from router.model.event import SUCCESS
from router.net.tls import Tls

STATUS = Help(
    about="""Asks the router that runs on this machine, or the one at --url. Prints what is wrong,
    and a line for each target, the worst first: how long it has been failing (nearly all attempts
    of the last minutes) or degraded (some), attempts in flight and their limit, deliveries that
    wait for a retry, dead letters, and the reason of the last failure, or the progress of a
    recovery. Pauses and callers that were turned away are listed, but are not problems. If routers
    share a store in PostgreSQL, a line for each node follows, with the hash of its configuration
    (`check --print` shows that of a file). A node that was silent for 10 s is gone: it crashed, or
    is cut off from the database. --store lists the nodes alone.""",
    examples="""
        ebaas-router status
        ebaas-router status --url http://router.internal:8081 --token-file ops-token
        ebaas-router status --store postgresql://router@db.example/ebaas
        ebaas-router status --format json | jq -r '.nodes[] | select(.gone) | .address'""",
    good="all is well",
    bad="something is wrong; it is not reachable; a node is gone, not ready, or differs",
    not_started="the token's file or the store can't be used",
)

#: How many digits of a configuration's hash, and cells of a target's name, are shown; JSON has all.
_DIGITS, _MAX_NAME = 12, 24

#: The seconds of the page's charts.
_HOUR = 3600.0

#: The cells and lines of an output that is not a terminal.
_UNBOUNDED = (10**6, 24)

_HEAD = ("target", "state", "in flight", "waiting", "dead", "last failure")

Json = Mapping[str, Any]


def configure_status(parser: Parser) -> None:
    parser.store()
    parser.remote()
    parser.timeout("the whole question", "5s")
    parser.format()


def run_status(args: argparse.Namespace) -> int:
    try:
        with opened(args, timeout=args.timeout, must_run=args.store is None) as router:
            status = router.get("/status") if router.is_running else {}
            nodes = _nodes(router)
            cells = shutil.get_terminal_size(_UNBOUNDED).columns
            lines, table = [*_format_status(status, cells)], [*_format_nodes(nodes)]
    except RemoteProblem as error:
        note(str(error))
        return Exit.BAD
    gap = [""] if lines and table else []
    say_as(args.format, [{**status, "nodes": nodes}], [*lines, *gap, *table])
    is_well = status.get("status", "ok") == "ok" and not any(_wrong(node, nodes) for node in nodes)
    return Exit.GOOD if is_well else Exit.BAD


def _nodes(router: Remote) -> Sequence[Json]:
    """Return the nodes that share the router's store."""
    try:
        answer = router.get("/nodes")
    except RemoteProblem as error:
        if error.status == 404 and router.is_running:
            return []  # for a team
        if error.status == 409:
            raise StartFailed("one router alone has this store: ask it by --url") from None
        raise
    nodes = answer["nodes"] if answer["shared"] else []
    return sorted(nodes, key=itemgetter("host", "address", "pid"))


def _format_status(status: Json, cells: int) -> Iterator[str]:
    """Yield lines of at most so many cells."""
    if not status:
        return
    load, requests = "", status.get("requests")  # not for a team
    if requests is not None:
        limit = counted(int(requests["limit"]), "request")
        load = f", {requests['in_flight']:,.0f} of {limit} in flight"
    yield f"{status['status']}: ebaas-router {status['version']}{load}"
    if since := _counted_since(status):
        yield f"counted since {since}"
    targets = status["targets"].get("each", {})
    for why in _troubles(status, targets):
        yield from textwrap.wrap(why, cells, subsequent_indent="  ", break_on_hyphens=False)
    yield from _format_observed(status.get("observed", {}), cells)
    rows = [_row(name, target, status["at"]) for name, target in targets.items()]
    if rows:
        yield ""
        yield from (clipped(line, cells) for line in columns([_HEAD, *rows]))


def _counted_since(status: Json) -> str | None:
    """Return since when the router counts, if that is less than an hour ago."""
    since = status.get("counted_since")
    return since if since and seconds(status["at"]) - seconds(since) < _HOUR else None


def _troubles(status: Json, targets: Json) -> Iterator[str]:
    """Yield what is wrong, and notices, except for targets whose row in the table says so."""
    in_table = tuple(f"targets: {name} " for name, target in targets.items() if _is_bad(target))
    notices = (
        f"{cause['check']}: {cause['text']}"
        for cause in status.get("causes", ())
        if cause.get("severity") == "notice"
    )
    for why in (*status["reasons"], *notices):
        if not why.startswith(in_table):
            yield why
    yield from status.get("configuration", {}).get("last_reload", {}).get("problems", ())


def _format_observed(observed: Json, cells: int) -> Iterator[str]:
    """Yield how EBaaS's calls differ from routes.yaml, and the keys that would be right."""
    if not observed.get("differences"):
        return
    for each in observed["differences"]:
        yield from textwrap.wrap(each["text"], cells, subsequent_indent="  ")
    advice = "; routes.yaml would be right with:" if observed["yaml"] else ""
    yield f"counted since {observed['since']}{advice}"
    yield from textwrap.indent(observed["yaml"], "  ").splitlines()


def _is_bad(target: Json) -> bool:
    # A router of 0.3.0 has no severity.
    return bool(target.get("severity", target["state"] not in ("well", "unused", "waiting")))


def _row(name: str, target: Json, now: str) -> tuple[str, ...]:
    unsettled, pause = target.get("unsettled", {}), target.get("pause")
    waiting = unsettled.get("queued", 0) + unsettled.get("awaiting", 0)
    last = why_failed((_is_bad(target) and target.get("last_failure")) or {})
    if pause:
        last = f"paused by {pause['who']}: {pause['because']}"
    elif recovery := target.get("recovery"):
        last = format_recovery(recovery)
    return (
        clipped(name, _MAX_NAME),
        _state(target, now),
        f"{target['in_flight']:,.0f}/{target['limit']:,.0f}",
        f"{waiting:,.0f}",
        f"{unsettled.get('dead', 0):,.0f}",
        last,
    )


def _state(target: Json, now: str) -> str:
    """Return the state, and for how long it is so, if that is known."""
    words, pause, since = str(target["state"]), target.get("pause"), target.get("failing_since")
    if words == "paused":
        return f"paused {age(seconds(pause['until']) - seconds(now))} more" if pause else words
    if since:
        words += f" {age(seconds(now) - seconds(since))}"
    return words + (
        ", breaker open" if target.get("breaker", {}).keys() & {"open", "half_open"} else ""
    )


def _format_nodes(nodes: Sequence[Json]) -> Iterator[str]:
    if not nodes:
        return
    rows: list[tuple[str, ...]]
    rows = [("node", "address", "version", "config", "up", "events", "failed", "in flight", "")]
    for node in nodes:
        last = [f"{trouble['what']}, {trouble['at']}" for trouble in node["troubles"][:1]]
        figures = (node["figures"].get(name, 0) for name in ("events", "failed", "in_flight"))
        rows.append(
            (
                f"{node['host']} {node['pid']}",
                node["address"],
                node["version"],
                node["config"][:_DIGITS],
                age(node["uptime_seconds"]),
                *(f"{figure:,.0f}" for figure in figures),
                "; ".join([*_wrong(node, nodes), *last]),
            )
        )
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


# `health`, which starts fast, because containers ask often.

HEALTH = Help(
    about="""Asks a running router's /readyz and prints one line. Ready means: the configuration is
    loaded, the store has been opened, and the router is not stopping. It says nothing about the
    business endpoints. It asks where a `serve` with the same variables listens, by TLS where that
    has a certificate, which makes it a container's HEALTHCHECK as it is.""",
    examples="""
        ebaas-router health
        ebaas-router health --port 9000 --timeout 500ms""",
    good="ready",
    bad="not ready, or not reachable",
)

#: The largest response that is read, in bytes; the router's own are under 200.
_MAX_RESPONSE = 64 * 1024


def configure_health(parser: Parser) -> None:
    parser.timeout("the whole question", "2s")
    parser.settings(
        host="the address where it listens",
        port="the port where it listens",
        tls_cert="ask by TLS, as the router that has this certificate wants it; the file is not "
        "read and the certificate not verified",
    )


def run_health(args: argparse.Namespace) -> int:
    is_tls = read_setting(args, "tls_cert") is not None
    url = own_url(args, "host", "port", "https" if is_tls else "http")
    # The certificate is for another name than this machine's, and the router gets no secret.
    context = Tls.of(verify=False).trust if is_tls else None
    try:
        status, body = _response(url, args.timeout, context)
    except RemoteProblem as error:
        say(f"not reachable: {error}")
        return Exit.BAD
    why = _why_not_ready(url, status, body)
    say(f"not ready: {why}" if why else "ready")
    return Exit.BAD if why else Exit.GOOD


def _why_not_ready(url: str, status: int, body: bytes) -> str:
    if status == 404:
        return f"{url} has no /readyz (HTTP 404): it is for the callback port"
    code = msg = ""
    with contextlib.suppress(Unreadable, LookupError, TypeError):
        reply = parse_json(body, ANSWER)
        code, msg = str(reply["code"]), str(reply["msg"])
    if status == 200:
        return "" if code == SUCCESS else f"the server at {url} is not the router"
    return f"HTTP {status} {msg}".rstrip()


def _response(url: str, timeout: float, context: ssl.SSLContext | None) -> tuple[int, bytes]:
    """Return status and body of /readyz. Raises RemoteProblem."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection = (
        http.client.HTTPSConnection(host, port, context=context)
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port)
    )
    try:
        with deadline(timeout), contextlib.closing(connection):
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            return response.status, response.read(_MAX_RESPONSE)
    except TimeoutError:
        raise no_response(url, timeout) from None
    except (OSError, http.client.HTTPException) as error:
        raise RemoteProblem(f"{url}: {why_unreachable(error)}") from None
