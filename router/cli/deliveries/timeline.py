"""The failed attempts of an event as text, in the receivers' own words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.cli.columns import columns
from router.store import TriedEntryShape, TriedShape


def timeline(entries: Sequence[TriedEntryShape]) -> Iterator[str]:
    """The failed attempts of all targets, in order of time."""
    told = [(tried, entry) for entry in entries for tried in entry["attempts"]]
    rows = [("failed attempts", "of", "target", f"{'took':>8}", "reason", "status", "it said")]
    for tried, entry in sorted(told, key=lambda each: (each[0]["at"], each[0]["number"])):
        target = entry["target"]
        by = f"retry {tried['retry']}" if tried["retry"] else f"request {tried['request']}"
        took, status = f"{tried['ms']:>5g} ms", str(tried["status"] or "")
        rows.append((tried["at"], by, target, took, tried["reason"], status, _said(tried)))
        if tried["number"] == 1 and (more := _between(entry["attempts"])):
            rows.append((f"{more:,} more", "", target, "", "", "", ""))
    yield from columns(rows)


def _between(tried: Sequence[TriedShape]) -> int:
    """How many attempts between the first and the others are not kept."""
    return tried[1]["number"] - 2 if len(tried) > 1 else 0


def _said(tried: TriedShape) -> str:
    """The receiver's own words, which are harmless; where there are none, ours."""
    words = [word for word in (tried["code"], tried["msg"]) if word]
    return ": ".join(words) or tried["detail"]


def reason_of(entry: TriedEntryShape) -> str:
    """With what the last attempt knows of it."""
    if not entry["attempts"] or entry["attempts"][-1]["reason"] != entry["reason"]:
        return entry["reason"]
    last = entry["attempts"][-1]
    more = [str(each) for each in (last["status"], last["detail"]) if each]
    return f"{last['reason']} ({', '.join(more)})" if more else last["reason"]
