"""The meaning of an answer: only a plain yes in the target's own terms acknowledges."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.contract.replies import MAX_CODE, MAX_MSG
from router.delivery.target.judge import is_usual, judge, read_contract
from router.model.event import Reason
from router.model.secret import Secret
from router.routing.target import Target
from router.transport.engine import Answer

CODE = Target("one", "http://127.0.0.1/")
STATUS = Target("one", "http://127.0.0.1/", acknowledge="status")

YES = b'{"code":"000","msg":"\xe6\x88\x90\xe5\x8a\x9f"}'


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, YES, Reason.ACKNOWLEDGED),
        (201, YES, Reason.ACKNOWLEDGED),
        (200, b' {"code": "\\u0030\\u0030\\u0030"} ', Reason.ACKNOWLEDGED),
        (500, YES, Reason.STATUS),
        (304, b"", Reason.STATUS),
        (404, b"", Reason.STATUS),
        (508, YES, Reason.LOOPING),
        (200, b'{"code":"508"}', Reason.CODE),
        (301, YES, Reason.REDIRECT),
        (302, YES, Reason.REDIRECT),
        (307, YES, Reason.REDIRECT),
        (204, b"", Reason.EMPTY),
        (200, b" \r\n", Reason.EMPTY),
        (200, b'{"code":"0"}', Reason.CODE),
        (200, b'{"code":"500"}', Reason.CODE),
        (200, b'{"code":"000 "}', Reason.CODE),
        (200, b'{"code":0}', Reason.CODE),
        (200, b'{"code":["000"]}', Reason.CODE),
        (200, b'{"msg":"000"}', Reason.CODE),
        (200, b'{"code":"500","code":"000"}', Reason.NOT_JSON),
        (200, b'["000"]', Reason.NOT_JSON),
        (200, b'"000"', Reason.NOT_JSON),
        (200, b"000", Reason.NOT_JSON),
        (200, b"<html>000</html>", Reason.NOT_JSON),
        (200, b"\xef\xbb\xbf" + YES, Reason.NOT_JSON),
        (200, YES[:-1], Reason.NOT_JSON),
        (200, b"[" * 60_000, Reason.NOT_JSON),
    ],
)
def test_an_answer_has_one_reason(status: int, body: bytes, reason: Reason) -> None:
    """A target with `acknowledge: code` has to answer 2xx with the code `"000"`, a string."""
    attempt = judge(Answer(status, body), CODE, 1.5, 0.0)
    assert attempt.reason is reason
    assert attempt.delivered
    assert (attempt.status, attempt.seconds) == (status, 1.5)


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        ("[" * 7 + "]" * 7, None),
        ("[" * 8 + "]" * 8, "nested more than 8 deep"),
        ("[" * 400 + "]" * 400, "nested more than 8 deep"),
        ("[" + ",".join(["[]"] * 1_000) + "]", "more than 1,000 lists and objects"),
        ("[" + ",".join(["1"] * 5_000) + "]", "more than 5,000 values"),
        ('"' + "[" * 60_000 + '"', None),
    ],
)
def test_an_answer_of_too_much_work_is_not_read(data: str, detail: str | None) -> None:
    """It does not acknowledge, whatever its code, and the detail names the limit."""
    attempt = judge(Answer(200, f'{{"code":"000","data":{data}}}'.encode()), CODE, 0.0, 0.0)
    if detail is None:
        assert attempt.reason is Reason.ACKNOWLEDGED
    else:
        assert (attempt.reason, attempt.detail) == (Reason.NOT_JSON, detail)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, Reason.ACKNOWLEDGED),
        (204, Reason.ACKNOWLEDGED),
        (299, Reason.ACKNOWLEDGED),
        (302, Reason.REDIRECT),
        (304, Reason.STATUS),
        (500, Reason.STATUS),
    ],
)
def test_a_target_that_acknowledges_by_status_needs_only_a_2xx(status: int, reason: Reason) -> None:
    assert judge(Answer(status, b"", encoding="gzip"), STATUS, 0.0, 0.0).reason is reason


#: The start of 2026-11-29, as Unix time.
DAY = 1_795_910_400.0


@pytest.mark.parametrize(
    ("status", "given", "seconds"),
    [
        (503, "120", 120.0),
        (429, "0", 0.0),
        (503, "Sun, 29 Nov 2026 00:02:00 GMT", 120.0),
        (429, "Sat, 28 Nov 2026 00:00:00 GMT", 0.0),
        (503, "9" * 400, 999_999_999.0),
        (503, "", None),
        (503, "-1", None),
        (503, "soon", None),
        (503, "²", None),
        (500, "120", None),
        (200, "120", None),
    ],
)
def test_a_target_may_ask_for_time(status: int, given: str, seconds: float | None) -> None:
    """By a 429 or 503, in seconds or with a date; a date in the past asks for none."""
    answer = Answer(status, b"{}", retry_after=given)
    assert judge(answer, CODE, 0.1, DAY).retry_after == seconds


_texts = st.text(max_size=8) | st.sampled_from(["000", "\x7f", "\u2028", "\\", '"', "成功"])
_members = st.lists(
    st.tuples(st.sampled_from(["request_id", "code", "msg", "data"]), _texts | st.just("000")),
    max_size=4,
)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    """Make objects much like the contract's, with members in any order and number, and a wrong
    byte."""
    colon, comma = draw(st.sampled_from([":", ": "])), draw(st.sampled_from([",", ", "]))
    plainly = draw(st.booleans())
    members = [
        json.dumps(name) + colon + json.dumps(text, ensure_ascii=plainly)
        for name, text in draw(_members)
    ]
    body = ("{" + comma.join(members) + "}").encode("utf-8", "surrogatepass")
    at, gone = draw(st.integers(0, len(body))), draw(st.integers(0, 1))
    instead = draw(st.sampled_from([b"", b"", b"\xff", b"\n", b'"', b"\\", b"\x00", b","]))
    return body[:at] + instead + body[at + gone :]


@given(_bodies())
@example(YES)
@example(b'{"request_id": "7", "code": "000", "msg": "ok"}')
@example(b'{"code":"000","msg":"\xed\xa0\x80"}')
@example(b'{"code":"000","msg":"\xff"}')
@example(b'{"code":"000","code":"500"}')
def test_the_quick_check_agrees_with_the_strict_one(body: bytes) -> None:
    """The quick check never accepts more than the strict one."""
    if is_usual(body):
        assert read_contract(body, CODE).reason is Reason.ACKNOWLEDGED


@pytest.mark.parametrize(
    ("status", "body", "code", "msg"),
    [
        (
            200,
            '{"code":"700","msg":"库存不足, order 17 locked"}',
            "700",
            "库存不足, order 17 locked",
        ),
        (500, '{"code":"500","msg":"later"}', "500", "later"),
        (502, "<html>\r\n  <h1>Bad gateway</h1></html>", "", "<html> <h1>Bad gateway</h1></html>"),
        (200, '{"code":700,"msg":"a number"}', "", '{"code":700,"msg":"a number"}'),
        (200, '{"code":"700","msg":null}', "700", '{"code":"700","msg":null}'),
        (200, "", "", ""),
    ],
)
def test_a_failed_attempt_has_the_receivers_words(
    status: int, body: str, code: str, msg: str
) -> None:
    """Its code and message; of other answers the beginning of the text."""
    attempt = judge(Answer(status, body.encode()), CODE, 0.0, 7.0)
    assert (attempt.code, attempt.msg, attempt.at) == (code, msg, 7.0)


@given(
    st.text(max_size=300), st.sampled_from(["\x1b[31m", "\x00", "\u202e", "\r\n", "\x9b", "\u2066"])
)
def test_a_receivers_words_are_harmless(text: str, naughty: str) -> None:
    """One short line, whatever is sent: no escape, bidi mark, NUL or line break is left."""
    body = json.dumps({"code": naughty + text, "msg": text + naughty}).encode()
    for raw in (body, naughty.encode() + body, body[: len(body) // 2], b"\xff\xfe" + body):
        attempt = judge(Answer(500, raw), CODE, 0.0, 0.0)
        assert attempt.code.isprintable()
        assert attempt.msg.isprintable()
        assert len(attempt.code) <= MAX_CODE
        assert len(attempt.msg) <= MAX_MSG


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b'{"code": "canary-1234"}'),
        Answer(200, YES, "canary-1234"),
        Answer(500, b"GET /callback/canary-path?token=canary-query"),
    ],
)
def test_no_detail_of_an_attempt_has_a_secret(answer: Answer) -> None:
    """Quoted codes, encodings and texts are masked: secrets of headers, and parts of the URL that
    are not printed."""
    target = replace(
        CODE,
        url="http://127.0.0.1/callback/canary-path?token=canary-query",
        public_url="http://127.0.0.1/callback/***?***",
        headers=(("x-api-key", Secret("canary-1234")),),
    )
    attempt = judge(answer, target, 0.1, 0.0)
    assert not attempt.acknowledged
    assert "canary" not in f"{attempt.detail} {attempt.code} {attempt.msg}".lower()
    assert "***" in f"{attempt.detail} {attempt.code} {attempt.msg}"
    assert "/callback" in attempt.msg or attempt.status == 200


def test_a_targets_own_secrets_are_masked_in_its_words() -> None:
    """A receiver that repeats our token does not bring it into logs and stores."""
    secrets = (("authorization", Secret("Bearer canary-1234")),)
    target = replace(CODE, headers=secrets, secret=(Secret("whsec-canary"),))
    body = b'{"code":"401","msg":"canary-1234 is not whsec-canary"}'
    assert judge(Answer(401, body), target, 0.0, 0.0).msg == "*** is not ***"
