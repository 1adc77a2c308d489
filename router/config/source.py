"""Where the configuration comes from, and what is there now."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router.config.files import Written, read
from router.config.loading import Config, parse_files
from router.config.variables import Unresolved, read_below
from router.model.errors import ConfigInvalid, Problem

_SECRET_FILE = re.compile(rb"\$\{file:([^{}\n]{1,255})\}")


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a folder, and what its variables and secret files are looked up in."""

    path: Path
    environ: Mapping[str, str]
    secrets_dir: Path | None

    def look(self) -> Look:
        """What is there now: the files and the secret files that they name."""
        try:
            files = read(self.path)
        except ConfigInvalid as error:
            return Look((), str(error), error.problems)
        return Look(files, self._mark(files), ())

    def load(self, files: Sequence[Written]) -> Config:
        """Raises ConfigInvalid."""
        return parse_files(files, self.environ, self.secrets_dir)

    def _mark(self, files: Sequence[Written]) -> str:
        mark = hashlib.sha256()
        for file in files:
            mark.update(b"%b\0%d:%b" % (os.fsencode(file.name), len(file.content), file.content))
        secrets = {name for file in files for name in _SECRET_FILE.findall(file.content)}
        for name in sorted(secrets):
            mark.update(name + b"\0" + self._secret(name))
        return mark.hexdigest()

    def _secret(self, name: bytes) -> bytes:
        """Enough of a secret file to see that it changed; whether it may be read is load's say."""
        if self.secrets_dir is None:
            return b""
        try:
            return read_below(self.secrets_dir, name.decode())
        except (OSError, ValueError, RuntimeError, Unresolved):
            return b"unreadable"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a Source. Two looks with one mark saw the same."""

    files: tuple[Written, ...]
    mark: str
    #: Why they could not even be read.
    problems: tuple[Problem, ...]
