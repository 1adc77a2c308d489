"""How often an address has shown a token that is not good: who guesses is soon not listened to."""

from __future__ import annotations

from ipaddress import IPv6Address

from router.net import address_of

#: So many wrong tokens of one address within so many seconds are looked at.
MOST_WRONG, WRONG_WITHIN = 10, 60.0

#: Addresses that are remembered; beyond them the one that began first is forgotten.
_ADDRESSES = 1024


class Failures:
    """Counts by address; an IPv6 one stands for its network of 64 bits, which one guest has."""

    def __init__(self) -> None:
        #: When an address began to fail, and how often it has since.
        self._known: dict[str, tuple[float, int]] = {}

    def wait(self, peer: str, now: float) -> float:
        """For how many seconds no token of this address is looked at."""
        began, count = self._known.get(_key(peer), (now, 0))
        return max(0.0, began + WRONG_WITHIN - now) if count >= MOST_WRONG else 0.0

    def note(self, peer: str, now: float) -> None:
        """One more."""
        key = _key(peer)
        began, count = self._known.pop(key, (now, 0))
        if now - began >= WRONG_WITHIN:
            began, count = now, 0
        elif count == 0 and len(self._known) >= _ADDRESSES:
            del self._known[next(iter(self._known))]
        self._known[key] = began, count + 1


def _key(peer: str) -> str:
    address = address_of(peer)
    if isinstance(address, IPv6Address):
        return f"{int(address) >> 64:x}"
    return str(address or peer)
