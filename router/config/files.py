"""The files of a configuration: one file, or a folder's routes.yaml with the teams' files below its
routes.d."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from router.config.document import MAX_SIZE
from router.config.settings import SETTINGS
from router.model.errors import ConfigInvalid, Problem, why_not

#: In a folder: the common file, and the folder of the teams' files.
COMMON, TEAMS = "routes.yaml", "routes.d"

#: The most files that a folder may have.
MAX_FILES = 1_000

_SUFFIXES = (".yaml", ".yml")


class Written(NamedTuple):
    """A file's contents."""

    #: Its path, relative as it was given.
    name: str
    content: bytes


def read(path: Path) -> tuple[Written, ...]:
    """Read the file or the folder. A file may come with a byte more than `parse_files` allows; the
    files of a folder together have no more than one file may have. Raises ConfigInvalid."""
    files: list[Written] = []
    left = MAX_SIZE
    for file in files_of(path):
        files.append(Written(str(file), read_file(file)))
        left -= len(files[-1].content)
        if left < 0 and len(files) > 1:
            raise _unreadable(path, f"is larger than {MAX_SIZE // 2**20} MiB, all files together")
    return tuple(files)


def files_of(path: Path) -> list[Path]:
    """Return the file, or the files of the folder: routes.yaml first, then those in routes.d and in
    its folders, by name. Tests files are left out, and names that begin with a dot, which kubelet
    and editors use. Raises ConfigInvalid."""
    try:
        if not path.is_dir():
            return [path]
        if not (path / COMMON).exists():
            raise _unreadable(path, f"is a folder without a {COMMON}")
        files = [path / COMMON, *sorted(_below(path / TEAMS))]
    except OSError as error:
        failed = Path(error.filename or path)
        raise _unreadable(failed, f"can't be read: {why_not(failed, error)}") from None
    if len(files) > MAX_FILES:
        raise _unreadable(path, f"has more than {MAX_FILES:,} files")
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Go one folder deep, so that links in a circle do no harm."""
    for path in _entries(folder) if folder.exists() else ():
        yield from filter(_is_ours, _entries(path) if path.is_dir() else [path])


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _is_ours(path: Path) -> bool:
    return path.suffix in _SUFFIXES and not path.stem.endswith(".test")


def read_file(path: Path) -> bytes:
    """Return a file's bytes, at most one more than it may have. Raises ConfigInvalid."""
    try:
        # A pipe or a device might never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _unreadable(path, "is not a regular file")
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
