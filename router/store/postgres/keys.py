"""Keys as PostgreSQL can hold them, and their patterns as its regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.routing.index import Glob

#: One character: itself, or what stands for a backslash or a NUL.
_ANY = r"(?:[^\\]|\\[\\0])"

_ESCAPED = "\\\0"


def escaped(text: str) -> str:
    """A text without a NUL, which a caller's may have: that becomes `\\0`, and a backslash two."""
    if "\0" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace("\0", "\\0")
    return text


def unescaped(text: str) -> str:
    """What it was before."""
    if "\\" in text:
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)
    return text


def regex(glob: Glob) -> str:
    """What fits the pattern fits this, by the operator `~` in a database in UTF-8, and nothing
    else. Every character is written by its number, so that none has a meaning of its own."""
    text, *rest = glob.parts
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return f"^{_literal(text)}{''.join(_wildcard(w) + _literal(t) for w, t in pairs)}$"


def _literal(text: str) -> str:
    return "".join(map(_number, escaped(text)))


def _number(character: str) -> str:
    return f"\\U{ord(character):08x}"


def _wildcard(text: str) -> str:
    if text[0] == "*":
        return f"{_ANY}*"
    return _ANY if text == "?" else _set(text)


def _set(text: str) -> str:
    """Its characters but for those that are escaped, and these by themselves."""
    excluded = text[1] == "!"
    members = "".join(_members(text[2 if excluded else 1 : -1]))
    if members:
        plain = [f"(?!\\\\)[{'^' if excluded else ''}{members}]"]
    else:
        plain = [r"[^\\]"] if excluded else []
    pattern = Glob(text)
    others = [_literal(character) for character in _ESCAPED if pattern.matches(character)]
    return f"(?:{'|'.join(plain + others)})"


def _members(left: str) -> Iterator[str]:
    """Without the NUL, which no text has there."""
    while left:
        range_ = len(left) > 2 and left[1] == "-"
        low, high = (left[0], left[2]) if range_ else (left[0], left[0])
        if high != "\0":
            yield f"{_number(max(low, chr(1)))}-{_number(high)}"
        left = left[3 if range_ else 1 :]
