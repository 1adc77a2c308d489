"""TLS to a target by `tls` in routes.yaml: real certificates, both engines."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from router.config.loading import Config, Source
from router.model.event import Reason
from router.model.secret import Secret
from router.net.tls import USUAL, BadCertificate, Tls
from router.transport.engine import Answer, Failure
from tests.support.engines import (
    AUTHORITY,
    LONG,
    SHORT,
    Engine,
    certified,
    opened,
    pem,
    post,
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
    """A target that requires a certificate by AUTHORITY."""
    context = certified()
    context.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(context)
    return context


def shown(by: trustme.CA = AUTHORITY, name: str = "router.example") -> dict[str, Any]:
    """The router's certificate, by this authority."""
    pair = by.issue_cert(name)
    cert = "".join(part.bytes().decode() for part in pair.cert_chain_pems)
    return {"cert": cert, "key": Secret(pair.private_key_pem.bytes().decode())}


def plain_authority() -> tuple[str, ssl.SSLContext]:
    """An authority as `openssl req -x509` makes it, without key usage, and a target with its
    certificate."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "house")])
    own, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = signed(name, own, name, own).add_extension(x509.BasicConstraints(True, None), True)
    host = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    )
    leaf = signed(name, own, x509.Name([]), key).add_extension(host, True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = leaf.sign(own, hashes.SHA256()).public_bytes(Encoding.PEM)
    chain += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with trustme.Blob(chain).tempfile() as path:
        context.load_cert_chain(path)
    return ca.sign(own, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), context


def signed(
    by: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        by, name, key.public_key(), x509.random_serial_number(),
        now - timedelta(days=1), now + timedelta(days=1),
    )  # fmt: skip


def between() -> tuple[str, ssl.SSLContext]:
    """An intermediate authority alone, and a target with its certificate."""
    authority = trustme.CA().create_child_ca()
    return pem(authority), certified(by=authority)


def whom(target: Hostile, at: int = -1) -> str:
    """Return the name in the certificate that a target was shown."""
    certificate: Any = target.peers[at].tls.getpeercert()
    return str(certificate["subjectAltName"][0][1])


async def test_a_certificate_is_shown(engine: Engine) -> None:
    """A target that requires a certificate gets the router's, and answers."""
    async with (
        hostile("answers", tls=asking()) as target,
        opened(engine, target.url, trusting(**shown())) as pool,
    ):
        assert await post(pool) == Answer(200, YES)
        assert whom(target) == "router.example"


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


@pytest.mark.parametrize("authority", [plain_authority, between], ids=lambda make: make.__name__)
async def test_an_authority_of_ones_own(
    engine: Engine, authority: Callable[[], tuple[str, ssl.SSLContext]]
) -> None:
    """Every certificate in `ca` is trusted on every Python: one made by a plain `openssl req
    -x509`, and an intermediate one."""
    ca, context = authority()
    async with (
        hostile("answers", tls=context) as target,
        opened(engine, target.url, Tls.of(ca)) as pool,
    ):
        assert await post(pool) == Answer(200, YES)


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


async def test_a_hung_handshake_says_so(engine: Engine) -> None:
    """A hung handshake differs from a connection that is not made."""
    async with hostile("hangs") as target, opened(engine, target.https, trusting()) as pool:
        for timeout in (SHORT, 2.0, LONG):  # on a slow machine to connect takes some of it
            result = await post(pool, timeout)
            if isinstance(result, Failure) and result.detail:
                break
    assert result == Failure(
        Reason.CONNECT_TIMEOUT, delivered=False, detail="the TLS handshake did not end"
    )


# Reload.


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
    return source, source.load(source.look().files)


async def test_rotated_files_are_taken(engine: Engine, tmp_path: Path) -> None:
    """A look notices new certificates; the next attempt uses them, an earlier request still uses
    the old ones, and the old connections are closed at last."""
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
    again = source.load(source.look().files)
    assert again.table.targets == before.table.targets
    assert again.hash == before.hash


# Certificates that end.


def test_the_first_expiry() -> None:
    """The client's certificate, or the first to expire of its chain, or the last of the
    authorities."""
    now = datetime.now(UTC).replace(microsecond=0)

    def ends(days: float) -> dict[str, Any]:
        pair = AUTHORITY.issue_cert("router.example", not_after=now + timedelta(days=days))
        key = Secret(pair.private_key_pem.bytes().decode())
        return {"cert": pair.cert_chain_pems[0].bytes().decode(), "key": key}

    assert USUAL.expires == 0
    assert Tls.of(**ends(7)).expires == (now + timedelta(days=7)).timestamp()
    chain = {**ends(7), "cert": ends(7)["cert"] + ends(2)["cert"]}
    sooner = {**chain, "key": None}
    assert Tls.of(**sooner).expires == (now + timedelta(days=2)).timestamp()
    expired = Tls.of(**ends(-1))
    assert expired.expires < time.time()
    assert trusting(**ends(7)).expires == Tls.of(**ends(7)).expires
    assert trusting().expires > time.time()


def test_an_authority_is_read_whole() -> None:
    """An unreadable certificate is an error: otherwise the router would trust others than
    intended."""
    one = pem(AUTHORITY)
    for broken in ("no certificate", one + one.replace("MII", "!!!", 1)):
        with pytest.raises(BadCertificate, match="ca has a certificate that can't be read"):
            Tls.of(broken)


def test_a_text_with_broken_bytes() -> None:
    """Bytes around PEM do no harm, bytes within it are an error."""
    right = shown()
    key = Secret("# caf\udce9\n" + right["key"].reveal())
    assert Tls.of(cert=right["cert"] + "# caf\udce9", key=key).cert_ends
    key = Secret(right["key"].reveal().replace("M", "\udce9", 1))
    with pytest.raises(BadCertificate, match="cert and key can't be used together"):
        Tls.of(cert=right["cert"], key=key)


def test_no_print_shows_a_key() -> None:
    """Neither certificates nor keys are printed."""
    assert "-----" not in repr(trusting(**shown()))
    assert "PRIVATE" not in repr(trusting(**shown()).key)
