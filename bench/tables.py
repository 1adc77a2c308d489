"""What bench.compare prints: Markdown of the figures of runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.processes import Peer

#: The figures of each run, by who was measured.
Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def table(runs: Runs, at_rest: Mapping[str, int], own_names: Sequence[str]) -> str:
    """Markdown: what an event costs each, and what part of that it costs the routers."""
    own = {name: _median(runs[name], "cpu_us") for name in own_names if name in runs}
    titles = [
        *("", "CPU µs per event", *(f"{name} is" for name in own)),
        *("callers", "events/s of one core", "p99 ms", "failures", "MB at rest", "MB after"),
    ]
    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    for name, each in runs.items():
        cpu = [run["cpu_us"] for run in each]
        median = statistics.median(cpu)
        others = [beside(cost, median) if other != name else "" for other, cost in own.items()]
        cells = [
            *(name, f"{median:,.0f} ({min(cpu):,.0f} to {max(cpu):,.0f})", *others),
            f"{each[0]['callers']}",
            *(f"{_median(each, 'per_second'):,.0f}", f"{_median(each, 'p99_ms'):.1f}"),
            f"{sum(run['failures'] for run in each)}",
            *(f"{at_rest[name] / 1e6:.0f}", f"{_median(each, 'memory') / 1e6:.0f}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def beside(cost: float, of: float) -> str:
    """One cost beside another, as one says it."""
    return f"{cost / of:.2f} of it" if cost * 10 > of else f"1/{of / cost:.0f} of it"


def lacks_table(peers: Sequence[Peer]) -> str:
    """Markdown: what the router does, and its peers don't."""
    rows = [f"| {each.name} | {each.lacks} |" for each in peers if each.lacks]
    return "\n".join(["| | does without |", "| --- | --- |", *rows])


def waits_table(waits: Runs) -> str:
    """Markdown: the median and the 99th percentile, by how near its best rate each is driven; and
    whether it is the generator that waited."""
    first = next(iter(waits.values()))
    titles = " | ".join(f"{w['part']:.0%} of its best rate" for w in first)
    lines = [f"| p50 / p99, ms | {titles} |", "| --- |" + " --- |" * len(first)]
    for name, each in waits.items():
        cells = " | ".join(f"{w['median']:.1f} / {w['p99']:.1f}" for w in each)
        lines.append(f"| {name} | {cells} |")
    runs = [run for each in waits.values() for run in each]
    late, cpu = (max(run[key] for run in runs) for key in ("late_p99", "cpu"))
    own = f"Of the generator: 99 % sent within {late:.2f} ms, at most {cpu:.0%} of its core."
    return "\n".join([*lines, "", own])


def _median(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))
