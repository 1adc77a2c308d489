"""The archive as it is written: by real routers, on disks that fill up, by clocks that jump."""

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
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from urllib.request import urlopen

import pytest

from router.archive.segments import SegmentStore, found
from router.archive.writer import ARCHIVE_BOUND, Archive
from router.telemetry.log.lines import Lines, stamp
from tests.support.archived import archived, between
from tests.support.archived import told as line_of
from tests.support.command import PATIENCE
from tests.support.disks import Disks
from tests.support.house import routes
from tests.support.serving import Serving, always, body, name_of, serving, states, target
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

MIB = 1024 * 1024


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    made = Disks(tmp_path)
    yield made
    made.close()


def lines_of(shelf_full: int, number: int = 0) -> bytes:
    """Lines that together take up so many bytes, more or less, and don't compress."""
    random = Random(number)
    line = b'{"time":"%s","happening":"event","x":"%s"}\n'
    now = stamp(time.time()).encode()
    return b"".join(
        line % (now, random.randbytes(500).hex().encode()) for _ in range(shelf_full // 1000)
    )


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def asked(port: int, path: str) -> str:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
        content: bytes = answer.read()
    return content.decode()


def nobody(count: int, why: str) -> None:
    raise AssertionError(f"{count} lost: {why}")


# What is in it.


def test_each_event_has_a_line_with_its_body_byte_for_byte(tmp_path: Path) -> None:
    """All that the log's line says, and the body as it came."""
    sent = (
        '{"event_source": "a", "event_topic":"库", "event_type":"t", "event_status":"1",\n'
        '\t"changes":["\\u0007\x7f\x9b\\ud83d\\ude00😀"]}'
    )
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        assert router.ask("POST", "/callback", sent.encode())[1] == "000"
        wait_until(lambda: archived(tmp_path / "store.db-archive"))
        (line,) = archived(tmp_path / "store.db-archive")
        assert line.pop("payload") == sent
        assert line == router.lines("event")[0]


def test_a_line_is_plain_ascii_whatever_a_body_has_in_it(tmp_path: Path) -> None:
    """So that no body can end its line, or tell a terminal what to do."""
    hostile = "\x1b[2J\u202e\x00\x9b\r\n\u2028\x7f" * 10
    archive = Archive(SegmentStore(tmp_path, MIB, 60.0), nobody)
    archive.start()
    archive.put("info", "event", {"msg": hostile}, body=hostile.encode())
    archive.close(PATIENCE)
    (segment,) = found(tmp_path)
    text, _ = segment.read()
    assert text.isascii()
    assert text.decode().rstrip("\n").isprintable()
    assert text.count(b"\n") == 1
    assert json.loads(text)["payload"] == hostile


def test_it_does_not_need_the_logs_format(tmp_path: Path) -> None:
    """Where the log is for people, the line is what a log in JSON would have."""
    archive = Archive(SegmentStore(tmp_path, MIB, 60.0), nobody, clock=lambda: 1000.0)
    archive.start()
    archive.put("info", "event", {"code": "000"})
    archive.close(PATIENCE)
    (segment,) = found(tmp_path)
    assert segment.read()[0] == Lines("json").line(1000.0, "info", "event", {"code": "000"})


def test_its_line_is_whole_where_the_logs_is_cut(tmp_path: Path) -> None:
    """No collector's bound is the archive's."""
    key = "k" * 2000
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        sent = json.dumps({**json.loads(body("one")), "event_key": key})
        assert router.ask("POST", "/callback", sent.encode())[1] == "000"
        wait_until(lambda: archived(tmp_path / "store.db-archive") and router.lines("event"))
        assert router.lines("event")[0]["cut"] == ["event_key"]
    (line,) = archived(tmp_path / "store.db-archive")
    assert ("cut" in line, line["event_key"]) == (False, key)


def test_what_targets_said_is_kept_however_long(tmp_path: Path) -> None:
    """A line of the archive may be longer than one of the log."""
    said = {"reason": "code", "msg": "库存不足" * 100}
    targets = {f"target-{number}": said for number in range(50)}
    archive = Archive(SegmentStore(tmp_path, MIB, 60.0), nobody)
    archive.start()
    archive.put("warning", "event", {"targets": targets})
    archive.close(PATIENCE)
    assert archived(tmp_path)[0]["targets"] == targets


def test_what_becomes_of_an_event_later_has_its_lines_too(tmp_path: Path) -> None:
    """Retries of the queue, dead letters, and each event that no route matches."""
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
    """`--archive-bodies off`, for who must not keep them."""
    with (
        target() as ledger,
        serving(tmp_path, {"ledger": ledger}, options=["--archive-bodies", "off"]) as router,
    ):
        router.post("one")
        wait_until(lambda: archived(tmp_path / "store.db-archive"))
    (line,) = archived(tmp_path / "store.db-archive")
    assert "payload" not in line


def test_no_header_and_no_secret_is_in_it(tmp_path: Path) -> None:
    """What targets are sent besides the event, and who may call, stays out."""
    with target() as ledger, target(always("700")) as audit:
        policy = {
            "url": f"{ledger.url}?key=canary-query",
            "headers": {"authorization": "canary-header"},
            "secret": "whsec_Y2FuYXJ5LXNlY3JldC1jYW5hcnk=",
        }
        table = routes(
            {"ledger": policy},
            {"audit": {**policy, "url": audit.url}},
            ebaas={"token": "canary-token-of-some-length"},
        )
        (tmp_path / "routes.yaml").write_text(json.dumps(table))
        router = Serving(tmp_path / "routes.yaml", tmp_path / "store.db", [], {})
        try:
            headers = {"authorization": "Bearer canary-token-of-some-length"}
            with closing(HTTPConnection("127.0.0.1", router.port, timeout=PATIENCE)) as connection:
                connection.request("POST", "/callback", body("one"), headers)
                assert json.loads(connection.getresponse().read())["code"] == "000"
            wait_until(lambda: archived(tmp_path / "store.db-archive"))
        finally:
            router.close()
    kept = json.dumps(archived(tmp_path / "store.db-archive"))
    assert "canary" not in kept
    assert "Y2FuYXJ5" not in kept


def test_it_is_its_users_alone(tmp_path: Path) -> None:
    """0700 for the folder, 0600 for each file, whatever the umask says."""
    before = os.umask(0)
    try:
        shelf = SegmentStore(tmp_path / "archive", MIB, 60.0)
        for number in range(3):
            shelf.append(lines_of(MIB // 10, number).splitlines(keepends=True))
        shelf.append([b"one more\n"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o700
    files = list((tmp_path / "archive").iterdir())
    assert len(files) > 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


# How much it keeps, and for how long.


def test_full_segments_are_compressed(tmp_path: Path) -> None:
    """The one in hand is as it was written; the others take up a part of that."""
    shelf = SegmentStore(tmp_path, 4 * MIB, 60.0)
    lines = b'{"time":"%s","same":1}\n' % stamp(time.time()).encode() * 30_000
    shelf.append(lines.splitlines(keepends=True))
    shelf.append([b"one more\n"])
    newest, full = found(tmp_path)
    assert newest.path.suffix == ".jsonl"
    assert full.path.suffix == ".zst"
    assert full.path.stat().st_size < MIB / 100
    assert full.read() == (lines, True)


def test_it_never_takes_up_more_than_it_may(tmp_path: Path) -> None:
    """The oldest goes first, and what is written to counts as if it were full."""
    shelf = SegmentStore(tmp_path, 2 * MIB, 60.0)
    for number in range(60):
        last = lines_of(100_000, number)
        shelf.append(last.splitlines(keepends=True))
        assert size_of(tmp_path) <= 2 * MIB
    assert size_of(tmp_path) > MIB
    assert last in b"".join(segment.read()[0] for segment in found(tmp_path))


def test_no_limit_is_passed_while_a_segment_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for the moment in which a segment is there twice, and does not compress; nor by
    lines that are more than a usual segment. The smallest limit there is."""
    peaks = []
    rename = Path.rename

    def measured(path: Path, to: Path) -> Path:
        peaks.append(size_of(tmp_path))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", measured)
    shelf = SegmentStore(tmp_path, MIB, 3600.0)
    for number in range(60):
        noise = b64encode(Random(number).randbytes(200_000 if number % 10 == 9 else 40_000))
        shelf.append([b'{"time":"%s","x":"%s"}\n' % (stamp(time.time()).encode(), noise)])
        peaks.append(size_of(tmp_path))
    assert MIB // 2 < max(peaks) <= MIB


def test_no_line_is_kept_for_much_longer_than_it_may(tmp_path: Path) -> None:
    """Also one of the segment that is written to, which is turned after a tenth of the time."""
    clock = [float(int(time.time()) // 3600 * 3600)]
    shelf = SegmentStore(tmp_path, 4 * MIB, 1000.0, now=lambda: clock[0])
    ages = []
    for _ in range(60):
        shelf.append([b'{"time":"%s"}\n' % stamp(clock[0]).encode()])
        clock[0] += 60
        shelf.tidy()
        oldest = min(line["time"] for line in between(tmp_path, 0, clock[0]))
        ages.append(clock[0] - datetime.fromisoformat(oldest).timestamp())
    assert 1000 - 60 <= max(ages) <= 1000 + 100 + 2 * 60


def test_the_age_of_a_segment_is_that_of_its_last_line(tmp_path: Path) -> None:
    """It is deleted when that is too old, and its first line is kept until then."""
    now = float(int(time.time()) // 3600 * 3600)
    clock = [now]
    shelf = SegmentStore(tmp_path, 4 * MIB, 36_000.0, now=lambda: clock[0])
    for at in (0, 3000):
        clock[0] = now + at
        shelf.append([b'{"time":"%s"}\n' % stamp(clock[0]).encode()])
    for later, left in ((37_000, 2), (38_900, 2), (39_100, 0)):
        clock[0] = now + later
        shelf.tidy()
        assert len(between(tmp_path, 0, clock[0])) == left


def test_a_clock_that_is_set_back_a_little_hides_no_line(tmp_path: Path) -> None:
    """A segment reaches to its youngest line, whichever was written last."""
    now = time.time() // 3600 * 3600
    clock = [now]
    shelf = SegmentStore(tmp_path, 4 * MIB, 36_000.0, now=lambda: clock[0])
    for at in (0, 100, 50):
        clock[0] = now + at
        shelf.append([b'{"time":"%s"}\n' % stamp(clock[0]).encode()])
    shelf.turn()
    assert len(between(tmp_path, now + 90, now + 110)) == 1


@pytest.mark.parametrize("keep", [30 * 86400.0, 7200.0])
def test_a_clock_that_was_a_year_ahead_keeps_no_room(tmp_path: Path, keep: float) -> None:
    """What it left is deleted in its turn, by how much there is and by its age, as if it had been
    written when it was."""
    now = float(int(time.time()) // 3600 * 3600)
    clock = [now]
    shelf = SegmentStore(tmp_path, 2 * MIB, keep, now=lambda: clock[0])

    def write(number: int) -> None:
        line = b'{"time":"%s","number":%d,"x":"%s"}\n'
        noise = Random(number).randbytes(50_000).hex().encode()
        shelf.append([line % (stamp(clock[0]).encode(), number, noise)])

    for number in range(8):
        clock[0] = now + 365 * 86400 + number
        write(number)
    for number in range(8, 12 if keep < 86400 else 60):
        clock[0] = now + 600 * (number - 8)
        write(number)
        shelf.tidy()
    clock[0] += 6600
    shelf.tidy()
    left = [line["number"] for line in between(tmp_path, 0, now * 2)]
    assert left
    assert sorted(left) == list(range(min(left), max(left) + 1))
    assert min(left) >= 8
    assert max(left) == (11 if keep < 86400 else 59)


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """By when its last line was written."""
    now = time.time()
    clock = [now - 3 * 3600]
    shelf = SegmentStore(tmp_path, 4 * MIB, 7200.0, now=lambda: clock[0])
    shelf.append([b"old\n"])
    clock[0] = now - 3600
    shelf.tidy()
    shelf.append([b"young\n"])
    clock[0] = now
    shelf.tidy()
    assert [segment.read()[0] for segment in found(tmp_path)] == [b"young\n"]


def test_a_clock_that_jumps_loses_nothing(tmp_path: Path) -> None:
    """Back and forth by hours: each line is found by its own time."""
    now = time.time()
    lines, clock = Lines("json"), [now]
    shelf = SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0, now=lambda: clock[0])
    for number, jump in enumerate((0, -7200, 60, 86400, -86400, 5)):
        clock[0] = now + jump
        shelf.append([lines.line(clock[0], "info", "event", {"number": number})])
        if number % 2:
            shelf.tidy()
    assert [line["number"] for line in archived(tmp_path)] == [4, 1, 0, 5, 2, 3]


def test_a_segment_is_named_after_its_lines(tmp_path: Path) -> None:
    """Whenever they were written, and by whichever clock: what looks by time finds each, in order,
    those too that a process has left behind."""
    now = float(int(time.time()))
    lines, clock = Lines("json"), [now]
    shelf = SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0, now=lambda: clock[0])
    written = [(-10, 0), (-9, 1), (-3609, -3600), (-3608, -3600), (-8, 3), (-3607, -3598)]
    for told, at in written:
        clock[0] = now + at
        shelf.append([lines.line(now + told, "info", "event", {"told": told})])
    shelf.close()
    for _ in range(2):
        for told, _at in written:
            lines_then = between(tmp_path, now + told, now + told + 0.5)
            assert [line["told"] for line in lines_then] == [told]
        assert [line["told"] for line in archived(tmp_path)] == sorted(told for told, _ in written)
        SegmentStore(tmp_path, 4 * MIB, 30 * 86400.0).tidy()
    assert all(segment.last is not None for segment in found(tmp_path))


def test_a_segment_that_cant_be_read_keeps_nothing_from_going(tmp_path: Path) -> None:
    """What is too old is deleted all the same."""
    shelf = SegmentStore(tmp_path, 4 * MIB, 60.0, now=lambda: time.time() - 3600)
    shelf.append([b"old\n"])
    shelf.turn()
    bad = tmp_path / "20261126T120000000Z-0000000001-0123abcd.jsonl"
    bad.mkdir()
    with pytest.raises(IsADirectoryError):
        SegmentStore(tmp_path, 4 * MIB, 60.0).tidy()
    assert [path.name for path in tmp_path.iterdir()] == [bad.name]


def test_what_a_process_left_behind_the_next_one_finishes(tmp_path: Path) -> None:
    """And leaves alone what a living one writes to."""
    gone, living, next_one = (SegmentStore(tmp_path, 4 * MIB, 60.0) for _ in range(3))
    gone.append([b"gone\n"])
    gone.close()
    living.append([b"living\n"])
    next_one.tidy()
    living.append([b"lives\n"])
    assert [(each.last is None, each.read()[0]) for each in found(tmp_path)] == [
        (True, b"living\nlives\n"),
        (False, b"gone\n"),
    ]


def test_a_crash_while_a_segment_is_finished_doubles_nothing(tmp_path: Path) -> None:
    """Killed after the compressed one was made and before the other was deleted."""
    shelf = SegmentStore(tmp_path, 4 * MIB, 60.0)
    shelf.append([b"once\n"])
    (segment,) = found(tmp_path)
    content = segment.path.read_bytes()
    shelf.turn()
    segment.path.write_bytes(content)
    assert [each.read()[0] for each in found(tmp_path)] == [b"once\n"]
    SegmentStore(tmp_path, 4 * MIB, 60.0).tidy()
    assert len(list(tmp_path.iterdir())) == 1


# What is lost, and what it costs others: nothing.


def test_a_stop_loses_nothing(tmp_path: Path) -> None:
    """Every event that was answered before SIGTERM has its line."""
    with target() as ledger, serving(tmp_path, {"ledger": ledger}) as router:
        names = [f"event {number}" for number in range(100)]
        with ThreadPoolExecutor(8) as callers:
            assert set(callers.map(router.post, names)) == {"000"}
        assert router.interrupt(signal.SIGTERM) == 0
    kept = [name_of(line["payload"].encode()) for line in archived(tmp_path / "store.db-archive")]
    assert sorted(kept) == sorted(names)


def test_what_was_put_before_the_close_is_written(tmp_path: Path) -> None:
    """Even where the thread has hardly begun."""
    for number in range(20):
        folder = tmp_path / str(number)
        archive = Archive(SegmentStore(folder, MIB, 60.0), nobody)
        archive.start()
        for _ in range(100):
            archive.put("info", "event", {})
        archive.close(PATIENCE)
        assert len(archived(folder)) == 100


def test_a_kill_loses_what_a_second_brought_at_most(tmp_path: Path) -> None:
    """And leaves no line that is cut for the next router, which goes on."""
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
    """They are counted, told, and make /status degraded; once there is room it goes on."""
    disk = disks.tmpfs(2)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(2 * MIB - 64 * 1024))
    ops = free_port()
    options = ["--archive", str(disk / "archive"), "--ops-port", str(ops)]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        big = "x" * 20_000
        for number in range(20):
            assert router.post(f"{number} {big}") == "000"
        wait_until(lambda: router.lines("archive_lost"))
        lost = router.lines("archive_lost")[0]
        assert lost["why"] == "disk_full"
        assert lost["archive"] == str(disk / "archive")
        status = json.loads(asked(ops, "/status"))
        assert status["archive"]["reasons"][0].startswith("disk_full, last at ")
        assert 0 < status["archive"]["lines_lost"] <= 20
        assert re.search(
            r"^ebaas_router_archive_lines_lost_total [1-9]", asked(ops, "/metrics"), re.MULTILINE
        )
        ballast.unlink()
        assert router.post("there is room") == "000"
        wait_until(
            lambda: (
                "there is room"
                in [name_of(line["payload"].encode()) for line in archived(disk / "archive")]
            )
        )
        router.interrupt(signal.SIGTERM)
        lost = sum(line["count"] for line in router.lines("archive_lost"))
        assert lost + len(archived(disk / "archive")) == 21


@pytest.mark.parametrize("what", ["removed", "moved", "unmounted"])
def test_a_folder_that_goes_away_is_made_again(tmp_path: Path, disks: Disks, what: str) -> None:
    """While the router runs: each line that is not there any more is counted, the log and /status
    say why, and what comes later is written."""
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
        status = json.loads(asked(ops, "/status"))
        assert status["archive"]["lines_lost"] == 10
        assert status["archive"]["reasons"][0].startswith("gone, last at ")
        wait_until(lambda: router.lines("archive_lost"))
        (lost,) = router.lines("archive_lost")
        assert (lost["count"], lost["why"]) == (10, "gone")
        if what == "unmounted":
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def test_large_bodies_are_not_gathered_until_there_is_no_room(tmp_path: Path) -> None:
    """A quarter of the room is enough to write at once."""
    archive = Archive(SegmentStore(tmp_path, 1 << 30, 60.0), lambda *_: None, gather=PATIENCE * 10)
    archive.start()
    large = json.dumps("x" * MIB).encode()
    for _ in range(ARCHIVE_BOUND // 4 // MIB + 1):
        archive.put("info", "event", {}, body=large)
    wait_until(lambda: len(archived(tmp_path)) == ARCHIVE_BOUND // 4 // MIB + 1)
    archive.close(PATIENCE)


def test_a_parent_that_goes_away_is_told(tmp_path: Path) -> None:
    """Nothing is made in its place, where a disk may be missing: every line is counted."""
    place = tmp_path / "mounted"
    place.mkdir()
    told: list[tuple[int, str]] = []
    archive = Archive(SegmentStore(place / "archive", MIB, 60.0), lambda *each: told.append(each))
    place.rename(tmp_path / "elsewhere")
    archive.start()
    archive.put("info", "event", {})
    archive.close(PATIENCE)
    assert told == [(1, "gone")]


def test_the_archive_leaves_a_part_of_the_disk_free(tmp_path: Path, disks: Disks) -> None:
    """The oldest segments go, one after another, for whoever else fills the disk; where there is
    none left nothing is written, until there is room."""
    disk = disks.tmpfs(20)
    shelf = SegmentStore(disk / "archive", 1 << 30, 60.0)
    for number in range(300):
        shelf.append(lines_of(MIB // 5, number).splitlines(keepends=True))
        assert free(disk) >= 10 * MIB
    segments = found(disk / "archive")
    assert size_of(disk / "archive") > 6 * MIB
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(5 * MIB))
    wait_until(lambda: appended(shelf, b"more\n"))
    assert free(disk) >= 10 * MIB
    assert segments[0] in found(disk / "archive")
    assert segments[-1] not in found(disk / "archive")
    while ballast.stat().st_size < 18 * MIB:
        with ballast.open("ab") as more:
            more.write(bytes(MIB))
        appended(shelf, b"more\n")
    wait_until(lambda: not appended(shelf, b"no more\n"))
    assert {segment.last for segment in found(disk / "archive")} <= {None}
    ballast.unlink()
    wait_until(lambda: appended(shelf, b"once more\n"))


def appended(shelf: SegmentStore, lines: bytes) -> bool:
    """Each time it is asked for."""
    with suppress(OSError):
        shelf.tidy()
        shelf.append(lines.splitlines(keepends=True))
        return True
    return False


def free(disk: Path) -> int:
    known = os.statvfs(disk)
    return known.f_bavail * known.f_frsize


def test_the_archive_does_not_take_the_stores_room(tmp_path: Path, disks: Disks) -> None:
    """On one disk, with more events than it has room for: an event that has something to queue gets
    its `000` throughout, for the store is never out of room."""
    disk, random = disks.tmpfs(64), Random(3)

    def of_audit(name: str, _: str) -> str:
        return "700" if name.startswith("queued") else "000"

    options, queue = ["--archive-max-bytes", "1GiB"], {"retries": 1, "waits": ["1h"]}
    with (
        target() as ledger,
        target(of_audit) as audit,
        serving(
            tmp_path, {"ledger": ledger}, {"audit": audit}, disk / "store.db", options, queue=queue
        ) as router,
    ):
        for number in range(400):
            kind = "queued" if number % 40 == 0 else "fine"
            assert router.post(f"{kind} {random.randbytes(200_000).hex()}") == "000"
        kept = states(disk / "store.db")
        assert sum(name.startswith("queued") for name in kept) == 10
        assert free(disk) > 20 * MIB


def test_lines_that_could_not_be_written_leave_their_place(tmp_path: Path) -> None:
    """After more than the bound was lost to a folder that can't be made, the next are taken."""
    (tmp_path / "archive").write_text("in the way")
    archive = Archive(SegmentStore(tmp_path / "archive", 256 * MIB, 60.0), lambda *_: None)
    archive.start()
    content = bytes(1_000_000)
    for number in range(2 * ARCHIVE_BOUND // len(content)):
        archive.put("info", "event", {}, b"{}\n", content)
        wait_until(partial(_has_lost, archive, number + 1))
    assert archive.why == "io"
    (tmp_path / "archive").unlink()
    archive.put("info", "event", {"number": 1})
    archive.close(PATIENCE)
    assert len(archived(tmp_path / "archive")) == 1


def _has_lost(archive: Archive, lines: int) -> bool:
    return archive.lost == lines


def test_a_disk_that_hangs_costs_a_bounded_memory(tmp_path: Path) -> None:
    """What comes beyond it is lost at once, and counted."""
    archive = Archive(
        SegmentStore(tmp_path, MIB, 60.0), lambda *_: None
    )  # not started: nothing is taken
    sent, content = 1000, bytes(100_000)
    for _ in range(sent):
        archive.put("info", "event", {}, b"{}\n", content)
    assert archive.why == "slow"
    assert 0 < sent - archive.lost <= ARCHIVE_BOUND / len(content)


def test_a_folder_that_cant_be_made_costs_no_reply(tmp_path: Path) -> None:
    """A file is where the folder should be, which is told at the start."""
    (tmp_path / "archive").write_text("in the way")
    options = ["--archive", str(tmp_path / "archive")]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        why = f"the archive {tmp_path / 'archive'} can't be used: it is a file"
        assert why in [line["problem"] for line in router.lines("config")]
        assert router.post("one") == "000"
        wait_until(lambda: router.lines("archive_lost"))
        assert router.lines("archive_lost")[0]["count"] == 1


def test_nothing_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    """`--archive none`; the default beside a store in a file is a folder of its name."""
    options = ["--archive", "none"]
    with target() as ledger, serving(tmp_path, {"ledger": ledger}, options=options) as router:
        assert router.post("one") == "000"
        router.interrupt(signal.SIGTERM)
    assert not (tmp_path / "store.db-archive").exists()


def test_a_line_that_is_being_written_is_none_yet(tmp_path: Path) -> None:
    """Whoever looks meanwhile sees those before it, and nothing that can't be read."""
    line = line_of("two")
    for end in (0, 1, 90, len(line) - 1, len(line)):
        folder = tmp_path / str(end)
        shelf = SegmentStore(folder, 64 * MIB, 60.0)
        shelf.append([line_of("one")])
        (segment,) = folder.iterdir()
        with segment.open("ab") as file:
            file.write(line[:end])
        assert len(archived(folder)) == (2 if end == len(line) else 1)
        shelf.close()


def test_garbled_segments_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    """A finished one that is cut, and one that a bit was changed in."""
    shelf = SegmentStore(tmp_path, 64 * MIB, 60.0)
    shelf.append(lines_of(4 * MIB).splitlines(keepends=True))
    shelf.turn()
    (segment,) = found(tmp_path)
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
