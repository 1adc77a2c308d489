"""The certificate of a listener: its faults are reported before it serves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from router.model.errors import StartFailed
from router.net import tls as certificates
from router.net.tls import Pair, listener_tls, listener_warnings
from tests.support.certificates import dateless, issued

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
    """Return the one line that ends the start."""
    with pytest.raises(StartFailed) as caught:
        listener_tls(pair)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_pair(tmp_path: Path) -> None:
    """It is used without a warning."""
    pair = issued(tmp_path)
    listener_tls(pair)
    assert listener_warnings(pair, time.time()) == []


def test_a_missing_file(tmp_path: Path) -> None:
    """The message names the file as it was given."""
    pair = issued(tmp_path)
    missing = tmp_path / "missing.pem"
    gone = f"{missing} can't be read: no such file or directory"
    assert why(Pair(missing, pair.key)).endswith(gone)
    assert why(Pair(pair.cert, missing)).endswith(gone)
    assert why(Pair(tmp_path, pair.key)).endswith("can't be read: is a directory")


def test_a_file_that_disappears_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example while both are replaced."""
    pair = issued(tmp_path)
    checked = certificates._check

    def check(path: Path, *rest: Any) -> None:
        checked(path, *rest)
        path.unlink()

    monkeypatch.setattr(certificates, "_check", check)
    assert why(pair).endswith(f"{pair.cert} or {pair.key} can't be read any more")


def test_the_key_of_another(tmp_path: Path) -> None:
    one, other = issued(tmp_path, "one"), issued(tmp_path, "other")
    assert why(Pair(one.cert, other.key)).endswith(f"{other.key} is not the key of {one.cert}")


def test_files_the_wrong_way_round(tmp_path: Path) -> None:
    """A key is not a certificate, nor is a text file, nor a damaged one."""
    pair = issued(tmp_path)
    text = tmp_path / "text"
    text.write_text("no PEM")
    assert why(Pair(pair.key, pair.cert)).endswith("cert.key has no certificate in PEM in it")
    assert why(Pair(text, pair.key)).endswith("text has no certificate in PEM in it")
    assert why(Pair(pair.cert, text)).endswith("text has no key in PEM in it")
    pair.cert.write_text(pair.cert.read_text().replace("M", "!", 40))
    assert why(pair).endswith(f"{pair.cert} and {pair.key} can't be used together")


def test_an_expired_one(tmp_path: Path) -> None:
    assert "cert.pem has expired on 20" in why(issued(tmp_path, days=-0.5))


def test_one_that_is_not_valid_yet(tmp_path: Path) -> None:
    assert "cert.pem is not valid before 20" in why(issued(tmp_path, since=1))


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


def test_an_invalid_date(tmp_path: Path) -> None:
    """OpenSSL accepts it, but the end of such a certificate is unknown."""
    pair = issued(tmp_path, days=90)
    made = trustme.CA().issue_cert("127.0.0.1")
    pair.cert.write_text(dateless(made.cert_chain_pems[0]))
    pair.key.write_bytes(made.private_key_pem.bytes())
    assert why(pair).endswith(f"{pair.cert} has a date that can't be read")
