"""TLS to a target by `tls` in routes.yaml: real certificates, both engines."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.config.loading import Config, Source
from router.model.event import Reason
from router.net.tls import USUAL, Tls
from router.transport.engine import Answer, Failure
from tests.support.engines import (
    AUTHORITY,
    Engine,
    certified,
    opened,
    pem,
    post,
    shown,
    trusting,
)
from tests.support.hostile import YES, Hostile, hostile
from tests.support.house import routes
from tests.support.loops import BOTH, on
from tests.support.sending import send, sending
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


anyio_backend = on(BOTH)


def asking() -> ssl.SSLContext:
    context = certified()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    return context


def whom(target: Hostile, at: int = -1) -> str:
    certificate: Any = target.peers[at].tls.getpeercert()
    return str(certificate["subjectAltName"][0][1])


async def test_a_certificate_is_shown(engine: Engine) -> None:
    """A target that requires one gets the router's. The handshake offers HTTP/1.1 alone."""
    context = asking()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        hostile("answers", tls=context) as target,
        opened(engine, target.url, trusting(**shown())) as pool,
    ):
        assert await post(pool) == Answer(200, YES)
        assert whom(target) == "router.example"
        assert target.peers[0].tls.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize(
    ("more", "detail"),
    [({}, "tlsv13 alert certificate required"), (shown(trustme.CA()), "tlsv1 alert unknown ca")],
    ids=["none", "of another authority"],
)
async def test_the_wrong_certificate_is_shown(
    engine: Engine, more: dict[str, Any], detail: str
) -> None:
    """The detail says whether the target got none, or another authority's."""
    async with (
        hostile("wants_certificate", context=asking()) as target,
        opened(engine, target.https, trusting(**more)) as pool,
    ):
        result = await post(pool)
    # Only the client's side of the handshake is over by then: the request may be on its way.
    assert result == Failure(Reason.TLS, delivered=True, detail=detail)


async def test_a_name_of_its_own(engine: Engine) -> None:
    """The target's certificate has to have `server_name`, which the handshake names as well."""
    names: list[str | None] = []
    context = certified("ledger.example")
    context.sni_callback = lambda _, name, __: names.append(name)
    async with hostile("answers", tls=context) as target:
        async with opened(engine, target.url, trusting(server_name="ledger.example")) as pool:
            assert isinstance(await post(pool), Answer)
        async with opened(engine, target.url, trusting(server_name="other.example")) as pool:
            result = await post(pool)
    assert isinstance(result, Failure)
    assert (result.reason, result.delivered) == (Reason.TLS, False)
    assert "not valid for 'other.example'" in result.detail
    assert names == ["ledger.example", "other.example"]


async def test_a_target_without_a_trusted_certificate(engine: Engine) -> None:
    """Without verification, and only then, any certificate will do, whatever its name."""
    context = certified("elsewhere.example", by=trustme.CA())
    async with hostile("answers", tls=context) as target:
        async with opened(engine, target.url, USUAL) as pool:
            result = await post(pool)
        async with opened(engine, target.url, Tls.of(verify=False)) as pool:
            assert isinstance(await post(pool), Answer)
    assert isinstance(result, Failure)
    assert result.reason is Reason.TLS


def configured(folder: Path, name: str, url: str) -> tuple[Source, Config]:
    """Return the configuration of a router with a certificate of that name, in files."""
    pair = shown(name=name)
    (folder / "ca.pem").write_text(pem(AUTHORITY))
    (folder / "client.pem").write_text(pair["cert"])
    (folder / "client.key").write_text(pair["key"].reveal())
    files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
    tls = {key: f"${{file:{file}}}" for key, file in files.items()}
    path = folder / "routes.yaml"
    path.write_text(json.dumps(routes({"ledger": {"url": url, "tls": tls}})))
    source = Source(path, {}, folder)
    return source, source.load(source.look().files)[0]


async def test_rotated_files_are_taken(engine: Engine, tmp_path: Path) -> None:
    """The next attempt uses them, an earlier request the old ones, which are closed at last."""
    async with hostile("answers", tls=asking()) as target:
        source, before = configured(tmp_path, "old.example", target.url)
        first, mark = before.table.targets["ledger"], source.look().mark
        async with sending(engine, first) as (sender, _):
            assert (await send(sender, first)).acknowledged
            _, after = configured(tmp_path, "new.example", target.url)
            second = after.table.targets["ledger"]
            assert source.look().mark != mark
            assert after.hash != before.hash
            sender.adopt([second])
            for one in (second, first):
                assert (await send(sender, one)).acknowledged
            assert [whom(target, at) for at in range(2)] == ["old.example", "new.example"]
            assert target.accepted == 2
            for _ in range(3):
                await sender.sweep()
            await until(lambda: target.open == 1)
            assert (await send(sender, second)).acknowledged
            assert target.accepted == 2


def test_the_same_files_keep_connections(tmp_path: Path) -> None:
    """Unchanged files give equal targets."""
    source, before = configured(tmp_path, "router.example", "https://ledger.example/")
    again, _ = source.load(source.look().files)
    assert again.table.targets == before.table.targets
    assert again.hash == before.hash
