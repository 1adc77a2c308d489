"""Explanations of syntax errors, at the place to look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml


class Spot(NamedTuple):
    """A place in a text: a line and a column from 1, in characters; both 0 for the whole file."""

    line: int
    column: int


WHOLE_FILE = Spot(0, 0)


def spot_of(mark: Any) -> Spot:
    return Spot(mark.line + 1, mark.column + 1) if mark else WHOLE_FILE


# Lookalikes of the characters that mean something to YAML. Input methods for Chinese and Japanese
# write them, and word processors.

#: The full-width forms of ASCII are in its order.
_WIDE = 0xFEE0

#: The character that was probably meant, by its lookalike.
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

#: A lookalike that breaks the form of a line: in the indentation, behind a key, before a value, or
#: behind a value that begins with a proper quote.
_IN_FORM = re.compile(
    rf"""^(?:[ ]*(?:-[ ]+)*(?:
        (?P<indent>{_BLANKS}) | ["']?[\w.-]+["']?(?: (?P<colon>\uff1a) | :(?P<blank>{_BLANKS}) )
    ) | .*:[ ]+(?: (?P<value>[\uff3b\uff5b\uff02\uff07“”„\u2018\u2019])
        | (?P<quote>["'])[^"']*(?P<end>[\uff02\uff07“”„\u2018\u2019]) \s*$ ))""",
    re.VERBOSE,
)


def hint(text: str) -> str:
    """Return a remark about the first lookalike in a value without quotes; `""` if it has none."""
    match = _LOOKALIKE.search(text)
    return f" ({_named(match[0])}, not {LOOKALIKES[match[0][0]][0]!r})" if match else ""


def _named(written: str) -> str:
    name = written if written.isprintable() else "a blank here"
    return f"{name} is U+{ord(written[0]):04X}"


#: The explanation of a parser's message, `construct: problem`, by a pattern. The first that fits
#: counts.
MISTAKES = {
    "quoted scalar: found unexpected": "this quote is never closed",
    "quoted scalar: ": (
        "a \\ in double quotes begins an escape, and this is not one: use single quotes"
    ),
    "an alias: |undefined alias": "a value that starts with * has to be in quotes",
    "an anchor: |second occurrence": "a value that starts with & has to be in quotes",
    "flow (sequence|mapping): ": (
        "this bracket is not closed, or a comma is missing, or a value needs quotes"
    ),
    "block (mapping|collection): ": (
        "does not belong to what is above: check the indentation; a value that only begins with "
        "a bracket or a quote has to be in quotes as a whole"
    ),
    "mapping values are not allowed": (
        "no ':' can be here: check the indentation; a value with ': ' in it has to be in quotes"
    ),
    "simple key: ": "this has no ':' behind it, which makes it a key",
    "(entries|keys) are not allowed": "a list can't begin behind its key: put it on the next line",
    "cannot start any token|node content": "no value can begin like this: put it in quotes",
    "document start|another document": "a second document begins: a file has only one",
    "nesting depth": "is nested too deep",
}

#: For messages that are too rare to be explained.
UNKNOWN = "is not valid YAML"

#: In these constructs, the place to look at is the first character, not where the parser stopped.
_FROM_BEGIN = re.compile("quoted scalar|an alias|an anchor|flow (sequence|mapping)|simple key")

#: The text behind the quote that ends a value.
_BEHIND = re.compile(r"[\s,\]}:]|\Z")


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[Spot, str]:
    """Return the place to look at, which may be above where the parser stopped, and a message."""
    construct, begin, end = error.context or "", error.context_mark, error.problem_mark
    if end is None:
        return WHOLE_FILE, UNKNOWN
    if lookalike := _lookalike(text, end):
        return lookalike
    # If a value is missing in an open bracket, the parsers blame the next token.
    if construct == "while parsing a flow node" and not text.startswith(",", end.index):
        construct, begin = "while parsing a flow sequence", _open_bracket(text, end.index)
    message = f"{construct}: {error.problem or ''}"
    meaning = next((text for find, text in MISTAKES.items() if re.search(find, message)), UNKNOWN)
    mark = begin if begin and _FROM_BEGIN.search(construct) else end
    if quote := _quote(text, end if "flow" in construct else mark):
        place = f"line {quote.end_mark.line + 1}, column {quote.end_mark.column}"
        message = f"this quote is closed in {place}, where more follows: close it behind its value"
        return spot_of(quote.start_mark), message
    if "flow" in construct and begin is not None and "${" in text[begin.index : end.index + 1]:
        meaning += ', as "${NAME}" does here'
    return spot_of(mark), meaning


def _lookalike(text: str, end: Any) -> tuple[Spot, str] | None:
    """Find a lookalike in the line where the parser stopped, or in the one above."""
    lines = re.split(r"\r\n?|\n", text[: end.index])[:-1][-100:]
    lines.append(re.split(r"[\r\n]", text[end.index - end.column :], maxsplit=1)[0])
    filled = [at for at, line in enumerate(lines) if line.strip(" ").partition("#")[0]]
    for at in filled[: -3 if lines[-1].strip(" ") else -2 : -1]:
        if match := _IN_FORM.match(lines[at]):
            name = next(name for name, character in match.groupdict().items() if character)
            # An `end` is in the group behind its right `quote`.
            name = "end" if name == "quote" else name
            meant = LOOKALIKES[match[name][0]]
            message = f"{_named(match[name])}, which is nothing to YAML: is {meant!r} meant?"
            return Spot(end.line + 2 - len(lines) + at, match.start(name) + 1), message
    return None


def _open_bracket(text: str, end: int) -> Any:
    """Return the mark of the innermost bracket that is open at the offset `end`."""
    opened = []
    for token in _tokens(text):
        if token.start_mark.index >= end:
            break
        if isinstance(token, yaml.FlowSequenceStartToken | yaml.FlowMappingStartToken):
            opened.append(token.start_mark)
        elif isinstance(token, yaml.FlowSequenceEndToken | yaml.FlowMappingEndToken):
            opened.pop()
    return opened[-1]


def _quote(text: str, stop: Any) -> Any:
    """Return the token of a quoted value that ends in the line of `stop`, in the wrong place: it
    begins above, or more follows."""
    quote = None
    # Cut off: the scanner looks ahead, and keeps back its tokens where it stumbles.
    for token in _tokens(text[: stop.index]):
        if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
            over_lines = token.start_mark.line < token.end_mark.line
            odd = over_lines or not _BEHIND.match(text, token.end_mark.index)
            if odd and token.end_mark.line == stop.line:
                quote = token
    return quote


def _tokens(text: str) -> Iterator[Any]:
    """Iterate over the tokens before the first faulty one."""
    scanner: Any = yaml.CSafeLoader(text)
    try:
        while scanner.check_token():
            yield scanner.get_token()
    except yaml.YAMLError:
        return
    finally:
        scanner.dispose()
