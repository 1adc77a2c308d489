"""Texts compressed and read again: the one door to Zstandard, which Python 3.14 has itself."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The lowest: on lines that are much alike it saves as much as higher ones, at a gigabyte a second.
_LEVEL = 1

#: How much is compressed at a time, in bytes: some tenths of a millisecond.
_PIECE = 64 * 1024

#: How much is expanded at a time, in bytes, so that what comes before a garbled place is not lost.
_PART = 256 * 1024


def compress(text: IO[bytes], into: IO[bytes]) -> None:
    """All that `text` has. Raises OSError."""
    compressor = zstd.ZstdCompressor(_LEVEL)
    while piece := text.read(_PIECE):
        into.write(compressor.compress(piece))
    into.write(compressor.flush())


def expanded(data: bytes) -> tuple[bytes, bool]:
    """The text, and whether that is all: of what is cut or garbled, as much as can be read."""
    with suppress(zstd.ZstdError):
        return zstd.decompress(data), True
    reader = zstd.ZstdDecompressor()
    text = bytearray()
    with suppress(zstd.ZstdError, EOFError):
        for at in range(0, len(data), _PART):
            text += reader.decompress(data[at : at + _PART])
    return bytes(text), False
