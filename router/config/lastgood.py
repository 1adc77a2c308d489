"""The texts in force and the last reloads, in one file beside the store: a start takes the texts
for files that are broken.

Texts are as people wrote them, `${…}` unresolved, and reloads have the words of the log, secrets
masked: no secret is in the file that is not in a routes.yaml. One rename replaces all of it, since
texts of different moments may not fit together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from router.config.files import COMMON, Written
from router.config.schema import Name

#: Raised for a file that is missing or not whole.
_UNUSABLE = (OSError, ValueError, KeyError, AttributeError, TypeError)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A reload that took a configuration into force, or refused files of one owner. For pages."""

    #: Unix time, in seconds.
    at: float
    #: Of the new configuration; `""` if it was refused.
    hash: str
    #: The first few changes, in words.
    changes: tuple[str, ...] = ()
    #: The first few problems of the refused files, and their owner.
    problems: tuple[str, ...] = ()
    owner: str = ""


class LastGood:
    """The texts in force of one configuration, and its last reloads."""

    def __init__(self, path: Path, config: Path) -> None:
        """`config` is the file or folder of the texts. Texts of another one are not used."""
        self.path = path
        self._config = config

    def read(self) -> tuple[Written, ...]:
        """Return the texts by their names below the configuration; none if there is no file, or
        not a whole one."""
        with suppress(*_UNUSABLE):
            return tuple(self._written(name, text) for name, text in self._kept()["files"].items())
        return ()

    def reloads(self) -> tuple[Reloaded, ...]:
        """Read the last reloads, the newest first; none without a whole file."""
        with suppress(*_UNUSABLE):
            return tuple(
                Reloaded(
                    float(each["at"]),
                    each["hash"],
                    tuple(each["changes"]),
                    tuple(each["problems"]),
                    each["owner"],
                )
                for each in self._kept()["reloads"]
            )
        return ()

    def _kept(self) -> Any:
        kept = json.loads(self.path.read_bytes())
        return kept if kept["config"] == str(self._config.absolute()) else {}

    def _written(self, name: str, text: str) -> Written:
        is_common = name == COMMON
        format: Name = "routes" if name == "." else "routes.common" if is_common else "routes.team"
        return Written(str(self._config / name), text.encode(), format)

    def write(self, files: Iterable[Written], reloads: Iterable[Reloaded] = ()) -> None:
        """Replace the texts and the reloads. After a crash at any point, the old or the new ones
        are there. Raises OSError."""
        texts = {os.path.relpath(file.name, self._config): file.content.decode() for file in files}
        kept = {
            "config": str(self._config.absolute()),
            "files": texts,
            "reloads": [*map(asdict, reloads)],
        }
        # A file's name may be any bytes.
        content = json.dumps(kept, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
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
