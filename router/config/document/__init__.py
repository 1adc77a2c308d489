"""Reads YAML strictly, with positions: bytes to a tree, or to problems.

`reading` and `syntax` are the one door to PyYAML.
"""

from __future__ import annotations

from router.config.document.excerpt import Shown
from router.config.document.problems import (
    MAX_PROBLEMS,
    Guesses,
    Problems,
    did_you_mean,
    shown,
)
from router.config.document.reading import (
    MAX_SIZE,
    ListNode,
    MapNode,
    Node,
    Path,
    Scalar,
    Tree,
    is_plain,
    lines,
    parse_document,
    path_of,
    report,
    what,
    write,
)
