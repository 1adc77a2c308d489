"""What may be shown of a file of this project's."""

from __future__ import annotations

from router.config.document import Problems, Shown, lines, parse_document
from router.config.reader import Reader
from router.config.section import Section
from router.config.variables import Variables
from router.model import ConfigInvalid


def legible_source(content: bytes, shape: type[Section]) -> Shown:
    """A file that is to be a `shape`, right or wrong: read once more, for what its kinds say."""
    ignored = Problems("")
    root = None
    try:
        root = parse_document(content, "", ignored)
        Reader(ignored, Variables({}, None), ignored).read(shape, root, "", None)
    except ConfigInvalid:
        pass  # no tree: nothing is known but the format's own words
    return Shown(lines(content), Section.words, root)
