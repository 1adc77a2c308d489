"""What a probe prints: a line for each check once it is made, for people, a machine, or JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypedDict

from router.cli.annotations import Annotation, Checked, say_checked
from router.cli.columns import counted
from router.cli.printing import say, say_json
from router.cli.trying.probe.finding import Finding, Grade, skipped
from router.cli.trying.probe.receiver import Receiver

_NAME_WIDTH = 15


class CheckShape(TypedDict):
    """One check that was made."""

    check: str
    grade: Grade
    #: What was seen; of a breach what is wrong, of what was skipped why.
    said: str
    #: As what the router takes such an answer; null where it would get none like it.
    reason: str | None
    #: What the router does about it.
    router: str | None
    mend: str | None
    seconds: float


class ProbeReport:
    """Is told of each finding, and of the end."""

    def __init__(self, receiver: Receiver, format: str) -> None:
        self._receiver = receiver
        self._format = format
        #: For JUnit, which begins with the numbers.
        self._made: list[Checked] = []
        self.counts: Counter[Grade] = Counter()

    def add(self, check: str, finding: Finding, seconds: float) -> None:
        self.counts[finding.grade] += 1
        shape = self._shape(check, finding, seconds)
        if self._format == "json":
            say_json(shape)
        elif self._format == "junit":
            self._made.append(_checked(shape))
        else:
            for line in _text(shape):
                say(line)

    def leave(self, checks: Sequence[str], why: str) -> None:
        """Add those that are not made; people get one line for all of them."""
        if self._format != "text":
            for check in checks:
                self.add(check, skipped(why), 0.0)
        elif checks:
            self.counts[Grade.SKIPPED] += len(checks)
            say(f"{Grade.SKIPPED} {counted(len(checks), 'other')}  {why}")

    def end(self) -> None:
        if self._format == "junit":
            say_checked("junit", f"probe {self._receiver.shown}", self._made)
        elif self._format == "text":
            numbers = ", ".join(f"{self.counts[grade]} {grade}" for grade in Grade)
            say(f"{counted(self.counts.total(), 'check')}: {numbers}")

    def _shape(self, check: str, finding: Finding, seconds: float) -> CheckShape:
        again = f"takes it as `{finding.reason}`: {self._receiver.again}"
        return {
            "check": check,
            "grade": finding.grade,
            "said": finding.said,
            "reason": finding.reason,
            "router": again if finding.reason else finding.then or None,
            "mend": finding.mend or None,
            "seconds": round(seconds, 3),
        }


def _text(shape: CheckShape) -> Iterator[str]:
    is_breach = shape["grade"] is Grade.BREACH
    word = shape["grade"].upper() if is_breach else shape["grade"]
    yield f"{word:<8}{shape['check']:<{_NAME_WIDTH}}  {shape['said']}"
    if is_breach:
        yield f"{'':8}{'  the router':<{_NAME_WIDTH}}  {shape['router']}"
        yield f"{'':8}{'  to mend it':<{_NAME_WIDTH}}  {shape['mend']}"


def _checked(shape: CheckShape) -> Checked:
    name, said, seconds = shape["check"], shape["said"], shape["seconds"]
    if shape["grade"] is not Grade.BREACH:
        is_skipped = shape["grade"] is Grade.SKIPPED
        return Checked("probe", name, said=said, is_skipped=is_skipped, seconds=seconds)
    wrong = f"{said}\nthe router: {shape['router']}\nto mend it: {shape['mend']}"
    return Checked("probe", name, [Annotation("error", wrong)], seconds=seconds)
