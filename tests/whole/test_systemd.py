"""The units in deploy/systemd: as systemd's tools see them, and under a systemd that runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.config.settings import SETTINGS
from tests.support.command import PATIENCE, ROOT
from tests.support.effort import LONG
from tests.support.house import routes
from tests.support.load import Load
from tests.support.serving import Target, target
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

PROGRAM = Path("/lib/systemd/systemd")

#: The Python that the router is installed with: a service without a home can read it.
PYTHON = Path("/usr/bin/python3")

#: systemd's own units that the router's need.
OWN_UNITS = (
    *("basic", "exit", "final", "local-fs", "local-fs-pre", "multi-user", "network", "paths"),
    *("network-online", "shutdown", "slices", "sockets", "sysinit", "timers", "umount"),
)
JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")

#: The umask of an installed system, not of the test run.
UMASK = 0o022

#: Prepares the new namespaces and starts systemd in them. /etc, /var, /opt and /usr/local become
#: overlays in memory, so that nothing but the network is shared with the machine.
BOOT = """
set -e
mount --make-rprivate /
mount --make-rshared /
umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/units
for unit in "$@"; do cp "/usr/lib/systemd/system/$unit" /run/units; done
for folder in /etc /var /opt /usr/local; do
    mkdir -p "/run/upper$folder" "/run/work$folder"
    layers="lowerdir=$folder,upperdir=/run/upper$folder,workdir=/run/work$folder"
    mount -t overlay overlay -o "$layers" $folder
done
rm -rf /etc/systemd/system
mkdir -p /etc/systemd/system
export container=other SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units
exec /lib/systemd/systemd --system --unit=multi-user.target
"""


def why_not() -> str:
    """Return the reason why systemd cannot be booted here; `""` if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for namespaces and mounts"
    if not PROGRAM.exists() or shutil.which("unshare") is None:
        return "needs systemd and unshare: Debian's packages systemd and util-linux"
    if not PYTHON.exists():
        return f"needs {PYTHON}"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "needs permission to create namespaces" if tried.returncode else ""


class Systemd:
    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: Its root folder, as seen from outside.
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *command: str) -> str:
        """Run a command inside, which must succeed, and return its output."""
        finished = self._run(*command)
        if finished.returncode != 0:
            journal = self._run("journalctl", "--no-pager", "--lines", "20").stdout
            raise AssertionError((command, finished.stdout, finished.stderr, journal))
        return finished.stdout.strip()

    def _run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "--target", str(self._pid), "--all", *command],
            input=text,
            capture_output=True,
            text=True,
            umask=UMASK,
            timeout=120,
            check=False,
        )

    def write(self, path: str, text: str, mode: str = "644") -> None:
        written = self._run("install", "-D", "--mode", mode, "/dev/stdin", path, text=text)
        assert written.returncode == 0, written.stderr

    def show(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit)


@contextmanager
def booted() -> Iterator[Systemd]:
    groups = _groups() / f"ebaas-router-test-{os.getpid()}"
    groups.mkdir()
    names = [f"{name}.target" for name in OWN_UNITS] + list(JOURNAL)
    namespaces = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--mount-proc")
    process = subprocess.Popen(
        ["unshare", *namespaces, "--kill-child", "sh", "-c", BOOT, "sh", *names],
        preexec_fn=lambda: (groups / "cgroup.procs").write_text("0"),
        umask=UMASK,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split())
        systemd = Systemd(int(children.read_text().split()[0]))
        wait_until(lambda: (systemd.root / "run/systemd/private").exists())
        systemd.run("systemctl", "start", "systemd-journald")
        yield systemd
    finally:
        process.kill()
        process.wait(PATIENCE)
        wait_until(lambda: _removed(groups))


def _groups() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise AssertionError("no cgroup2 is mounted here")


def _removed(groups: Path) -> bool:
    """Try to remove the groups, which fails as long as one of them has a process."""
    try:
        for folder, _, _ in os.walk(groups, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True


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
    message = analyze("security", "--offline=yes", "--no-pager", service)
    level = re.search(r"Overall exposure level for ebaas-router.service: ([0-9.]+)", message)
    assert level
    assert float(level[1]) <= 2.0


def test_the_variables_that_are_set_are_settings() -> None:
    """Variables in the units and on their page are settings."""
    page = ROOT / "docs/how-to/bare-metal.md"
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
        assert systemd.show("ebaas-router", "StatusText") == serving
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
        assert systemd.show("ebaas-router", "Result") == "success"


def install(systemd: Systemd, folder: Path) -> None:
    """The router and its units, where docs/how-to/bare-metal.md puts them."""
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
        assert systemd.show("ebaas-router", "StatusText").startswith(status)


def hangs(systemd: Systemd) -> None:
    systemd.run("kill", "-STOP", systemd.show("ebaas-router", "MainPID"))
    wait_until(lambda: systemd.show("ebaas-router", "NRestarts") == "1")
    wait_until(lambda: systemd.show("ebaas-router", "ActiveState") == "active")
