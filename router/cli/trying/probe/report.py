"""What a probe prints: a line for each check once it is made, for people, a machine, or JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from router.cli.columns import counted
from router.cli.printing import NAME, say, say_json
from router.cli.trying.probe.finding import Finding, Grade, skipped
from router.cli.trying.probe.receiver import Receiver

_NAME_WIDTH = 15


class ProbeReport:
    """Told of each finding, and of the end."""

    def __init__(self, receiver: Receiver, format: str) -> None:
        self._receiver = receiver
        self._format = format
        self._cases: list[str] = []
        self.counts: Counter[Grade] = Counter()

    def add(self, check: str, finding: Finding, seconds: float) -> None:
        self.counts[finding.grade] += 1
        if self._format == "json":
            say_json(self._as_json(check, finding, seconds))
        elif self._format == "junit":
            self._cases.extend(self._as_case(check, finding, seconds))
        else:
            for line in self._as_text(check, finding):
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
            for line in self._suite():
                say(line)
        elif self._format == "text":
            say(
                f"{counted(self.counts.total(), 'check')}: "
                + ", ".join(f"{self.counts[grade]} {grade}" for grade in Grade)
            )

    def _router(self, finding: Finding) -> str:
        """What the router would do."""
        if finding.reason is None:
            return finding.then
        return f"takes it as `{finding.reason}`: {self._receiver.again}"

    def _as_text(self, check: str, finding: Finding) -> Iterator[str]:
        word = finding.grade.upper() if finding.grade is Grade.BREACH else finding.grade
        yield f"{word:<8}{check:<{_NAME_WIDTH}}  {finding.said}"
        if finding.grade is Grade.BREACH:
            yield f"{'':8}{'  the router':<{_NAME_WIDTH}}  {self._router(finding)}"
            yield f"{'':8}{'  to mend it':<{_NAME_WIDTH}}  {finding.mend}"

    def _as_json(self, check: str, finding: Finding, seconds: float) -> dict[str, Any]:
        return {
            "check": check,
            "grade": finding.grade,
            "said": finding.said,
            "reason": finding.reason,
            "router": self._router(finding) or None,
            "mend": finding.mend or None,
            "seconds": round(seconds, 3),
        }

    def _as_case(self, check: str, finding: Finding, seconds: float) -> Iterator[str]:
        start = f'  <testcase classname="probe" name="{check}" time="{seconds:.3f}"'
        said = escape(finding.said)
        if finding.grade is Grade.GOOD:
            yield f"{start}><system-out>{said}</system-out></testcase>"
        elif finding.grade is Grade.SKIPPED:
            yield f'{start}><skipped message="{said}"/></testcase>'
        else:
            yield f'{start}><failure message="{said}">'
            yield f"    the router {escape(self._router(finding))}"
            yield f"    to mend it: {escape(finding.mend)}"
            yield "  </failure></testcase>"

    def _suite(self) -> Iterator[str]:
        yield '<?xml version="1.0"?>'
        yield (
            f'<testsuite name="{NAME} probe {escape(self._receiver.shown)}" '
            f'tests="{self.counts.total()}" failures="{self.counts[Grade.BREACH]}" errors="0" '
            f'skipped="{self.counts[Grade.SKIPPED]}">'
        )
        yield from self._cases
        yield "</testsuite>"
