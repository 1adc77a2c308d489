"""What a check has found: good, a breach, or nothing, since it does not apply. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from router.model import Attempt, Reason


class Grade(StrEnum):
    GOOD = "good"
    BREACH = "breach"
    #: It was not tried.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has come to, in words for people."""

    grade: Grade
    #: What was seen; of a breach what is wrong, of what was skipped why.
    said: str
    #: As what the router takes such an answer; None where it would get none like it.
    reason: Reason | None = None
    #: What that does to whom, where it is not that the event comes again.
    then: str = ""
    #: How to mend it.
    mend: str = ""


#: How to mend what each reason says of an answer to a plain event.
MENDING = {
    Reason.CODE: 'answer {"code": "000", "msg": "成功"} once the work is durable; the code is a '
    "string",
    Reason.STATUS: "answer 200 once the event is durable; the receiver's own log has what went "
    "wrong",
    Reason.REDIRECT: "have the router call the URL that the redirect leads to, and look for a "
    "slash too many or too few at the URL's end",
    Reason.EMPTY: 'answer with a body, {"code": "000", "msg": "成功"}, or set `acknowledge: '
    "status` for the target",
    Reason.NOT_JSON: 'answer with one JSON object in UTF-8, {"code": "000", "msg": "成功"}, and '
    "nothing around it",
    Reason.ENCODED: "do not compress the answer: nobody has asked for that",
    Reason.TOO_LARGE: "answer with the contract's few members: 64 KiB are read at most",
    Reason.PROTOCOL: "answer with whole HTTP/1.1, and no byte after the body's end",
    Reason.CONNECT_REFUSED: "start the receiver, or correct the URL's port",
    Reason.CONNECT_TIMEOUT: "look for a firewall, or correct the URL's host and port",
    Reason.UNREACHABLE: "look at the network, or correct the URL's host",
    Reason.FORBIDDEN: "list the address in `egress` of routes.yaml, if events may go there",
    Reason.DNS: "correct the URL's host, or the name server's records",
    Reason.TLS: "serve a certificate for the URL's host, with all between it and its root; name "
    "an authority of your own with --ca, or `tls: {ca: …}` in routes.yaml",
    Reason.TIMEOUT: "make the event durable, answer, and do the work afterwards",
    Reason.RESET: "keep the connection until the answer is whole, and send as many bytes as "
    "`content-length` says",
}


def good(said: str) -> Finding:
    return Finding(Grade.GOOD, said)


def skipped(why: str) -> Finding:
    return Finding(Grade.SKIPPED, why)


def breach(said: str, then: str, mend: str, reason: Reason | None = None) -> Finding:
    return Finding(Grade.BREACH, said, reason, then, mend)


def unacknowledged(attempt: Attempt, what: str, mend: str = "") -> Finding:
    """The breach of who should have acknowledged: `what`, and how it was answered.

    `mend` is for a receiver that acknowledges other events; one that does not answer at all needs
    what the reason needs.
    """
    usual = MENDING.get(attempt.reason, "")
    refused = attempt.reason in (Reason.CODE, Reason.STATUS)
    said = f"{what}: {answer_of(attempt)}"
    return Finding(Grade.BREACH, said, attempt.reason, mend=mend if mend and refused else usual)


def answer_of(attempt: Attempt) -> str:
    """How a request was answered, in a few words."""
    if attempt.acknowledged:
        return f"acknowledged by HTTP {attempt.status}"
    why = attempt.detail or ("" if attempt.reason is Reason.STATUS else str(attempt.reason))
    status = f"HTTP {attempt.status}" if attempt.status else ""
    return ", ".join(filter(None, (status, why, attempt.msg)))
