"""The platform's contract, both ways: callbacks read, replies made, waits, signatures."""

from router.contract.replies import (
    ACKNOWLEDGED,
    BUSY,
    ENCODED,
    FAILED,
    FORBIDDEN,
    NO_TOKEN,
    NOT_OPEN,
    TOO_LARGE,
    TOO_SLOW,
    WRONG_METHOD,
    Reply,
    body_of,
    is_sane,
    refusal,
    reply_to_refused,
    request_id_from,
    response_of,
)
from router.contract.schedule import PLATFORM, Schedule, Terms, parse_age, parse_duration
from router.contract.signing import KEY_PREFIX, LEAST_KEY, Signer, key_of
from router.contract.strictjson import Unreadable, parse_json
from router.contract.words import Words, masked, words_of

__all__ = [
    "ACKNOWLEDGED",
    "BUSY",
    "ENCODED",
    "FAILED",
    "FORBIDDEN",
    "KEY_PREFIX",
    "LEAST_KEY",
    "NOT_OPEN",
    "NO_TOKEN",
    "PLATFORM",
    "TOO_LARGE",
    "TOO_SLOW",
    "WRONG_METHOD",
    "Reply",
    "Schedule",
    "Signer",
    "Terms",
    "Unreadable",
    "Words",
    "body_of",
    "is_sane",
    "key_of",
    "masked",
    "parse_age",
    "parse_duration",
    "parse_json",
    "refusal",
    "reply_to_refused",
    "request_id_from",
    "response_of",
    "words_of",
]
