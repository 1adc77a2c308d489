"""An address that guesses tokens is refused for a while."""

from __future__ import annotations

import pytest

from router.ops.guard import MOST_WRONG, WRONG_WITHIN, Failures


@pytest.mark.parametrize(
    ("peer", "same", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"),
    ],
)
def test_an_address_is_refused_for_a_while(peer: str, same: str, other: str) -> None:
    """However it is written; an IPv6 address with its whole network. Each window begins anew."""
    failures = Failures()
    for start in (100.0, 100.0 + WRONG_WITHIN, 100.0 + 5 * WRONG_WITHIN):
        for second in range(MOST_WRONG):
            assert failures.wait(peer, start + second) == 0
            failures.note(peer, b"guess %d" % second, start + second)
        assert failures.wait(same, start + 10) == WRONG_WITHIN - 10
        assert failures.wait(other, start + 10) == 0


def test_the_same_wrong_token_counts_once() -> None:
    """A scrape with an outdated token does not keep out others with its address."""
    failures = Failures()
    for second in range(59):
        failures.note("192.0.2.1", b"outdated %d" % (second % (MOST_WRONG - 1)), 100.0 + second)
    assert failures.wait("192.0.2.1", 159.0) == 0


def test_few_addresses_are_remembered() -> None:
    """Thousands of them take no more memory."""
    failures = Failures()
    for number in range(5_000):
        failures.note(f"10.0.{number // 256}.{number % 256}", b"guess", 1.0)
    assert len(failures._wrong) == 1024
