r"""Payload files, each with one promise: the folder says what it is, and what becomes of it.

    KIND/refused/NAME   never delivered, never acknowledged, never loaded
    KIND/accepted/NAME  delivered once, acknowledged, or loaded

KIND is `requests` (raw bytes to the callback port), `answers` (raw bytes from a target), `bodies`
(of a callback), `yaml` (a routes.yaml) or `urls` (of a target). `make torture CORPUS=folder` takes
another folder as well; there `either` is for files of which only this is asked: no fault, and it
serves on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from router.config import loading
from router.model.errors import ConfigInvalid
from router.net.http.lifetime import Limits
from tests.support.hostile import hostile
from tests.support.house import house, routes
from tests.support.wire import PROBE, Running, post, running

SEED = Path(__file__).parents[1] / "testdata" / "corpus"
FOLDERS = [SEED, *map(Path, filter(None, [os.environ.get("CORPUS")]))]
assert all(folder.is_dir() for folder in FOLDERS), f"CORPUS is no folder: {FOLDERS[-1]}"


def payloads(kind: str) -> list[object]:
    files = [f for folder in FOLDERS for f in sorted((folder / kind).glob("*/*")) if f.is_file()]
    return [pytest.param(f, id=f"{f.parent.name}-{f.name}") for f in files]


def fits(payload: Path, accepted: bool) -> bool:
    return payload.parent.name in ("either", "accepted" if accepted else "refused")


@pytest.fixture(scope="module")
def router() -> Iterator[Running]:
    with running(Limits(first_byte=0.5, receive=0.5, keep_alive=0.5)) as router:
        yield router
    assert router.troubles == []


def delivered(router: Running, raw: bytes) -> int:
    """The number of calls of the target for these bytes."""
    before = len(router.events)
    with router.line() as line:
        line.say(raw)
        with suppress(ConnectionError):  # it was refused before its end
            line.hear_all()
    assert router.ask(PROBE).status == 200
    return len(router.events) - before


@pytest.mark.parametrize("payload", payloads("requests"))
def test_a_request(router: Running, payload: Path) -> None:
    """Delivered once, or not at all; and the router serves on."""
    assert fits(payload, delivered(router, payload.read_bytes()) == 1)


@pytest.mark.parametrize("payload", payloads("bodies"))
def test_a_body(router: Running, payload: Path) -> None:
    """A 000, or a refusal; never a fault."""
    answer = router.ask(post(body=payload.read_bytes()))
    assert fits(payload, answer.says["code"] == "000")
    assert answer.status < 500


@pytest.mark.anyio
@pytest.mark.parametrize("payload", payloads("answers"))
async def test_an_answer(payload: Path) -> None:
    """An acknowledgement, or a failure with its reason; never a fault."""
    content = payload.read_bytes()  # noqa: ASYNC240 - before anything waits
    async with (
        hostile("says", pieces=[content]) as target,
        house(routes({"one": target.url})) as router,
    ):
        code = (await router.post()).json()["code"]
        line = await router.line("event")
    assert fits(payload, code == "000")
    assert line["targets"]["one"]["reason"] != "fault"


def loads(content: bytes) -> bool:
    try:
        loading.parse(content, "routes.yaml", {}, None)
    except ConfigInvalid:
        return False
    return True


@pytest.mark.parametrize("payload", payloads("yaml"))
def test_yaml(payload: Path) -> None:
    """It loads, or every problem is told."""
    assert fits(payload, loads(payload.read_bytes()))


@pytest.mark.parametrize("payload", payloads("urls"))
def test_a_url(payload: Path) -> None:
    """A target may have it, or not."""
    url = payload.read_text().strip()
    assert fits(payload, loads(json.dumps(routes({"one": url})).encode()))
