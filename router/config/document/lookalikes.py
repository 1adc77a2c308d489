"""Characters that look like those that YAML is made of, and mean nothing to it.

Input methods for Chinese and Japanese write them, and word processors.
"""

from __future__ import annotations

import re

from router.config.document.nodes import ScalarNode

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

#: One of them, or a run of blanks.
LOOKALIKE = re.compile(f"[\u3000\xa0\u2007\u202f]+|[{''.join(LOOKALIKES)}]")


def meant(written: str) -> str:
    """What was meant by what `LOOKALIKE` finds."""
    return "".join(LOOKALIKES[character] for character in written)


def told(written: str) -> str:
    """What a problem says of one that stands where YAML needs what it looks like."""
    return f"{_named(written)}, which is nothing to YAML: is {meant(written[0])!r} meant?"


def hint(node: ScalarNode) -> str:
    """What a problem adds about a value that has one in it, without quotes."""
    found = LOOKALIKE.search(node.text) if node.plain else None
    return f" ({_named(found[0])}, not {meant(found[0][0])!r})" if found else ""


def _named(written: str) -> str:
    what = written if written.isprintable() else "a blank here"
    return f"{what} is U+{ord(written[0]):04X}"
