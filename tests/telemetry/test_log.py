"""The log: its lines, sums of repeated lines, and streams that cannot be written to."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.log import Log
from router.telemetry.log.foreign import own_words
from router.telemetry.log.lines import MAX_LINE, MAX_TEXT, Format, Lines
from router.telemetry.log.writer import BOUND, FIRST, KINDS, TAP_BODIES, TAP_LINES, WINDOW, Tap
from tests.support.command import PATIENCE, ROOT, command, environment, script
from tests.support.house import SAMPLE, routes
from tests.support.sockets import PLAIN, free_port, is_ready
from tests.support.waiting import wait_until

FORMATS: tuple[Format, ...] = ("json", "console")

#: 2026-11-25T12:00:00Z
NOON = 1795608000.0


class Clock:
    now = NOON

    def __call__(self) -> float:
        return self.now


class Kept:
    def __init__(self, format: Format = "json") -> None:
        self.clock = Clock()
        self._stream = io.StringIO()
        self.log = Log(self._stream, format, clock=self.clock)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


# Lines.


def test_a_json_line() -> None:
    """Time, level and happening come first, then the fields in their order, in ASCII."""
    kept = Kept()
    kept.log.info("event", event_key="a.证书.1", targets={"ledger": {"ms": 1.5}}, routes=["all"])
    assert kept.text == (
        '{"time":"2026-11-25T12:00:00.000Z","level":"info","happening":"event",'
        '"event_key":"a.\\u8bc1\\u4e66.1","targets":{"ledger":{"ms":1.5}},"routes":["all"]}\n'
    )


def test_a_console_line() -> None:
    """Values are quoted if necessary, empty ones left out; only an event is a sentence."""
    kept = Kept("console")
    about = {"event_key": "a.b", "code": "700", "ms": 1.0}
    kept.log.warning("retried", **about, owner="", why='a "b"', at=["证书", "x=y"], n=None)
    assert kept.text == (
        "2026-11-25T12:00:00.000Z warning retried event_key=a.b code=700 ms=1.0"
        ' why="a \\"b\\"" at=["证书", "x=y"] n=null\n'
    )


#: The fields of an event.
EVENT: dict[str, Any] = {
    "code": "500",
    "ms": 31.2,
    "request_id": "r-1",
    "event_id": "e-1",
    "request": 2,
    "of": 21,
    "targets": {
        "certificates": {"as": "required", "skipped": "acknowledged"},
        "ledger": {"as": "required", "reason": "code", "ms": 3.1, "status": 200,
                   "detail": "code '200'"},
        "search": {"as": "required", "reason": "acknowledged", "ms": 2.0, "status": 200},
        "audit": {"as": "optional", "skipped": "queued"},
    },
    "routes": ["everything under gs"],
    "event_key": "a.gs.cert.1",
    "event_source": "a",
}  # fmt: skip

FIRST_WORDS = "2026-11-25T12:00:00.000Z info    event a.gs.cert.1"
OWING = "ledger code 200 \"code '200'\" 3.1 ms; audit (optional) queued"


def shown(**fields: Any) -> str:
    kept = Kept("console")
    kept.log.info("event", **EVENT | fields)
    return kept.text.removesuffix("\n")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, f"500 in 31.2 ms, request 2 of 21: {OWING}"),
        (
            {"code": "000", "request": 1, "targets": {"search": EVENT["targets"]["search"]}},
            "000 in 31.2 ms",
        ),
        ({"code": "", "targets": {}}, "hung up in 31.2 ms, request 2 of 21"),
        (
            {"unrecorded": "full", "unqueued": True, "targets": {}},
            "500 in 31.2 ms, request 2 of 21 unrecorded=full unqueued=true",
        ),
    ],
    ids=["failure", "success", "hung up", "trouble"],
)
def test_an_event_on_a_console(fields: dict[str, Any], expected: str) -> None:
    """A sentence with what did not go well; trouble with the store is always shown."""
    assert shown(**fields) == f"{FIRST_WORDS} {expected}"


def test_the_time_goes_on() -> None:
    """Each line has its own time, to the millisecond, even if the clock is set back."""
    kept = Kept()
    for offset in (0.0, 0.25, 1.5, 86400.75, -0.5):
        kept.clock.now = NOON + offset
        kept.log.info("event")
    times = "25T12:00:00.000Z 25T12:00:00.250Z 25T12:00:01.500Z 26T12:00:00.750Z 25T11:59:59.500Z"
    assert [line["time"][8:] for line in kept.lines] == times.split()


HOSTILE = (
    "\n", "\r\n", "\x00", "\x1b[2J", "\x07", "\x7f", "\x85", "\x9b31m", "\u2028", "\u2029",
    "\u202e", "\u2066", "\u200b", "\ufeff", "\ud800", "\U000e0001", "\u00a0",
)  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_value_ends_a_line_or_controls_a_terminal(format: Format, text: str) -> None:
    """A line is one line of visible characters, whatever values it has."""
    attempt = {"as": "optional", "reason": text, "detail": text, "ms": 1.0, "status": text}
    in_sentence = {"event_key": text, "code": text, "request": text, "targets": {text: attempt}}
    for fields in ({"targets": {text: 1}}, {"targets": text}, EVENT | in_sentence):
        kept = Kept(format)
        kept.log.info("event", **fields, key=f"a{text}b", members=[text, {text: text}])
        line = kept.text.removesuffix("\n")
        assert line.isprintable()
        if format == "json":
            assert json.loads(line)["key"] == f"a{text}b"


@given(st.text(min_size=1) | st.text('\x00\x1f \x7f"\\a', min_size=1))
def test_a_body_is_printable_in_its_line(body: str) -> None:
    """Its line has one end, and is parsed to the same body."""
    line = Lines("json").with_body(b'{"a":1}\n', body.encode())
    assert line[:-1].decode("ascii").isprintable()
    assert json.loads(line) == {"a": 1, "payload": body}


def test_reserved_names_are_changed() -> None:
    """A field cannot replace the line's own time, level or happening."""
    kept = Kept()
    kept.log.write("info", "event", {"time": "never", "level": "none", "happening": "x", "cut": 1})
    (line,) = kept.lines
    assert (line["time"], line["level"]) == ("2026-11-25T12:00:00.000Z", "info")
    assert (line["happening"], line["time_"], line["happening_"]) == ("event", "never", "x")
    assert kept.text.count('"time":') == 1


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "huge",
    [
        "x" * 1_000_000,
        "证" * 1_000_000,
        "\U000e0001" * 1_000_000,
        ["y" * 200] * 10_000,
        {f"target {n}": {"reason": "timeout", "detail": "z" * 99} for n in range(1_000)},
        [["\U000e0001" * 100] * 20] * 20,
    ],
    ids=["text", "wide text", "escaped text", "list", "mapping", "deep list"],
)
def test_a_huge_value_is_cut(format: Format, huge: Any) -> None:
    """The length of a line is bounded; `cut` names the field. The beginning of a text is left."""
    kept = Kept(format)
    kept.log.info("event", ms=1.5, event_key=huge, event_id="e-1")
    assert len(kept.text.encode()) <= MAX_LINE
    assert "e-1" in kept.text
    if format == "json":
        (line,) = kept.lines
        assert (line["cut"], line["ms"]) == (["event_key"], 1.5)
        if huge == "x" * 1_000_000:
            assert line["event_key"] == "x" * MAX_TEXT + "…"
    else:
        assert 'cut=["event_key"]' in kept.text


def test_the_words_of_targets_are_cut_before_their_results() -> None:
    """The line has every target's name and reason, however long the messages are."""
    result = {"as": "required", "reason": "code", "msg": "库存不足" * 64, "detail": "d"}
    kept = Kept()
    kept.log.info("event", targets={f"target-{n}": result for n in range(100)}, event_key="a.b.c.d")
    (line,) = kept.lines
    assert line["targets"] == {
        f"target-{n}": {"as": "required", "reason": "code"} for n in range(100)
    }
    assert line["cut"] == ["targets"]
    assert line["event_key"] == "a.b.c.d"


@pytest.mark.parametrize("format", FORMATS)
def test_values_without_a_type_in_json(format: Format) -> None:
    """An object is shown by its kind, because its text may be secret; no line is lost."""
    kept = Kept(format)
    kept.log.info("one", error=ValueError("the-secret"), at=[Path("/secret")])
    kept.log.info("two", ms=float("nan"))
    kept.log.info("three", odd={("a",): 1})
    assert [happening in kept.text for happening in ("one", "two", "three")] == [True] * 3
    assert "ValueError" in kept.text
    assert "secret" not in kept.text
    if format == "json":
        assert kept.lines[1]["ms"] is None


# Sums.


def refuse(log: Log, times: int, why: str = "event_type: required") -> None:
    for number in range(times):
        log.warning("refused", code="400", ms=0.1, request_id=f"r{number}", why=why)


def test_repeated_lines_are_summed_up() -> None:
    """The first lines of a kind are written, the others counted in one line."""
    kept = Kept()
    refuse(kept.log, FIRST)
    kept.clock.now += 10
    refuse(kept.log, 100)
    kept.clock.now += 20
    refuse(kept.log, 1)
    assert len(kept.lines) == FIRST
    kept.clock.now = NOON + WINDOW
    kept.log.info("event")
    assert kept.lines[FIRST:] == [
        {
            "time": "2026-11-25T12:01:00.000Z",
            "level": "warning",
            "happening": "refused",
            "count": 101,
            "first": "2026-11-25T12:00:10.000Z",
            "last": "2026-11-25T12:00:30.000Z",
            "code": "400",
            "why": "event_type: required",
        },
        {"time": "2026-11-25T12:01:00.000Z", "level": "info", "happening": "event"},
    ]


def test_a_flood_of_kinds_is_bounded() -> None:
    """A frequent kind hides no other; beyond a number, kinds are counted together."""
    kept = Kept()
    refuse(kept.log, FIRST + 1, why="many")
    for number in range(10_000):
        refuse(kept.log, 1, why=f"{number}" + "x" * 1_000)
    assert len(kept.lines) == FIRST + KINDS - 1
    kept.log.close()
    _, others = kept.lines[-2:]
    assert (others["count"], others["others"]) == (10_001 - KINDS, True)


@pytest.mark.parametrize("step", [WINDOW, -3600.0])
def test_each_window_has_its_own_sums(step: float) -> None:
    """Every window has the first lines and a sum, even if the clock is set back."""
    kept = Kept()
    for _ in range(3):
        refuse(kept.log, FIRST + 7)
        kept.clock.now += step
    kept.log.close()
    assert [line.get("count", 1) for line in kept.lines] == 3 * [*FIRST * [1], 7]


def test_a_sum_is_written_without_another_line(tmp_path: Path) -> None:
    """It is written when its window is over."""
    clock = Clock()
    with (tmp_path / "log").open("w") as stream:
        log = Log(stream, "json", clock=clock)
    refuse(log, FIRST + 3)
    clock.now += WINDOW
    wait_until(lambda: '"count":3' in (tmp_path / "log").read_text())
    log.close()


# Copies for open streams.


@pytest.mark.parametrize(
    ("size", "kept"), [(TAP_BODIES // (2 * TAP_LINES), TAP_LINES), (TAP_BODIES // 2, 2)]
)
def test_a_tap_is_bounded(size: int, kept: int) -> None:
    """The newest lines are kept and the others counted, and bodies as far as there is room."""
    log = Log(io.StringIO(), "json")
    log.info("before")
    tap = log.tap = Tap()
    tap.take(bodies=True)
    for number in range(4 * TAP_LINES if kept == TAP_LINES else 3):
        log.write("info", "event", {"number": number}, b"x" * size)
    taken, dropped = tap.take(bodies=False)
    lines = [json.loads(line) for line in taken]
    assert dropped == (3 * TAP_LINES if kept == TAP_LINES else 0)
    assert [line["number"] for line in lines] == [*range(dropped, dropped + len(lines))]
    assert [len(line.get("payload", "")) for line in lines][:kept] == [size] * kept
    assert not [line for line in lines[kept:] if "payload" in line]
    assert tap.take(bodies=False) == ([], 0)


# Streams that cannot be written to.


class Pipe:
    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self.stream = os.fdopen(self._writer, "w")

    def read(self) -> list[dict[str, Any]]:
        """Return all lines, once the last writer has closed the pipe."""
        self.stream.close()
        with os.fdopen(self.reader, "rb") as stream:
            return [json.loads(line) for line in stream]


def fill(log: Log, count: int, size: int = 1_000) -> None:
    for number in range(count):
        log.info("event", number=number, text="x" * size)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_pipe_does_not_block(blocking: bool) -> None:
    """Lines wait up to the bound, then they are lost. Lines read later are whole and in order, and
    one of them has the number of lost ones. Another process may have made the shared stdout
    non-blocking."""
    pipe = Pipe()
    os.set_blocking(pipe.stream.fileno(), blocking)
    log = Log(pipe.stream, "json")
    count = 2 * BOUND // 1_000
    fill(log, count)
    assert 0 < log.lost < count
    lost = log.lost
    pipe.stream.close()
    lines = _read_until(pipe.reader, "lines_lost")
    numbers = [line["number"] for line in lines if line["happening"] == "event"]
    # A write in progress may have made room for some of the last lines.
    assert numbers == sorted(set(numbers))
    assert len(numbers) == count - lost
    assert [line["count"] for line in lines if line["happening"] == "lines_lost"] == [lost]
    assert log.lost == lost
    log.close()
    os.close(pipe.reader)


def _read_until(descriptor: int, happening: str) -> list[dict[str, Any]]:
    read = b""
    while f'"happening":"{happening}"'.encode() not in read or not read.endswith(b"\n"):
        more = os.read(descriptor, 65536)
        assert more, "the log ended"
        read += more
    return [json.loads(line) for line in read.splitlines()]


def test_each_lost_line_is_reported_once(tmp_path: Path) -> None:
    """A second report counts from the first one on. More than the bound may be lost."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with path.open("w") as stream:
        log = Log(stream, "json")
    before = 0
    for batches, count in ((2 * BOUND // 1_000_000 + 1, 1_000), (1, 5)):
        os.close(reader)
        for _ in range(batches):
            fill(log, count)
            before += count
            wait_until(lambda lost=before: log.lost == lost)  # type: ignore[misc]
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        log.info("event", number=0)
        assert _read_until(reader, "lines_lost")[-1]["count"] == batches * count
    log.close()
    os.close(reader)


# Processes.


def test_a_torn_line_is_ended(tmp_path: Path) -> None:
    """If a file took only half of a line, the next line starts on a new one."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        done = script(
            """
            import resource, signal, time
            from router.telemetry.log import Log

            log = Log(format="json")
            resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))
            for number in range(5):
                log.info("event", number=number)
            while log.lost < 2:
                time.sleep(0.01)
            for number in range(3):
                log.info("none of it")
            while log.lost < 5:
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            log.info("after")
            while "lines_lost" not in open("/dev/stdout").read():
                time.sleep(0.01)
            """,
            stdout=stream,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    whole, torn, *after = path.read_text().splitlines()[2:]
    assert json.loads(whole)["number"] == 2
    assert 0 < len(torn) < len(whole)
    assert [json.loads(line)["happening"] for line in after] == ["after", "lines_lost"]
    assert json.loads(after[-1])["count"] == 5


def test_the_last_lines_are_written_at_the_end() -> None:
    """A process that ends, even by an exception, has written all lines and sums."""
    done = script(
        """
        from router.telemetry.log import Log
        from router.telemetry.log.foreign import take_library_lines

        log = Log(format="json")
        take_library_lines(log)
        for number in range(5_000):
            log.info("event", number=number)
            log.warning("refused", code="400", why="w")
        raise ValueError("the-secret")
        """
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["number"] for line in lines if "number" in line] == list(range(5_000))
    assert [line["count"] for line in lines if "count" in line] == [5_000 - FIRST]
    faults = [line["at"] for line in lines if line["happening"] == "fault"]
    assert faults == ["ValueError in <module>, <string> line 10"]
    assert (done.returncode, done.stderr) == (1, b"")


# Libraries.


def record(message: object, *args: object, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord("library", level, __file__, 1, message, args, None)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (record("Invalid HTTP request received."), "Invalid HTTP request received."),
        (record("Exception in application\nTraceback: SECRET"), "Exception in application"),
        (record("Executing %s took %.3f s", b"SECRET", 0.25), "Executing %s took %.3f s"),
        (record("no %(x)s", {"x": "SECRET"}), "no %(x)s"),
        (record("Exception in callback f() at <SECRET>"), "Exception in callback f() at"),
        (record("wrong value 'SECRET'"), "wrong value"),
        (record("Error in f() at /SECRET/app.py:4"), "Error in f() at app.py:4"),
        (record("see https://user:SECRET@host/?SECRET now"), "see https://… now"),
        (record("%s at https://%s/", 3, "SECRET"), "%s at https://…"),
        (record(ValueError("SECRET")), "ValueError"),
        (record(""), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_only_the_own_words_of_a_library_are_logged(given: logging.LogRecord, shown: str) -> None:
    """Its words are repeated, but no argument."""
    assert own_words(given) == shown
    assert "SECRET" not in shown


def test_messages_of_libraries_and_python_are_lines() -> None:
    """Messages, warnings and uncaught exceptions become lines without secrets."""
    done = script(
        """
        import asyncio, gc, logging, threading, warnings
        from router.telemetry.log import Log
        from router.telemetry.log.foreign import take_library_lines

        take_library_lines(Log(format="json"))

        def fail():
            raise ValueError("SECRET")

        async def lose(): fail()

        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60  # it may be slow
            asyncio.get_running_loop().call_soon(fail)
            task = asyncio.create_task(lose())
            await asyncio.sleep(0.01)
            del task
            gc.collect()

        class Odd:
            def __del__(self): fail()

        logging.getLogger("some").warning("a warning of %s", "SECRET")
        logging.getLogger("some").info("SECRET")
        try:
            fail()
        except ValueError:
            logging.getLogger("some").exception("failed:\\nSECRET")
        warnings.warn("SECRET")
        asyncio.run(main(), debug=True)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        Odd()
        fail()
        """
    )
    assert (done.returncode, done.stderr) == (1, b"")
    text = done.stdout.decode()
    assert "SECRET" not in text
    assert "Traceback" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    at = "ValueError in fail, <string> line 9"
    assert [(line.get("message"), line.get("at")) for line in lines] == [
        ("a warning of %s", None),
        ("failed:", at),
        ("a warning", "UserWarning in <string> line 30"),
        ("Exception in callback fail() at", at),
        ("Task exception was never retrieved", at),
        *[(None, at)] * 3,
    ]


# Routers.


@contextmanager
def serving(folder: Path, stdout: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Run `serve` with this stdout, none if it is -1; yields its port and the process."""
    port, table = free_port(), folder / "routes.yaml"
    table.write_text(json.dumps(routes({"nobody": "http://127.0.0.1:9/"})))
    options = ["--log-format", "json", "--port", str(port), "--config", str(table)]
    process = subprocess.Popen(
        command("serve", "--store", "none", "--ops-port", "0", *options),
        stdout=None if stdout < 0 else stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        preexec_fn=partial(os.close, 1) if stdout < 0 else None,
    )
    try:
        wait_until(lambda: is_ready(port) or process.poll() is not None)
        yield port, process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stdout", ["open", "closed", "full disk", "closed reader", "stuck"])
def test_a_router_whose_log_fails_serves_and_stops(stdout: str, tmp_path: Path) -> None:
    """Events get their replies and the end is not delayed; a log that works is complete."""
    pipe = Pipe()
    descriptor = pipe.stream.fileno()
    if stdout == "stuck":
        os.write(descriptor, b"x" * fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ))
    elif stdout == "closed reader":
        os.close(pipe.reader)
    with Path("/dev/full").open("w") as full:
        streams = {"closed": -1, "full disk": full.fileno()}
        with serving(tmp_path, streams.get(stdout, descriptor)) as (port, process):
            for _ in range(2):
                url = f"http://127.0.0.1:{port}/callback"
                reply = httpx.post(url, content=SAMPLE, timeout=PATIENCE, **PLAIN)
                assert reply.json()["code"] == "500"
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=PATIENCE)
            assert (process.returncode, stderr) == (0, b"")
    if stdout == "open":
        assert [line["happening"] for line in pipe.read()][-3:] == ["event", "stopping", "stopped"]
        return
    pipe.stream.close()
    if stdout != "closed reader":
        os.close(pipe.reader)
