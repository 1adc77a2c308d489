"""The body of a request, gathered as it comes, up to its last byte and not beyond."""

from __future__ import annotations

from typing import Final

from httptools import HttpParserError, HttpRequestParser

from router.net.http.head import Head

#: What the parser is told before the first chunk, in place of the head that it has not read.
_HEAD: Final = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Malformed(Exception):
    """Something that is no chunk, or too much around the chunks."""


class Body:
    """A body of a size that is known."""

    #: Whether there was a `connection: close` after it.
    closes = False

    def __init__(self, size: int) -> None:
        self._missing = size
        self._data = bytearray()
        #: What came after it.
        self.surplus = b""

    @property
    def is_whole(self) -> bool:
        return self._missing == 0

    @property
    def size(self) -> int:
        """How many bytes of it have come."""
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Take what has come. Raises Malformed."""
        part = data[: self._missing]
        self._data += part
        self._missing -= len(part)
        self.surplus = data[len(part) :]

    def take(self) -> bytes:
        """What has come; it is held no longer."""
        data = bytes(self._data)
        self._data.clear()
        return data


class Chunked(Body):
    """A body in chunks. httptools reads them, and as strictly what is around them."""

    def __init__(self, slack: int) -> None:
        """Around the chunks there may be as many bytes as there are in them, and `slack` more."""
        super().__init__(0)
        self._slack = slack
        self._whole = False
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    @property
    def is_whole(self) -> bool:
        return self._whole

    def feed(self, data: bytes) -> None:
        self._slack -= len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not self._whole:
                raise Malformed from None
            self.surplus = data
        if self._slack < 0:
            raise Malformed

    # The parser's calls.

    def on_message_begin(self) -> None:
        if self._whole:
            raise Malformed  # another request

    def on_body(self, data: bytes) -> None:
        self._slack += 2 * len(data)
        self._data += data

    def on_message_complete(self) -> None:
        self._whole = True
        self.closes = not self._parser.should_keep_alive()


def body_after(head: Head, slack: int) -> Body:
    return Chunked(slack) if head.length is None else Body(head.length)
