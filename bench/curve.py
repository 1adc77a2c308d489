"""A figure as one reads it in a README: a few lines over a logarithmic axis, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_COLOURS = ("#0b6e4f", "#c8553d", "#3d5a80", "#8d6a9f")
_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 130, 36, 44

Points = Sequence[tuple[float, float]]


def svg(title: str, across: str, up: str, lines: Mapping[str, Points]) -> str:
    """A whole SVG document: `lines` by name, each as points of (across, up)."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    top = _round_up(max(y for points in lines.values() for _, y in points))
    place = _Place(xs, top)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
            ' font-family="sans-serif" font-size="11" fill="#444">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">{title}</text>',
        *_grid(place, across, up),
    ]
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        parts += _line(name, points, colour, place)
    return "\n".join([*parts, "</svg>\n"])


class _Place:
    """Where a point is on the page. Across is evenly by the values there are, and not by size."""

    def __init__(self, xs: Sequence[float], top: float) -> None:
        self.xs = xs
        self.top = top

    def x(self, value: float) -> float:
        steps = max(1, len(self.xs) - 1)
        return _LEFT + self.xs.index(value) * (_WIDTH - _LEFT - _RIGHT) / steps

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.top * (_HEIGHT - _TOP - _BOTTOM)


def _grid(place: _Place, across: str, up: str) -> list[str]:
    right = _WIDTH - _RIGHT
    parts = [
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{across}</text>',
        (
            f'<text x="14" y="{_HEIGHT / 2}" transform="rotate(-90 14 {_HEIGHT / 2})"'
            f' text-anchor="middle">{up}</text>'
        ),
    ]
    for step in range(5):
        value = place.top * step / 4
        y = place.y(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    y = _HEIGHT - _BOTTOM + 16
    parts += [
        f'<text x="{place.x(x):.1f}" y="{y}" text-anchor="middle">{x:,g}</text>' for x in place.xs
    ]
    return parts


def _line(name: str, points: Points, colour: str, place: _Place) -> list[str]:
    at = [(place.x(x), place.y(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
    x, y = at[-1]
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *dots,
        f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" fill="{colour}">{name}</text>',
    ]


def _round_up(value: float) -> float:
    """The next of 1, 2, 4 or 10 times a power of ten, so that the quarters are round."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 10) if step * power >= value)
