"""The units in deploy/systemd: as systemd's tools see them, and under a systemd that runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.config.settings import SETTINGS
from tests.support.booted import PYTHON, Systemd, booted, why_not
from tests.support.command import ROOT
from tests.support.effort import LONG
from tests.support.house import routes
from tests.support.load import Load
from tests.support.serving import Target, target
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

UNITS = ROOT / "deploy/systemd"
ROUTER = "/usr/local/bin/ebaas-router"


def analyze(*arguments: str) -> str:
    """The output of systemd-analyze, which must find nothing wrong."""
    if not LONG:
        pytest.skip("needs systemd 253 or its tools: `make systemd`")
    finished = subprocess.run(
        ["scripts/systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    return finished.stdout


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """Every key is known and has a value that can be; the program alone is another one here."""
    for unit in UNITS.iterdir():
        text = unit.read_text()
        assert unit.suffix == ".socket" or f"\nExecStart={ROUTER} " in text
        (tmp_path / unit.name).write_text(text.replace(ROUTER, shutil.which("true") or ""))
    analyze("verify", "--man=no", *map(str, tmp_path.iterdir()))


def test_the_service_has_hardly_any_rights() -> None:
    """`systemd-analyze security` says at most 2.0, of 10."""
    service = str(UNITS / "ebaas-router.service")
    output = analyze("security", "--offline=yes", "--no-pager", service)
    level = re.search(r"Overall exposure level for ebaas-router.service: ([0-9.]+)", output)
    assert level
    assert float(level[1]) <= 2.0


def test_the_variables_that_are_set_are_settings() -> None:
    """Variables in the units and on their page are settings."""
    page = ROOT / "docs/bare-metal.md"
    texts = [file.read_text() for file in (page, *UNITS.iterdir())]
    named = set(re.findall(r"EBAAS_ROUTER_[A-Z_]+", "".join(texts)))
    assert len(named) > 3
    assert named <= {setting.variable for setting in SETTINGS.values()}


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    if why := why_not() if LONG else "takes half a minute: `make systemd`":
        pytest.skip(why)
    with booted() as systemd:
        yield systemd


def test_it_lives_under_systemd(systemd: Systemd, tmp_path: Path) -> None:
    """Installed as the page says: it starts, with its secret, its store and all restrictions;
    reloads, also what is wrong; is restarted under load at no request's cost; and is restarted by
    the watchdog where it hangs."""
    install(systemd, tmp_path)
    port = free_port()
    with target() as endpoint:
        configure(systemd, endpoint, port)
        systemd.run("systemctl", "enable", "--now", "ebaas-router.socket", "ebaas-router.service")
        serving = f"Serving http://127.0.0.1:{port}/callback"
        assert systemd.tells("ebaas-router", "StatusText") == serving
        reloads(systemd, serving)
        load = Load(port)
        with load.running():
            for _ in range(10):
                load.go_on()
                systemd.run("systemctl", "restart", "ebaas-router")
            load.go_on()
        assert set(load.replies) == {"000"}
        assert set(load.acknowledged) <= {each.event for each in endpoint.got}
        hangs(systemd)
        systemd.run("systemctl", "stop", "ebaas-router.socket", "ebaas-router.service")
        assert systemd.tells("ebaas-router", "Result") == "success"


def install(systemd: Systemd, folder: Path) -> None:
    """The router and its units, where docs/bare-metal.md puts them."""
    wheel = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run([ROOT / ".venv/bin/python", *wheel], cwd=ROOT, check=True, capture_output=True)
    [built] = folder.glob("*.whl")
    systemd.run(
        *("env", f"--chdir={ROOT}"),
        *("UV_TOOL_DIR=/opt/ebaas-router", "UV_TOOL_BIN_DIR=/usr/local/bin"),
        *("scripts/uv", "tool", "install", "--quiet", "--compile-bytecode"),
        *("--python", str(PYTHON), str(built)),
    )
    for unit in UNITS.iterdir():
        systemd.write(f"/etc/systemd/system/{unit.name}", unit.read_text())


def configure(systemd: Systemd, endpoint: Target, port: int) -> None:
    table = routes({"one": endpoint.url})
    table["targets"]["one"]["headers"] = {"X-Token": "${file:ebaas-token}"}
    systemd.write("/etc/ebaas-router/routes.yaml", json.dumps(table))
    systemd.write("/etc/ebaas-router/secrets/ebaas-token", "a-secret-of-the-test", "600")
    variables = "EBAAS_ROUTER_OPS_PORT=0\n"
    systemd.write("/etc/ebaas-router/environment", variables)
    drop_in = "/etc/systemd/system/ebaas-router.{}.d/test.conf"
    listen = f"[Socket]\nListenStream=\nListenStream=127.0.0.1:{port}\n"
    systemd.write(drop_in.format("socket"), listen)
    systemd.write(drop_in.format("service"), "[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n")
    systemd.run("systemctl", "daemon-reload")


def reloads(systemd: Systemd, serving: str) -> None:
    file = systemd.root / "etc/ebaas-router/routes.yaml"
    good = file.read_text()
    for text, status in (("version: 2", f"{serving}; routes.yaml was refused"), (good, serving)):
        file.write_text(text)
        systemd.run("systemctl", "reload", "ebaas-router")
        assert systemd.tells("ebaas-router", "StatusText").startswith(status)


def hangs(systemd: Systemd) -> None:
    systemd.run("kill", "-STOP", systemd.tells("ebaas-router", "MainPID"))
    wait_until(lambda: systemd.tells("ebaas-router", "NRestarts") == "1")
    wait_until(lambda: systemd.tells("ebaas-router", "ActiveState") == "active")
