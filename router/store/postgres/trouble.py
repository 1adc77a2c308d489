"""What goes wrong with a server, as one word for logs and metrics."""

from __future__ import annotations

import re

from router.store.promises import StoreFailed

#: By SQLSTATE, or by its class, which is the first two characters.
_WORDS = {
    "08": "unreachable",
    "23": "postgresql",
    "25006": "read_only",
    "28": "refused",
    "3D000": "refused",
    "40": "locked",
    "42501": "refused",
    "53100": "disk_full",
    "53200": "memory",
    "53300": "connections",
    "55P03": "locked",
    "57014": "slow",
    "57P": "unreachable",
    "58": "io",
    "XX001": "corrupt",
    "XX002": "corrupt",
}

#: Another server may have taken over, so that another connection is free of it.
_MOVED = "25006"

#: How a server, or the pooler before it, says that it is going, at whatever moment of a commit.
_GOING = ("08", "57P")

#: What does not mend by itself: the password, the database, the rights of the user.
_HOPELESS = ("28", "3D000", "42501")


#: What a server or libpq quotes: users, databases, hosts, files.
_QUOTED = re.compile('"[^"]*"?')

_MAX_DETAIL = 120


class Failed(StoreFailed):
    """The server has answered with an error; nothing of what was asked has come to pass."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(_word(sqlstate))
        self._sqlstate = sqlstate
        #: The server's own line, for people who set it up; it may quote what was asked.
        self.message = message
        self.detail = harmless(message)

    @property
    def moved(self) -> bool:
        """The connection should be made anew."""
        return self._sqlstate == _MOVED

    @property
    def hopeless(self) -> bool:
        """Trying again does not help."""
        return self._sqlstate.startswith(_HOPELESS)


class Away(StoreFailed):
    """There is no connection: nothing was sent."""

    def __init__(self, why: StoreFailed) -> None:
        super().__init__(str(why))
        self.detail = why.detail


class Lost(StoreFailed):
    """The connection has ended without an answer: nobody knows what has come to pass."""

    def __init__(self) -> None:
        super().__init__("lost")
        self.detail = "the connection broke before the answer"


def harmless(message: str) -> str:
    """A line of libpq or the server, with no name, no address and nothing else that is quoted."""
    words = _QUOTED.sub("…", message.rpartition(" failed: ")[2])
    return "".join(c if c.isprintable() else " " for c in words)[:_MAX_DETAIL]


def answered(sqlstate: str, message: str) -> Failed | Lost:
    """What an error means that has come in place of an answer."""
    return Lost() if sqlstate.startswith(_GOING) else Failed(sqlstate, message)


def _word(sqlstate: str) -> str:
    for length in (5, 3, 2):
        if word := _WORDS.get(sqlstate[:length]):
            return word
    return "postgresql"
