"""A figure as one reads it in a README: a few lines over the values that there are, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#8d6a9f")
_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 130, 36, 44

#: From which ratio on, of the most to the least, the axis upwards is logarithmic.
_STEEP = 20

#: The least between the names of two lines.
_APART = 13

Points = Sequence[tuple[float, float]]


def svg(title: str, across: str, up: str, lines: Mapping[str, Points]) -> str:
    """A whole SVG document: `lines` by name, each as points of (across, up)."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    place = _Place(xs, [y for points in lines.values() for _, y in points])
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            ' font-family="sans-serif" font-size="11" fill="#444">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">{title}</text>',
        *_grid(place, across, up),
    ]
    colours = dict(zip(lines, _COLOURS, strict=False))
    for name, colour in colours.items():
        parts += _line(lines[name], colour, place)
    for name, y in _names(lines, place):
        x = _WIDTH - _RIGHT + 8
        parts.append(f'<text x="{x}" y="{y + 4:.1f}" fill="{colours[name]}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


class _Place:
    """Where a point is on the page. Across is evenly by the values there are, and not by size."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.xs = xs
        #: The lines of the grid, the least and the most among them.
        self.steps = _powers(min(ys), max(ys)) if max(ys) > _STEEP * min(ys) else _quarters(max(ys))

    def x(self, value: float) -> float:
        steps = max(1, len(self.xs) - 1)
        return _LEFT + self.xs.index(value) * (_WIDTH - _LEFT - _RIGHT) / steps

    def y(self, value: float) -> float:
        least, most = self.steps[0], self.steps[-1]
        if least:
            value, least, most = map(math.log, (value, least, most))
        return _HEIGHT - _BOTTOM - (value - least) / (most - least) * (_HEIGHT - _TOP - _BOTTOM)


def _quarters(most: float) -> list[float]:
    """From 0 to the next of 1, 2, 4 or 10 times a power of ten, so that the quarters are round."""
    power = 10.0 ** math.floor(math.log10(most))
    top = next(step * power for step in (1, 2, 4, 10) if step * power >= most)
    return [top * step / 4 for step in range(5)]


def _powers(least: float, most: float) -> list[float]:
    """Those of ten around all there is."""
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    return [10.0**power for power in range(first, last + 1)]


def _grid(place: _Place, across: str, up: str) -> list[str]:
    right = _WIDTH - _RIGHT
    parts = [
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{across}</text>',
        (
            f'<text x="14" y="{_HEIGHT / 2}" transform="rotate(-90 14 {_HEIGHT / 2})"'
            f' text-anchor="middle">{up}</text>'
        ),
    ]
    for value in place.steps:
        y = place.y(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,g}</text>')
    y = _HEIGHT - _BOTTOM + 16
    parts += [
        f'<text x="{place.x(x):.1f}" y="{y}" text-anchor="middle">{x:,.0f}</text>' for x in place.xs
    ]
    return parts


def _line(points: Points, colour: str, place: _Place) -> list[str]:
    at = [(place.x(x), place.y(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at),
    ]


def _names(lines: Mapping[str, Points], place: _Place) -> Iterator[tuple[str, float]]:
    """How far down each line's name is: where it ends, or below the name of the one above."""
    free = 0.0
    for y, name in sorted((place.y(points[-1][1]), name) for name, points in lines.items()):
        free = max(free, y)
        yield name, free
        free += _APART
