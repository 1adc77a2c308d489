"""Index: it leaves nothing out, and it leaves little in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.routing.index import Anchor, Clause, Index, Place, Rule

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


@pytest.mark.parametrize("place", ["whole", "start", "end", "inside"])
def test_a_value_may_be_the_literal_alone(place: Place) -> None:
    """A pattern like `a.gs*` matches the value `a.gs`: nothing has to stand beside the literal."""
    index = Index([[_certain(Anchor("x", place, "a.b"))]])
    assert index.candidates({"x": "a.b", "y": ""}) == {0}
    assert index.candidates({"x": "a.", "y": "a.b"}) == set()
