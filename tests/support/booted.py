"""A systemd of a test's own: process 1 of its own namespaces, whose /etc, /var, /opt and /usr/local
are overlays in memory. What it is told to do reaches nothing of the machine but its network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import PATIENCE
from tests.support.waiting import wait_until

PROGRAM = Path("/lib/systemd/systemd")

#: What the router is installed with, where a service without a home can look.
PYTHON = Path("/usr/bin/python3")

#: Its own units that the test's need, besides those that it makes itself.
UNITS = (
    *("basic", "exit", "final", "local-fs", "local-fs-pre", "multi-user", "network", "paths"),
    *("network-online", "shutdown", "slices", "sockets", "sysinit", "timers", "umount"),
)
JOURNAL = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")

#: As installed systems have it, whatever the tests'.
UMASK = 0o022

#: What happens between the new namespaces and systemd.
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
    """Why it can't be booted here; `""` where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for namespaces and mounts"
    if not PROGRAM.exists() or shutil.which("unshare") is None:
        return "needs systemd and unshare: Debian's packages systemd and util-linux"
    if not PYTHON.exists():
        return "needs a Python that is nobody's own"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "needs leave to make namespaces" if tried.returncode else ""


class Systemd:
    """One that runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: Its root folder, as seen from outside.
        self.root = Path(f"/proc/{pid}/root")

    def run(self, *command: str) -> str:
        """What a command says that runs inside, and is to succeed."""
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

    def tells(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", "--property", what, unit)


@contextmanager
def booted() -> Iterator[Systemd]:
    groups = _groups() / f"ebaas-router-test-{os.getpid()}"
    groups.mkdir()
    names = [f"{name}.target" for name in UNITS] + list(JOURNAL)
    unshare = [
        "unshare",
        "--mount",
        "--pid",
        "--cgroup",
        "--uts",
        "--ipc",
        "--fork",
        "--mount-proc",
    ]
    process = subprocess.Popen(
        [*unshare, "--kill-child", "sh", "-c", BOOT, "sh", *names],
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
    """Where cgroup2 is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split()[4])
    raise AssertionError("no cgroup2 is mounted here")


def _removed(groups: Path) -> bool:
    """Whether all of it is gone; as long as a process is in one, it can't be."""
    try:
        for folder, _, _ in os.walk(groups, topdown=False):
            Path(folder).rmdir()
    except OSError:
        return False
    return True
