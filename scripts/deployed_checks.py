"""Check the files in deploy/: start Compose by docker-compose, and a pod by podman.

    python -m scripts.deployed_checks IMAGE NETWORK

scripts/container-test makes the environment, after scripts/deploy-check has built the files. In the
network namespace NETWORK, published ports are at 10.213.77.2. Each check prints one line; the first
failure ends it with exit code 1.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.house import SAMPLE

THERE = "10.213.77.2"
BUILT = Path(".tools/deploy/built")
TOKEN = "a-token-of-these-checks"

#: Seconds that a check waits for a condition before it fails.
PATIENCE = 60.0


class Asked:
    """Return the router's answer to a request; status 0 without an answer."""

    def __init__(self, method: str, path: str, port: int = 8080, body: bytes = b"") -> None:
        connection = http.client.HTTPConnection(THERE, port, timeout=5)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {TOKEN}"})
            answer = connection.getresponse()
            self.status, self.body = answer.status, answer.read()
        except OSError:
            self.status, self.body = 0, b""
        finally:
            connection.close()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


def output(command: list[str], **environ: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def compose(image: str, network: str, room: Path) -> str:
    """docker-compose up: the router has its secrets, sends an event to the stand-in, and stops in
    time"""
    services: dict[str, Any] = {
        name: {"image": image, "pull_policy": "never"} for name in ("router", "receiver")
    }
    secrets = {}
    for name in ("ebaas-token", "ops-token", "console-token"):
        (room / name).write_text(TOKEN if name == "ebaas-token" else f"{name}-{TOKEN}")
        secrets[name] = {"file": str(room / name)}
    override = room / "override.json"
    override.write_text(json.dumps({"services": services, "secrets": secrets}))
    files = ["--file", "deploy/compose.yaml", "--file", str(override)]
    program = ["docker-compose", "--project-name", network, *files]
    with engine(network, room) as socket:

        def compose(*arguments: str) -> str:
            return output([*program, *arguments], DOCKER_HOST=f"unix://{socket}")

        try:
            compose("up", "--detach", "--no-build", "router", "receiver")
            wait_until(lambda: Asked("GET", "/readyz").status == 200, "the router is ready")
            reply = Asked("POST", "/callback", body=SAMPLE)
            assert json.loads(reply.body)["code"] == "000", reply.body
            assert "a.gs.cert.1" in compose("logs", "receiver")
            asked = ["podman", "exec", f"{network}-router-1", "ebaas-router", "status"]
            assert output(asked).startswith("ok: ebaas-router ")
            began = time.monotonic()
            compose("stop", "router")
            took = time.monotonic() - began
        finally:
            compose("down", "--volumes")
    assert took < 10
    return f"stopped after {took:.1f} s"


@contextmanager
def engine(network: str, room: Path) -> Iterator[Path]:
    """Run podman in place of Docker, on a socket that docker-compose finds."""
    socket = room / "podman.sock"
    service = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    running = subprocess.Popen(
        [*within(network), *service], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(socket.exists, "podman listens")
        yield socket
    finally:
        running.terminate()
        running.wait(PATIENCE)


def within(network: str) -> list[str]:
    """Return an address range that none of the machine's networks uses."""
    return ["nsenter", f"--net=/run/netns/{network}"]


def pod(image: str, network: str, room: Path) -> str:
    """podman kube play: the pod of one node is ready, with ConfigMap, Secret and a volume, and so
    is its console"""
    file = room / "pod.yaml"
    file.write_text(yaml.safe_dump_all(playable(image)))
    play = [*within(network), "podman", "kube"]
    publish = ["--publish=8080:8080", "--publish=8081:8081"]
    try:
        output([*play, "play", *publish, str(file)])
        wait_until(lambda: Asked("GET", "/readyz").status == 200, "the pod is ready")
        for path in ("/metrics", "/api/v1/events", "/api/v1/deliveries"):
            assert Asked("GET", path, port=8081).status == 200, path
    finally:
        output([*play, "down", "--force", str(file)])
    return ""


def playable(image: str) -> Iterator[Any]:
    """Convert the objects of one node for podman: a Deployment with a claim, and without the
    fsGroup by which Kubernetes lets the pod read a private Secret."""
    objects = yaml.safe_load_all((BUILT / "one-node.yaml").read_text())
    by_kind = {each["kind"]: each for each in objects}
    [claim] = by_kind["StatefulSet"]["spec"].pop("volumeClaimTemplates")
    claim.update(apiVersion="v1", kind="PersistentVolumeClaim")
    name = claim["metadata"]["name"]
    template = by_kind["StatefulSet"]["spec"]["template"]["spec"]
    template["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    for volume in template["volumes"]:
        volume.get("secret", {}).update(defaultMode=0o444)
    template["containers"][0].update(image=image, imagePullPolicy="Never")
    secret = yaml.safe_load(Path("deploy/kubernetes/secret.example.yaml").read_text())
    secret["stringData"]["console-token"] = TOKEN
    yield from (claim, secret, by_kind["ConfigMap"])
    yield {**by_kind["StatefulSet"], "kind": "Deployment"}


def main() -> None:
    image, network = sys.argv[1:]
    for check in (compose, pod):
        with tempfile.TemporaryDirectory() as room:
            Path(room).chmod(0o700)
            measured = check(image, network, Path(room))
        promise = " ".join((check.__doc__ or "").split())
        print(f"ok  {promise}{': ' if measured else ''}{measured}", flush=True)


if __name__ == "__main__":
    main()
