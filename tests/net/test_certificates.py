"""Certificates: of a listener, whose faults are reported before it serves, and for targets."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
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

from router.model.errors import StartFailed
from router.model.secret import Secret
from router.net.tls import USUAL, BadCertificate, Pair, Tls, listener_tls, listener_warnings
from tests.support.certificates import dateless, issued
from tests.support.engines import AUTHORITY, certified, pem, shown, trusting

DAY = 24 * 3600.0

#: Its password is `x`; it opens nothing.
ENCRYPTED = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIH0MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBAh48ScHoka9Qa6lWo/
CJbcAgIIADAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQK3KF8HdLm63Xzb5c
DQqQkwSBkFrVqdIvUDzS6kX3HNDNC/WYOphTspX+W8vy9N1aOD4I74ZczI0nxgUt
vToPIl2ti2HpvkbLfWvCcq1YA+crpxB4zr1hduJkLTSh59R9ebFQGF9EQxMsK/OU
W+zaboIQR/hIVyacu/za2hBx/l8BJxFznPNdPs5dLS9XpBH3ZMwykgCJQixZDooP
fevUuJlsgw==
-----END ENCRYPTED PRIVATE KEY-----
"""


def why(pair: Pair) -> str:
    with pytest.raises(StartFailed) as caught:
        listener_tls(pair)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_pair(tmp_path: Path) -> None:
    """It is used without a warning, and again if the contents of either file change."""
    pair = issued(tmp_path)
    assert listener_warnings(pair, time.time()) == []
    for path in (pair.cert, pair.key):
        before = listener_tls(pair)
        assert listener_tls(pair) == before
        path.write_text(path.read_text() + "\n")
        assert listener_tls(pair) != before


def test_a_missing_file(tmp_path: Path) -> None:
    """The message names the file as it was given."""
    pair = issued(tmp_path)
    missing = tmp_path / "missing.pem"
    gone = f"{missing} can't be read: no such file or directory"
    assert why(Pair(missing, pair.key)).endswith(gone)
    assert why(Pair(pair.cert, missing)).endswith(gone)
    assert why(Pair(tmp_path, pair.key)).endswith("can't be read: is a directory")


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    """Another's key, a key as a certificate, a text and a damaged file are named."""
    one, other = issued(tmp_path, "one"), issued(tmp_path, "other")
    assert why(Pair(one.cert, other.key)).endswith(f"{other.key} is not the key of {one.cert}")
    pair = issued(tmp_path)
    text = tmp_path / "text"
    text.write_text("no PEM")
    assert why(Pair(pair.key, pair.cert)).endswith("cert.key has no certificate in PEM in it")
    assert why(Pair(text, pair.key)).endswith("text has no certificate in PEM in it")
    assert why(Pair(pair.cert, text)).endswith("text has no key in PEM in it")
    pair.cert.write_text(pair.cert.read_text().replace("M", "!", 40))
    assert why(pair).endswith(f"{pair.cert} and {pair.key} can't be used together")


def test_a_pair_that_is_not_valid_now(tmp_path: Path) -> None:
    """The message has the day. OpenSSL accepts an invalid date, whose end is unknown."""
    assert "cert.pem has expired on 20" in why(issued(tmp_path, days=-0.5))
    assert "cert.pem is not valid before 20" in why(issued(tmp_path, since=1))
    pair, made = issued(tmp_path), trustme.CA().issue_cert("127.0.0.1")
    pair.cert.write_text(dateless(made.cert_chain_pems[0]))
    pair.key.write_bytes(made.private_key_pem.bytes())
    assert why(pair).endswith(f"{pair.cert} has a date that can't be read")


def test_a_key_with_a_password(tmp_path: Path) -> None:
    """The terminal is not asked for it."""
    pair = issued(tmp_path)
    pair.key.write_text(ENCRYPTED)
    assert "cert.key needs a password" in why(pair)


def test_a_key_that_anybody_may_read(tmp_path: Path) -> None:
    """The warning says what to do."""
    pair = issued(tmp_path)
    pair.key.chmod(0o644)
    tmp_path.chmod(0o755)
    assert listener_warnings(pair, time.time()) == [
        f"--tls-key: everybody on this machine can read {pair.key}: chmod 600"
    ]


def test_one_that_expires_soon(tmp_path: Path) -> None:
    """Two weeks before its end there is a warning; a day earlier there is none."""
    pair = issued(tmp_path, days=90)
    last = pair.validity()[1]
    assert listener_warnings(pair, last - 15 * DAY) == []
    assert listener_warnings(pair, last - 13 * DAY)[0].startswith(
        f"--tls-cert: {pair.cert} expires on 20"
    )


def plain_authority() -> tuple[str, ssl.SSLContext]:
    """An authority as `openssl req -x509` makes it, and a target with its certificate."""
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
    authority = trustme.CA().create_child_ca()
    return pem(authority), certified(by=authority)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(3):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert all(side.version() for side in sides)


@pytest.mark.parametrize("authority", [plain_authority, between], ids=lambda make: make.__name__)
def test_an_authority_of_ones_own(authority: Callable[[], tuple[str, ssl.SSLContext]]) -> None:
    """Every certificate in `ca` is trusted on every Python: one made by a plain `openssl req
    -x509`, and an intermediate one. No other certificate is."""
    ca, target = authority()
    shake_hands(Tls.of(ca).trust, target, "127.0.0.1")
    for stranger in (trusting(), USUAL):
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(stranger.trust, target, "127.0.0.1")


def test_the_first_expiry() -> None:
    """The first to expire of the client's chain, or the last of the authorities."""
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
    """An unreadable certificate is an error: others than intended would be trusted."""
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
