"""The page's files as they are served: read once, each with its type and its mark."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}

#: What is answered for the page itself.
INDEX = "index.html"


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page."""

    content: bytes
    type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """All of them, by their paths below its folder. Nothing else can be asked for."""
    return {
        str(path.relative_to(_FOLDER)): _file(path)
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }


def _file(path: Path) -> PageFile:
    content = path.read_bytes()
    mark = sha256(content).hexdigest()[:32]
    return PageFile(content, _TYPES[path.suffix], f'"{mark}"')
