"""The files that a configuration is made of: one; or a folder's routes.yaml, which is everybody's,
and what teams have below its routes.d."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from router.config.document import MAX_SIZE
from router.config.settings import SETTINGS
from router.model.errors import ConfigInvalid, Problem, why_not

#: In a folder: the file that is everybody's, and the folder of all others.
COMMON, TEAMS = "routes.yaml", "routes.d"

#: The most files that a folder may have.
MAX_FILES = 1_000

_SUFFIXES = (".yaml", ".yml")


class Written(NamedTuple):
    """A file as it was found."""

    #: Its path, as it was given or as the folder's was.
    name: str
    content: bytes


def read(path: Path) -> tuple[Written, ...]:
    """What the file or the folder says now: of a file at most a byte more than `parse_files`
    allows, of a folder no more than one file may have. Raises ConfigInvalid."""
    found: list[Written] = []
    left = MAX_SIZE
    for each in files_of(path):
        found.append(Written(str(each), read_file(each)))
        left -= len(found[-1].content)
        if left < 0 and len(found) > 1:
            raise _unreadable(path, f"is larger than {MAX_SIZE // 2**20} MiB, all files together")
    return tuple(found)


def files_of(path: Path) -> list[Path]:
    """The file, or those of the folder: routes.yaml first, then what is in routes.d and in the
    folders that are there, by their names. Names that begin with a dot, which kubelet and editors
    give to what they put beside, are left out, and tests files. Raises ConfigInvalid."""
    try:
        if not path.is_dir():
            return [path]
        if not (path / COMMON).exists():
            raise _unreadable(path, f"is a folder without a {COMMON}")
        found = [path / COMMON, *sorted(_below(path / TEAMS))]
    except OSError as error:
        looked_for = Path(error.filename or path)
        raise _unreadable(looked_for, f"can't be read: {why_not(looked_for, error)}") from None
    if len(found) > MAX_FILES:
        raise _unreadable(path, f"has more than {MAX_FILES:,} files")
    return found


def _below(folder: Path) -> Iterator[Path]:
    """No deeper, so that links in a circle do no harm."""
    for each in _entries(folder) if folder.exists() else ():
        yield from filter(_is_ours, _entries(each) if each.is_dir() else [each])


def _entries(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.startswith(".")]


def _is_ours(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.stem.endswith(".test")


def read_file(path: Path) -> bytes:
    """A file's bytes, at most one more than it may have. Raises ConfigInvalid."""
    try:
        # A pipe or a device might never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _unreadable(path, "is no regular file")
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1)
    except OSError as error:
        why = f"can't be read: {why_not(path, error)}"
        if str(path) == SETTINGS["config"].default:
            why += (
                "; it is looked for below the working folder, unless --config names another; "
                "`ebaas-router init` writes a first one"
            )
        raise _unreadable(path, why) from None
    except ValueError:
        raise _unreadable(path, "is not a file's name") from None


def _unreadable(path: Path, message: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(str(path), 0, 0, "", message)])
