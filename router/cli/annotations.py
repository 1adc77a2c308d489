"""Problems as CI systems show them, beside the lines they are about."""

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
    #: Only an error fails the file it is in.
    level: Literal["error", "warning", "notice"]
    message: str
    #: As it was given; `""` if it is about no file.
    file: str = ""
    #: From 1; 0 if the file as a whole is meant.
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was checked, or the like, with all its annotations."""

    annotations: Sequence[Annotation] = ()
    #: The result in a line, for the job's log.
    said: str = ""


def say_checked(format: str, command: str, checked: Sequence[Checked]) -> None:
    """Print them in one of `CI_FORMATS`."""
    every = [annotation for each in checked for annotation in each.annotations]
    say_lines(_github(checked) if format == "github" else _gitlab(command, every))


def _github(checked: Sequence[Checked]) -> Iterator[str]:
    for each in checked:
        yield from map(_workflow_command, each.annotations)
        if each.said:
            yield each.said


def _workflow_command(annotation: Annotation) -> str:
    place = {"file": _path(annotation.file), "line": annotation.line, "col": annotation.column}
    properties = [f"{name}={_property(str(value))}" for name, value in place.items() if value]
    return f"::{annotation.level} {','.join(properties)}::{_data(annotation.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _gitlab(command: str, annotations: Sequence[Annotation]) -> Iterator[str]:
    """A message that a file has twice gets a number in its fingerprint: a line number would make a
    new issue of it whenever a line is added above."""
    alike: Counter[tuple[str, str]] = Counter()
    issues = []
    for annotation in annotations:
        path, message = _path(annotation.file) or NAME, annotation.message
        alike[path, message] += 1
        mark = "\0".join((command, path, message, str(alike[path, message])))
        issues.append(
            {
                "description": message,
                "check_name": f"{NAME} {command}",
                "fingerprint": hashlib.sha256(mark.encode("utf-8", "replace")).hexdigest(),
                "severity": _SEVERITY[annotation.level],
                "location": {"path": path, "lines": {"begin": max(1, annotation.line)}},
            }
        )
    yield json.dumps(issues, ensure_ascii=False)


def _path(file: str) -> str:
    """Return a path as these systems know it: `routes.yaml`, not `./routes.yaml`."""
    return str(PurePath(file)) if file else ""
