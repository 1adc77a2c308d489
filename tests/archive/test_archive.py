"""Writing the archive: by real routers, on disks that fill up, with clocks that jump."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from typing import Any

import httpx
import pytest

from router.archive.reading import Sources
from router.archive.segments import REFUSED, SegmentStore, segments_in
from router.archive.writer import ARCHIVE_BOUND, Archive
from router.telemetry.log.lines import Lines, stamp
from tests.support.archived import archived, between
from tests.support.archived import event_line as line_of
from tests.support.command import PATIENCE
from tests.support.disks import Disks
from tests.support.serving import always, body, name_of, serving, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until

MIB = 1024 * 1024


@cache
def noise(size: int, seed: int = 0) -> list[bytes]:
    """Return about `size` bytes of lines that do not compress."""
    random, now = Random(seed), stamp(time.time()).encode()
    line = b'{"time":"%s","happening":"event","x":"%s"}\n'
    return [line % (now, random.randbytes(500).hex().encode()) for _ in range(size // 1000)]


def at(moment: float) -> bytes:
    return b'{"time":"%s"}\n' % stamp(moment).encode()


def the_hour() -> float:
    """Return the start of the current hour, so that no segment ends by chance."""
    return float(int(time.time()) // 3600 * 3600)


@contextmanager
def writing(folder: Path, max_bytes: int = MIB, **options: Any) -> Iterator[Archive]:
    """Run an archive in this folder, which must not lose a line, until the block ends."""
    archive = Archive(SegmentStore(folder, max_bytes, 60.0), nobody, **options)
    archive.start()
    yield archive
    archive.close(PATIENCE)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def asked(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE, **PLAIN)


def nobody(count: int, why: str) -> None:
    raise AssertionError(f"{count} lost: {why}")


# Lines.


def test_each_event_has_a_line_with_its_body_byte_for_byte(tmp_path: Path) -> None:
    """The line has the fields of the log's line, and is whole even if that is cut."""
    folder, long = tmp_path / "store.db-archive", "k" * 2000
    sent = (
        '{"event_source": "a", "event_topic":"库", "event_type":"t", "event_status":"1",\n'
        '\t"changes":["\\u0007\x7f\x9b\\ud83d\\ude00😀"]}'
    )
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        assert router.ask("POST", "/callback", sent.encode())[1] == "000"
        content = json.dumps({**json.loads(body("one")), "event_key": long})
        assert router.ask("POST", "/callback", content.encode())[1] == "000"
        wait_until(lambda: len(archived(folder)) == len(router.lines("event")) == 2)
        first, second = archived(folder)
        assert first.pop("payload") == sent
        assert first == router.lines("event")[0]
        assert router.lines("event")[1]["cut"] == ["event_key"]
    assert ("cut" in second, second["event_key"]) == (False, long)


def test_what_becomes_of_an_event_later_has_its_lines_too(tmp_path: Path) -> None:
    """The archive has retries of the queue, dead letters, and every unmatched event."""
    folder = tmp_path / "store.db-archive"
    queue = {"retries": 1, "waits": ["50ms"]}
    with target() as good, target(always("700")) as bad:
        with serving(tmp_path, {"good": good}, {"bad": bad}, queue=queue) as router:
            assert router.post("one") == "000"
            wait_until(lambda: archived(folder, "dead_letter"))
        (event,) = archived(folder)
        (dead,) = archived(folder, "dead_letter")
        assert dead["event_id"] == event["event_id"]
        (tmp_path / "two").mkdir()
        with serving(tmp_path / "two", {"good": good}, match="other") as router:
            assert [router.post("two") for _ in range(7)] == ["500"] * 7
            wait_until(
                lambda: len(archived(tmp_path / "two" / "store.db-archive", "unmatched")) == 7
            )


def test_bodies_can_be_left_out(tmp_path: Path) -> None:
    """`--archive-bodies off` leaves out the bodies of events."""
    with (
        target() as ledger,
        serving(tmp_path, {"ledger": ledger}, options=["--archive-bodies", "off"]) as router,
    ):
        router.post("one")
        wait_until(lambda: archived(tmp_path / "store.db-archive"))
    (line,) = archived(tmp_path / "store.db-archive")
    assert "payload" not in line


def test_the_archive_can_be_switched_off(tmp_path: Path) -> None:
    """`--archive none` keeps nothing."""
    options = ["--archive", "none"]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        assert router.post("one") == "000"
        router.interrupt(signal.SIGTERM)
    assert not (tmp_path / "store.db-archive").exists()


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    """The folder has mode 0700 and each file 0600, independent of the umask."""
    before = os.umask(0)
    try:
        store = SegmentStore(tmp_path / "archive", MIB, 60.0)
        for number in range(3):
            store.append(noise(MIB // 10, number))
        store.append([b"one more\n"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o700
    files = list((tmp_path / "archive").iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


# Limits of size and time.


def test_no_limit_is_passed_while_a_segment_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit holds while a segment exists twice and does not compress, and for lines larger
    than a segment. The newest line stays. The limit is the smallest allowed."""
    peaks = []
    rename = Path.rename

    def measured(path: Path, to: Path) -> Path:
        peaks.append(size_of(tmp_path))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", measured)
    store = SegmentStore(tmp_path, MIB, 3600.0)
    for number in range(60):
        text = b64encode(Random(number).randbytes(200_000 if number % 10 == 9 else 40_000))
        store.append([b'{"time":"%s","x":"%s"}\n' % (stamp(time.time()).encode(), text)])
        peaks.append(size_of(tmp_path))
    assert MIB // 2 < max(peaks) <= MIB
    assert text in segments_in(tmp_path)[0].read()[0]


def test_no_line_is_kept_for_much_longer_than_it_may(tmp_path: Path) -> None:
    """This includes the open segment, which is finished after a tenth of the time."""
    clock = [the_hour()]
    store = SegmentStore(tmp_path, 4 * MIB, 1000.0, now=lambda: clock[0])
    ages = []
    for _ in range(60):
        store.append([at(clock[0])])
        clock[0] += 60
        store.tidy()
        oldest = min(line["time"] for line in between(tmp_path, 0, clock[0]))
        ages.append(clock[0] - datetime.fromisoformat(oldest).timestamp())
    assert 1000 - 60 <= max(ages) <= 1000 + 100 + 2 * 60


@pytest.mark.parametrize("keep", [30 * 86400.0, 7200.0])
def test_a_clock_that_was_a_year_ahead_keeps_no_room(tmp_path: Path, keep: float) -> None:
    """Segments dated in the future are deleted in the order of writing, by size and by age."""
    now = the_hour()
    clock = [now]
    store = SegmentStore(tmp_path, 2 * MIB, keep, now=lambda: clock[0])

    def write(number: int) -> None:
        line = b'{"time":"%s","number":%d,"x":"%s"}\n'
        text = Random(number).randbytes(50_000).hex().encode()
        store.append([line % (stamp(clock[0]).encode(), number, text)])

    for number in range(8):
        clock[0] = now + 365 * 86400 + number
        write(number)
    for number in range(8, 12 if keep < 86400 else 60):
        clock[0] = now + 600 * (number - 8)
        write(number)
        store.tidy()
    clock[0] += 6600
    store.tidy()
    left = [line["number"] for line in between(tmp_path, 0, now * 2)]
    assert left
    assert sorted(left) == list(range(min(left), max(left) + 1))
    assert min(left) >= 8
    assert max(left) == (11 if keep < 86400 else 59)


def test_a_clock_that_jumps_loses_nothing(tmp_path: Path) -> None:
    """The clock jumps back and forth by hours. Every line is found, in the order of time."""
    now = time.time()
    lines, clock = Lines("json"), [now]
    store = SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0, now=lambda: clock[0])
    for number, jump in enumerate((0, -7200, 60, 86400, -86400, 5)):
        clock[0] = now + jump
        store.append([lines.line(clock[0], "info", "event", {"number": number})])
        if number % 2:
            store.tidy()
    assert [line["number"] for line in archived(tmp_path)] == [4, 1, 0, 5, 2, 3]


def test_a_segment_is_named_after_its_lines(tmp_path: Path) -> None:
    """A search by time finds every line, whatever the clock was, before and after finishing."""
    now = the_hour() + 4000.0
    lines, clock = Lines("json"), [now]
    store = SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0, now=lambda: clock[0])
    written = [(-10, 0), (-9, 1), (-3609, -3600), (-3608, -3600), (-8, 3), (-3607, -3598)]
    written += [(20, 20), (5, 20)]
    for after, at in written:
        clock[0] = now + at
        store.append([lines.line(now + after, "info", "event", {"after": after})])
    store.close()
    every = sorted(after for after, _ in written)
    for _ in range(2):
        for after in every:
            lines_then = between(tmp_path, now + after, now + after + 0.5)
            assert [line["after"] for line in lines_then] == [after]
        assert [line["after"] for line in archived(tmp_path)] == every
        SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0).tidy()
    assert all(segment.last is not None for segment in segments_in(tmp_path))


def test_an_unreadable_segment_does_not_stop_deletion(tmp_path: Path) -> None:
    """Other segments are still deleted when they are too old."""
    store = SegmentStore(tmp_path, 4 * MIB, 60.0, now=lambda: time.time() - 3600)
    store.append([b"old\n"])
    store.turn()
    bad = tmp_path / "20261126T120000000Z-0000000001-0123abcd.jsonl"
    bad.mkdir()
    with pytest.raises(IsADirectoryError):
        SegmentStore(tmp_path, 4 * MIB, 60.0).tidy()
    assert [path.name for path in tmp_path.iterdir()] == [bad.name]


def test_an_archive_of_0_2_0_is_read_and_ends(tmp_path: Path) -> None:
    """Version 0.2.0 did not number its segments. After an upgrade they are found, count towards the
    limits, and are deleted when they are too old: they contain bodies."""
    clock = [time.time()]
    store = SegmentStore(tmp_path, 4 * MIB, 60.0, now=lambda: clock[0])
    store.append([at(clock[0] - 30)])
    store.turn()
    (finished,) = tmp_path.iterdir()
    finished.rename(tmp_path / re.sub("-[0-9]{10}-", "-", finished.name))
    first = finished.name.partition("-")[0]
    (tmp_path / f"{first}-0123abcd.jsonl").write_bytes(at(clock[0] - 30))
    assert [segment.read()[0] for segment in segments_in(tmp_path)] == [at(clock[0] - 30)] * 2
    store.append([at(clock[0])])
    assert "-0000000001-" in segments_in(tmp_path)[0].path.name
    store.turn()
    clock[0] += 45
    store.tidy()
    assert [segment.read()[0] for segment in segments_in(tmp_path)] == [at(clock[0] - 45)]


def test_the_next_process_finishes_abandoned_segments(tmp_path: Path) -> None:
    """The open segment of a living process is left alone."""
    gone, living, next_one = (SegmentStore(tmp_path, 4 * MIB, 60.0) for _ in range(3))
    gone.append([b"gone\n"])
    gone.close()
    living.append([b"living\n"])
    next_one.tidy()
    living.append([b"lives\n"])
    assert [(each.last is None, each.read()[0]) for each in segments_in(tmp_path)] == [
        (True, b"living\nlives\n"),
        (False, b"gone\n"),
    ]


def test_a_crash_while_a_segment_is_finished_doubles_nothing(tmp_path: Path) -> None:
    """The process is killed after compressing the segment and before deleting the open one."""
    store = SegmentStore(tmp_path, 4 * MIB, 60.0)
    store.append([b"once\n"])
    (segment,) = segments_in(tmp_path)
    content = segment.path.read_bytes()
    store.turn()
    segment.path.write_bytes(content)
    assert [each.read()[0] for each in segments_in(tmp_path)] == [b"once\n"]
    SegmentStore(tmp_path, 4 * MIB, 60.0).tidy()
    assert len(list(tmp_path.iterdir())) == 1


def test_a_copy_that_a_dead_process_left_is_deleted(tmp_path: Path) -> None:
    """The compressed copy of a segment, after an hour; a living process may be writing it."""
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for part, age in ((old, 3700.0), (new, 0.0)):
        part.touch()
        os.utime(part, (time.time() - age,) * 2)
    SegmentStore(tmp_path, 4 * MIB, 60.0).tidy()
    assert [*tmp_path.iterdir()] == [new]


# Losses, which never cost an event anything.


def test_only_lines_that_are_gone_are_counted(tmp_path: Path) -> None:
    """Lines of the open segment count; lines of segments that were finished before do not."""
    store = SegmentStore(tmp_path / "archive", 4 * MIB, 600.0)
    store.append(noise(3000))
    store.turn()
    store.append(noise(2000))
    shutil.rmtree(tmp_path / "archive")
    store.append(noise(1000))
    assert store.lost == 2


def test_a_stop_loses_nothing(tmp_path: Path) -> None:
    """Every event that got its reply before SIGTERM has its line."""
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        names = [f"event {number}" for number in range(100)]
        with ThreadPoolExecutor(8) as callers:
            assert set(callers.map(router.post, names)) == {"000"}
        assert router.ask("POST", "/callback", b"{")[1] == "400"
        assert router.interrupt(signal.SIGTERM) == 0
    assert len(archived(tmp_path / "store.db-archive", "refused")) == 1
    kept = [name_of(line["payload"].encode()) for line in archived(tmp_path / "store.db-archive")]
    assert sorted(kept) == sorted(names)


@pytest.mark.parametrize("part", ["", REFUSED])
def test_a_stop_waits_for_the_archive(tmp_path: Path, part: str) -> None:
    """A disk that answers a second after SIGTERM still gets the lines of events, and those of
    refused callbacks."""
    archive = tmp_path / "store.db-archive"
    (archive / part).mkdir(parents=True)
    # The writing thread opens it at the start, and waits.
    pipe = archive / part / "20261129T120000000Z-0000000001-aaaaaaaa.jsonl"
    os.mkfifo(pipe)
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        assert router.post("event") == "000"
        assert router.ask("POST", "/callback", b"{")[1] == "400"
        router.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            router.process.wait(1.0)
        opened = os.open(pipe, os.O_WRONLY)
        pipe.unlink()
        os.close(opened)
        assert router.wait() == 0
    assert len(archived(archive)) == len(archived(archive, "refused")) == 1


def test_a_kill_loses_at_most_the_lines_of_a_second(tmp_path: Path) -> None:
    """The next router reads no cut line, and continues."""
    folder = tmp_path / "store.db-archive"
    with target() as ledger:
        with serving(tmp_path, {"ledger": ledger}) as router:
            answered: list[tuple[str, float]] = []
            started = time.monotonic()
            while time.monotonic() - started < 1.5:
                name = f"event {len(answered)}"
                assert router.post(name) == "000"
                answered.append((name, time.monotonic()))
            router.process.kill()
            killed = time.monotonic()
        kept = {name_of(line["payload"].encode()) for line in archived(folder)}
        assert {name for name, at in answered if killed - at > 1.0} <= kept
        with serving(tmp_path, {"ledger": ledger}) as router:
            assert router.post("afterwards") == "000"
            assert router.interrupt(signal.SIGTERM) == 0
    assert kept < {name_of(line["payload"].encode()) for line in archived(folder)}


def test_a_full_disk_loses_lines_and_no_reply(tmp_path: Path, disks: Disks) -> None:
    """They are counted, logged, and make /status degraded, until there is room again."""
    disk = disks.tmpfs(2)
    archive, ballast = disk / "archive", disk / "ballast"
    ballast.write_bytes(bytes(2 * MIB - 64 * 1024))
    ops = free_port()
    options = ["--archive", str(archive), "--ops-port", str(ops)]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        big = "x" * 20_000
        for number in range(20):
            assert router.post(f"{number} {big}") == "000"
            assert router.ask("POST", "/callback", f"{number} {big}".encode())[1] == "400"
        places = {str(archive), str(archive / REFUSED)}
        wait_until(lambda: {line["archive"] for line in router.lines("archive_lost")} == places)
        assert {line["why"] for line in router.lines("archive_lost")} == {"disk_full"}
        status = asked(ops, "/status").json()
        assert status["archive"]["reasons"][0].startswith("disk_full, last at ")
        assert 0 < status["archive"]["lines_lost"] <= 40
        assert re.search(
            r"(?m)^ebaas_router_archive_lines_lost_total [1-9]", asked(ops, "/metrics").text
        )
        ballast.unlink()
        assert router.post("there is room") == "000"
        wait_until(lambda: "there is room" in repr(archived(archive)))
        router.interrupt(signal.SIGTERM)
        lost = sum(line["count"] for line in router.lines("archive_lost"))
        kept = len(archived(archive)) + len(archived(archive / REFUSED, "refused"))
        assert lost + kept == 41


def test_a_write_that_fails_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    """The next lines begin where the last whole one ended."""
    store, limits = SegmentStore(tmp_path, 1 << 30, 600.0), getrlimit(RLIMIT_FSIZE)
    store.append(noise(60_000, 1))
    setrlimit(RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            store.append(noise(60_000, 2))
    finally:
        setrlimit(RLIMIT_FSIZE, limits)
    store.append(noise(60_000, 3))
    sources = Sources(tmp_path)
    assert len([*sources.lines()]) == 120
    assert sources.damage == ""


def test_a_segment_that_cannot_be_compressed_stays_readable(tmp_path: Path) -> None:
    """A copy that the disk has no room for is deleted at once."""
    store, limits = SegmentStore(tmp_path, 1 << 30, 600.0), getrlimit(RLIMIT_FSIZE)
    store.append(noise(200_000))
    setrlimit(RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            store.turn()
    finally:
        setrlimit(RLIMIT_FSIZE, limits)
    assert len([*tmp_path.iterdir()]) == 1
    assert len([*Sources(tmp_path).lines()]) == 200


def test_each_lost_line_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.archive.writer.REPORT", 0.0)
    noted: list[int] = []
    store = SegmentStore(tmp_path / "missing" / "archive", MIB, 60.0)
    archive = Archive(store, lambda count, _: noted.append(count))
    for _ in range(3):
        before = archive.lost
        archive.put("info", "event", {})
        wait_until(lambda: sum(noted) == before + 1)  # noqa: B023 - it is over before the next
    archive.close(PATIENCE)
    assert noted == [1, 1, 1]
    archive.put("info", "event", {})
    assert archive.lost == 4


@pytest.mark.parametrize("what", ["removed", "moved", "unmounted"])
def test_a_folder_that_goes_away_is_made_again(tmp_path: Path, disks: Disks, what: str) -> None:
    """Its lines are counted with the reason, and later lines are written."""
    place = disks.tmpfs(64) if what == "unmounted" else tmp_path
    folder, ops = place / "archive", free_port()
    options = ["--archive", str(folder), "--ops-port", str(ops)]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        for number in range(10):
            router.post(f"before {number}")
        wait_until(lambda: len(archived(folder)) == 10)
        if what == "removed":
            shutil.rmtree(folder)
        elif what == "moved":
            folder.rename(tmp_path / "elsewhere")
        else:
            subprocess.run(["umount", "-l", place], check=True)
        for number in range(10):
            assert router.post(f"after {number}") == "000"
        wait_until(lambda: len(archived(folder)) == 10)
        status = asked(ops, "/status").json()
        assert status["archive"]["lines_lost"] == 10
        assert status["archive"]["reasons"][0].startswith("gone, last at ")
        wait_until(lambda: router.lines("archive_lost"))
        (lost,) = router.lines("archive_lost")
        assert (lost["count"], lost["why"]) == (10, "gone")
        if what == "unmounted":
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def test_large_bodies_are_not_gathered_until_there_is_no_room(tmp_path: Path) -> None:
    """A quarter of the bound is written at once."""
    count, large = ARCHIVE_BOUND // 4 // MIB + 1, json.dumps("x" * MIB).encode()
    with writing(tmp_path, 1 << 30, gather=PATIENCE * 10) as archive:
        archive.put("info", "event", {})
        wait_until(lambda: archived(tmp_path))
        for _ in range(count):
            archive.put("info", "event", {}, body=large)
        wait_until(lambda: len(archived(tmp_path)) == 1 + count)


def test_a_missing_parent_is_not_created(tmp_path: Path) -> None:
    """A missing parent may be a missing disk: it is not created, and every line is lost."""
    place = tmp_path / "mounted"
    place.mkdir()
    event_line: list[tuple[int, str]] = []
    archive = Archive(
        SegmentStore(place / "archive", MIB, 60.0), lambda *each: event_line.append(each)
    )
    place.rename(tmp_path / "elsewhere")
    archive.start()
    archive.put("info", "event", {})
    archive.close(PATIENCE)
    assert event_line == [(1, "gone")]


def test_the_archive_leaves_a_part_of_the_disk_free(tmp_path: Path, disks: Disks) -> None:
    """The oldest segments are deleted; with none left nothing is written."""
    disk = disks.tmpfs(20)
    store = SegmentStore(disk / "archive", 1 << 30, 3600.0)
    for number in range(300):
        store.append(noise(MIB // 5, number % 9))
        assert free(disk) >= 10 * MIB
    segments = segments_in(disk / "archive")
    assert size_of(disk / "archive") > 6 * MIB
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(5 * MIB))
    wait_until(lambda: appended(store, b"more\n"))
    assert free(disk) >= 10 * MIB
    assert segments[0] in segments_in(disk / "archive")
    assert segments[-1] not in segments_in(disk / "archive")
    while ballast.stat().st_size < 18 * MIB:
        with ballast.open("ab") as more:
            more.write(bytes(MIB))
        appended(store, b"more\n")
    wait_until(lambda: not appended(store, b"no more\n"))
    assert {segment.last for segment in segments_in(disk / "archive")} <= {None}
    ballast.unlink()
    wait_until(lambda: appended(store, b"once more\n"))


def appended(store: SegmentStore, lines: bytes) -> bool:
    with suppress(OSError):
        store.tidy()
        store.append(lines.splitlines(keepends=True))
        return True
    return False


def free(disk: Path) -> int:
    known = os.statvfs(disk)
    return known.f_bavail * known.f_frsize


def test_a_folder_that_cant_be_made_costs_no_reply(tmp_path: Path) -> None:
    """If a file is in its place, a warning at the start says so, and lines are lost."""
    (tmp_path / "archive").write_text("in the way")
    options = ["--archive", str(tmp_path / "archive")]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        why = f"the archive {tmp_path / 'archive'} can't be used: it is a file"
        assert why in [line["problem"] for line in router.lines("config")]
        assert router.post("one") == "000"
        wait_until(lambda: router.lines("archive_lost"))
        assert router.lines("archive_lost")[0]["count"] == 1


def test_since_is_included_and_until_is_not(tmp_path: Path) -> None:
    """So that two spans that follow each other have each line once."""
    times = [time.time() - 60 + number for number in range(3)]
    SegmentStore(tmp_path, 4 * MIB, 600.0).append([*map(at, times)])
    found = Sources(tmp_path).lines(since=times[1], until=times[2])
    assert [*found] == [at(times[1]).rstrip(b"\n")]


def test_a_line_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    """A reader sees only the whole lines before it, without damage."""
    line = line_of("two")
    for end in (0, 1, 90, len(line) - 1, len(line)):
        folder = tmp_path / str(end)
        store = SegmentStore(folder, 64 * MIB, 60.0)
        store.append([line_of("one")])
        (segment,) = folder.iterdir()
        with segment.open("ab") as file:
            file.write(line[:end])
        assert len(archived(folder)) == (2 if end == len(line) else 1)
        store.close()


def test_garbled_segments_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    """A finished segment is cut, and in another one a bit is flipped."""
    store = SegmentStore(tmp_path, 64 * MIB, 60.0)
    store.append(noise(4 * MIB))
    store.turn()
    (segment,) = segments_in(tmp_path)
    whole, content = segment.read()[0], segment.path.read_bytes()
    segment.path.write_bytes(content[: len(content) // 2])
    text, is_whole = segment.read()
    assert not is_whole
    assert whole.startswith(text)
    assert len(text) > len(whole) / 4
    segment.path.write_bytes(
        bytes(b ^ 1 if at == len(content) // 2 else b for at, b in enumerate(content))
    )
    text, is_whole = segment.read()
    assert len(text) > len(whole) / 4
