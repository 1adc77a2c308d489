"""Grafana's JSON for a dashboard: panels, their positions, variables, and the text of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}

#: The width and height of a panel. A dashboard has 24 columns.
COLUMNS = 24
WIDE, HALF, THIRD, SIXTH = (24, 8), (12, 8), (8, 8), (4, 4)

#: The length of the file's lines up to which a list or an object stays on one line.
LINE = 110


def row(title: str) -> Json:
    return {"type": "row", "title": title, "gridPos": {"w": COLUMNS, "h": 1}, "panels": []}


def stat(title: str, about: str, unit: str, expr: str, *steps: tuple[float, str]) -> Json:
    """Return a panel with one number. It is green, or has the colour of the highest step
    reached."""
    colors: list[Json] = [{"color": "green", "value": None}]
    colors += [{"color": color, "value": value} for value, color in steps]
    defaults = {"unit": unit, "noValue": "-", "thresholds": {"mode": "absolute", "steps": colors}}
    return _panel(
        *("stat", title, SIXTH, about),
        targets=[{"refId": "A", "instant": True, "expr": expr}],
        fieldConfig={"defaults": defaults, "overrides": []},
        options={"colorMode": "background", "graphMode": "none"},
    )


def graph(
    title: str, size: tuple[int, int], about: str, unit: str, lines: Mapping[str, str]
) -> Json:
    """Return a panel of queries over time, by legend."""
    defaults = {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}}
    return _panel(
        *("timeseries", title, size, about),
        targets=[
            {"refId": ref, "legendFormat": legend, "expr": expr}
            for ref, (legend, expr) in zip("ABCDEFGH", lines.items(), strict=False)
        ],
        fieldConfig={"defaults": defaults, "overrides": []},
        options={"tooltip": {"mode": "multi", "sort": "desc"}},
    )


def table(
    title: str, about: str, labels: Sequence[str], columns: Mapping[str, tuple[str, str]]
) -> Json:
    """Return a table with a row for each set of labels, a column for each named label, and one for
    each query, with its title and unit. The first query sorts the rows."""
    refs = dict(zip(columns, "ABCDEFGH", strict=False))
    values = {name: f"Value #{ref}" if len(refs) > 1 else "Value" for name, ref in refs.items()}
    fields = [*labels, *values.values()]
    order = {field: at for at, field in enumerate(fields)}
    names = {field: name for name, field in values.items()}
    return _panel(
        *("table", title, WIDE, about),
        targets=[
            {"refId": refs[name], "instant": True, "format": "table", "expr": expr}
            for name, (_, expr) in columns.items()
        ],
        transformations=[
            # First, because rows are merged if all other fields are equal.
            {"id": "filterFieldsByName", "options": {"include": {"names": fields}}},
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"indexByName": order, "renameByName": names}},
        ],
        fieldConfig={
            "defaults": {"noValue": "-"},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [{"id": "unit", "value": unit}],
                }
                for name, (unit, _) in columns.items()
            ],
        },
        options={"sortBy": [{"displayName": next(iter(columns)), "desc": True}]},
    )


def variable(name: str, query: str, *, many: bool = False) -> Json:
    """Return a variable whose values are queried. If there may be many values, all are chosen at
    first."""
    asked = {"query": query, "refId": "StandardVariableQuery"}
    found: Json = {"name": name, "type": "query", "datasource": SOURCE, "query": asked}
    found |= {"refresh": 2, "sort": 1}
    if many:
        # `.*`, because a target may have no owner.
        found |= {"multi": True, "includeAll": True, "allValue": ".*"}
        found |= {"current": {"text": "All", "value": "$__all"}}
    return found


def placed(panels: Sequence[Json]) -> list[Json]:
    """Number the panels, and place them from left to right, then below."""
    x = y = height = 0
    found = []
    for number, panel in enumerate(panels, 1):
        size = panel["gridPos"]
        if x + size["w"] > COLUMNS:
            x, y, height = 0, y + height, 0
        found.append({"id": number, **panel, "gridPos": {"x": x, "y": y, **size}})
        x, height = x + size["w"], max(height, size["h"])
    return found


def legible(value: Any, indent: str = "") -> str:
    """Format JSON; values that fit on a line stay on one."""
    line = json.dumps(value)
    if len(indent) + len(line) <= LINE or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, list):
        first, last, parts = "[", "]", [legible(each, inner) for each in value]
    else:
        first, last = "{", "}"
        parts = [f"{json.dumps(key)}: {legible(each, inner)}" for key, each in value.items()]
    return f"{first}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{last}"


def _panel(kind: str, title: str, size: tuple[int, int], about: str, **more: Any) -> Json:
    words = {"type": kind, "title": title, "description": about}
    return {**words, "datasource": SOURCE, "gridPos": {"w": size[0], "h": size[1]}, **more}
