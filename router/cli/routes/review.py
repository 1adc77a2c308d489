"""What differs between two configurations, as a comment of a review and as CI systems show it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from router.cli.annotations import Annotation, Checked
from router.cli.columns import counted
from router.cli.routes.diff import (
    edited,
    effect,
    effects_of,
    heading,
    keys_of,
    number,
    summary,
    untried_of,
    why,
)
from router.config.comparison import Comparison, Edit, Group

#: The most that a comment lists: GitHub takes 65,536 characters.
_GROUPS, _LINES = 20, 100

_TICKS = re.compile("`+")


def review(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    """Markdown. What files and events say is code in it: no mark-up, and calls nobody."""
    yield f"### Routing: {summary(compared)}"
    yield ""
    yield from _effects(compared)
    groups = compared.groups()
    if groups:
        yield "| events | what changes | targets | keys | routes |"
        yield "| --- | --- | --- | --- | --- |"
        yield from map(_row, groups[:_GROUPS])
        yield ""
    if len(groups) > _GROUPS:
        yield f"And {counted(len(groups) - _GROUPS, 'group')} of events more."
        yield ""
    yield from _edits(compared, edits)


def _effects(compared: Comparison) -> Iterator[str]:
    found = [
        effect(compared, move, events, f"{_code(move.target)}{_owner(compared, move.target)}")
        for move, events in compared.moves()
    ]
    if unmatched := compared.newly_unmatched:
        total = counted(compared.events, "event")
        found.insert(0, f"{unmatched:,} of {total} would match **no route** any more")
    yield from (f"- {each}" for each in found)
    if found:
        yield ""


def _owner(compared: Comparison, target: str) -> str:
    owner = compared.owner(target)
    return f" ({_code(owner)})" if owner else ""


def _row(group: Group) -> str:
    targets = [f"{_code(name)} {what}" for name, what in effects_of(group.change)]
    because = why(group)
    cells = [
        number(group),
        heading(group.change),
        "<br>".join(targets),
        _code(keys_of(group)),
        _code(because) if because else "",
    ]
    return f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |"


def _edits(compared: Comparison, edits: Sequence[Edit]) -> Iterator[str]:
    """What differs as such, folded."""
    if not edits:
        return
    lines = list(edited(edits))[:-1]
    if untried := untried_of(compared, edits):
        lines += ["", untried]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"and {len(lines) - _LINES:,} lines more"]
    fence = _fence("\n".join(lines), 3)
    yield f"<details><summary>What was edited: {counted(len(edits), 'difference')}</summary>"
    yield ""
    yield from (fence, *lines, fence)
    yield ""
    yield "</details>"


def _code(text: str) -> str:
    fence = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _fence(text: str, least: int) -> str:
    """More ticks than stand in the text in a row."""
    return "`" * max([least, *(len(each) + 1 for each in _TICKS.findall(text))])


def checked(compared: Comparison, edits: Sequence[Edit], file: str) -> Iterator[Checked]:
    """Each group by itself, at the first of its routes that was edited; a loss is an error."""
    names = {edit.name for edit in edits if edit.kind == "route"}
    for group in compared.groups():
        edited_first = sorted(group.after, key=lambda each: (each.name not in names, each.place))
        place = edited_first[0].place if edited_first else (file, 0)
        level: Literal["error", "notice"] = "error" if group.change.is_loss else "notice"
        found = Annotation(level, _told(group), *place)
        yield Checked([found])
    if not compared.changed:
        yield Checked(said=summary(compared))


def _told(group: Group) -> str:
    said = [f"{number(group)}: {heading(group.change)}"]
    said += [f"{name} {what}" for name, what in effects_of(group.change)]
    said.append(f"keys {keys_of(group)}")
    if because := why(group):
        said.append(f"routes {because}")
    return "; ".join(said)
