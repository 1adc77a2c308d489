"""What a command found, as CI systems show it beside the lines it is about."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import PurePath
from typing import Literal

from router.cli.printing import NAME, say_lines
from router.telemetry import printable

#: Workflow commands of GitHub, Code Quality of GitLab, and what nearly every CI system reads.
CI_FORMATS = ("github", "gitlab", "junit")

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
    """One thing that was looked at, and all that was found: a test case of JUnit."""

    suite: str
    name: str
    annotations: Sequence[Annotation] = ()
    #: Of what is good, how it went; of what was not tried, why.
    said: str = ""
    is_skipped: bool = False
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return any(each.level == "error" for each in self.annotations)


def say_checked(format: str, command: str, checked: Sequence[Checked]) -> None:
    """Print them in one of `CI_FORMATS`."""
    found = [each for one in checked for each in one.annotations]
    if format == "github":
        lines = _github(checked)
    elif format == "gitlab":
        lines = _gitlab(command, found)
    else:
        lines = _junit(command, checked)
    say_lines(lines)


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


def _junit(command: str, checked: Sequence[Checked]) -> Iterator[str]:
    failed = sum(each.failed for each in checked)
    skipped = sum(each.is_skipped for each in checked)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<testsuite name="{_xml(f"{NAME} {command}")}" tests="{len(checked)}" '
        f'failures="{failed}" errors="0" skipped="{skipped}">'
    )
    for each in checked:
        yield from _case(each)
    yield "</testsuite>"


def _case(checked: Checked) -> Iterator[str]:
    place = next((each for each in checked.annotations if each.file), None)
    file = f' file="{_xml(place.file)}"' if place else ""
    yield (
        f'  <testcase classname="{_xml(checked.suite)}" name="{_xml(checked.name)}"{file} '
        f'time="{checked.seconds:.3f}">'
    )
    if checked.is_skipped:
        yield f'    <skipped message="{_xml(checked.said)}"/>'
    errors = [_placed(each) for each in checked.annotations if each.level == "error"]
    if errors:
        text = "\n".join(errors)
        yield f'    <failure message="{_xml(errors[0].partition(chr(10))[0])}">'
        yield from _xml(text).splitlines()
        yield "    </failure>"
    others = [_placed(each) for each in checked.annotations if each.level != "error"]
    if checked.said and not checked.is_skipped:
        others.insert(0, checked.said)
    if others:
        yield "    <system-out>"
        yield from _xml("\n".join(others)).splitlines()
        yield "    </system-out>"
    yield "  </testcase>"


def _placed(found: Annotation) -> str:
    place = f"{found.file}:{found.line}" if found.line else found.file
    return f"{place}: {found.message}" if place else found.message


def _xml(text: str) -> str:
    """Text that XML may have, line ends kept."""
    return escape("\n".join(map(printable, text.split("\n"))))


def _path(file: str) -> str:
    """A path as these systems know it: `./routes.yaml` is `routes.yaml` to them."""
    return str(PurePath(file)) if file else ""
