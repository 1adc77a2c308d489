"""YAML becomes a tree whose nodes know their place, or a list of clear faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.config.document import (
    ListNode,
    MapNode,
    Node,
    Problems,
    Scalar,
    Shown,
    Tree,
    is_plain,
    lines,
    parse_document,
    reading,
    what,
)
from router.config.schema import legible_source
from router.model.errors import ConfigInvalid, Problem
from tests.support.effort import examples


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs it holds with both of PyYAML's parsers."""
    if request.param == "python":
        monkeypatch.setattr(reading, "LOADER", reading.PythonLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")


def value(tree: Tree | Node) -> Any:
    """A tree without its places."""
    node = tree.root if isinstance(tree, Tree) else tree
    match node:
        case Scalar():
            return node.value
        case ListNode():
            return [value(item) for item in node.value]
        case MapNode():
            return {key.value: value(each) for key, each in node.value}


def places(tree: Tree | Node) -> Iterator[tuple[str, int, int]]:
    """Every node of a tree in turn: its text or sort, its line and its column.

    An empty value has no place of its own: each parser takes another blank for it.
    """
    node = tree.root if isinstance(tree, Tree) else tree
    text = node.value if isinstance(node, Scalar) else what(node)
    mark = node.start_mark
    yield (text, mark.line + 1, mark.column + 1) if text else (text, 0, 0)
    children: list[Node] = []
    if isinstance(node, ListNode):
        children = node.value
    elif isinstance(node, MapNode):
        children = [each for entry in node.value for each in entry]
    for child in children:
        yield from places(child)


def refusal(text: str | bytes) -> list[Problem]:
    with pytest.raises(ConfigInvalid) as raised:
        parse_document(text, "f.yaml")
    return list(raised.value.problems)


@pytest.mark.usefixtures("parser")
def test_places() -> None:
    """Every node has its line and its column, both from 1."""
    text = "a: 1\nb:\n  - x\n  - {q: 'w'}\n"
    assert list(places(parse_document(text, "f.yaml"))) == [
        ("a mapping", 1, 1),
        ("a", 1, 1),
        ("1", 1, 4),
        ("b", 2, 1),
        ("a list", 3, 3),
        ("x", 3, 5),
        ("a mapping", 4, 5),
        ("q", 4, 6),
        ("w", 4, 9),
    ]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("before", ["证书", "é", "\U0001f600"])
def test_columns_are_characters(before: str) -> None:
    """A column counts characters, not bytes."""
    [*_, last] = places(parse_document(f"[{before}, x]", "f.yaml"))
    assert last == ("x", 1, len(before) + 4)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end: str) -> None:
    """Lines are counted whatever they end with, and a byte order mark is no character."""
    text = f"\ufeffa: 1{end}b: 2{end}"
    assert list(places(parse_document(text.encode(), "f.yaml")))[3] == ("b", 2, 1)
    assert lines(text) == ["a: 1", "b: 2", ""]


@pytest.mark.usefixtures("parser")
def test_quotes_are_remembered() -> None:
    """A scalar knows whether it was written without quotes, and keeps its text as it is."""
    root = parse_document("- 012\n- '012'\n- \"012\"\n- >-\n  012\n", "f.yaml")
    assert [(item.value, is_plain(item)) for item in root.root.value] == [
        ("012", True),
        ("012", False),
        ("012", False),
        ("012", False),
    ]


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
    """A plain text that YAML takes for something else says for what; in quotes it is a string."""
    assert what(Scalar("", text)) == expected
    assert what(Scalar("", text, style="'")) == "a string"


@examples(300)
@given(st.text("0123456789_:.-+eExXoObBaAfFnNyYsStTrRlLuUiI~ <=", max_size=12))
def test_no_surprise_is_missed(text: str) -> None:
    """Whatever PyYAML's own resolver takes for another type is no string here either."""
    tag = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag != "tag:yaml.org,2002:str":
        assert what(Scalar("", text)) != "a string"


@pytest.mark.usefixtures("parser")
def test_merge_keys() -> None:
    """What is written wins over what is merged, and the first merged mapping over the next."""
    text = """
a: &a {x: 1, y: 1}
b: &b {y: 2, z: 2}
one: {<<: *a, y: 0}
two: {<<: [*b, *a], w: 0}
chain: {<<: {<<: *a, x: 3}}
text: {"<<": *a}
"""
    merged = value(parse_document(text, "f.yaml"))
    assert merged["one"] == {"y": "0", "x": "1"}
    assert merged["two"] == {"w": "0", "y": "2", "z": "2", "x": "1"}
    assert merged["chain"] == {"x": "3", "y": "1"}
    assert merged["text"] == {"<<": {"x": "1", "y": "1"}}


@pytest.mark.usefixtures("parser")
def test_aliases_keep_their_place() -> None:
    """A node that an alias repeats is where it was written."""
    assert [
        place for place in places(parse_document("a: &x 1\nb: *x\n", "f.yaml")) if place[0] == "1"
    ] == [
        ("1", 1, 4),
        ("1", 1, 4),
    ]


@pytest.mark.usefixtures("parser")
def test_all_at_once() -> None:
    """Faults that leave the tree whole are said together, with their paths."""
    text = "a: {b: 1, b: 2}\nc:\n- !x d\n- e: &f 1\n  e: &g 2\n"
    assert [str(problem) for problem in refusal(text)] == [
        "f.yaml:1:11: a.b: the key is here twice, first in line 1",
        "f.yaml:3:3: c[0]: a tag (!…) means nothing here: write the value alone",
        "f.yaml:5:3: c[1].e: the key is here twice, first in line 4",
    ]


def test_faults_can_be_collected() -> None:
    """Who brings a collection gets the tree in spite of such faults, to add its own to them."""
    found = Problems("f.yaml")
    assert value(parse_document("a: 1\na: 2\n", "f.yaml", found)) == {"a": "2"}
    assert [problem.message for problem in found.in_order()] == [
        "the key is here twice, first in line 1"
    ]


def test_every_tab_and_control_character() -> None:
    """Every line with a tab and every control character is named, before any syntax error."""
    found = refusal("a:\tb\n\tc: [\nd: \x07\n# a\ttab in a comment\ne: \x85")
    assert [(problem.line, problem.column) for problem in found] == [(1, 3), (2, 1), (3, 4), (5, 4)]


@pytest.mark.parametrize("surrogate", [0xD800, 0xDFFF])
def test_surrogates(surrogate: int) -> None:
    """A text that is no Unicode is refused, not passed on."""
    assert "U+D" in refusal(f"a: {chr(surrogate)}")[0].message


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("text", ["a:\n[}  b: ", "[", "{a: [}", "- [\n- x", "[a, {b: c]"])
def test_a_bracket_that_is_not_closed(text: str) -> None:
    """The bracket is told, wherever the parser gives up."""
    [problem] = refusal(text)
    assert text.splitlines()[problem.line - 1][problem.column - 1] in "[{"


@pytest.mark.usefixtures("parser")
def test_deep_nesting() -> None:
    """Nesting is refused at its limit, however it is written."""
    for text in ("[" * 900 + "]" * 900, "{a: " * 900 + "}" * 900, "- " * 900):
        assert refusal(text)[0].message == "is nested too deep"
    deepest = "[" * reading.MAX_DEPTH + "]" * reading.MAX_DEPTH
    parse_document(deepest, "f.yaml")


def test_depth_by_aliases() -> None:
    """Aliases can't nest deeper either, so nothing recurses without end over them."""
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
    [problem] = refusal(chain)
    assert (problem.message, problem.line) == ("is nested too deep", reading.MAX_DEPTH)


@pytest.mark.usefixtures("parser")
def test_a_bomb_is_not_blown_up() -> None:
    """Aliases of aliases are counted, not followed."""
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n"
        for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    [problem] = refusal(text)
    assert problem.message == "aliases repeat too much by here"


PIECES = [
    "a", "b: ", "- ", "? ", "\n", "  ", " ", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "<<: ",
    "|\n", ">\n", "#", "!t ", "012", "~", "---\n", "é",
]  # fmt: skip


@examples(200)
@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_the_parsers_agree(text: str) -> None:
    """With libyaml or without, a text has the same tree at the same places, or is refused.

    The sample is always the same: one text in some 30,000 has them differ, like `[a? ]`.
    """
    trees = []
    for loader in (reading.LOADER, reading.PythonLoader):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "LOADER", loader)
            try:
                trees.append(list(places(parse_document(text, "f.yaml"))))
            except ConfigInvalid:
                trees.append([])
    assert trees[0] == trees[1]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: {t: x,b}", 1, 10),
        ("a: {t: x, 'b c'}", 1, 11),
        ("a:\n  ? b\n   c\n  : d", 2, 5),
        ("a: &b c\n*b : d", 2, 6),
    ],
)
def test_what_is_no_key(text: str, line: int, column: int) -> None:
    """What is a key by mistake alone, so perhaps a secret, is a problem that does not name it."""
    [problem] = refusal(text)
    assert (problem.line, problem.column) == (line, column)
    assert "b" not in problem.path
    assert " b" not in problem.message.replace(" behind", "").replace(" be", "")


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: '\nb: 'c'", 1, 4),
        ('a: "b\n\nc: ""', 1, 4),
        ('a: ["b", "c, "d"]', 1, 10),
        ('a: "b".*', 1, 4),
        ('- "*\n# "quoted"\n- x', 1, 3),
    ],
)
def test_a_quote_that_ends_too_late_is_told_where_it_begins(
    text: str, line: int, column: int
) -> None:
    """Not where the parser gives up, in a line that is right: behind the quote of another value."""
    [problem] = refusal(text)
    assert (problem.line, problem.column) == (line, column)
    assert "this quote is closed in line " in problem.message


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a：1\n\n# 注释：，\nb: c", 1, 2),
        ("a:\u3000b\nc: d", 1, 3),
        ("- b: c\n\u3000d: e", 2, 1),
        ("a: ［b: c］", 1, 4),
        ('a: "b”\nc: "d"', 1, 6),
    ],
)
def test_what_looks_like_yaml_is_told_where_it_is(text: str, line: int, column: int) -> None:
    """A full-width mark, another quote, another blank: the one without which the text is right."""
    [problem] = refusal(text)
    assert (problem.line, problem.column) == (line, column)
    assert "is nothing to YAML" in problem.message


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "text",
    ["a: 证书，全部：“x”\nb: [c", "# 注释：，\na: b: c", "a: '，：'\nb: @", "a: 证\u3000书\nb: %"],
)
def test_what_only_looks_like_it_is_not_blamed(text: str) -> None:
    """In a name, a text, a comment any character may be."""
    assert "YAML" not in refusal(text)[0].message


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "text", ["b: |\n\nc: d", "{b: , c: d}", "{b: ''}", "b:", "? b\n:", "b: &x"]
)
def test_an_empty_text_is_no_missing_colon(text: str) -> None:
    """A value may be empty, in whichever way it is written."""
    assert value(parse_document(text, "f.yaml"))["b"] == ""


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("text", ["a: *S3", "a: &S3 b\nc: &S3 d", "a: &S3 [*S3]"])
def test_no_anchor_is_named(text: str) -> None:
    """What begins with * or & may be a secret without quotes."""
    assert "S3" not in str(refusal(text)[0])


# What a terminal shows.


def shown(line: str, column: int) -> list[str]:
    """A problem in that line, of which all is harmless."""
    root = parse_document(line, "f.yaml").root
    nodes = [root, *root.value[0]] if isinstance(root, MapNode) else [root]
    scalars = [node for node in nodes if isinstance(node, Scalar)]
    return (
        Shown([line], (), scalars).excerpt(Problem("f.yaml", 1, column, "", "is odd")).split("\n")
    )


def test_excerpt() -> None:
    """A problem comes with its line and a caret below its place."""
    assert shown("  a: b", 6) == ["f.yaml:1:6: is odd", "      a: b", "         ^"]


@pytest.mark.parametrize("line", [0, 2])
def test_excerpt_without_place(line: int) -> None:
    """A problem that has no line, or one behind the end, is shown alone."""
    problem = Problem("f.yaml", line, 1, "", "is odd")
    assert Shown(["a"], ()).excerpt(problem) == str(problem)


def test_excerpt_below_wide_characters() -> None:
    """Below characters of double width the gap is as wide."""
    assert shown("证书: x", 5)[2] == "    \u3000\u3000  ^"


def test_excerpt_of_a_long_line() -> None:
    """Of a long line the part around the place is shown."""
    _, line, caret = shown("x" * 500 + "y" + "z" * 500, 501)
    assert len(line) < 110
    assert line[caret.index("^")] == "y"


def test_excerpt_obeys_no_escape() -> None:
    """Control characters do not reach the terminal."""
    assert Shown(["a: \x1b[31m\x9b"], ()).shown(1).isprintable()


SOURCE = """\
token: a
"token": 'a'
{b: token, token: [a, "b"]}
- ? token
  : &a b  # c
match： ［a，b］
x: ${NAME} ${file:a.b} ${NAME:-b}
tokens: a token b
"""


def test_what_no_tree_shows() -> None:
    """Of a text that is no tree the format's own keys are shown, and what YAML is made of: all
    that could be a value is dots, as many."""
    source = Shown(SOURCE.splitlines(), {"token", "match"})
    assert [source.shown(number) for number in range(1, 9)] == [
        "token: •",
        "\"token\": '•'",
        '{•: •••••, token: [•, "•"]}',
        "- ? •••••",
        "  : &• •  # •",
        "match： ［•，•］",
        "•: ${NAME} ${file:a.b} ${NAME:••}",
        "••••••: • ••••• •",
    ]


def test_what_a_tree_shows() -> None:
    """What its reader finds harmless is shown where the line has it as it was read."""
    text = "a: &x b\nc: 'd'\ne: \"f\\x41\"\ng: *x\nh:\n  i\n  j\nk: l"
    root = parse_document(text, "f.yaml").root
    source = Shown(text.splitlines(), (), [node for _, node in root.value[:-1]])
    shown = [source.shown(number) for number in range(1, 9)]
    assert shown == ["•: &• •", "•: 'd'", '•: "•••••"', "•: *•", "•:", "  •", "  •", "•: •"]


def test_one_no_is_final() -> None:
    """Whoever reads a scalar as a secret has the last word."""
    for keys in (("name", "token"), ("token", "name"), ("token",)):
        entry = ", ".join(f"{key}: {'*x' if at else '&x abc'}" for at, key in enumerate(keys))
        source = legible_source(f"tokens: [{{{entry}}}]".encode(), "tokens")
        assert "abc" not in source.shown(1)
