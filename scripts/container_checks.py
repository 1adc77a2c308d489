"""Check an image with real containers, in the environment that scripts/container-test makes.

    python -m scripts.container_checks IMAGE NETWORK BASE

In the network namespace NETWORK, containers are 10.213.77.2 and this machine is 10.213.77.1. BASE
is the image that IMAGE is built from. Each check prints one line; the first failure ends it with
exit code 1.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.command import Receiver
from tests.support.house import SAMPLE, event, routes

HERE, THERE = "10.213.77.1", "10.213.77.2"
IMAGE, NETWORK, BASE = sys.argv[1:]
USER = 10001

#: Seconds that a check waits for a condition before it fails.
PATIENCE = 30.0

#: The strictest options. By default, podman adds writable folders to a read-only root.
STRICT = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
)

#: Files that podman itself writes: mount points, and a name for the user.
ENGINES_OWN = {
    "/data",
    "/etc",
    "/etc/ebaas-router",
    "/etc/group",
    "/etc/passwd",
    "/run",
    "/run/.containerenv",
    "/run/secrets",
}


def podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def once(*arguments: str, entrypoint: str = "") -> str:
    """Run the image's command, or another one, and return its output."""
    instead = [f"--entrypoint={entrypoint}"] if entrypoint else []
    return podman("run", "--rm", "--network=none", *STRICT, *instead, IMAGE, *arguments)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


class ConfigMap:
    """A folder like a ConfigMap that Kubernetes mounts: its files are links through `..data`, which
    is swapped for another folder."""

    def __init__(self, folder: Path, content: Any) -> None:
        self.folder = folder
        self._versions = 0
        folder.chmod(0o755)
        self.put(content)
        (folder / "routes.yaml").symlink_to("..data/routes.yaml")

    def put(self, content: Any) -> None:
        self._versions += 1
        version = self.folder / f"..version{self._versions}"
        version.mkdir(mode=0o755)
        (version / "routes.yaml").write_text(json.dumps(content))
        fresh = self.folder / "..data_tmp"
        fresh.symlink_to(version.name)
        fresh.rename(self.folder / "..data")


class Container:
    """A `serve` in a container."""

    def __init__(self, config: ConfigMap, data: str, *arguments: str, strict: bool = True) -> None:
        began = time.monotonic()
        self.name = podman(
            "run",
            "--detach",
            f"--network=ns:/run/netns/{NETWORK}",
            *(STRICT if strict else ()),
            f"--volume={config.folder}:/etc/ebaas-router:ro",
            f"--volume={data}:/data",
            IMAGE,
            "serve",
            *arguments,
        ).strip()
        wait_until(lambda: self.get("/readyz") == 200, "the container is ready")
        #: Seconds from the call of podman to readiness.
        self.start = time.monotonic() - began

    def get(self, path: str, port: int = 8080) -> int:
        """Return the status; 0 without an answer."""
        try:
            return self._ask("GET", path, port=port)[0]
        except OSError:
            return 0

    def post(self, body: bytes = SAMPLE) -> str:
        """Send an event and return the code of the reply."""
        code: str = json.loads(self._ask("POST", "/callback", body)[1])["code"]
        return code

    def _ask(
        self, method: str, path: str, body: bytes = b"", port: int = 8080
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(THERE, port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def state(self, field: str) -> str:
        return podman("inspect", "--format", "{{.State." + field + "}}", self.name).strip()

    @property
    def log(self) -> str:
        done = subprocess.run(
            ["podman", "logs", self.name], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def stop(self) -> str:
        """Stop the container and return the exit code."""
        podman("stop", f"--time={PATIENCE:.0f}", self.name)
        return self.state("ExitCode")

    def remove(self) -> None:
        podman("rm", "--force", "--time=0", self.name)


class Scene:
    """The folders and processes of one check."""

    def __init__(self, room: Path) -> None:
        self._room = room
        # Like a volume of Kubernetes with `fsGroup`, the group may write.
        self.data = room / "data"
        self.data.mkdir()
        os.chown(self.data, 0, USER)
        self.data.chmod(0o2775)
        (room / "config").mkdir()
        self.config = ConfigMap(room / "config", routes({"none": f"http://{HERE}:9/"}))
        self._running: list[Container] = []
        self._receivers: list[Receiver] = []

    def receiver(self, *arguments: str) -> Receiver:
        """A business endpoint on this machine."""
        self._receivers.append(Receiver("--host", HERE, *arguments))
        return self._receivers[-1]

    def container(self, *arguments: str, data: str = "", strict: bool = True) -> Container:
        running = Container(self.config, data or str(self.data), *arguments, strict=strict)
        self._running.append(running)
        return running

    def leave(self) -> None:
        for receiver in self._receivers:
            receiver.close()
        for container in self._running:
            container.remove()

    @property
    def log(self) -> str:
        return "".join(container.log for container in self._running)


@contextmanager
def scene() -> Iterator[Scene]:
    with tempfile.TemporaryDirectory() as room:
        Path(room).chmod(0o755)
        played = Scene(Path(room))
        try:
            yield played
        except BaseException:
            sys.stderr.write(played.log)
            raise
        finally:
            played.leave()


# The checks. Each returns its measurements, if any.


def says_what_it_is(_: Scene) -> str:
    """labels, both ports, a volume, an unprivileged user, SIGTERM to stop, a health check"""
    image = json.loads(podman("inspect", IMAGE))[0]
    config, health = image["Config"], image["Healthcheck"]
    labels = {name.rpartition(".")[2]: text for name, text in config["Labels"].items()}
    assert labels["title"] == "ebaas-router"
    assert "unknown" not in (labels["version"], labels["revision"], labels["created"]), labels
    assert labels["licenses"] == "LicenseRef-Proprietary"
    assert labels["name"] == BASE
    assert config["User"] == f"{USER}:{USER}"
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}
    assert set(config["Volumes"]) == {"/data"}
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert health["Test"] == ["CMD", "ebaas-router", "health"]
    return f"{image['Size'] / 1e6:.0f} MB with its base, {_added(image)} MB of it ours"


def _added(image: dict[str, Any]) -> str:
    base = json.loads(podman("inspect", BASE))[0]
    return f"{(image['Size'] - base['Size']) / 1e6:.0f}"


def keeps_dependencies_apart(_: Scene) -> str:
    """the router is a small layer above its dependencies, which new code does not change"""
    history = json.loads(podman("history", "--format=json", IMAGE))
    copied = [step["size"] for step in history if " COPY " in step["CreatedBy"]]
    router, dependencies = copied
    assert router < 10e6 < dependencies, copied
    return f"{router / 1e6:.1f} MB above {dependencies / 1e6:.0f} MB"


def has_what_is_locked(_: Scene) -> str:
    """the packages are those of requirements/run.txt, and the router"""
    listed = once(
        "-c",
        "from importlib.metadata import distributions as d; import json, re;"
        "print(json.dumps([[re.sub('[-_.]+', '-', x.name.lower()), x.version] for x in d()]))",
        entrypoint="/opt/ebaas-router/bin/python",
    )
    there = {f"{name}=={version}" for name, version in json.loads(listed)}
    lock = Path("requirements/run.txt").read_text()
    locked = {
        match[1].lower() for match in re.finditer(r"^(\S+==\S+?)(?: ;| \\|$)", lock, re.MULTILINE)
    }
    router = {each for each in there if each.startswith("ebaas-router==")}
    assert there - router <= locked, there - router - locked
    assert len(router) == 1
    return f"{len(there)} packages"


def has_no_tools(_: Scene) -> str:
    """no pip, no compiler, no cache, no build files"""
    found = once(
        "-c",
        "command -v pip pip3 gcc cc make curl; ls -d /build /root/.cache /tmp/* 2>/dev/null;"
        "find /opt /data /usr/local ! -path '*/ensurepip/*'"
        " '(' -name '*.whl' -o -name pip -o -name hatchling ')'",
        entrypoint="sh",
    )
    assert found == "", found
    return ""


def starts_as_it_is(_: Scene) -> str:
    """the first process is the router, not a shell; without a configuration it prints one line and
    exits with 3"""
    began = time.monotonic()
    assert "ebaas-router" in once("--help")
    took = time.monotonic() - began
    done = subprocess.run(
        ["podman", "run", "--rm", "--network=none", *STRICT, IMAGE],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done
    assert b"routes.yaml" in done.stderr
    assert b"Traceback" not in done.stderr
    return f"{took:.2f} s for --help, podman's own share included"


def serves(scene: Scene) -> str:
    """an event is forwarded with a read-only root, no capabilities and a volume for data"""
    ledger = scene.receiver()
    scene.config.put(routes({"ledger": ledger.url}))
    router = scene.container()
    assert router.post() == "000"
    ledger.wait_for(lambda: len(ledger.stdout) == 1)
    assert router.get("/livez") == 200
    one = podman("exec", router.name, "cat", "/proc/1/cmdline", "/proc/1/status")
    assert "ebaas-router\0serve" in one
    assert re.search(rf"^Uid:\s+{USER}\s", one, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", one, re.MULTILINE)
    return f"ready {router.start:.2f} s after podman run"


def shows_metrics(scene: Scene) -> str:
    """the ops port answers from outside the container"""
    router = scene.container()
    assert router.get("/metrics", port=8081) == 200
    assert router.get("/status", port=8081) == 200
    return ""


def is_healthy(scene: Scene) -> str:
    """HEALTHCHECK succeeds, and fails if nobody listens"""
    router = scene.container()
    podman("healthcheck", "run", router.name)
    began = time.monotonic()
    assert podman("exec", router.name, "ebaas-router", "health").strip() == "ready"
    took = time.monotonic() - began
    asked = ["podman", "exec", router.name, "ebaas-router", "health", "--port", "9"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 1
    return f"{took:.2f} s"


def reloads(scene: Scene) -> str:
    """a swapped ConfigMap is loaded; a faulty one changes nothing; SIGHUP reloads at once"""
    ledger, audit = scene.receiver(), scene.receiver()
    scene.config.put(routes({"ledger": ledger.url}))
    router = scene.container()
    assert router.post() == "000"
    began = time.monotonic()
    scene.config.put(routes({"audit": audit.url}))
    wait_until(lambda: router.post() == "000" and audit.stdout, "the swap is in force")
    took = time.monotonic() - began
    scene.config.put({"version": 1, "targets": "none"})
    podman("kill", "--signal=HUP", router.name)
    wait_until(lambda: "routes.yaml" in router.log, "the wrong one is complained of")
    assert router.post(event(changes=["another"])) == "000"
    before = len(ledger.stdout)
    scene.config.put(routes({"ledger": ledger.url}))
    podman("kill", "--signal=HUP", router.name)
    wait_until(
        lambda: router.post(event(changes=["more"])) == "000" and len(ledger.stdout) > before,
        "the right one is in force",
    )
    assert router.state("Status") == "running"
    return f"{took:.1f} s until the swap is in force"


def drains(scene: Scene) -> str:
    """on SIGTERM, requests in flight get 000, and the exit code is 0"""
    slow = scene.receiver("--delay", "2s")
    scene.config.put(routes({"slow": slow.url}))
    router = scene.container()
    codes: list[str] = []
    callers = [
        threading.Thread(target=lambda n=n: codes.append(router.post(event(changes=[n]))))
        for n in range(20)
    ]
    for caller in callers:
        caller.start()
    slow.wait_for(lambda: len(slow.stdout) == len(callers))
    began = time.monotonic()
    code = router.stop()
    took = time.monotonic() - began
    for caller in callers:
        caller.join(PATIENCE)
    assert codes == ["000"] * len(callers), codes
    assert code == "0", code
    return f"{len(callers)} in flight for 2 s, stopped after {took:.1f} s"


def stops_idle(scene: Scene) -> str:
    """on SIGTERM or Ctrl-C without requests, the container stops at once"""
    router = scene.container()
    began = time.monotonic()
    assert router.stop() == "0"
    took = time.monotonic() - began
    router = scene.container()
    podman("kill", "--signal=INT", router.name)
    wait_until(lambda: router.state("Status") == "exited", "it has ended")
    assert router.state("ExitCode") == "0"
    return f"{took:.2f} s"


def remembers(scene: Scene) -> str:
    """a new container on the same volume continues with the recorded events"""
    healthy, failing = scene.receiver(), scene.receiver("--fail-first", "1")
    scene.config.put(routes({"healthy": healthy.url, "failing": failing.url}))
    name = f"{NETWORK}-data"
    try:
        old = scene.container(data=name)
        assert old.post() == "500"
        assert old.stop() == "0"
        old.remove()
        assert scene.container(data=name).post() == "000"
        failing.wait_for(lambda: len(failing.stdout) == 2)
        assert len(healthy.stdout) == 1
    finally:
        scene.leave()
        podman("volume", "rm", name)
    return ""


def writes_nowhere_else(scene: Scene) -> str:
    """with a writable root, only the volume is written to"""
    router = scene.container(strict=False)
    assert router.post() == "500"
    podman("exec", router.name, "ebaas-router", "health")
    assert router.stop() == "0"
    changed = {line[2:] for line in podman("diff", router.name).splitlines()} - ENGINES_OWN
    assert not changed, changed
    return ", ".join(sorted(each.name for each in scene.data.iterdir()))


def refuses_a_foreign_volume(scene: Scene) -> str:
    """a volume that is not writable prevents the start: one line and exit code 3"""
    os.chown(scene.data, 0, 0)
    scene.data.chmod(0o755)
    volumes = (f"--volume={scene.data}:/data", f"--volume={scene.config.folder}:/etc/ebaas-router")
    done = subprocess.run(
        ["podman", "run", "--rm", "--network=none", *STRICT, *volumes, IMAGE],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3, done
    assert b"Traceback" not in done.stderr
    return done.stderr.decode().strip()


CHECKS: tuple[Callable[[Scene], str], ...] = (
    says_what_it_is,
    keeps_dependencies_apart,
    has_what_is_locked,
    has_no_tools,
    starts_as_it_is,
    serves,
    shows_metrics,
    is_healthy,
    reloads,
    drains,
    stops_idle,
    remembers,
    writes_nowhere_else,
    refuses_a_foreign_volume,
)


def main() -> None:
    for check in CHECKS:
        promise = " ".join((check.__doc__ or "").split())
        with scene() as played:
            measured = check(played)
        print(f"ok  {promise}{': ' if measured else ''}{measured}", flush=True)


if __name__ == "__main__":
    main()
