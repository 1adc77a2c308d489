"""Reload: a changed routes.yaml comes in force whole or not at all. Real files, a real process."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.app import App
from router.config import reload as reloading
from router.config.comparison import Edit, edits_of
from router.config.files import Written
from router.config.loading import Config, Source
from router.config.reload import Reload, Standing
from router.config.settings import Settings
from router.net.listening import listen
from router.ops.insight import report_of
from router.ops.status import status_of
from router.process.server import Server
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from tests.support.command import ROOT, environment, run
from tests.support.folders import written
from tests.support.hostile import hostile
from tests.support.house import PATIENCE, event, routes
from tests.support.servers import served
from tests.support.sockets import PLAIN
from tests.support.waiting import until, wait_until

#: The lines of an event that came.
HANDLED = {"event", "unmatched"}

#: `ebaas-router serve` that looks at its files sooner, for who waits for it.
EAGER = """
import sys
from router.cli import main
from router.config import reload

reload.LOOK_EVERY = 0.1
sys.exit(main())
"""


class Serving:
    """`ebaas-router serve` as a process, and the log lines that it has written."""

    def __init__(self, config: Path, log: Path, *options: str) -> None:
        self._log = log
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", EAGER, "serve", "--config", str(config), "--port", "0",
                 "--store", str(log.with_suffix(".db")), "--log-format", "json", *options],
                stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, env=environment(),
            )  # fmt: skip
        self.url = self.line("serving")["url"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        # A loaded machine is not this test's matter.
        return [line for line in lines if line["happening"] != "loop_lag"]

    def line(self, happening: str, result: str = "", count: int = 1) -> dict[str, Any]:
        """The `count`-th such line, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(json.JSONDecodeError):
                found = [
                    line
                    for line in self.lines
                    if line["happening"] == happening and line.get("result", "") == result
                ]
                if len(found) >= count:
                    return found[count - 1]
            time.sleep(0.01)
        raise AssertionError(f"no line {happening} {result}: {self._log.read_text()}")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def matches(self, key: str) -> bool:
        """Whether a route matches the key now: else its line is `unmatched`."""
        before = len(self.lines)
        httpx.post(self.url, content=event(event_key=key), timeout=PATIENCE, **PLAIN)
        # A look at the files may have its line in between.
        told = wait_until(lambda: {line["happening"] for line in self.lines[before:]} & HANDLED)
        return "event" in told


def table(match: str, **top: Any) -> str:
    return json.dumps(routes({"nobody": "http://127.0.0.1:9/"}, match=match, **top))


def team(match: str) -> dict[str, str]:
    """A folder with one team's file, whose only route has this pattern."""
    return {
        "routes.yaml": "version: 1\n",
        "routes.d/certs.yaml": "version: 1\nowner: team certs\ntargets:\n"
        "  nobody: {url: 'http://127.0.0.1:9/'}\nroutes:\n"
        f"  - {{name: all, match: {match}, required: [nobody]}}\n",
    }


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts a router on tmp_path's routes.yaml, which matches `one`, or on another `config`."""
    started: list[Serving] = []

    def start(*options: str, config: Path | None = None) -> Serving:
        file = tmp_path / "routes.yaml"
        if config is None and not file.exists():
            file.write_text(table("one"))
        started.append(Serving(config or file, tmp_path / "log", *options))
        return started[-1]

    yield start
    for each in started:
        each.process.terminate()
        each.process.wait(PATIENCE)


def test_an_editors_rename_is_taken(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """A file that is replaced by a rename comes in force by itself, and what changed is logged."""
    router = serving()
    new = tmp_path / "new"
    new.write_text(table("two").replace('"all"', '"every"'))
    new.rename(tmp_path / "routes.yaml")
    line = router.line("reload", "taken")
    assert (line["routes_added"], line["routes_removed"]) == (["every"], ["all"])
    assert router.matches("two")
    assert not router.matches("one")


def test_sighup_takes_it_at_once_and_answers_when_nothing_changed(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """SIGHUP with no change says so, with the hash in force; it restarts nothing."""
    router = serving()
    in_force = router.line("serving")["config"]
    router.hang_up()
    assert router.line("reload", "unchanged")["config"] == in_force
    (tmp_path / "routes.yaml").write_text(table("two"))
    router.hang_up()
    assert router.line("reload", "taken")["config"] != in_force
    assert router.process.poll() is None


def test_a_bad_edit_changes_nothing_and_a_good_one_recovers(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """A wrong file is refused with its errors and the hash still in force; a right one is taken."""
    router = serving()
    in_force = router.line("serving")["config"]
    (tmp_path / "routes.yaml").write_text(table("two").replace('["nobody"]', '["nobdy"]'))
    refused = router.line("reload", "refused")
    assert refused["still"] == in_force
    assert "did you mean 'nobody'?" in refused["problems"][0]
    assert router.matches("one")
    (tmp_path / "routes.yaml").write_text(table("one"))
    assert router.line("reload", "unchanged")["config"] == in_force
    (tmp_path / "routes.yaml").write_text(table("two"))
    router.line("reload", "taken")
    assert router.matches("two")


def test_a_file_that_goes_and_comes_back(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """A removed file is a complaint, not an empty configuration; back again, it is taken."""
    router = serving()
    (tmp_path / "routes.yaml").unlink()
    problem = router.line("reload", "refused")["problems"][0]
    assert problem.startswith(f"{tmp_path / 'routes.yaml'}: can't be read")
    assert router.matches("one")
    (tmp_path / "routes.yaml").write_text(table("two"))
    router.line("reload", "taken")
    assert router.matches("two")


def test_two_configmap_swaps_in_a_row(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """The way Kubernetes swaps a ConfigMap, a symlinked folder renamed, is seen each time."""
    for number, match in enumerate(("one", "two", "three")):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "routes.yaml").write_text(table(match))
    (tmp_path / "..data").symlink_to("..0")
    (tmp_path / "routes.yaml").symlink_to("..data/routes.yaml")
    router = serving()
    for number, match in ((1, "two"), (2, "three")):
        (tmp_path / "..tmp").symlink_to(f"..{number}")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        router.line("reload", "taken", number)
        assert router.matches(match)


def test_a_folder_in_a_projected_volume(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """Kubelet swaps all keys of a folder at once; what is put in beside by its names is no part."""
    volume = tmp_path / "volume"
    for number, match in enumerate(("one", "two")):
        written(team(match), volume / f"..{number}")
    (volume / "..data").symlink_to("..0")
    for name in ("routes.yaml", "routes.d"):
        (volume / name).symlink_to(f"..data/{name}")
    router = serving(config=volume)
    assert router.matches("one")
    (volume / "..tmp").symlink_to("..1")
    (volume / "..tmp").rename(volume / "..data")
    changed = router.line("reload", "taken")["files_changed"]
    assert changed == [f"{volume}/routes.d/certs.yaml"]
    assert router.matches("two")


def test_a_folder_in_a_worktree_of_git_sync(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """git-sync swaps a link to the whole worktree; the configuration is within it."""
    for revision, match in (("aaa", "one"), ("bbb", "two")):
        written(team(match), tmp_path / f"worktrees/{revision}/config")
    (tmp_path / "current").symlink_to("worktrees/aaa")
    router = serving(config=tmp_path / "current/config")
    (tmp_path / "next").symlink_to("worktrees/bbb")
    (tmp_path / "next").rename(tmp_path / "current")
    router.line("reload", "taken")
    assert router.matches("two")


def test_one_teams_typo_stops_no_other(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """All of the last good folder stays in force, and the log names the file and its owner; once
    it is right, what the others have edited meanwhile comes with it."""
    folder = written(team("one"), tmp_path / "config")
    router = serving(config=folder)
    file = folder / "routes.d/certs.yaml"
    file.write_text(team("two")["routes.d/certs.yaml"].replace("[nobody]", "[nobdy]"))
    router.hang_up()
    refused = router.line("reload", "refused")
    assert refused["owners"] == ["team certs"]
    assert refused["problems"][0].startswith(f"{file}:")
    (folder / "routes.yaml").write_text(team("one")["routes.yaml"] + "unmatched: accept\n")
    router.hang_up()
    assert router.line("reload", "refused", 2)["owners"] == ["team certs"]
    assert router.matches("one")
    file.write_text(team("two")["routes.d/certs.yaml"])
    router.hang_up()
    taken = router.line("reload", "taken")
    assert taken["settings_changed"] == ["unmatched"]
    assert len(taken["files_changed"]) == 2
    assert router.matches("two")


def test_a_start_with_a_bad_file_is_refused(tmp_path: Path) -> None:
    """With no last good folder, nothing is served."""
    files = {**team("one"), "routes.d/z.yaml": "version: 1\nowner: team z\nroots: []\n"}
    finished = run("serve", "--config", str(written(files, tmp_path / "config")))
    assert finished.returncode == 3
    assert b"routes.d/z.yaml:3:1: unknown key 'roots'" in finished.stderr
    assert b"(team z)" in finished.stderr


def test_an_edit_is_seen_though_the_times_do_not_change(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """The content decides: an edit of the same size and mtime, as NFS may show it, is taken."""
    router = serving()
    file = tmp_path / "routes.yaml"
    times = file.stat()
    file.write_text(table("two"))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size
    router.line("reload", "taken")
    assert router.matches("two")


def test_a_secret_file_that_changes_alone_is_taken(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """A rotated secret is a change of the configuration, and never printed."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("first-canary\n")
    target = {"url": "http://127.0.0.1:9/", "headers": {"authorization": "Bearer ${file:token}"}}
    (tmp_path / "routes.yaml").write_text(json.dumps(routes({"nobody": target})))
    router = serving("--secrets-dir", str(secrets))
    (secrets / "token").write_text("second-canary\n")
    assert router.line("reload", "taken")["targets_changed"] == ["nobody"]
    assert "-canary" not in (tmp_path / "log").read_text()


async def swept() -> None:
    pass


# What a file looks like while it is written, with the times in the test's hand.

pytestmark = pytest.mark.anyio


async def test_a_file_caught_half_way_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prefix can be valid YAML; a content is taken only when two looks agree, on SIGHUP too."""
    file = tmp_path / "routes.yaml"
    file.write_text(table("one"))
    taken: list[str] = []
    source = Source(file, {}, None)
    look = source.look()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)

    def take(config: Config) -> list[str]:
        taken.append(config.table.routes[0].match["event_key"][0])
        return []

    monkeypatch.setattr(reloading, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(reloading, "SETTLE", 0.2)
    log, metrics = Log(io.StringIO(), "json"), Metrics()
    reload = Reload((source, look), standing, take, swept, log, metrics)
    running = asyncio.create_task(reload.run())
    for number in range(40):
        file.write_text(table(f"half-{number}"))
        reload.ask()
        await asyncio.sleep(0.02)
    file.write_text(table("whole"))
    await until(lambda: "whole" in taken)
    running.cancel()
    assert len(taken) <= 3


async def test_a_fault_of_ours_ends_no_reloading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and counted as refused; the next edit is taken."""
    file = tmp_path / "routes.yaml"
    file.write_text(table("one"))
    source, stream, metrics = Source(file, {}, None), io.StringIO(), Metrics()
    look = source.look()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)
    told = list[bool]()

    def compared(before: Config, after: Config) -> list[Edit]:
        if after.table.routes[0].match["event_key"] == ("two",):
            raise KeyError("two")
        return edits_of(before, after)

    monkeypatch.setattr(reloading, "edits_of", compared)
    monkeypatch.setattr(reloading, "SETTLE", 0.01)
    log = Log(stream, "json")
    reload = Reload((source, look), standing, lambda _: [], swept, log, metrics)
    reload.on_look = told.append
    running = asyncio.create_task(reload.run())
    for match, successful in (("two", False), ("three", True)):
        file.write_text(table(match))
        reload.ask()
        await until(lambda now=successful: now in told)  # type: ignore[misc]
    running.cancel()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["happening"] for line in lines] == ["fault", "reload", "reload"]
    assert lines[0]["at"].startswith("KeyError in compared, test_reload.py line ")
    assert lines[1]["problems"] == [
        f"{file}: can't be taken for a fault of the router: {lines[0]['at']}"
    ]
    assert (metrics.reloads["refused"], metrics.reloads["taken"]) == (1, 1)


async def test_what_a_fault_keeps_from_being_taken_is_not_in_force(tmp_path: Path) -> None:
    """Nobody is told so, and who asks again has it tried again."""
    file = tmp_path / "routes.yaml"
    file.write_text(table("one"))
    source, metrics, told = Source(file, {}, None), Metrics(), list[bool]()
    look = source.look()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)
    before = standing.config.hash

    def take(_: Config) -> list[str]:
        if not told:
            raise KeyError("one")
        return []

    reload = Reload((source, look), standing, take, swept, Log(io.StringIO()), metrics)
    reload.on_look = told.append
    running = asyncio.create_task(reload.run())
    file.write_text(table("two"))
    reload.ask()
    await until(lambda: told)
    assert (told, standing.successful, standing.config.hash) == ([False], False, before)
    reload.ask()
    await until(lambda: len(told) > 1)
    running.cancel()
    assert (told, standing.successful, standing.problems) == ([False, True], True, ())
    assert standing.config.hash != before
    assert (metrics.reloads["refused"], metrics.reloads["taken"]) == (1, 1)


async def test_a_refused_configuration_is_complained_of_every_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file stays wrong, it is complained of in the same words, not sooner, and counted
    once. After it is right there are no complaints."""
    file = tmp_path / "routes.yaml"
    file.write_text(table("one"))
    source, stream, metrics, now = Source(file, {}, None), io.StringIO(), Metrics(), [1000.0]
    look = source.look()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)
    monkeypatch.setattr(reloading, "LOOK_EVERY", 0.005)
    monkeypatch.setattr(reloading, "SETTLE", 0.005)
    log, looks = Log(stream, "json"), 0

    async def looked() -> None:
        nonlocal looks
        looks += 1

    reload = Reload(
        (source, look), standing, lambda _: [], looked, log, metrics, clock=lambda: now[0]
    )
    running = asyncio.create_task(reload.run())

    async def told_at(moment: float) -> list[list[str]]:
        """What has been complained of by then, after two whole looks."""
        now[0], enough = moment, looks + 3
        await until(lambda: looks >= enough)
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line["problems"] for line in lines if line.get("result") == "refused"]

    file.write_text("version: 1\nroutes: 7\n")
    await until(lambda: not standing.successful)
    first = await told_at(1000.0 + 299.0)
    assert len(first) == 1
    for moment, count in ((1301.0, 2), (1600.0, 2), (1602.0, 3)):
        assert await told_at(moment) == first * count
    assert metrics.reloads["refused"] == 1
    file.write_text(table("two"))
    await until(lambda: standing.successful)
    assert await told_at(9000.0) == first * 3
    running.cancel()


def test_a_reload_swaps_who_may_call(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """The token, its header and the networks are swapped as a whole. After a refused edit the ones
    from before still count."""
    old, new = "the-first-token-there-is", "the-second-token-there-is"
    router = serving()
    reloads = {"taken": 0, "refused": 0}

    def edited(result: str, **ebaas: Any) -> None:
        (tmp_path / "routes.yaml").write_text(table("one", ebaas=ebaas))
        router.hang_up()
        reloads[result] += 1
        router.line("reload", result, reloads[result])

    def codes(*headers: dict[str, str]) -> list[str]:
        """What a callback is told with each of these headers: 500 for one that is let in, since
        nobody is at the target."""
        told = (
            httpx.post(router.url, content=event(event_key="one"), headers=each, **PLAIN)
            for each in headers
        )
        return [each.json()["code"] for each in told]

    bearers = [{"authorization": f"Bearer {token}"} for token in (old, new)]
    asked = ({}, *bearers, {"x-ebaas-token": new})
    edited("taken", token=old)
    assert codes(*asked) == ["401", "500", "401", "401"]
    edited("refused", token=new, token_header="no header")
    assert codes(*asked) == ["401", "500", "401", "401"]
    edited("taken", token=new)
    assert codes(*asked) == ["401", "401", "500", "401"]
    edited("taken", token=new, token_header="x-ebaas-token")
    assert codes(*asked) == ["401", "401", "401", "500"]
    edited("taken", token=new, allow_from="192.0.2.0/24")
    assert codes(*asked) == ["403"] * 4
    edited("taken")
    assert codes(*asked) == ["500"] * 4


async def test_metric_and_status_name_the_file_and_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a file is refused, both say which and whose; then nothing of it is left."""
    folder = written(team("one"), tmp_path / "config")
    source = Source(folder, {}, None)
    look, metrics = source.look(), Metrics()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)
    monkeypatch.setattr(reloading, "SETTLE", 0.01)
    reload = Reload((source, look), standing, lambda _: [], swept, Log(io.StringIO()), metrics)
    running = asyncio.create_task(reload.run())
    good = (folder / "routes.d/certs.yaml").read_text()
    for text, successful in ((f"{good}nonsense: 1\n", False), (good, True)):
        (folder / "routes.d/certs.yaml").write_text(text)
        reload.ask()
        await until(lambda now=successful: standing.successful is now)  # type: ignore[misc]
        reload.measure()
        report = report_of(metrics, standing, ready=True, store=("none", ""), lag=0.0)
        told = status_of(report, time.time())["configuration"]["last_reload"]["problems"]
        if not successful:
            assert metrics.reload_refused == {
                "file": f"{folder}/routes.d/certs.yaml",
                "owner": "team certs",
            }
            assert told[0].startswith(f"{folder}/routes.d/certs.yaml:7:1: unknown key 'nonsense'")
            assert told[0].endswith("(team certs)")
    assert (metrics.reload_refused, told) == ({}, [])
    running.cancel()


async def test_looks_that_are_asked_for_sweep_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often SIGHUP comes, a target that has left stays for the requests that have it in
    their plans, and wait for a slow store before they begin."""
    file = tmp_path / "routes.yaml"
    file.write_text(table("one"))
    source = Source(file, {}, None)
    look = source.look()
    standing = Standing(source.load(look.files), since=0.0, tried=0.0)
    swept = 0

    async def sweep() -> None:
        nonlocal swept
        swept += 1

    lines = io.StringIO()
    log, metrics = Log(lines, "json"), Metrics()
    monkeypatch.setattr(reloading, "LOOK_EVERY", PATIENCE)
    reload = Reload((source, look), standing, lambda _: [], sweep, log, metrics)
    running = asyncio.create_task(reload.run())
    for number in range(3):
        reload.ask()
        await until(lambda looks=number + 1: lines.getvalue().count("unchanged") == looks)  # type: ignore[misc]
    running.cancel()
    assert swept == 0


async def test_many_reloads_under_load_drop_nothing_and_leak_nothing(tmp_path: Path) -> None:
    """Reloaded over and over under load, each request is answered by one version, a target that
    stays keeps its connection, and one that goes leaves nothing open."""
    async with hostile("answers") as kept, hostile("answers") as odd, hostile("answers") as even:

        def version(number: int) -> str:
            other = odd if number % 2 else even
            return json.dumps(routes({"kept": kept.url, "other": other.url, f"t{number}": odd.url}))

        file = tmp_path / "routes.yaml"
        file.write_text(version(0))
        source = Source(file, {}, None)
        look = source.look()
        log = Log(io.StringIO(), "json")
        app = App(
            Settings(store=tmp_path / "store.db"),
            source.load(look.files),
            log,
            watched=(source, look),
        )
        server = Server(app, listen("127.0.0.1", 0), lifespan=app.lifespan, drain_timeout=1)
        async with served(server):
            codes: list[str] = []
            stop = asyncio.Event()

            async def load(client: httpx.AsyncClient) -> None:
                while not stop.is_set():
                    reply = await client.post(server.url + "/callback", content=event())
                    codes.append(reply.json()["code"])

            async with httpx.AsyncClient(timeout=PATIENCE, **PLAIN) as client:
                loading = [asyncio.create_task(load(client)) for _ in range(4)]
                for number in range(1, 101):
                    app.parts.take(source.load([Written("routes.yaml", version(number).encode())]))
                    async with asyncio.timeout(PATIENCE):
                        while len(codes) < 2 * number:
                            await asyncio.sleep(0.001)
                    # At once, while requests are about to begin with what has just left.
                    await app.parts.sender.sweep()
                stop.set()
                await asyncio.gather(*loading)
            await app.parts.sender.sweep()
            await app.parts.sender.sweep()
            assert set(codes) == {"000"}
            assert kept.connections <= 4
            # Each with four connections at most, kept ones too.
            await until(lambda: odd.open + even.open <= 12)
    assert (kept.open, odd.open, even.open) == (0, 0, 0)
