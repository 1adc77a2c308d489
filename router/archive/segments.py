"""Segments of the archive: their files, their compression, and their limits."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import IO

from router.model.errors import why_not

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The lowest: on lines that are much alike it saves as much as higher ones, at a gigabyte a second.
_LEVEL = 1

#: How much is compressed at a time, in bytes. Between pieces the thread asks for its turn again,
#: which takes the loop longer than the piece takes zstd if pieces are small.
_PIECE = 1024 * 1024

#: How much is expanded at a time, in bytes, so that what comes before a garbled place is not lost.
_PART = 256 * 1024


def compress(text: FileIO, into: IO[bytes]) -> None:
    """All that `text` has. Raises OSError."""
    compressor = zstd.ZstdCompressor(_LEVEL)
    piece = memoryview(bytearray(_PIECE))
    while size := text.readinto(piece):
        into.write(compressor.compress(piece[:size]))
    into.write(compressor.flush())


def expanded(data: bytes) -> tuple[bytes, bool]:
    """The text, and whether that is all: of what is cut or garbled, as much as can be read."""
    with suppress(zstd.ZstdError):
        return zstd.decompress(data), data != b""
    reader = zstd.ZstdDecompressor()
    text = bytearray()
    with suppress(zstd.ZstdError, EOFError):
        for at in range(0, len(data), _PART):
            text += reader.decompress(data[at : at + _PART])
    return bytes(text), False


#: Where a line has its time, and what comes before that.
_TIME, _BEFORE = slice(9, 33), b'{"time":"'


def time_of(line: bytes) -> bytes:
    """As the line has it; nothing for one that is cut."""
    return line[_TIME] if line.startswith(_BEFORE) else b""


def span(lines: Sequence[bytes]) -> tuple[float, float] | None:
    """The earliest and the latest time of the lines, which a clock that jumps puts in no order;
    None where none has one."""
    times = [at for line in lines if (at := time_of(line))]
    with suppress(ValueError):
        return (_seconds(min(times)), _seconds(max(times)))
    return None


def _seconds(at: bytes) -> float:
    return datetime.fromisoformat(at.decode("ascii")).timestamp()


_NAME = re.compile(
    r"([0-9]{8}T[0-9]{9}Z)-(?:([0-9]{8}T[0-9]{9}Z)-)?"
    r"((?:[0-9]{10}-)?[0-9a-f]{8})\.jsonl(\.zst)?"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One file as it was found. Times are Unix time, in seconds."""

    path: Path
    token: str
    #: No line is older.
    first: float
    #: No line is younger; None where more may come.
    last: float | None

    @property
    def number(self) -> int:
        """Its place in the order in which segments were begun; 0 where it has none."""
        number, has_one, _ = self.token.partition("-")
        return int(number) if has_one else 0

    @property
    def newest(self) -> float:
        """When its last line was written, at the latest."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_mtime if self.last is None else self.last
        return self.first

    @property
    def size(self) -> int:
        """On the disk, in bytes."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def read(self, tell: Callable[[str], None] = lambda why: None) -> tuple[bytes, bool]:
        """Its lines, and whether that is all of it; nothing where it has been deleted meanwhile.
        `tell` is told what is wrong where it is not."""
        try:
            text, is_whole = self._read()
        except OSError as error:
            tell(f"{self.path.name} can't be read: {why_not(self.path, error)}")
            return b"", False
        if not is_whole:
            tell(f"{self.path.name} is damaged: only {len(text):,} bytes of its text can be read")
        return text, is_whole

    def _read(self) -> tuple[bytes, bool]:
        path = self.path
        if self.last is None:
            with suppress(FileNotFoundError):
                text = path.read_bytes()
                # A line without its end is being written; the next look has it.
                return text[: text.rfind(b"\n") + 1], True
            # It has been finished since it was found.
            path = next(path.parent.glob(f"*-{self.token}.jsonl.zst"), path)
        try:
            text, is_whole = expanded(path.read_bytes())
        except FileNotFoundError:
            return b"", True
        return text if is_whole else text[: text.rfind(b"\n") + 1], is_whole


def found(folder: Path) -> list[Segment]:
    """Every segment, the one with the newest lines first. Raises OSError where it can't be looked
    into; a folder that is not there has none."""
    # By token, for a crash may leave a finished one beside what it was made of.
    segments = {segment.token: segment for segment in every_file(folder)}
    return sorted(segments.values(), key=_newest, reverse=True)


def every_file(folder: Path) -> Iterator[Segment]:
    """In no order; what a crash has left twice is there twice."""
    paths: list[Path] = []
    with suppress(FileNotFoundError):
        paths.extend(folder.iterdir())
    for path in paths:
        named = _NAME.fullmatch(path.name)
        if named is None or (named[2] is None) != (named[4] is None):
            continue
        with suppress(ValueError):
            last = None if named[2] is None else _time(named[2])
            yield Segment(path, named[3], _time(named[1]), last)


def _newest(segment: Segment) -> tuple[float, float]:
    return (float("inf") if segment.last is None else segment.last, segment.first)


def new_token(folder: Path) -> str:
    """Behind all that are there. Two processes may take the same number at the same time."""
    number = max((segment.number for segment in every_file(folder)), default=0) + 1
    return f"{number:010}-{token_hex(4)}"


def written(segments: Iterable[Segment], now: float) -> list[tuple[Segment, float]]:
    """The finished ones, the last one written first, and until when each was written. A date in
    the future comes from a clock that was wrong: it counts as that of the next one, or as now."""
    finished = [(each, each.last) for each in segments if each.last is not None]
    finished.sort(key=lambda pair: (pair[0].number, pair[1]), reverse=True)
    found, latest = [], now
    for segment, last in finished:
        latest = last if last <= now else latest
        found.append((segment, latest))
    return found


def open_name(first: float, token: str) -> str:
    return f"{_stamp(first)}-{token}.jsonl"


def finished_name(first: float, last: float, token: str) -> str:
    """`last` is rounded up: no line is younger."""
    return f"{_stamp(first)}-{_stamp(last + 0.002)}-{token}.jsonl.zst"


def _stamp(at: float) -> str:
    """To the millisecond, and in the order of time: what is deleted first depends on it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S%f}"[:-3] + "Z"


def _time(stamp: str) -> float:
    return datetime.strptime(f"{stamp[:-1]}000+0000", "%Y%m%dT%H%M%S%f%z").timestamp()


#: The size of a segment that is full, in bytes, and the least that it is made smaller to.
FULL, LEAST_BYTES = 16 * 1024 * 1024, 64 * 1024

#: What compressing may add to lines that don't compress, in bytes.
_FRAME = 4096

#: The longest time that a segment may span, in seconds; a tenth of what is kept if that is shorter.
SPAN, LEAST_SPAN = 3600.0, 60.0

#: Bytes of its disk that the archive leaves free: a tenth of it, within these bounds, and no more
#: than half. The store may be on the same disk, and is full where 16 MiB are left.
LEAST_RESERVE, RESERVE = 64 * 1024 * 1024, 512 * 1024 * 1024

#: No segment is more than such a part of its disk.
_PARTS = 64

#: Seconds between two looks at how much of the disk is free.
_LOOK = 0.25

#: After how many seconds a file that was to become a segment is taken for a dead process's.
_ABANDONED = 3600.0


class SegmentStore:
    """One process's part in a folder that several may share. Every method may raise OSError; none
    leaves a line that is cut where it could be helped."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        keep: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes` and `keep`, in seconds, bound what all processes together leave."""
        self._folder = folder
        self._now = now
        self._keep = keep
        self._span = min(SPAN, max(LEAST_SPAN, keep / 10))
        self._full = max(LEAST_BYTES, min(FULL, max_bytes // 8))
        #: What finished ones may take up: beside them is the one that is written to, and for a
        #: moment the same one compressed, which may be hardly smaller.
        self._room = max_bytes - (2 * self._full + _FRAME)
        #: The segment that is written to; -1 where there is none.
        self._fd = -1
        self._segment: Segment
        #: By which the system knows its file.
        self._identity = (0, 0)
        self._size = self._lines = 0
        self._last = 0.0
        #: Lines that were written, and are gone with the segment that was written to.
        self.lost = 0
        #: When the disk is looked at next, by the monotonic clock; how much has been written since
        #: the last look; and whether it was too full then.
        self._look_at = 0.0
        self._unseen = 0
        self._is_low = False
        #: How large a segment is finished: on a small disk sooner.
        self._turn_at = self._full

    def append(self, lines: Sequence[bytes]) -> None:
        """Write whole lines, all or none of them."""
        now = self._now()
        first, last = span(lines) or (now, now)
        text = b"".join(lines)
        self._check_place()
        # No line is older than its segment: the clock may have jumped back.
        if self._fd >= 0 and (self._size + len(text) > self._full or first < self._segment.first):
            with suppress(OSError):  # `tidy` tries it again, and says why
                self.turn()
        self._write(text, len(lines), first)
        self._last = max(self._last, last)
        if not self._is_in_place():
            # Removed at this very moment: what was in it before is lost, these lines need not be.
            self._check_place(without=len(lines))
            self._write(text, len(lines), first)
            self._last = last
        if self._size >= self._turn_at:
            with suppress(OSError):  # the lines are there; `tidy` tries it again, and says why
                self.turn()

    def _write(self, text: bytes, lines: int, first: float) -> None:
        if self._fd < 0:
            # Not its parent: a folder that is away, a disk unmounted say, is not made in its place.
            self._folder.mkdir(mode=0o700, exist_ok=True)
        self._check_disk(len(text))
        if len(text) > self._full:
            self._make_room_for(len(text))
        if self._fd < 0:
            self._begin(first)
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(text)
        self._lines += lines

    def tidy(self) -> None:
        """Finish what is over, and delete what is too much or too old."""
        self._check_place()
        if self._fd >= 0 and self._now() // self._span != self._segment.first // self._span:
            self.turn()
        failed: list[OSError] = []
        for segment in every_file(self._folder):
            if segment.last is None and (self._fd < 0 or segment.token != self._segment.token):
                try:
                    self._finish_abandoned(segment)
                except OSError as error:  # one that can't be read keeps no other from its end
                    failed.append(error)
        self._delete()
        self._look_at = 0.0
        with suppress(FileNotFoundError):  # nothing has been written yet
            self._check_disk(0)
        if failed:
            raise failed[0]

    def turn(self) -> None:
        """Finish the segment in hand. Where that can't be done it stays as it is, and readable."""
        if self._fd < 0:
            return
        try:
            self._finish(self._segment, self._last)
        finally:
            self.close()
        self._delete()

    def close(self) -> None:
        """Let go of the segment in hand; the next process to come finishes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _is_in_place(self) -> bool:
        """Whether what is written can be found: a folder may be removed, moved or unmounted while
        a file in it is open, and no write fails."""
        with suppress(OSError):
            found = self._segment.path.stat()
            return (found.st_dev, found.st_ino) == self._identity
        return False

    def _check_place(self, without: int = 0) -> None:
        """Begin anew where the segment that is written to is not in its place any more: its lines
        are lost, but so many of them."""
        if self._fd >= 0 and not self._is_in_place():
            self.lost += self._lines - without
            self.close()

    def _check_disk(self, size: int) -> None:
        """Raises OSError where so much may not be written: less than the reserve would be free, and
        there is no finished segment to delete any more."""
        self._unseen += size
        is_due = time.monotonic() >= self._look_at or self._unseen > self._turn_at // 4
        if is_due or self._is_low:
            self._look_at, self._unseen = time.monotonic() + _LOOK, 0
            disk = os.statvfs(self._folder)
            free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
            self._turn_at = min(self._full, max(LEAST_BYTES, whole // _PARTS))
            # Until the next look there are more lines, and a segment is perhaps compressed.
            lacking = _reserve(whole) + 2 * max(size, self._turn_at) - free
            self._is_low = lacking > 0 and self._free(lacking) < lacking
        if self._is_low:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _free(self, lacking: int) -> int:
        """Delete finished segments until so much is free; how much that was. It is added up: some
        file systems take their time."""
        freed = 0
        for segment, _ in reversed(written(every_file(self._folder), self._now())):
            if freed >= lacking:
                break
            with suppress(FileNotFoundError):
                size = segment.path.stat().st_blocks * 512
                segment.path.unlink()
                freed += size
        return freed

    def _make_room_for(self, size: int) -> None:
        """Lines that are more than a segment have one for themselves, and more deleted for it."""
        more = 2 * (size - self._full)
        if more > self._room:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._delete(more)

    def _begin(self, first: float) -> None:
        token = new_token(self._folder)
        path = self._folder / open_name(first, token)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(path)  # taken for an abandoned one before it had its lock
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size, self._lines, self._last = fd, 0, 0, first
        held = os.fstat(fd)
        self._identity = (held.st_dev, held.st_ino)
        self._segment = Segment(path, token, first, None)

    def _finish_abandoned(self, segment: Segment) -> None:
        """Finish a segment whose process is gone."""
        with suppress(FileNotFoundError):
            fd = os.open(segment.path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._finish(segment)
            except BlockingIOError:
                pass  # it lives
            finally:
                os.close(fd)

    def _finish(self, segment: Segment, last: float | None = None) -> None:
        """Compress it under its new name; only then is the old one deleted. Without `last` its
        lines say from when to when it reaches."""
        path, first = segment.path, segment.first
        is_done = any(self._folder.glob(f"*-{segment.token}.jsonl.zst"))
        if not is_done and path.stat().st_size:
            if last is None:
                lines = path.read_bytes().split(b"\n")
                first, last = span(lines) or (first, max(first, path.stat().st_mtime))
            name = self._folder / finished_name(first, last, segment.token)
            part = name.with_suffix(".part")
            try:
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(fd, "wb") as file, path.open("rb", buffering=0) as text:
                    compress(text, file)
                part.rename(name)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        path.unlink(missing_ok=True)

    def _delete(self, more: int = 0) -> None:
        """Those written first, until what is left has room beside so much more; and all that is too
        old."""
        now, used = self._now(), more
        for segment, at in written(every_file(self._folder), now):
            with suppress(FileNotFoundError):
                used += segment.path.stat().st_size
                if used > self._room or now - at > self._keep:
                    segment.path.unlink()
        for part in self._folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if now - part.stat().st_mtime > _ABANDONED:
                    part.unlink()


def _reserve(whole: int) -> int:
    """Of a disk of so many bytes."""
    return min(whole // 2, max(LEAST_RESERVE, min(RESERVE, whole // 10)))
