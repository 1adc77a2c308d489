"""deploy/kubernetes: what one file names another defines, and the router takes what they say.

`make deploy-check` has kustomize build the overlays and gives their folder in DEPLOY_BUILT. Without
it the base alone is read, which is one router whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from router.config.settings import Settings
from router.ops.guard import OpsTokens
from router.store.url import Database
from tests.deploy.variables import longest_stop, settings_of
from tests.support.command import ROOT
from tests.support.inprocess import ran

KUBERNETES = ROOT / "deploy/kubernetes"
BUILT = os.environ.get("DEPLOY_BUILT")
NAMES = ["base", *(["one-node", "three-nodes", "monitored"] if BUILT else [])]
[SECRET] = yaml.safe_load_all((KUBERNETES / "secret.example.yaml").read_text())


def base() -> Iterator[Any]:
    folder = KUBERNETES / "base"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for file in kustomization["resources"]:
        yield from yaml.safe_load_all((folder / file).read_text())
    for made in kustomization["configMapGenerator"]:
        files = {Path(file).name: (folder / file).read_text() for file in made["files"]}
        yield {"kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": files}


class Build:
    def __init__(self, name: str) -> None:
        self.name = name
        self.objects = (
            list(base())
            if name == "base"
            else list(yaml.safe_load_all((Path(BUILT or "") / f"{name}.yaml").read_text()))
        )
        [self.set] = self.every("StatefulSet") or self.every("Deployment")
        self.labels = self.set["spec"]["template"]["metadata"]["labels"]
        self.pod = self.set["spec"]["template"]["spec"]
        [self.container] = self.pod["containers"]
        self.environ = {each["name"]: each.get("value") for each in self.container["env"]}
        self.settings = settings_of(self.environ)
        self.mounts = {each["name"]: each["mountPath"] for each in self.container["volumeMounts"]}

    def every(self, kind: str) -> list[Any]:
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> Any:
        [found] = self.every(kind)
        return found


@pytest.fixture(params=NAMES)
def build(request: pytest.FixtureRequest) -> Build:
    return Build(request.param)


def name_of(thing: Any) -> str:
    name: str = thing["metadata"]["name"]
    return name


def test_what_is_mounted_is_a_volume_and_what_that_names_is_there(build: Build) -> None:
    """Volumes and claims are just those that are mounted; ConfigMap and Secret are there."""
    claims = [name_of(claim) for claim in build.set["spec"].get("volumeClaimTemplates", [])]
    volumes = build.pod["volumes"]
    assert sorted(build.mounts) == sorted([*claims, *(volume["name"] for volume in volumes)])
    named = [volume["configMap"]["name"] for volume in volumes if "configMap" in volume]
    assert named == [name_of(build.one("ConfigMap"))]
    named = [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
    assert named == [name_of(SECRET)]
    assert SECRET["metadata"]["namespace"] == name_of(build.one("Namespace"))


def test_whatever_selects_pods_selects_the_routers(build: Build) -> None:
    """Services, the budget, the policy and the set itself, by the labels that pods have."""
    selectors = [
        *(each["spec"]["selector"] for each in build.every("Service")),
        build.set["spec"]["selector"]["matchLabels"],
        build.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        build.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in build.pod.get("topologySpreadConstraints", [])
        ),
    ]
    assert [each for each in selectors if each != build.labels] == []
    if build.set["kind"] == "StatefulSet":
        assert build.set["spec"]["serviceName"] in map(name_of, build.every("Service"))


def test_every_port_that_is_named_is_the_containers(build: Build) -> None:
    """By services, probes and the policy; their numbers are the router's own."""
    ports = {each["name"]: each["containerPort"] for each in build.container["ports"]}
    assert ports == {"callbacks": Settings().port, "ops": Settings().ops_port}
    services = [port for each in build.every("Service") for port in each["spec"]["ports"]]
    assert {port["targetPort"]: port["port"] for port in services} == ports
    let_in = build.one("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in let_in for port in rule["ports"]} == set(ports)
    probes = {
        kind: build.container[f"{kind}Probe"]["httpGet"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert {probe["port"] for probe in probes.values()} == {"callbacks"}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/livez",
        "liveness": "/livez",
        "readiness": "/readyz",
    }


def test_a_stop_is_waited_for(build: Build) -> None:
    """Longer than the drain's delay, its timeout and the time for the last replies together."""
    assert build.pod["terminationGracePeriodSeconds"] > longest_stop(build.settings)


def test_every_variable_is_a_setting_and_every_file_is_mounted(build: Build) -> None:
    """A wrong name would do nothing, a wrong value end the start; files are keys of the Secret."""
    settings = build.settings
    assert str(settings["secrets_dir"]) == build.mounts["secrets"]
    assert str(settings["ops_tokens"].parent) == build.mounts["config"]
    assert settings["ops_tokens"].name in build.one("ConfigMap")["data"]
    store = build.environ.get("EBAAS_ROUTER_STORE", "")
    for file in map(Path, parse_qs(urlsplit(store).query).get("sslrootcert", [])):
        assert (str(file.parent), file.name in SECRET["stringData"]) == (
            build.mounts["secrets"],
            True,
        )
    for each in build.container["env"]:
        if "valueFrom" in each:
            key = each["valueFrom"]["secretKeyRef"]
            assert (key["name"], key["key"] in SECRET["stringData"]) == ("ebaas-router", True)
    archive = settings.get("archive", Path("/data/archive"))
    assert archive.is_relative_to(build.mounts["data"])


def test_nodes_share_a_database_and_one_alone_has_a_volume(build: Build) -> None:
    """A file is for one pod, and has to outlive it."""
    settings = build.settings
    if build.set["spec"]["replicas"] == 1:
        assert "store" not in settings
        assert build.set["spec"]["volumeClaimTemplates"]
    else:
        assert isinstance(settings["store"], Database)
        assert "PGPASSWORD" in build.environ
        let_out = build.one("NetworkPolicy")["spec"]["egress"]
        assert {"port": 5432} in [port for rule in let_out for port in rule["ports"]]


def test_pods_are_as_restricted_as_the_namespace_wants(build: Build) -> None:
    """Kubernetes would refuse them: the Pod Security Standard `restricted`, rule by rule."""
    enforced = build.one("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"
    assert build.pod["securityContext"]["runAsNonRoot"] is True
    assert build.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert build.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in build.pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "emptyDir"}


def test_the_routes_are_good_with_the_secret_beside_them(build: Build, tmp_path: Path) -> None:
    """`check --strict` finds nothing wrong, and the file of tokens loads."""
    config = build.one("ConfigMap")["data"]
    for file, text in {**config, **SECRET["stringData"]}.items():
        (tmp_path / file).write_text(text)
    output = ran("check", tmp_path / "routes.yaml", "--secrets-dir", tmp_path, "--strict")
    assert (output.code, output.err) == (0, ""), output.out
    OpsTokens(tmp_path / "ops-tokens.yaml", {}, tmp_path)


def test_the_image_is_of_the_last_release(build: Build) -> None:
    """An overlay pins a version that exists."""
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    expected = (
        "ebaas-router" if build.name == "base" else f"registry.example.com/ebaas-router:{newest[1]}"
    )
    assert build.container["image"] == expected


@pytest.mark.skipif(not BUILT, reason="make deploy-check builds it")
def test_the_monitor_finds_the_ops_port() -> None:
    """By the labels of one Service, its port's name, and a key of the Secret."""
    build = Build("monitored")
    monitor = build.one("ServiceMonitor")["spec"]
    needed = monitor["selector"]["matchLabels"].items()
    [service] = [
        each for each in build.every("Service") if needed <= each["metadata"]["labels"].items()
    ]
    [endpoint] = monitor["endpoints"]
    assert [endpoint["port"]] == [port["name"] for port in service["spec"]["ports"]]
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "ebaas-router"
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["name"] == name_of(SECRET)
    assert credentials["key"] in SECRET["stringData"]
