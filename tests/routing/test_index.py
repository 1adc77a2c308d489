"""Index: it leaves nothing out, and it leaves little in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.routing.index import Anchor, Clause, Index, Rule

_texts = st.text("ab.", min_size=1, max_size=6)
_values = st.fixed_dictionaries({"x": st.text("ab.", max_size=9), "y": st.text("ab.", max_size=9)})
_anchors = st.builds(
    Anchor, st.sampled_from("xy"), st.sampled_from(("whole", "start", "end", "inside")), _texts
)
_ways = st.lists(_anchors, max_size=3).map(tuple)
_rules = st.lists(st.lists(st.lists(_ways, max_size=3), max_size=3), max_size=40)


def _holds(anchor: Anchor, value: str) -> bool:
    return {
        "whole": value == anchor.text,
        "start": value.startswith(anchor.text),
        "end": value.endswith(anchor.text),
        "inside": anchor.text in value,
    }[anchor.place]


def _certain(*anchors: Anchor) -> Clause:
    """A clause that can be fulfilled in one way only."""
    return [anchors]


@given(_rules, _values)
def test_no_rule_that_can_match_is_left_out(rules: Sequence[Rule], values: dict[str, str]) -> None:
    """A rule is a candidate if, for each clause, all anchors of one way hold."""
    able = {
        number
        for number, rule in enumerate(rules)
        if all(
            any(all(_holds(anchor, values[anchor.field]) for anchor in way) for way in clause)
            for clause in rule
        )
    }
    assert able <= Index(rules).candidates(values)


_MANY = 2_500

_SHAPES: dict[str, Callable[[int], Rule]] = {
    "a whole value": lambda i: [_certain(Anchor("x", "whole", f"a.{i}"))],
    "a start": lambda i: [_certain(Anchor("x", "start", f"a.{i}."))],
    "an end": lambda i: [_certain(Anchor("x", "end", f".{i}"))],
    "text inside": lambda i: [_certain(Anchor("x", "inside", f".{i}."))],
    "a common start, rare text inside": lambda i: [
        _certain(Anchor("x", "start", "a."), Anchor("x", "inside", f".{i}."))
    ],
    "start and end, each shared by fifty": lambda i: [
        _certain(Anchor("x", "start", f"{i % 50}."), Anchor("x", "end", f".{i // 50}"))
    ],
    "two fields, each shared by fifty": lambda i: [
        _certain(Anchor("x", "whole", f"{i % 50}")),
        _certain(Anchor("y", "whole", f"{i // 50}")),
    ],
    "a common field, a rare one": lambda i: [
        _certain(Anchor("y", "start", "a.")),
        _certain(Anchor("x", "whole", f"{i}")),
    ],
    "a common field, a list of rare values": lambda i: [
        _certain(Anchor("y", "whole", "a")),
        [(Anchor("x", "whole", f"{i}"),), (Anchor("x", "whole", f"also {i}"),)],
    ],
    "a rare field, a list of common values": lambda i: [
        [(Anchor("y", "whole", "3"),), (Anchor("y", "whole", "4"),)],
        _certain(Anchor("x", "whole", f"{i}")),
    ],
    "a rare field, a list that asks for nothing": lambda i: [
        [(), ()],
        _certain(Anchor("x", "whole", f"{i}")),
    ],
    "a field and a list, each shared by fifty": lambda i: [
        _certain(Anchor("x", "whole", f"{i % 50}")),
        [(Anchor("y", "whole", f"{i // 50}"),), (Anchor("y", "whole", f"also {i // 50}"),)],
    ],
    "a common list, a rare one": lambda i: [
        [(Anchor("y", "whole", "3"),), (Anchor("y", "whole", "4"),)],
        [(Anchor("x", "whole", f"{i}"),), (Anchor("x", "whole", f"also {i}"),)],
    ],
    "many common texts, a rare one": lambda i: [
        _certain(*(Anchor("x", "inside", text) for text in (*"abcdefg", f".{i}.")))
    ],
}

_MEETS = {
    "a whole value": ("a.7", ""),
    "a start": ("a.7.b", ""),
    "an end": ("a.7", ""),
    "text inside": ("a.7.b", ""),
    "a common start, rare text inside": ("a.b.7.c", ""),
    "start and end, each shared by fifty": ("7.a.3", ""),
    "two fields, each shared by fifty": ("7", "3"),
    "a common field, a rare one": ("7", "a.b"),
    "a common field, a list of rare values": ("also 7", "a"),
    "a rare field, a list of common values": ("7", "3"),
    "a rare field, a list that asks for nothing": ("7", "3"),
    "a field and a list, each shared by fifty": ("7", "also 3"),
    "a common list, a rare one": ("also 7", "3"),
    "many common texts, a rare one": ("abcdefg.7.", ""),
}


@pytest.mark.parametrize("shape", _SHAPES)
def test_one_rule_of_many_is_met_alone(shape: str) -> None:
    """Of thousands of rules only the one whose literals are all there is a candidate."""
    x, y = _MEETS[shape]
    found = Index([_SHAPES[shape](i) for i in range(_MANY)]).candidates({"x": x, "y": y})
    assert found == {157 if "fifty" in shape else 7}


def test_a_rule_without_ways_is_never_met() -> None:
    """A rule that nothing fulfils is not a candidate."""
    index = Index([[[]], [[], [(), ()]]])
    assert index.candidates({"x": "a", "y": "a"}) == set()


def test_a_rule_that_asks_for_nothing_is_always_met() -> None:
    """No clause, or one that has no literal, is a candidate for every event."""
    assert Index([[], [[()]], [[(), (Anchor("x", "whole", "a"),)]]]).candidates(
        {"x": "", "y": ""}
    ) == {0, 1, 2}


def test_rules_alike_in_every_literal_are_all_met() -> None:
    """Filing them deeper and deeper ends, however many literals they share."""
    alike: Rule = [_certain(*(Anchor("x", "inside", f".{i}.") for i in range(2_000)))]
    value = "".join(f".{i}." for i in range(2_000))
    assert Index([alike] * 20).candidates({"x": value, "y": ""}) == set(range(20))


def test_lists_do_not_multiply() -> None:
    """Rules with long lists in every field are filed once for each line of one list."""
    fields = "abcdefgh"
    lists: Rule = [[(Anchor(f, "whole", f"{i}"),) for i in range(20)] for f in fields]
    index = Index([lists] * 20)
    assert index.candidates(dict.fromkeys(fields, "19")) == set(range(20))
    assert index.candidates(dict.fromkeys(fields, "20")) == set()
