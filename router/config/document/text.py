"""From bytes to characters that the parser and every editor see alike."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable

from router.config.document.problems import WHOLE_FILE, Problems, Spot

#: The largest text, in bytes. 100,000 routes take about 10 MB.
MAX_SIZE = 32 * 1024 * 1024

_LINE_END = re.compile(r"\r\n?|\n")

#: What YAML does not allow, and the line ends that only YAML takes for such.
_REFUSED = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
#: So many characters are looked through at a time.
_PIECE = 64 * 1024
#: A tab before any comment; the parsers disagree on where one is allowed.
_TAB = re.compile(r"^[^#\t\r\n]*+(?=\t)", re.MULTILINE)


def readable(text: bytes | str, problems: Problems) -> str:
    """`text` as characters, without a byte order mark. Raises every reason why it can't be read."""
    if len(text) > MAX_SIZE:
        problems.add(WHOLE_FILE, "", f"is larger than {MAX_SIZE // 2**20} MiB")
        raise problems.stop()
    if isinstance(text, bytes):
        text = _decoded(text, problems)
    text = text.removeprefix("\ufeff")
    spot = spots(text)
    # In pieces: one search of 10,000 routes holds every other thread for 8 ms.
    for start in range(0, len(text), _PIECE):
        for match in _REFUSED.finditer(text, start, start + _PIECE):
            character = f"U+{ord(match[0]):04X}"
            problems.add(spot(match.start()), "", f"the character {character} is not allowed")
    # Looked for only where there is one: it costs 8 ms in 10,000 routes.
    for match in _TAB.finditer(text) if "\t" in text else ():
        problems.add(spot(match.end()), "", "a tab: use spaces")
    if problems:
        raise problems.stop()
    return text


def lines(content: bytes | str) -> list[str]:
    """The lines as positions count them, without their ends; never an error."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    return _LINE_END.split(text.removeprefix("\ufeff"))


def _decoded(content: bytes, problems: Problems) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            problems.add(WHOLE_FILE, "", "is UTF-16: save it as UTF-8")
        else:
            before = lines(content[: error.start])
            message = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
            problems.add(Spot(len(before), len(before[-1]) + 1), "", message)
    raise problems.stop()


def spots(text: str) -> Callable[[int], Spot]:
    """What gives the place of an offset in `text`; the lines are looked for once, if ever."""
    starts: list[int] = []

    def spot(offset: int) -> Spot:
        if not starts:
            starts.extend([0, *(match.end() for match in _LINE_END.finditer(text))])
        line = bisect_right(starts, offset)
        return Spot(line, offset - starts[line - 1] + 1)

    return spot
