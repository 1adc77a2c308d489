"""A changed routes.yaml comes in force whole or not at all. Real files, a real process."""

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
from router.config.lastgood import LastGood
from router.config.loading import Config, Source
from router.config.reload import ConfigState, Reload
from router.config.settings import Settings
from router.net.listening import listen
from router.process.server import Server
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from tests.support.command import ROOT, environment, run
from tests.support.folders import written
from tests.support.hostile import hostile
from tests.support.house import PATIENCE, event, routes
from tests.support.servers import served
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import until, wait_until

#: The log lines of a callback.
HANDLED = {"event", "unmatched"}

#: `ebaas-router serve` that looks at its files more often.
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
        return [line for line in lines if line["happening"] != "loop_lag"]

    def line(self, happening: str, result: str = "", count: int = 1) -> dict[str, Any]:
        """The `count`-th such line, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(json.JSONDecodeError):
                lines = [
                    line
                    for line in self.lines
                    if line["happening"] == happening and line.get("result", "") == result
                ]
                if len(lines) >= count:
                    return lines[count - 1]
            time.sleep(0.01)
        raise AssertionError(f"no line {happening} {result}: {self._log.read_text()}")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def matches(self, key: str) -> bool:
        """True if a route matches the key now: else its line is `unmatched`."""
        before = len(self.lines)
        httpx.post(self.url, content=event(event_key=key), timeout=PATIENCE, **PLAIN)
        # A look at the files may have its line in between.
        handled = wait_until(lambda: {line["happening"] for line in self.lines[before:]} & HANDLED)
        return "event" in handled


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


TEAM = "routes.d/certs.yaml"


def other(match: str) -> str:
    """The file of another team, whose only route has this pattern."""
    return team(match)[TEAM].replace("certs", "z").replace("nobody", "some").replace("all,", "z,")


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
    for serving in started:
        serving.process.terminate()
        serving.process.wait(PATIENCE)


def rename(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


def keep_times(file: Path, text: str) -> None:
    times = file.stat()
    file.write_text(text)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == times.st_size


@pytest.mark.parametrize("edit", [rename, keep_times], ids=lambda edit: edit.__name__)
def test_an_edit_is_taken(
    tmp_path: Path, serving: Callable[..., Serving], edit: Callable[[Path, str], None]
) -> None:
    """The content decides: a rename is taken, and an edit of the same size and mtime, as NFS may
    show it. The changes are logged."""
    router = serving()
    edit(tmp_path / "routes.yaml", table("two").replace('"all"', '"any"'))
    line = router.line("reload", "taken")
    assert (line["routes_added"], line["routes_removed"]) == (["any"], ["all"])
    assert router.matches("two")
    assert not router.matches("one")


def test_sighup_takes_it_at_once_and_answers_when_nothing_changed(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """SIGHUP without a change logs the hash in force; nothing restarts."""
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
    """A bad file is refused with its problems and the hash still in force, and so is a removed one;
    a good one is taken."""
    router, file = serving(), tmp_path / "routes.yaml"
    in_force = router.line("serving")["config"]
    file.write_text(table("two").replace('["nobody"]', '["nobdy"]'))
    refused = router.line("reload", "refused")
    assert refused["still"] == in_force
    assert "did you mean 'nobody'?" in refused["problems"][0]
    file.unlink()
    problem = router.line("reload", "refused", 2)["problems"][0]
    assert problem.startswith(f"{file}: can't be read")
    assert router.matches("one")
    file.write_text(table("one"))
    assert router.line("reload", "unchanged")["config"] == in_force
    file.write_text(table("two"))
    router.line("reload", "taken")
    assert router.matches("two")


def test_swaps_of_a_projected_volume(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """Kubelet swaps a ConfigMap by renaming a link, as git-sync does. Each swap is seen, also two
    in a row, and kubelet's own names are left out."""
    volume = tmp_path / "volume"
    for number, match in enumerate(("one", "two", "three")):
        written(team(match), volume / f"..{number}")
    (volume / "..data").symlink_to("..0")
    for name in ("routes.yaml", "routes.d"):
        (volume / name).symlink_to(f"..data/{name}")
    router = serving(config=volume)
    for number, match in ((1, "two"), (2, "three")):
        (volume / "..tmp").symlink_to(f"..{number}")
        (volume / "..tmp").rename(volume / "..data")
        changed = router.line("reload", "taken", number)["files_changed"]
        assert changed == [f"{volume}/routes.d/certs.yaml"]
        assert router.matches(match)


def test_one_teams_typo_stops_no_other(tmp_path: Path, serving: Callable[..., Serving]) -> None:
    """A broken file stays at its last good text, and the log names it and its owner. The edits of
    the others take effect, without a request, and the file's own edit once it is right."""
    folder = written({**team("one"), "routes.d/z.yaml": other("z")}, tmp_path / "config")
    router, file = serving(config=folder), folder / "routes.d/certs.yaml"
    file.write_text(team("two")["routes.d/certs.yaml"].replace("[nobody]", "[nobdy]"))
    refused = router.line("reload", "refused")
    assert (refused["owners"], refused["files"]) == (["team certs"], [str(file)])
    assert refused["problems"][0].startswith(f"{file}:")
    (folder / "routes.d/z.yaml").write_text(other("z2"))
    assert router.line("reload", "taken")["files_changed"] == [str(folder / "routes.d/z.yaml")]
    assert router.matches("one")
    assert router.matches("z2")
    file.write_text(team("two")["routes.d/certs.yaml"])
    assert router.line("reload", "taken", 2)["files_changed"] == [str(file)]
    assert router.matches("two")
    assert len([line for line in router.lines if line.get("result") == "refused"]) == 1


def test_a_restart_serves_the_last_good_text(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """A file that is broken, or lacks a variable, keeps the text that was in force, and a good one
    has its new text. The log says so again."""
    folder = written({**team("one"), "routes.d/z.yaml": other("z")}, tmp_path / "config")
    file, first = folder / "routes.d/certs.yaml", serving(config=folder)
    kept = tmp_path / "log.db-routes.json"
    wait_until(kept.exists)
    file.write_text(team("three")[TEAM])
    wait_until(lambda: "three" in kept.read_text())
    for broken in ("version: 1\nowner: team certs\nroots: []\n", team("${UNSET}")[TEAM]):
        first.process.terminate()
        first.process.wait(PATIENCE)
        file.write_text(broken)
        (folder / "routes.d/z.yaml").write_text(other("z2"))
        first = serving(config=folder)
        assert first.line("reload", "refused")["owners"] == ["team certs"]
        assert first.matches("three")
        assert first.matches("z2")


def test_a_refused_file_is_shown_to_its_owner(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """`status`, the API and the metrics name the file while it is refused; another team sees
    nothing of it."""
    folder = written({**team("one"), "routes.d/z.yaml": other("z")}, tmp_path / "config")
    file, tokens, port = folder / TEAM, tmp_path / "tokens.yaml", free_port()
    token = {name: f"the-token-of-{name}-{name}" for name in ("all", "certs", "z")}
    tokens.write_text(
        f"tokens:\n  - {{name: all, token: {token['all']}, may: read}}\n"
        f"  - {{name: certs, token: {token['certs']}, may: read, owner: team certs}}\n"
        f"  - {{name: z, token: {token['z']}, may: read, owner: team z}}\n"
    )
    router = serving("--ops-port", str(port), "--ops-tokens", str(tokens), config=folder)
    good = file.read_text()
    file.write_text("version: 1\nowner: team certs\nroots: []\n")
    router.line("reload", "refused")

    def get(path: str, name: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token[name]}"}
        return httpx.get(f"http://127.0.0.1:{port}{path}", headers=headers, **PLAIN)

    for name, expected in (("all", [str(file)]), ("certs", [str(file)]), ("z", [])):
        status, routes = (get(f"/api/v1/{path}", name).json() for path in ("status", "routes"))
        refused = status.get("configuration", status)["refused"]
        assert [one["file"] for one in refused] == [one["file"] for one in routes["refused"]]
        assert [one["file"] for one in refused] == expected
        assert all("unknown key 'roots'" in one["problems"][0] for one in refused)
        assert [one["owner"] for one in routes["reloads"]] == ["team certs"] * len(expected)
        owners = {one["file"]: one["owner"] for one in routes["routes"]}
        assert owners.get(str(file)) == ("team certs" if expected else None)
        assert (status["status"] == "degraded") == bool(expected)
        assert any(str(file) in reason for reason in status["reasons"]) == bool(expected)
        causes = [
            each["params"]["files"] for each in status["causes"] if each["check"] != "targets"
        ]
        assert causes == expected
    series = get("/metrics", "all").text
    assert f'ebaas_router_config_file_ok{{file="{file}",owner="team certs"}} 0.0' in series
    assert series.count("ebaas_router_config_file_ok{") == 3
    named = f'ebaas_router_configuration_refused_info{{file="{file}",owner="team certs"}}'
    assert named in series
    file.write_text(good)
    router.line("reload", "unchanged")
    series = get("/metrics", "all").text
    assert f'ebaas_router_config_file_ok{{file="{file}",owner="team certs"}} 1.0' in series
    assert named not in series
    assert get("/api/v1/status", "certs").json()["refused"] == []


def test_an_edit_is_in_force_within_two_seconds() -> None:
    """The looks and the wait between them leave a good part of it for loading."""
    assert reloading.LOOK_EVERY + reloading.SETTLE <= 1.8


def test_a_start_with_a_bad_file_is_refused(tmp_path: Path) -> None:
    """Without a last good text; with one, if --strict-start asks for it or if there is no store."""
    files = {**team("one"), "routes.d/z.yaml": "version: 1\nowner: team z\nroots: []\n"}
    folder, store = written(files, tmp_path / "config"), tmp_path / "store.db"

    def start(*options: str) -> None:
        finished = run("serve", "--config", str(folder), "--port", "0", *options)
        assert finished.returncode == 3
        assert b"routes.d/z.yaml:3:1: unknown key 'roots'" in finished.stderr
        assert b"(team z)" in finished.stderr

    start("--store", str(store))
    good = [Written(str(folder / "routes.yaml"), b"version: 1\n")]
    LastGood(tmp_path / "store.db-routes.json", folder).write(good)
    start("--store", str(store), "--strict-start")
    start("--store", "none")


def test_a_secret_file_that_changes_alone_is_taken(
    tmp_path: Path, serving: Callable[..., Serving]
) -> None:
    """A rotated secret is a change of the configuration, and is never printed."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("first-canary\n")
    target = {"url": "http://127.0.0.1:9/", "headers": {"authorization": "Bearer ${file:token}"}}
    (tmp_path / "routes.yaml").write_text(json.dumps(routes({"nobody": target})))
    router = serving("--secrets-dir", str(secrets))
    (secrets / "token").write_text("second-canary\n")
    assert router.line("reload", "taken")["targets_changed"] == ["nobody"]
    router.process.terminate()
    router.process.wait(PATIENCE)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != secrets]
    assert tmp_path / "log.db-routes.json" in files
    assert not [path for path in files if b"-canary" in path.read_bytes()]


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
        """Return the reply to a callback with each of these headers: 500 for an accepted one, since
        the target is down."""
        replies = (
            httpx.post(router.url, content=event(event_key="one"), headers=one, **PLAIN)
            for one in headers
        )
        return [reply.json()["code"] for reply in replies]

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


# The same in this process, with the times in the test's hand.

pytestmark = pytest.mark.anyio


class Watching:
    """A Reload at work on a file."""

    def __init__(self, path: Path, apply: Callable[[Config], list[str]] = lambda _: []) -> None:
        source = Source(path, {}, None)
        look = source.look()
        self.config_state = ConfigState(source.load(look.files)[0], since=0.0, tried_at=0.0)
        self.metrics, self.stream, self.sweeps = Metrics(), io.StringIO(), 0
        log = Log(self.stream, "json")
        watched = (source, look)
        self.reload = Reload(watched, self.config_state, apply, self.sweep, log, self.metrics)
        #: True if the file was in force, after each look.
        self.looks: list[bool] = []
        self.reload.on_look = self.looks.append
        self._task = asyncio.create_task(self.reload.run())

    async def sweep(self) -> None:
        self.sweeps += 1

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    async def look(self) -> bool:
        """Ask for a look, and return whether the file is in force then."""
        count = len(self.looks)
        self.reload.ask()
        await until(lambda: len(self.looks) > count)
        return self.looks[-1]

    def stop(self) -> None:
        self._task.cancel()


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watching]]:
    """Watch tmp_path's routes.yaml, which matches `one`, or another path."""
    monkeypatch.setattr(reloading, "SETTLE", 0.01)
    started: list[Watching] = []

    def start(path: Path | None = None, **options: Any) -> Watching:
        file = tmp_path / "routes.yaml"
        file.write_text(table("one"))
        started.append(Watching(path or file, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


Watch = Callable[..., Watching]


async def test_a_half_written_file_is_not_taken(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prefix can be valid YAML; contents are loaded only if two looks agree, for SIGHUP too."""
    taken: list[str] = []

    def take(config: Config) -> list[str]:
        taken.append(config.table.routes[0].match["event_key"][0])
        return []

    monkeypatch.setattr(reloading, "LOOK_EVERY", 0.01)
    watching = watch(apply=take)
    monkeypatch.setattr(reloading, "SETTLE", 0.2)
    file = tmp_path / "routes.yaml"
    for number in range(40):
        file.write_text(table(f"half-{number}"))
        watching.reload.ask()
        await asyncio.sleep(0.02)
    file.write_text(table("whole"))
    await until(lambda: "whole" in taken)
    assert len(taken) <= 3


async def test_a_fault_of_ours_does_not_end_reloading(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and counted as refused; the next edit is taken."""

    def compared(before: Config, after: Config) -> list[Edit]:
        if after.table.routes[0].match["event_key"] == ("two",):
            raise KeyError("two")
        return edits_of(before, after)

    monkeypatch.setattr(reloading, "edits_of", compared)
    watching, file = watch(), tmp_path / "routes.yaml"
    for match, successful in (("two", False), ("three", True)):
        file.write_text(table(match))
        assert await watching.look() is successful
    lines = watching.lines
    assert [line["happening"] for line in lines] == ["fault", "reload", "reload"]
    assert lines[0]["at"].startswith("KeyError in compared, test_reload.py line ")
    problem = f"{file}: can't be taken for a fault of the router: {lines[0]['at']}"
    assert lines[1]["problems"] == [problem]
    assert watching.metrics.reloads["refused"] == watching.metrics.reloads["taken"] == 1


async def test_a_configuration_that_a_fault_kept_out_is_tried_again(
    tmp_path: Path, watch: Watch
) -> None:
    """It is not in force, which is reported; the next request for a look tries it again."""
    watching: Watching

    def take(_: Config) -> list[str]:
        if not watching.looks:
            raise KeyError("one")
        return []

    watching = watch(apply=take)
    config_state, before = watching.config_state, watching.config_state.config.hash
    (tmp_path / "routes.yaml").write_text(table("two"))
    assert not await watching.look()
    assert (config_state.successful, config_state.config.hash) == (False, before)
    assert await watching.look()
    assert (config_state.successful, config_state.problems) == (True, ())
    assert config_state.config.hash != before


async def test_a_look_that_is_asked_for_sweeps_nothing(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often SIGHUP comes, a target that has left stays for the requests that have it in
    their plans, and wait for a slow store before they begin."""
    monkeypatch.setattr(reloading, "LOOK_EVERY", PATIENCE)
    watching = watch()
    for _ in range(3):
        await watching.look()
    assert watching.sweeps == 0


async def test_a_refusal_that_is_found_again_is_remembered_once(
    tmp_path: Path, watch: Watch
) -> None:
    """Each owner has one entry."""
    folder = written({**team("one"), "routes.d/z.yaml": other("z")}, tmp_path / "config")
    watching = watch(folder)
    for name, owner in (("certs", "team certs"), ("z", "team z")):
        (folder / f"routes.d/{name}.yaml").write_text(f"version: 1\nowner: {owner}\nroots: []\n")
    for _ in range(3):
        await watching.look()
    owners = [one.owner for one in watching.config_state.reloads]
    assert sorted(owners) == ["team certs", "team z"]


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
            source.load(look.files)[0],
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
                    app.adopt(source.load([Written("routes.yaml", version(number).encode())])[0])
                    async with asyncio.timeout(PATIENCE):
                        while len(codes) < 2 * number:
                            await asyncio.sleep(0.001)
                    # At once, while requests are about to begin with what has just left.
                    await app.sender.sweep()
                stop.set()
                await asyncio.gather(*loading)
            await app.sender.sweep()
            await app.sender.sweep()
            assert set(codes) == {"000"}
            assert kept.connections <= 4
            # Each with four connections at most, kept ones too.
            await until(lambda: odd.open + even.open <= 12)
    assert (kept.open, odd.open, even.open) == (0, 0, 0)
