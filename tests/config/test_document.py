"""YAML becomes a tree whose nodes know their place, or a list of clear faults.

Each fault has a golden file in tests/testdata/routes, which test_config.py reads by both parsers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from router.config import document as reading
from router.config.document import (
    ListNode,
    MapNode,
    Node,
    Scalar,
    Tree,
    parse_document,
    what,
)
from router.model.errors import ConfigInvalid, Problem


def value(tree: Tree | Node) -> Any:
    """A tree without its places."""
    node = tree.root if isinstance(tree, Tree) else tree
    match node:
        case Scalar():
            return node.value
        case ListNode():
            return [value(item) for item in node.value]
        case MapNode():
            return {key.value: value(below) for key, below in node.value}


def places(tree: Tree | Node) -> Iterator[tuple[str, int, int]]:
    """Iterate over the nodes: the text or sort, the line and the column.

    The parsers place an empty value at different blanks, so it has no place here.
    """
    node = tree.root if isinstance(tree, Tree) else tree
    text = node.value if isinstance(node, Scalar) else what(node)
    mark = node.start_mark
    yield (text, mark.line + 1, mark.column + 1) if text else (text, 0, 0)
    children: list[Node] = []
    if isinstance(node, ListNode):
        children = node.value
    elif isinstance(node, MapNode):
        children = [one for entry in node.value for one in entry]
    for child in children:
        yield from places(child)


def parse(text: str) -> Tree:
    return parse_document(text.encode(), "f.yaml")


def refusal(text: str) -> list[Problem]:
    with pytest.raises(ConfigInvalid) as raised:
        parse(text)
    return list(raised.value.problems)


def test_places() -> None:
    """Every node has its line and its column, both from 1, in characters."""
    text = "证书: 1\nb:\n  - x\n  - {é: '\U0001f600', z: w}\n"
    assert list(places(parse(text))) == [
        ("a mapping", 1, 1),
        ("证书", 1, 1),
        ("1", 1, 5),
        ("b", 2, 1),
        ("a list", 3, 3),
        ("x", 3, 5),
        ("a mapping", 4, 5),
        ("é", 4, 6),
        ("\U0001f600", 4, 9),
        ("z", 4, 14),
        ("w", 4, 17),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    """Lines count with any end, and a byte order mark is not a character."""
    text = f"\ufeffa: 1{end}b: 2{end}"
    assert list(places(parse(text)))[3] == ("b", 2, 1)


READ_AS = {
    "a boolean": ["no", "Yes", "ON", "off", "true", "FALSE"],
    "a number": [
        *("3", "012", "0x1F", "0b1", "-1", "1_000", "12:30:45"),
        *("1.5", "1.", ".5", "1e3", "0o17", ".inf", "-.INF", ".nan"),
    ],
    "a date": ["2021-07-01", "2021-07-01 12:30:45", "2021-7-1T1:02:03Z"],
    "nothing": ["~", "null", "NULL", ""],
    "a mark of its own": ["<<", "="],
    "a string": ["a.gs.*", "8s", "1.2.3.4", "none", "n", "1a", "-", "."],
}


@pytest.mark.parametrize(
    ("text", "expected"), [(text, name) for name, texts in READ_AS.items() for text in texts]
)
def test_what_yaml_reads(text: str, expected: str) -> None:
    """A text without quotes may be another type; in quotes it is a string, and keeps its text."""
    assert what(Scalar("", text)) == expected
    quoted = parse(f"'{text}'").root
    assert (quoted.value, what(quoted)) == (text, "a string")


def test_all_at_once() -> None:
    """Faults that leave the tree whole are reported together, with their paths."""
    text = "a: {b: 1, b: 2}\nc:\n- !x d\n- e: &f 1\n  e: &g 2\n"
    assert [str(problem) for problem in refusal(text)] == [
        "f.yaml:1:11: a.b: the key is here twice, first in line 1",
        "f.yaml:3:3: c[0]: a tag (!…) means nothing here: write the value alone",
        "f.yaml:5:3: c[1].e: the key is here twice, first in line 4",
    ]


def test_every_tab_and_control_character() -> None:
    """Every line with a tab and every control character is named, before any syntax error."""
    problems = refusal("a:\tb\n\tc: [\nd: \x07\n# a\ttab in a comment\ne: \x85")
    assert [(problem.line, problem.column) for problem in problems] == [
        (1, 3),
        (2, 1),
        (3, 4),
        (5, 4),
    ]


def test_deep_nesting() -> None:
    """Nesting is refused at its limit, however it is written."""
    for text in ("[" * 900 + "]" * 900, "{a: " * 900 + "}" * 900, "- " * 900):
        assert refusal(text)[0].message == "is nested too deep"
    parse("[" * reading.MAX_DEPTH + "]" * reading.MAX_DEPTH)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: {t: x, 'b c'}", (1, 11), "has no ':' behind it"),
        ('a: "b\n\nc: ""', (1, 4), "this quote is closed in line "),
        ('a: "b".*', (1, 4), "this quote is closed in line "),
        ('- "*\n# "quoted"\n- x', (1, 3), "this quote is closed in line "),
        ("- b: c\n\u3000d: e", (2, 1), "is nothing to YAML"),
        ("a: ［b: c］", (1, 4), "is nothing to YAML"),
        ('a: "b”\nc: "d"', (1, 6), "is nothing to YAML"),
    ],
)
def test_the_place_to_look_at(text: str, place: tuple[int, int], message: str) -> None:
    """A problem is where the mistake is, not where the parser stops. It does not repeat a key that
    may be a part of a secret."""
    [problem] = refusal(text)
    assert (problem.line, problem.column) == place
    assert message in problem.message
    assert "b" not in problem.path


@pytest.mark.parametrize(
    "text",
    ["a: 证书，全部：“x”\nb: [c", "# 注释：，\na: b: c", "a: '，：'\nb: @", "a: 证\u3000书\nb: %"],
)
def test_lookalikes_in_texts_are_not_blamed(text: str) -> None:
    assert "YAML" not in refusal(text)[0].message


@pytest.mark.parametrize(
    "text", ["b: |\n\nc: d", "{b: , c: d}", "{b: ''}", "b:", "? b\n:", "b: &x"]
)
def test_an_empty_text_is_not_a_missing_colon(text: str) -> None:
    assert value(parse(text))["b"] == ""


def test_every_alias_is_refused() -> None:
    """An alias is refused where it is used, also in a list and in a merge, and none is followed:
    a text of a few lines could stand for a billion values."""
    text = "a: &a [x, *a]\nb: *a\nc: {<<: *a}\n"
    problems = refusal(text)
    assert [(problem.line, problem.column) for problem in problems] == [(1, 4), (2, 1), (3, 5)]
    assert {problem.message for problem in problems} == {
        "an alias (*…) is not allowed: write the value itself"
    }


@pytest.mark.parametrize("text", ["a: *S3", "a: &S3 b\nc: &S3 d", "a: &S3 [*S3]"])
def test_no_anchor_is_named(text: str) -> None:
    """A text that begins with * or & may be a secret without quotes."""
    assert "S3" not in str(refusal(text)[0])
