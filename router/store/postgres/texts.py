"""Texts as PostgreSQL can hold them: all but the NUL, which a caller's key may have."""

from __future__ import annotations

import re


def escaped(text: str) -> str:
    """A NUL becomes `\\0`, and a backslash two."""
    if "\0" in text or "\\" in text:
        return text.replace("\\", "\\\\").replace("\0", "\\0")
    return text


def unescaped(text: str) -> str:
    """What it was before."""
    if "\\" in text:
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], text)
    return text
