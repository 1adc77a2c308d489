"""What is drawn of what grows."""

from __future__ import annotations

import re

from bench.curve import svg


def heights(drawn: str, mark: str) -> list[float]:
    """How far down each of these is, in the order in which they are drawn."""
    return [float(y) for y in re.findall(mark, drawn)]


def test_names_of_lines_that_end_together_are_apart() -> None:
    """Each can be read, in the order of the ends."""
    ends = {"one": 100.0, "two": 101.0, "three": 99.0}
    drawn = svg("", "", "", {name: [(1, 100.0), (2, y)] for name, y in ends.items()})
    two, one, three = (
        heights(drawn, rf'y="([0-9.]+)"[^>]*>{name}<')[0] for name in ("two", "one", "three")
    )
    assert two + 12 < one < three - 12


def test_what_is_steep_is_drawn_by_powers_of_ten() -> None:
    """From 50 to 500 is as far as from 500 to 5,000; what is not steep begins at 0."""
    steep = svg("", "", "", {"a": [(1, 50.0), (2, 500.0), (3, 5000.0)]})
    low, middle, high = heights(steep, r'cy="([0-9.]+)"')
    assert abs((low - middle) - (middle - high)) < 0.2
    assert ">0<" not in steep
    assert ">0<" in svg("", "", "", {"a": [(1, 50.0), (2, 500.0)]})
