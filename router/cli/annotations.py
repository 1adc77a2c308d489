"""What a command found, as CI systems show it beside the lines it is about."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from router.cli.printing import NAME, say_lines

#: Workflow commands of GitHub, and Code Quality of GitLab.
CI_FORMATS = ("github", "gitlab")

_SEVERITY = {"error": "major", "warning": "minor", "notice": "info"}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One thing found."""

    #: Only an error fails what it is found in.
    level: Literal["error", "warning", "notice"]
    message: str
    #: As it was given; `""` where it is about no file.
    file: str = ""
    #: From 1; 0 where the file as a whole is meant.
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """One thing that was looked at, and all that was found."""

    annotations: Sequence[Annotation] = ()
    #: How it went.
    said: str = ""


def say_checked(format: str, command: str, checked: Sequence[Checked]) -> None:
    """Print them in one of `CI_FORMATS`."""
    found = [each for one in checked for each in one.annotations]
    say_lines(_github(checked) if format == "github" else _gitlab(command, found))


def _github(checked: Sequence[Checked]) -> Iterator[str]:
    """A line for each annotation; what is good is a line of the job's log."""
    for each in checked:
        yield from map(_command, each.annotations)
        if each.said:
            yield each.said


def _command(found: Annotation) -> str:
    place = {"file": _path(found.file), "line": found.line, "col": found.column}
    said = [f"{name}={_property(str(value))}" for name, value in place.items() if value]
    return f"::{found.level} {','.join(said)}::{_data(found.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _gitlab(command: str, found: Sequence[Annotation]) -> Iterator[str]:
    """An array. What is said twice of one file is told apart by its number, so that a line put
    in above makes nothing new."""
    alike: Counter[tuple[str, str]] = Counter()
    issues = []
    for each in found:
        path = _path(each.file) or NAME
        alike[path, each.message] += 1
        mark = "\0".join((command, path, each.message, str(alike[path, each.message])))
        issues.append(
            {
                "description": each.message,
                "check_name": f"{NAME} {command}",
                "fingerprint": hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest(),
                "severity": _SEVERITY[each.level],
                "location": {"path": path, "lines": {"begin": max(1, each.line)}},
            }
        )
    yield json.dumps(issues, ensure_ascii=False)


def _path(file: str) -> str:
    """A path as these systems know it: `./routes.yaml` is `routes.yaml` to them."""
    return str(PurePath(file)) if file else ""
