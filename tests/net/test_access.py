"""Access: networks, chains of proxies and tokens, as values, without a socket."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.model.secret import Secret
from router.net.access import Access, Denial, Tokens
from router.net.egress import Address, Network, NotANetwork, address_of, network_of, within

TOKEN = "a-token-of-some-length"
BEARER = [(b"authorization", f"Bearer {TOKEN}".encode())]


def networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(network_of, texts))


def tokens(*texts: str, header: str = "authorization") -> Tokens:
    return Tokens([Secret(text) for text in texts], header)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("::/0", "::1", "10.0.0.1"),
        ("::1", "::1", "::2"),
        ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1"),
    ],
)
def test_a_network_has_its_addresses(network: str, inside: str, outside: str) -> None:
    """IPv4 and IPv6 are separate, except for IPv4 addresses that a socket writes as IPv6."""
    first, second = address_of(inside), address_of(outside)
    assert first is not None
    assert second is not None
    assert within(first, networks(network, "203.0.113.0/24", "2001:db8::/33"))
    assert not within(second, networks(network))


@pytest.mark.parametrize(
    ("text", "likely"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_error_names_the_network_that_was_meant(text: str, likely: str) -> None:
    """Bits behind the prefix, or a mapped network, are an error that names the right network."""
    with pytest.raises(NotANetwork) as caught:
        network_of(text)
    assert caught.value.likely == likely
    assert str(network_of(likely)).startswith(likely)


@pytest.mark.parametrize(
    "text",
    ["", "10", "10.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/", "010.0.0.0/8", "::/129",
     "10.0.0.0/-1", "10.0.0.0/8 ", "fe80::1%eth0", "localhost", "1.2.3.4:80", "\uff11.2.3.4"],
)  # fmt: skip
def test_texts_that_are_not_networks(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(NotANetwork) as caught:
        network_of(text)
    assert caught.value.likely == ""


# Proxies.

#: `near` is the proxy that is connected, `far` one in front of it; both are trusted.
NEAR, FAR = "10.0.0.1", "10.0.0.2"
TRUSTED = networks("10.0.0.0/24", "2001:db8:1::/64")


def caller_of(peer: str, forwarded: list[bytes]) -> Address | None:
    access = Access(tokens(), trusted=TRUSTED)
    return access.caller(peer, [(b"x-forwarded-for", value) for value in forwarded])


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        # No proxy: claims of the caller do not count.
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["10.9.9.9"], "192.0.2.1"),
        ("::ffff:192.0.2.1", ["10.9.9.9"], "192.0.2.1"),
        # One proxy, two, and one over IPv6.
        (NEAR, ["192.0.2.1"], "192.0.2.1"),
        (f"::ffff:{NEAR}", ["192.0.2.1"], "192.0.2.1"),
        (NEAR, [f"192.0.2.1, {FAR}"], "192.0.2.1"),
        ("2001:db8:1::5", ["2001:db8:2::1"], "2001:db8:2::1"),
        # The caller's own claims are to the left, and not read.
        (NEAR, ["10.9.9.9, 192.0.2.1"], "192.0.2.1"),
        (NEAR, ["10.9.9.9, 192.0.2.1", FAR], "192.0.2.1"),
        (NEAR, ["nonsense, 192.0.2.1"], "192.0.2.1"),
        (NEAR, ["10.9.9.9", "192.0.2.1"], "192.0.2.1"),
        # Ports, brackets, blanks, a mapped address.
        (NEAR, ["192.0.2.1:4711"], "192.0.2.1"),
        (NEAR, ["[2001:db8:2::1]:4711"], "2001:db8:2::1"),
        (NEAR, ["[2001:db8:2::1]"], "2001:db8:2::1"),
        (NEAR, [" \t192.0.2.1\t "], "192.0.2.1"),
        (NEAR, ["::ffff:192.0.2.1"], "192.0.2.1"),
        # All are proxies: the first one, or the connected one, is the caller.
        (NEAR, [f"{FAR}, {NEAR}"], FAR),
        (NEAR, [], NEAR),
        # An unreadable entry of a trusted proxy.
        (NEAR, [""], None),
        (NEAR, ["unknown"], None),
        (NEAR, ["_hidden"], None),
        (NEAR, ["192.0.2.1,"], None),
        (NEAR, [f"192.0.2.1, , {FAR}"], None),
        (NEAR, ["192.0.2.1", ""], None),
        (NEAR, ["192.0.2.1 192.0.2.2"], None),
        (NEAR, ["192.0.2.1;proto=https"], None),
        (NEAR, ["192.0.2.1/8"], None),
        (NEAR, ["192.0.2"], None),
        (NEAR, ["192.0.2.1:999999"], None),
        (NEAR, ["0192.0.2.1"], None),
        (NEAR, ["example.com"], None),
        (NEAR, ["\uff1192.0.2.1"], None),
        # The peer has no address.
        ("", [], None),
        ("", ["192.0.2.1"], None),
    ],
)  # fmt: skip
def test_chains_of_proxies(peer: str, forwarded: list[str], caller: str | None) -> None:
    """The address is the first from the right that is not a trusted proxy's."""
    result = caller_of(peer, [value.encode() for value in forwarded])
    assert result == (None if caller is None else ip_address(caller))


_entries = st.binary(max_size=24) | st.ip_addresses().map(lambda address: str(address).encode())


@given(st.text(max_size=20) | st.just(NEAR), st.lists(st.lists(_entries).map(b", ".join)))
@example(NEAR, [b"\xff\x00," * 4000])
@example(NEAR, [b"1" * 16384])
@example(NEAR, [b"10.0.0.1," * 1800 + b"10.0.0.1"])
def test_reading_never_raises(peer: str, forwarded: list[bytes]) -> None:
    """The result is an address or None, whatever the header."""
    result = caller_of(peer, forwarded)
    assert result is None or address_of(str(result)) == result


@given(st.lists(_entries).map(b", ".join), st.sampled_from(["192.0.2.1", "2001:db8:2::1"]))
def test_nobody_can_claim_to_be_another(claim: bytes, caller: str) -> None:
    """Behind a proxy that adds its address, a caller has that address, whatever it sends."""
    added = [claim, caller.encode()]
    assert caller_of(NEAR, added) == ip_address(caller)
    assert caller_of(NEAR, [b", ".join(added)]) == ip_address(caller)


def found(value: str | bytes, *more: str) -> int | Denial:
    """Return the result for a request with this header, if one of several tokens is TOKEN."""
    raw = value.encode("latin-1") if isinstance(value, str) else value
    return tokens("first-token", *more, TOKEN).find([(b"authorization", raw)])


@pytest.mark.parametrize(
    "value",
    [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"BEARER  {TOKEN}", f" Bearer {TOKEN} "],
)
def test_a_valid_token(value: str) -> None:
    """RFC 9110 decides; each of several tokens is valid, and its place is known."""
    assert found(value) == 1
    assert found(value, "second-token") == 2
    assert found("Bearer first-token") == 0


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", f"Bearer {TOKEN}x",
     f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN} {TOKEN}", f"Bearer {TOKEN.upper()}", "Bearer \xff",
     f"Bearer {TOKEN},Bearer {TOKEN}", f"Bearer\t{TOKEN}", "Bearer an-older-one"],
)  # fmt: skip
def test_invalid_tokens(value: str) -> None:
    """A wrong token, another scheme, or something besides it."""
    assert found(value) is Denial.WRONG


@pytest.mark.parametrize("value", [b"", b"Bearer ", b"Basic x"])
def test_an_empty_token_is_never_valid(value: bytes) -> None:
    """A file may have that digest if a variable was not set."""
    nothing = Tokens([], digests=[sha256().digest()])
    assert nothing.find([(b"authorization", value)]) is Denial.WRONG


def test_a_request_has_one_token() -> None:
    """A missing header is not a wrong token; of two, a proxy may have checked either."""
    assert tokens(TOKEN).find([(b"host", b"x"), (b"x-token", TOKEN.encode())]) is Denial.MISSING
    assert tokens(TOKEN).find(BEARER * 2) is Denial.WRONG


def test_another_header_has_the_token_alone() -> None:
    """A header of the operator's choice has no scheme."""
    named = tokens(TOKEN, header="x-ebaas-token")
    assert named.find([(b"x-ebaas-token", TOKEN.encode())]) == 0
    for name, value in ((b"x-ebaas-token", b"Bearer "), (b"authorization", b"Bearer ")):
        assert isinstance(named.find([(name, value + TOKEN.encode())]), Denial)
