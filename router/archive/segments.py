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
from pathlib import Path
from secrets import token_hex

from router.model.errors import why_not

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The lowest level. The lines are so similar that higher levels save hardly more, and this one
#: compresses a gigabyte a second.
_LEVEL = 1

#: Bytes of a damaged segment expanded at a time, so that the text before the damage is not lost.
_PART = 256 * 1024


def decompressed(data: bytes) -> tuple[bytes, bool]:
    """Return the text that can be expanded, and whether that is all of it."""
    with suppress(zstd.ZstdError):
        return zstd.decompress(data), data != b""
    reader = zstd.ZstdDecompressor()
    text = bytearray()
    with suppress(zstd.ZstdError, EOFError):
        for at in range(0, len(data), _PART):
            text += reader.decompress(data[at : at + _PART])
    return bytes(text), False


#: Position of the time in a line, and the text before it.
_TIME, _BEFORE = slice(9, 33), b'{"time":"'


def time_of(line: bytes) -> bytes:
    """Return the time of a line, as written; `b""` if the line is cut."""
    return line[_TIME] if line.startswith(_BEFORE) else b""


def span(lines: Sequence[bytes]) -> tuple[float, float] | None:
    """Return the earliest and the latest time of the lines; None if none of them has a time. The
    lines need not be in order, because the clock may jump."""
    times = [at for line in lines if (at := time_of(line))]
    with suppress(ValueError):
        return (_seconds(min(times)), _seconds(max(times)))
    return None


def _seconds(at: bytes) -> float:
    return datetime.fromisoformat(at.decode("ascii")).timestamp()


#: The token of a segment that 0.2.0 has written has no number.
_NAME = re.compile(
    r"([0-9]{8}T[0-9]{9}Z)-(?:([0-9]{8}T[0-9]{9}Z)-)?"
    r"((?:[0-9]{10}-)?[0-9a-f]{8})\.jsonl(\.zst)?"
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the archive. Times are Unix time, in seconds."""

    path: Path
    token: str
    #: No line is older.
    first: float
    #: No line is younger; None for an open segment.
    last: float | None

    @property
    def number(self) -> int:
        """Its place in the order in which segments were begun; 0 for those of 0.2.0."""
        number, dash, _ = self.token.partition("-")
        return int(number) if dash else 0

    @property
    def newest(self) -> float:
        """An upper bound for the time of its last line."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_mtime if self.last is None else self.last
        return self.first

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        with suppress(FileNotFoundError):
            return self.path.stat().st_size
        return 0

    def read(self, note: Callable[[str], None] = lambda why: None) -> tuple[bytes, bool]:
        """Return its lines, and whether they are complete; no lines if it has been deleted since.
        `note` is called with the reason if they are incomplete."""
        try:
            text, is_whole = self._read()
        except OSError as error:
            note(f"{self.path.name} can't be read: {why_not(self.path, error)}")
            return b"", False
        if not is_whole:
            note(f"{self.path.name} is damaged: only {len(text):,} bytes of its text can be read")
        return text, is_whole

    def _read(self) -> tuple[bytes, bool]:
        path = self.path
        if self.last is None:
            with suppress(FileNotFoundError):
                # A line without its end is still being written.
                return _whole_lines(path.read_bytes()), True
            # It has been finished since it was found.
            path = next(path.parent.glob(f"*-{self.token}.jsonl.zst"), path)
        try:
            text, is_whole = decompressed(path.read_bytes())
        except FileNotFoundError:
            return b"", True
        return text if is_whole else _whole_lines(text), is_whole


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]


def segments_in(*folders: Path) -> list[Segment]:
    """Return every segment, the one with the newest lines first; none if there is no folder.
    Raises OSError."""
    # By token, because a crash may leave a finished segment beside the open one it was made of.
    segments = {segment.token: segment for folder in folders for segment in every_file(folder)}
    return sorted(segments.values(), key=_newest, reverse=True)


def every_file(folder: Path) -> Iterator[Segment]:
    """Yield the segments in no order. After a crash one may come twice, open and finished."""
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


def written(segments: Iterable[Segment], now: float) -> list[tuple[Segment, float]]:
    """Return the finished segments, the last one written first, each with the time of its end.

    A time in the future comes from a clock that was wrong: it counts as the end of the segment
    written after it, or as now."""
    finished = [(segment, segment.last) for segment in segments if segment.last is not None]
    finished.sort(key=lambda pair: (pair[0].number, pair[1]), reverse=True)
    dated, latest = [], now
    for segment, last in finished:
        latest = last if last <= now else latest
        dated.append((segment, latest))
    return dated


def _stamp(at: float) -> str:
    """Format a time to the millisecond, so that names sort by time."""
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S%f}"[:-3] + "Z"


def _time(stamp: str) -> float:
    return datetime.strptime(f"{stamp[:-1]}000+0000", "%Y%m%dT%H%M%S%f%z").timestamp()


#: The size at which a segment is full, in bytes, and the lower bound for it on a small disk.
FULL, LEAST_BYTES = 16 * 1024 * 1024, 64 * 1024

#: Bytes that compression may add to lines that do not compress.
_FRAME = 4096

#: The longest time that a segment spans, in seconds: this, or a tenth of the time that lines are
#: kept, but no less than the second number.
SPAN, LEAST_SPAN = 3600.0, 60.0

#: Bytes of its disk that the archive leaves free: a tenth of the disk, within these bounds, and at
#: most half of it. The store may be on the same disk, and is full when 16 MiB are left.
LEAST_RESERVE, RESERVE = 64 * 1024 * 1024, 512 * 1024 * 1024

#: A segment is at most this fraction of its disk.
_PARTS = 64

#: Seconds after a deletion without a check: some file systems report freed space late.
_LATE = 0.25

#: Seconds after which an unfinished `.part` file counts as left by a dead process.
_ABANDONED = 3600.0

#: The part of an archive with refused callbacks, in a folder of its own with a limit of its own:
#: one byte in so many of the archive's, but no less than the second number.
REFUSED, REFUSED_SHARE, LEAST_REFUSED = "refused", 8, 256 * 1024


class SegmentStore:
    """One process's part in a folder that several processes may share.

    Every method may raise OSError. A write that fails leaves no partial line behind, unless the
    file cannot be truncated either.
    """

    def __init__(
        self,
        archive: Path,
        max_bytes: int,
        keep: float,
        now: Callable[[], float] = time.time,
        part: str = "",
    ) -> None:
        """Set the limits for all processes together: `max_bytes`, and `keep` in seconds. `part` is
        the folder's name inside of the archive; by default it is the archive's own folder."""
        self._archive = archive
        self._folder = archive / part
        self._now = now
        self._keep = keep
        self._span = min(SPAN, max(LEAST_SPAN, keep / 10))
        #: The size at which a segment is full, in bytes.
        self.full = max(LEAST_BYTES, min(FULL, max_bytes // 8))
        #: Bytes that finished segments may take. The rest is for the open segment, and for its
        #: compressed copy, which may be as large and for a moment exists beside it.
        self._room = max_bytes - (2 * self.full + _FRAME)
        #: The open segment; the descriptor is -1 if there is none.
        self._fd = -1
        self._segment: Segment
        self._size = self._lines = 0
        self._last = 0.0
        #: Lines that were written and have disappeared with the open segment.
        self.lost = 0
        #: Time of the next check of the disk, by the monotonic clock, and bytes since the last one.
        self._look_at, self._unseen = 0.0, 0
        #: The size at which a segment is finished: smaller on a small disk.
        self._turn_at = self.full

    def append(self, lines: Sequence[bytes]) -> None:
        """Write whole lines, all or none of them."""
        now = self._now()
        first, last = span(lines) or (now, now)
        text = b"".join(lines)
        self._check_place()
        # No line may be older than its segment, but the clock may have jumped back.
        if self._fd >= 0 and (self._size + len(text) > self.full or first < self._segment.first):
            self._try_to_turn()
        if self._fd < 0:
            # Without parents: the mount point of a missing disk must not get an archive.
            for folder in (self._archive, self._folder):
                folder.mkdir(mode=0o700, exist_ok=True)
        self._check_disk(len(text))
        if (more := 2 * (len(text) - self.full)) > 0:  # a segment of its own
            if more > self._room:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            self._delete(more)
        if self._fd < 0:
            self._begin(first)
        self._write(text)
        self._lines += len(lines)
        self._last = max(self._last, last)
        if self._size >= self._turn_at:
            self._try_to_turn()

    def _write(self, text: bytes) -> None:
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(text)

    def _try_to_turn(self) -> None:
        """Finish the open segment if possible; if not, `tidy` tries again and reports the error."""
        with suppress(OSError):
            self.turn()

    def tidy(self) -> None:
        """Finish segments whose time is over, and delete segments beyond the limits."""
        self._check_place()
        if self._fd >= 0 and self._now() // self._span != self._segment.first // self._span:
            self.turn()
        failed: list[OSError] = []
        for segment in every_file(self._folder):
            if segment.last is None and (self._fd < 0 or segment.token != self._segment.token):
                try:
                    self._finish_abandoned(segment)
                except OSError as error:  # an unreadable segment must not keep the others open
                    failed.append(error)
        self._delete()
        self._look_at = 0.0
        with suppress(FileNotFoundError):  # nothing has been written yet
            self._check_disk(0)
        if failed:
            raise failed[0]

    def turn(self) -> None:
        """Finish the open segment. If that fails, the segment stays readable as it is."""
        if self._fd < 0:
            return
        try:
            self._finish(self._segment, self._last)
        finally:
            self.close()
        self._delete()

    def close(self) -> None:
        """Release the open segment; the next process finishes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check_place(self) -> None:
        """Release the open segment if its path leads to it no more: if the folder is removed, moved
        or unmounted, writes to the open file do not fail. Its lines are lost."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if os.path.samestat(self._segment.path.stat(), os.fstat(self._fd)):
                return
        self.lost += self._lines
        self.close()

    def _check_disk(self, size: int) -> None:
        """Raise OSError if a write of this size would leave less than the reserve free, and there
        is no finished segment left to delete."""
        self._unseen += size
        if time.monotonic() < self._look_at and self._unseen < self._turn_at:
            return
        self._unseen = 0
        disk = os.statvfs(self._folder)
        free, whole = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
        self._turn_at = min(self.full, max(LEAST_BYTES, whole // _PARTS))
        # Until the next check more lines may come, and a segment may be compressed.
        reserve = min(whole // 2, max(LEAST_RESERVE, min(RESERVE, whole // 10)))
        lacking = reserve + 2 * max(size, self._turn_at) - free
        if lacking > 0:
            if self._free(lacking) < lacking:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._look_at = time.monotonic() + _LATE

    def _free(self, lacking: int) -> int:
        """Delete the oldest finished segments until so many bytes are free, refused callbacks
        before events, and return the sum of their sizes."""
        freed = 0
        for folder in dict.fromkeys((self._archive / REFUSED, self._folder)):
            for segment, _ in reversed(written(every_file(folder), self._now())):
                if freed >= lacking:
                    return freed
                with suppress(FileNotFoundError):
                    size = segment.path.stat().st_blocks * 512
                    segment.path.unlink()
                    freed += size
        return freed

    def _begin(self, first: float) -> None:
        # Two processes may take the same number at once.
        number = max((segment.number for segment in every_file(self._folder)), default=0) + 1
        token = f"{number:010}-{token_hex(4)}"
        path = self._folder / f"{_stamp(first)}-{token}.jsonl"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:
                # Another process took it for an abandoned one before it was locked.
                raise FileNotFoundError(path)
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size, self._lines, self._last = fd, 0, 0, first
        self._segment = Segment(path, token, first, None)

    def _finish_abandoned(self, segment: Segment) -> None:
        """Finish a segment whose process has ended."""
        with suppress(FileNotFoundError):
            fd = os.open(segment.path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._finish(segment)
            except BlockingIOError:
                pass  # its process is alive
            finally:
                os.close(fd)

    def _finish(self, segment: Segment, last: float | None = None) -> None:
        """Compress a segment under its new name, then delete the open one. Without `last`, its
        lines are read for their times."""
        path, first = segment.path, segment.first
        is_done = any(self._folder.glob(f"*-{segment.token}.jsonl.zst"))
        if not is_done and (text := path.read_bytes()):
            if last is None:
                first, last = span(text.split(b"\n")) or (first, max(first, path.stat().st_mtime))
            # The last time is rounded up: no line is younger.
            name = f"{_stamp(first)}-{_stamp(last + 0.002)}-{segment.token}.jsonl.zst"
            part = (self._folder / name).with_suffix(".part")
            try:
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(zstd.compress(text, _LEVEL))
                part.rename(self._folder / name)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        path.unlink(missing_ok=True)

    def _delete(self, more: int = 0) -> None:
        """Delete segments that are too old, and those written first until the rest has room beside
        `more` bytes."""
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
