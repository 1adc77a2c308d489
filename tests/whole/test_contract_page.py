"""The samples in docs/reference/contract.md, sent to a real router: its replies are those shown."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from tests.support.command import ROOT
from tests.support.house import SAMPLE, House, house, routes
from tests.support.receivers import Right, serving

pytestmark = pytest.mark.anyio

PAGE = (ROOT / "docs/reference/contract.md").read_text(encoding="utf-8")

#: Headers that differ from one request, or one version, to the next.
MADE_ANEW = {"host", "user-agent", "webhook-id", "webhook-timestamp", "x-ebaas-first-at"}


class Endpoint(Right):
    status, says = 200, b'{"code":"000"}'
    got: ClassVar[list[tuple[dict[str, str], bytes]]]

    def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        self.got.append((headers, body))
        return self.status, self.says


@pytest.fixture
async def both() -> AsyncIterator[tuple[House, type[Endpoint]]]:
    endpoint = type("Endpoint", (Endpoint,), {"got": []})
    with serving(endpoint) as url:
        async with house(routes({"certificates": url})) as router:
            yield router, endpoint


def messages() -> list[tuple[str, dict[str, str], str]]:
    """The page's whole requests and replies: the first line, the headers, the body."""
    found = []
    for block in re.findall(r"```http\n(.*?)\n```", PAGE, re.DOTALL):
        head, _, body = block.partition("\n\n")
        first, *lines = head.split("\n")
        found.append((first, dict(line.split(": ", 1) for line in lines), body))
    return found


CALLBACK, SUCCESS, FAILURE, FORWARDED = messages()


def rows(head: str) -> list[tuple[str, ...]]:
    """The rows of the table with this head; code without its backquotes."""
    _, _, rest = PAGE.partition(f"|{head}|\n")
    table = rest.partition("\n\n")[0].splitlines()[1:]
    assert len(table) > 3
    return [tuple(cell.strip().strip("`") for cell in row[1:-1].split("|")) for row in table]


async def test_the_samples_are_what_is_said(both: tuple[House, type[Endpoint]]) -> None:
    """Replies, and the request that the target gets, are those of the page."""
    router, endpoint = both
    _, headers, sent = CALLBACK
    assert sent.encode() == SAMPLE
    for (first, shown, body), endpoint.status in ((SUCCESS, 200), (FAILURE, 500)):
        asked = {**headers, "x-request-id": json.loads(body)["request_id"]}
        reply = await router.post(sent.encode(), headers=asked)
        assert f"HTTP/1.1 {reply.status_code} {reply.reason_phrase}" == first
        assert reply.headers["content-type"] == shown["content-type"]
        assert reply.text == body
    got, came = endpoint.got[-1]
    _, shown, forwarded = FORWARDED
    assert got.keys() == shown.keys()
    assert {name for name in got if got[name] != shown[name]} <= MADE_ANEW
    assert came.decode() == forwarded


def changed(cell: str) -> bytes:
    members = json.loads(SAMPLE)
    if cell.startswith("no "):
        del members[cell.removeprefix("no `")]
    else:
        members |= json.loads(f"{{{cell}}}")
    return json.dumps(members).encode()


BODIES = {
    "is empty": b"",
    "is a list": b"[" + SAMPLE + b"]",
    "is in GBK": SAMPLE.replace(b"id1", "证书".encode("gbk")),
    "is in UTF-16": SAMPLE.decode().encode("utf-16"),
    "begins with a UTF-8 byte order mark": b"\xef\xbb\xbf" + SAMPLE,
    "has a key twice": SAMPLE[:-1] + b',"event_source":"a"}',
    "has `NaN`, or a number beyond a float": SAMPLE.replace(b'"id1"', b"1e999"),
    "has half a surrogate pair": SAMPLE.replace(b"id1", b"\\ud800"),
    "has more than 16,384 characters in `event_key` and its four fields": SAMPLE.replace(
        b"a.gs.cert.1", b"k" * 16384
    ),
    "has lists and objects more than 32 deep": SAMPLE.replace(b'"id1"', b"[" * 31 + b"]" * 31),
    "has more than 25,000 lists and objects": SAMPLE.replace(b'"id1"', b"{}," * 25_000 + b"1"),
    "has more than 200,000 values": SAMPLE.replace(b'"id1"', b"1," * 200_000 + b"1"),
}


async def test_every_body_of_the_tables_gets_its_reply(both: tuple[House, type[Endpoint]]) -> None:
    """Changes of the sample that are accepted, and bytes that are refused."""
    router, _ = both
    unlike = rows("a body that|code|`msg`")
    assert [what for what, _, _ in unlike] == list(BODIES)
    sent = [(changed(cell), code, msg) for cell, code, msg in rows("with|code|`msg`")]
    for body, code, msg in sent + [(BODIES[what], code, msg) for what, code, msg in unlike]:
        output = (await router.post(body)).json()
        assert (output["code"], output["msg"]) == (code, msg), body[:200]


async def test_every_header_of_the_table_gets_its_reply(both: tuple[House, type[Endpoint]]) -> None:
    """A target gets the same content type for any of the caller's."""
    router, endpoint = both
    for header, code, msg in rows("header|code|`msg`"):
        output = (await router.post(headers=[header.split(": ")])).json()
        assert (output["code"], output["msg"]) == (code, msg), header
    assert {headers["content-type"] for headers, _ in endpoint.got} == {"application/json"}


async def test_every_answer_of_the_table_counts_as_it_says(
    both: tuple[House, type[Endpoint]],
) -> None:
    """The reason is in the log, and EBaaS gets `000` only for an acknowledgement."""
    router, endpoint = both
    for status, answer, reason in rows("status|body|reason"):
        endpoint.status, endpoint.says = int(status), answer.encode()
        count = sum(line["happening"] == "event" for line in router.lines)
        result = (await router.post()).json()["code"]
        line = await router.line("event", count + 1)
        assert line["targets"]["certificates"]["reason"] == reason, answer
        assert result == ("000" if reason == "acknowledged" else "500")


async def test_the_fields_are_the_schemas() -> None:
    """In the page's order, and required where the schema has them so."""
    schema = json.loads((ROOT / "schemas/callback.schema.json").read_text(encoding="utf-8"))
    fields = rows("field|required|type|means")
    assert [name for name, *_ in fields] == list(schema["properties"])
    assert [name for name, needed, *_ in fields if needed == "yes"] == schema["required"]


async def test_every_field_of_an_event_is_in_the_logs_reference(
    both: tuple[House, type[Endpoint]],
) -> None:
    """An event that one target failed, with a key of its own."""
    router, endpoint = both
    endpoint.status = 500
    await router.post(json.dumps({**json.loads(SAMPLE), "event_key": "of.its.own"}).encode())
    page = (ROOT / "docs/reference/log.md").read_text(encoding="utf-8")
    missing = (await router.line("event", 1)).keys() - set(re.findall(r"[a-z_]+", page))
    assert missing == set()
