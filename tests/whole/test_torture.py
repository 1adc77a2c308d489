"""Hostile input over real sockets: a key that wants to be a header, an answer that wants to be a
log line or a metric, a request in any pieces.

`make torture` takes many times as many examples, and others each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.contract.replies import MAX_MSG
from router.net.http.connection import Limits
from router.telemetry.scrape import scrape_as
from tests.support.disputed import spoilt
from tests.support.effort import examples
from tests.support.hostile import answer, hostile
from tests.support.house import event, house, routes
from tests.support.wire import PROBE, Line, Running, running

# What events carry towards targets.

KEYS = {
    "a line break": "a.gs.x\r\nx-forged: 1",
    "a whole request": "a.gs.x\r\n\r\nPOST /callback HTTP/1.1\r\nhost: x\r\n\r\n",
    "nul": "a.gs.\0",
    "another script": "a.gs.证书.1",
    "an emoji": "a.gs.🔏.1",
    "what is encoded already": "a.gs.%0d%0ax-forged: 1",
    "a terminal's orders": "a.gs.\x1b]0;forged\x07",
    "8 KB": "a.gs." + "k" * 8_192,
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", KEYS)
async def test_no_key_becomes_a_header(name: str) -> None:
    """A target gets an event with any key once, with its usual headers and no others. The key is
    among them, unless it is longer than servers take."""
    key = KEYS[name]
    async with hostile("answers") as target, house(routes({"one": target.url})) as router:
        plain = await router.post(event(event_key="a.gs.cert.1"))
        reply = await router.post(event(event_key=key))
    assert (plain.json()["code"], reply.json()["code"]) == ("000", "000")
    usual, odd = map(request, target.requests)
    assert odd.keys() <= usual.keys()
    assert usual.keys() - odd.keys() <= {b"x-ebaas-event-key"}
    assert unquote(odd.get(b"x-ebaas-event-key", b"").decode()) in (key, "")
    assert max(map(len, odd.values())) <= 4_096


def request(raw: bytes) -> dict[bytes, bytes]:
    """The headers of a request as a server by the book reads them; it has a body, and an end."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw)
    top = server.next_event()
    assert isinstance(top, h11.Request)
    while not isinstance(event := server.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
    assert server.trailing_data == (b"", False)
    assert len(dict(top.headers)) == len(list(top.headers))
    return dict(top.headers)


# What targets answer.

WORDS = '\x1b[31m"}\n{"level":"error","happening":"forged"}\r\n\u2028\u202e' + "w" * 4_096

ANSWERS = {
    "code": answer(json.dumps({"code": WORDS}).encode()),
    "msg": answer(json.dumps({"code": "500", "msg": WORDS}).encode()),
    "no json": answer(WORDS.encode()),
    "encoding": answer(b"{}", 'Content-Encoding: x"},{forged=\\"1\\"'),
    "retry-after": answer(b"{}", 'Retry-After: 9"}\\nforged 1', status="503 Unavailable"),
    "reason phrase": answer(b"{}", status='500 "forged\x1b[31m'),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ANSWERS)
async def test_no_answer_writes_a_log_line_or_a_metric(name: str) -> None:
    """The line has its usual fields and a short, harmless quotation; there is no other series."""
    async with (
        hostile("answers", answer=ANSWERS["msg"]) as usual,
        hostile("answers", answer=ANSWERS[name]) as odd,
        house(routes({"usual": usual.url, "odd": odd.url})) as router,
    ):
        await router.post()
        line = await router.line("event")
        scraped = router.app.insight.report()
        text = router.stream.getvalue()
        happenings = [each["happening"] for each in router.lines]
    assert happenings == ["event"]
    output = line["targets"]["odd"]
    assert output.keys() - line["targets"]["usual"].keys() <= {"detail"}
    assert len(output.get("detail", "")) < 120
    assert re.fullmatch(r"[ -~\n]*", text)
    assert len(output.get("msg", "")) <= MAX_MSG
    assert "forged" not in "".join(scrape_as("")[1](scraped.metrics))


@pytest.fixture(scope="module")
def router() -> Iterator[Running]:
    with running(Limits(first_byte=0.5, receive=0.5)) as router:
        yield router
    assert router.troubles == []


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    raw = draw(spoilt())
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(raw) - 1)), max_size=4)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]


@examples(60)
@given(packets=pieces())
def test_a_request_in_pieces_is_the_request(router: Running, packets: list[bytes]) -> None:
    """A request gets the same answer in one packet and in pieces."""
    before = len(router.events)
    with router.line() as whole, router.line() as cut:
        whole.say(b"".join(packets))
        with suppress(ConnectionError):  # it was refused before its end
            cut.say(*packets)
        statuses = {final(whole), final(cut)}
    # A busy machine may come too late with a piece.
    assert len(statuses - {408}) <= 1
    if len(statuses) == 1:
        assert len(router.events) - before in (0, 2)
    assert router.ask(PROBE).status == 200


def final(line: Line) -> int:
    """The status of the answer; 0 where the connection ends without one."""
    while (answer_on := line.receive()) is not None:
        if answer_on.status != 100:
            assert answer_on.says
            return answer_on.status
    return 0
