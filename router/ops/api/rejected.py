"""What becomes of a request that can't be done: a problem document, as RFC 9457 has it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypedDict


class ProblemShape(TypedDict):
    """An error: what kind it is, and what can be done about it."""

    type: str
    title: str
    status: int
    detail: str


class Rejected(Exception):
    """The text says what is wrong and, where that helps, what to do; it names no other's target."""

    def __init__(self, status: int, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.more = more

    @property
    def document(self) -> dict[str, Any]:
        shape = ProblemShape(
            type="about:blank",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=str(self),
        )
        return {**shape, **self.more}


def nothing_there(what: str) -> Rejected:
    """Also of what is there, but not for who asks: the two look alike."""
    return Rejected(404, f"there is no {what}")
