"""The output of bench.compare: figures as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.processes import Peer

#: The figures of each run, by peer.
Runs = Mapping[str, Sequence[Mapping[str, Any]]]

#: Milliseconds of the generator's delay from which on it limits the result.
_LATE = 0.5


def table(runs: Runs, at_rest: Mapping[str, int], own_names: Sequence[str]) -> str:
    """Return the cost of an event by peer, and relative to the routers."""
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
    """Format one cost relative to another."""
    return f"{cost / of:.2f} of it" if cost * 10 > of else f"1/{of / cost:.0f} of it"


def lacks_table(peers: Sequence[Peer]) -> str:
    """Return the features that the peers lack."""
    rows = [f"| {each.name} | {each.lacks} |" for each in peers if each.lacks]
    return "\n".join(["| | does without |", "| --- | --- |", *rows])


def waits_table(waits: Runs) -> str:
    """Return the median and the 99th percentile by peer and fraction of its best rate, and where
    the generator was late."""
    first = next(iter(waits.values()))
    titles = " | ".join(f"{w['part']:.0%} of its best rate" for w in first)
    lines = [f"| p50 / p99, ms | {titles} |", "| --- |" + " --- |" * len(first)]
    for name, each in waits.items():
        lines.append(f"| {name} | {' | '.join(map(_waits, each))} |")
    kept = [run for each in waits.values() for run in each if not _is_late(run)]
    late = max((run["late_p99"] for run in kept), default=0.0)
    lines += ["", f"The generator noticed 99 % of the events within {late:.2f} ms; but where a"]
    return "\n".join([*lines, "figure has a *, its core was full, and the figure is its own too."])


def _waits(run: Mapping[str, Any]) -> str:
    return f"{run['median']:.1f} / {run['p99']:.1f}" + ("*" if _is_late(run) else "")


def _is_late(run: Mapping[str, Any]) -> bool:
    return bool(run["late_p99"] > _LATE)


def _median(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))
