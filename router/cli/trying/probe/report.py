"""What a probe prints: a line for each check once it is made, for people or a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypedDict

from router.cli.columns import width
from router.cli.printing import say, say_json, say_lines
from router.cli.trying.probe.checks import Finding, Grade, skipped
from router.cli.trying.probe.client import Receiver
from router.cli.wording import Wording
from router.model.event import Reason

#: Of the first two columns, in cells.
_GRADE_WIDTH, _NAME_WIDTH = 8, 17


class CheckView(TypedDict):
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

    def __init__(self, receiver: Receiver, format: str, words: Wording) -> None:
        self._receiver = receiver
        self._format = format
        self._words = words
        self.counts: Counter[Grade] = Counter()

    def add(self, check: str, finding: Finding, seconds: float) -> None:
        self.counts[finding.grade] += 1
        shape = self._shape(check, finding, seconds)
        if self._format == "json":
            say_json(shape)
        else:
            say_lines(self._text(shape))

    def leave(self, checks: Sequence[str], breached: str) -> None:
        """Add those that are not made after this one; people get one line for all of them."""
        why = self._words("left.why", check=breached)
        if self._format != "text":
            for check in checks:
                self.add(check, skipped(why), 0.0)
        elif checks:
            self.counts[Grade.SKIPPED] += len(checks)
            grade, others = self._words("grade.skipped"), self._words("left", number=len(checks))
            say(f"{_padded(grade, _GRADE_WIDTH)}{others}  {why}")

    def end(self) -> None:
        if self._format == "text":
            numbers = {str(grade): self.counts[grade] for grade in Grade}
            say(self._words("total", number=self.counts.total(), **numbers))

    def _shape(self, check: str, finding: Finding, seconds: float) -> CheckView:
        then = self._again(finding.reason) if finding.reason else finding.then
        return {
            "check": check,
            "grade": finding.grade,
            "said": finding.said,
            "reason": finding.reason,
            "router": then or None,
            "mend": finding.mend or None,
            "seconds": round(seconds, 3),
        }

    def _again(self, reason: Reason) -> str:
        """As what the router takes an answer, and who sends the event again."""
        schedule = self._receiver.schedule
        retries, hours = str(schedule.retries), f"{schedule.total() / 3600:.1f}"
        again = self._words(f"again.{self._receiver.sender}", retries=retries, hours=hours)
        return self._words("takes", reason=str(reason), again=again)

    def _text(self, shape: CheckView) -> Iterator[str]:
        grade = self._words(f"grade.{shape['grade']}")
        yield _padded(grade, _GRADE_WIDTH) + _padded(shape["check"], _NAME_WIDTH) + shape["said"]
        if shape["grade"] in (Grade.BREACH, Grade.WARNING):
            for key, said in (("the router", shape["router"]), ("to mend it", shape["mend"])):
                name = _padded(f"  {self._words(key)}", _NAME_WIDTH)
                yield f"{'':{_GRADE_WIDTH}}{name}{said}"


def _padded(text: str, cells: int) -> str:
    return text + " " * (cells - width(text))
