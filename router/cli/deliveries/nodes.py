"""`nodes`: the processes that share a store in PostgreSQL, and whether they all run the same."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from router.cli.columns import columns, counted
from router.cli.deliveries.store import add_store, opened_ops
from router.cli.options import BAD, GOOD, NOT_STARTED, Help, add_format, read_setting
from router.cli.printing import say_as, told_while_slow
from router.cli.remote import add_remote, read_remote
from router.cli.times import age
from router.model.errors import StartFailed
from router.store.shapes import NodeShape, node_shape
from router.store.url import Database

HELP = Help(
    about="""Every router that shares a store in PostgreSQL writes itself there once a second.
    Listed are where each takes callbacks, its version, the hash of the configuration it runs
    (`check --print` prints that of a file), what it has done since its start, and its last trouble.
    One that was silent for 10 s is gone: it crashed, or is cut off from the database; its row goes
    after 10 minutes. One that was stopped leaves no row. With --url a router is asked, which tells
    of itself alone where it shares its store with nobody.""",
    examples=(
        "ebaas-router nodes --store postgresql://router@db.example/ebaas",
        "ebaas-router nodes --url http://router:8081 --token-file ops-token",
        "ebaas-router nodes --format json | jq -r 'select(.gone) | .address'",
    ),
    exit_codes={
        GOOD: "all run the same",
        BAD: "one is gone or not ready, or they run different configurations or versions",
        NOT_STARTED: "the store has no nodes, or that or the router can't be used",
    },
)


#: How much of a configuration's hash is shown; JSON has all of it.
_DIGITS = 12


def configure(parser: argparse.ArgumentParser) -> None:
    add_store(parser)
    add_remote(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    remote = read_remote(args)
    if remote is not None:
        nodes = remote.member("/nodes", "nodes", list[NodeShape])
    else:
        _mind_shared(args)
        with opened_ops(args) as (runner, ops), told_while_slow("the store"):
            found = runner.run(ops.nodes())
        nodes = [*map(node_shape, found or ())]
    nodes.sort(key=lambda node: (node["host"], node["address"], node["pid"]))
    say_as(args.format, nodes, _told(nodes))
    return BAD if any(_wrong(node, nodes) for node in nodes) else GOOD


def _mind_shared(args: argparse.Namespace) -> None:
    """Raises StartFailed for a store that no nodes share."""
    if not isinstance(read_setting(args, "store"), Database):
        raise StartFailed(
            "only nodes that share a store in PostgreSQL are listed there; how a single one does "
            "is on its ops port: /status"
        )


def _told(nodes: Sequence[NodeShape]) -> Iterator[str]:
    if not nodes:
        yield "no nodes"
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
    yield ""
    yield counted(len(nodes), "node") + (f", {gone} of them gone" if gone else "")


def _wrong(node: NodeShape, nodes: Sequence[NodeShape]) -> list[str]:
    """What is not as it should be."""
    if node["gone"]:
        return [f"gone, silent for {age(node['silent_seconds'])}"]
    checks = {
        "not ready": not node["ready"],
        "another configuration": node["config"] != _most(nodes, lambda each: each["config"]),
        "another version": node["version"] != _most(nodes, lambda each: each["version"]),
    }
    return [what for what, is_so in checks.items() if is_so]


def _most(nodes: Sequence[NodeShape], what: Callable[[NodeShape], str]) -> str:
    """What most of those have that are not gone; of two, the one that comes first in the list."""
    ((said, _),) = Counter(what(node) for node in nodes if not node["gone"]).most_common(1)
    return said


def _last_trouble(node: NodeShape) -> list[str]:
    return [f"{each['what']}, {each['at']}" for each in node["troubles"][:1]]
