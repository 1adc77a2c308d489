"""Bring up to date the files that docs/container.md shows: python -m scripts.container_page

A comment with a file's path stands before the block that shows it.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path("docs/container.md")

#: A file that is shown: its path, and its text as it stands.
_SHOWN = re.compile(r"<!-- (deploy/\S+) -->\n```yaml\n.*?```\n", re.DOTALL)


def with_files(page: str) -> str:
    """The page, with each file that it shows as that is now."""
    return _SHOWN.sub(_shown, page)


def _shown(found: re.Match[str]) -> str:
    return f"<!-- {found[1]} -->\n```yaml\n{Path(found[1]).read_text(encoding='utf-8')}```\n"


def main() -> None:
    PAGE.write_text(with_files(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
