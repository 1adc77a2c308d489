"""Syntax errors in the words of those who edit the file, at the place to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from router.config.document.problems import WHOLE_FILE, Spot

# Characters that look like those that YAML is made of, and mean nothing to it. Input methods for
# Chinese and Japanese write them, and word processors.

#: The full-width forms of ASCII are in its order.
_WIDE = 0xFEE0

#: By character: what was probably meant.
LOOKALIKES = {
    **{chr(ord(c) + _WIDE): c for c in "[]{},\"'#*&!|>-?"},
    chr(ord(":") + _WIDE): ": ",
    "、": ",",
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("\u2018\u2019", "'"),
    "\u3000": "  ",
    **dict.fromkeys("\xa0\u2007\u202f", " "),
}
_BLANKS = "[\u3000\xa0\u2007\u202f]+"
_LOOKALIKE = re.compile(f"{_BLANKS}|[{''.join(LOOKALIKES)}]")

#: Where one of them stands in place of what gives a line its form: in the indentation, behind a
#: key, before a value, behind a value whose quote is right.
_IN_FORM = re.compile(
    rf"""^(?:[ ]*(?:-[ ]+)*(?:
        (?P<indent>{_BLANKS}) | ["']?[\w.-]+["']?(?: (?P<colon>\uff1a) | :(?P<blank>{_BLANKS}) )
    ) | .*:[ ]+(?: (?P<value>[\uff3b\uff5b\uff02\uff07“”„\u2018\u2019])
        | (?P<quote>["'])[^"']*(?P<end>[\uff02\uff07“”„\u2018\u2019]) \s*$ ))""",
    re.VERBOSE,
)


def hint(text: str) -> str:
    """What a problem adds about a value without quotes that has a lookalike in it."""
    found = _LOOKALIKE.search(text)
    return f" ({_named(found[0])}, not {LOOKALIKES[found[0][0]][0]!r})" if found else ""


def _named(written: str) -> str:
    what = written if written.isprintable() else "a blank here"
    return f"{what} is U+{ord(written[0]):04X}"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What the parsers say, as `construct: problem`, and what is meant by it."""

    said: re.Pattern[str]
    meaning: str
    #: Whether the construct's first character has to be changed, or where the parser gave up.
    at_begin: bool
    #: What is meant besides, where a `${` is in what was read of the construct.
    by_variable: str = ""


def _mistake(said: str, meaning: str, *, at_begin: bool = False, by_variable: str = "") -> Mistake:
    return Mistake(re.compile(said), meaning, at_begin, by_variable)


#: The first that fits counts.
MISTAKES = [
    _mistake("quoted scalar: found unexpected", "this quote is never closed", at_begin=True),
    _mistake(
        "quoted scalar: ",
        "a \\ in double quotes begins an escape, and this one is none: use single quotes",
        at_begin=True,
    ),
    _mistake("an alias: ", "a value that starts with * has to be in quotes", at_begin=True),
    _mistake("an anchor: ", "a value that starts with & has to be in quotes", at_begin=True),
    _mistake(
        "flow (sequence|mapping): ",
        "this bracket is not closed, or a comma is missing, or a value needs quotes",
        at_begin=True,
        by_variable=', as "${NAME}" does here',
    ),
    _mistake(
        "block (mapping|collection): ",
        "does not belong to what is above: check the indentation; a value that only begins with "
        "a bracket or a quote has to be in quotes as a whole",
    ),
    _mistake(
        "mapping values are not allowed",
        "no ':' can be here: check the indentation; a value with ': ' in it has to be in quotes",
    ),
    _mistake("simple key: ", "this has no ':' behind it, which makes it a key", at_begin=True),
    _mistake(
        "(entries|keys) are not allowed",
        "a list can't begin behind its key: put it on the next line",
    ),
    _mistake(
        "cannot start any token|node content", "no value can begin like this: put it in quotes"
    ),
    _mistake("document start|another document", "a second document begins: a file has only one"),
    _mistake("second occurrence", "this anchor (&…) is above already"),
    _mistake(
        "undefined alias",
        "there is no anchor of this name above; a value that starts with * has to be in quotes",
    ),
    _mistake("nesting depth", "is nested too deep"),
]

#: Whatever is too rare to be explained.
UNKNOWN = Mistake(re.compile(""), "is not valid YAML", at_begin=False)

#: What may be behind the quote that ends a value.
_BEHIND = re.compile(r"[\s,\]}:]|\Z")


def explain(error: yaml.MarkedYAMLError, text: str, loader: Any) -> tuple[Spot, str]:
    """Return the place to look at, which may be above where the parser gave up, and a message."""
    construct, begin, end = error.context or "", error.context_mark, error.problem_mark
    if end is None:
        return WHOLE_FILE, UNKNOWN.meaning
    if found := _lookalike(text, end):
        return found
    # Where a value is missing in an open bracket, the parsers forget that and blame what is next.
    if construct == "while parsing a flow node" and not text.startswith(",", end.index):
        construct, begin = "while parsing a flow sequence", _open_bracket(text, end.index, loader)
    said = f"{construct}: {error.problem or ''}"
    mistake = next((each for each in MISTAKES if each.said.search(said)), UNKNOWN)
    mark = (mistake.at_begin and begin) or end
    stop = end if "flow" in construct else mark
    if quote := _quote(text, stop, loader):
        place = f"line {quote.end_mark.line + 1}, column {quote.end_mark.column}"
        message = f"this quote is closed in {place}, where more follows: close it behind its value"
        return spot_of(quote.start_mark), message
    has_variable = begin is not None and "${" in text[begin.index : end.index + 1]
    return spot_of(mark), mistake.meaning + (mistake.by_variable if has_variable else "")


def spot_of(mark: Any) -> Spot:
    return Spot(mark.line + 1, mark.column + 1) if mark else WHOLE_FILE


def _lookalike(text: str, end: Any) -> tuple[Spot, str] | None:
    """A lookalike that is to blame: in the line where the parser gave up, or the one above."""
    lines = re.split(r"\r\n?|\n", text[: end.index])[:-1][-100:]
    lines.append(re.split(r"[\r\n]", text[end.index - end.column :], maxsplit=1)[0])
    told = [at for at, line in enumerate(lines) if line.strip(" ") and line.lstrip()[0] != "#"]
    for at in told[: -3 if lines[-1].strip(" ") else -2 : -1]:
        if match := _IN_FORM.match(lines[at]):
            name = next(name for name in _NAMES if match[name])
            meant = LOOKALIKES[match[name][0]]
            message = f"{_named(match[name])}, which is nothing to YAML: is {meant!r} meant?"
            return Spot(end.line + 2 - len(lines) + at, match.start(name) + 1), message
    return None


_NAMES = ("indent", "colon", "blank", "value", "end")


def _open_bracket(text: str, end: int, loader: Any) -> Any:
    """The mark of the innermost bracket that is open at the offset `end`."""
    opened = []
    for token in _tokens(text, loader):
        if token.start_mark.index >= end:
            break
        if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
            opened.append(token.start_mark)
        elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken):
            opened.pop()
    return opened[-1]


def _quote(text: str, stop: Any, loader: Any) -> Any:
    """The token of the quoted value that ends in the line of `stop`, in the wrong place: above it
    begins, or more of it follows."""
    found = None
    # Cut off: the scanner looks ahead, and where it stumbles it keeps back what it has.
    for token in _tokens(text[: stop.index], loader):
        if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
            over_lines = token.start_mark.line < token.end_mark.line
            odd = over_lines or not _BEHIND.match(text, token.end_mark.index)
            if odd and token.end_mark.line == stop.line:
                found = token
    return found


def _tokens(text: str, loader: Any) -> Iterator[Any]:
    """As many as there are before the first that is wrong."""
    scanner = loader(text)
    try:
        while scanner.check_token():
            yield scanner.get_token()
    except yaml.YAMLError:
        return
    finally:
        scanner.dispose()
