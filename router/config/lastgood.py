"""The texts in force, in one file beside the store: a start takes them for files that are broken.

They are as people wrote them, `${…}` unresolved, so no secret is in the file that is not in a
routes.yaml. One rename replaces all of them, since texts of different moments may not fit together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from router.config.files import COMMON, Written
from router.config.schema import Name


class LastGood:
    """The texts in force of one configuration."""

    def __init__(self, path: Path, config: Path) -> None:
        """`config` is the file or folder of the texts. Texts of another one are not used."""
        self.path = path
        self._config = config

    def read(self) -> tuple[Written, ...]:
        """Return the texts by their names below the configuration; none if there is no file, or
        not a whole one."""
        try:
            kept = json.loads(self.path.read_bytes())
            if kept["config"] != str(self._config.absolute()):
                return ()
            return tuple(self._written(name, text) for name, text in kept["files"].items())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return ()

    def _written(self, name: str, text: str) -> Written:
        is_common = name == COMMON
        format: Name = "routes" if name == "." else "routes.common" if is_common else "routes.team"
        return Written(str(self._config / name), text.encode(), format)

    def write(self, files: Iterable[Written]) -> None:
        """Replace the texts. After a crash at any point, the old or the new ones are there. Raises
        OSError."""
        texts = {os.path.relpath(file.name, self._config): file.content.decode() for file in files}
        kept = {"config": str(self._config.absolute()), "files": texts}
        content = json.dumps(kept, ensure_ascii=False, indent=1).encode()
        new = self.path.with_name(f"{self.path.name}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
