"""YAML with positions, read strictly: text to a tree of nodes.

Nothing is guessed and nothing is run. A node keeps its text as written; what it means is the
business of whoever reads the tree. `composer`, `blame` and `writer` are the one door to PyYAML.
"""

from __future__ import annotations

from router.config.document.composer import compose
from router.config.document.excerpt import Shown
from router.config.document.nodes import ListNode, MapNode, Node, ScalarNode
from router.config.document.problems import MAX_PROBLEMS, WHOLE_FILE, Place, Problems, shown
from router.config.document.text import MAX_SIZE, lines, readable
from router.config.document.writer import write


def parse_document(text: bytes | str, file: str, problems: Problems | None = None) -> Node:
    """The tree of the one document in `text`; `file` is the name that problems carry.

    Raises ConfigInvalid. Faults that leave the tree whole (a key twice, a tag) go to `problems`
    where that is given, so that a loader can report them together with its own.
    """
    found = Problems(file) if problems is None else problems
    root = compose(readable(text, found), found)
    if found and problems is None:
        raise found.stop()
    return root
