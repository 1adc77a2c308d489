"""Signatures of Standard Webhooks: as its own library makes and checks them."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from router.contract.signing import Signer, key_of
from router.model.secret import Secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = 1614265330
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signer(*secrets: str) -> Signer:
    return Signer(map(Secret, secrets))


def headers(**changed: str) -> dict[str, str]:
    """Return valid headers with these changes; underscores stand for dashes."""
    right = {
        "webhook-id": ID,
        "webhook-timestamp": str(NOW),
        "webhook-signature": SIGNATURE,
    }
    return right | {name.replace("_", "-"): value for name, value in changed.items()}


def test_the_specifications_own_example() -> None:
    """Id, time and body of the standard get its signature."""
    signed = signer(SECRET).sign(ID.encode(), str(NOW).encode(), BODY)
    assert signed.decode() == SIGNATURE


@given(
    key=st.binary(min_size=1, max_size=100),
    webhook_id=st.text("abc-_019", min_size=1),
    text=st.text(max_size=200),
)
def test_the_standards_library_makes_the_same(key: bytes, webhook_id: str, text: str) -> None:
    """Our signatures equal those of the standard's library, for any key, id and body."""
    ours = signer("whsec_" + b64encode(key).decode())
    signed = ours.sign(webhook_id.encode(), str(NOW).encode(), text.encode()).decode()
    theirs = Webhook(key).sign(webhook_id, datetime.fromtimestamp(NOW, UTC), text)
    assert signed == theirs


def test_the_standards_library_takes_a_rotation() -> None:
    """A receiver may have the old secret or the new one."""
    old, new = "whsec_" + b64encode(b"old" * 10).decode(), "a raw secret of some length"
    now = str(int(datetime.now(UTC).timestamp()))
    signed = signer(old, new).sign(ID.encode(), now.encode(), BODY).decode()
    assert len(signed.split(" ")) == 2
    come = headers(webhook_timestamp=now, webhook_signature=signed)
    for known in (Webhook(old), Webhook(new.encode())):
        known.verify(BODY, come)
    with pytest.raises(WebhookVerificationError):
        Webhook(b"another").verify(BODY, come)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("whsec_AAEC", b"\x00\x01\x02"),
        ("AAEC", b"AAEC"),
        ("whsec-AAEC", b"whsec-AAEC"),
        ("密钥", "密钥".encode()),
    ],
)
def test_a_secret_is_base64_by_its_prefix_alone(secret: str, key: bytes) -> None:
    """A secret without the prefix is used as it is."""
    assert key_of(Secret(secret)) == key


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_AA EC", "whsec_AAEC!", "whsec_é"])
def test_an_invalid_secret_is_refused(secret: str) -> None:
    """The message does not contain it."""
    with pytest.raises(ValueError, match=r"empty|not base64") as error:
        key_of(Secret(secret))
    assert secret.removeprefix("whsec_") == "" or secret not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"webhook_id": ""}, "there is no webhook-id"),
        ({"webhook_timestamp": ""}, "there is no webhook-timestamp"),
        ({"webhook_signature": ""}, "there is no webhook-signature"),
        ({"webhook_timestamp": "now"}, "webhook-timestamp is not a Unix time"),
        ({"webhook_timestamp": "9" * 5000}, "webhook-timestamp is not a Unix time"),
        ({"webhook_timestamp": "²"}, "webhook-timestamp is not a Unix time"),
        (
            {"webhook_timestamp": str(NOW - 301)},
            "webhook-timestamp is 301 s old, 300 are allowed",
        ),
        (
            {"webhook_timestamp": str(NOW + 301)},
            "webhook-timestamp is 301 s ahead of this clock, 300 are allowed",
        ),
        ({"webhook_timestamp": str(NOW - 1)}, "no signature is valid"),
        ({"webhook_id": "another"}, "no signature is valid"),
        ({"webhook_signature": SIGNATURE[3:]}, "no signature is valid"),
        ({"webhook_signature": SIGNATURE.replace("v1", "v2")}, "no signature is valid"),
        ({"webhook_signature": "v1,é \udcff"}, "no signature is valid"),
    ],
)
def test_a_rejected_signature_has_its_reason(changed: dict[str, str], why: str) -> None:
    """Every cause has its own message."""
    assert signer(SECRET).why_not(headers(**changed), BODY, NOW).startswith(why)


def test_one_valid_signature_by_one_secret_is_enough() -> None:
    """Other versions are skipped; a changed body and another secret are noticed."""
    both = signer("another", SECRET)
    for signatures in (SIGNATURE, f"v1,AAAA {SIGNATURE}", f"v2,{SIGNATURE} {SIGNATURE}"):
        assert both.why_not(headers(webhook_signature=signatures), BODY, NOW) == ""
    assert both.why_not(headers(), BODY + b" ", NOW)
    assert signer(SECRET + "QUFB").why_not(headers(), BODY, NOW)
