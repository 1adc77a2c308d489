"""Characters that look like those that YAML is made of, and mean nothing to it.

Input methods for Chinese and Japanese write them, and word processors.
"""

from __future__ import annotations

#: The full-width forms of ASCII are in its order.
_WIDE = 0xFEE0

#: By character: what was probably meant.
LOOKALIKES = {
    **{chr(ord(c) + _WIDE): c for c in "[]{},\"'#*&!|>-?"},
    chr(ord(":") + _WIDE): ": ",
    "、": ",",
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u3000\xa0\u2007\u202f", " "),
}
