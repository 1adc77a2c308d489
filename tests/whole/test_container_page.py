"""The YAML of docs/container.md: every name that is used in it is defined in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.settings import SETTINGS
from tests.support.command import ROOT
from tests.support.inprocess import ran

KUBERNETES, COMPOSE = (
    list(yaml.safe_load_all(block))
    for block in re.findall(
        r"```yaml\n(.*?)```", (ROOT / "docs/container.md").read_text(encoding="utf-8"), re.DOTALL
    )
)


def kind(name: str) -> Any:
    """The one object of its kind."""
    [found] = [each for each in KUBERNETES if each["kind"] == name]
    return found


def name_of(thing: Any) -> str:
    name: str = thing["metadata"]["name"]
    return name


SET = kind("StatefulSet")["spec"]
POD = SET["template"]["spec"]
[CONTAINER] = POD["containers"]
[SERVICE] = COMPOSE[0]["services"].values()
MOUNTS = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}


def test_what_is_mounted_is_a_volume_and_what_that_names_is_there() -> None:
    """Volumes and claims are just those that are mounted; ConfigMap and Secret are there."""
    claims = [name_of(claim) for claim in SET["volumeClaimTemplates"]]
    assert sorted(MOUNTS) == sorted([*claims, *(volume["name"] for volume in POD["volumes"])])
    named = [volume.get("configMap", {}).get("name") for volume in POD["volumes"]]
    assert [name for name in named if name] == [name_of(kind("ConfigMap"))]
    named = [volume.get("secret", {}).get("secretName") for volume in POD["volumes"]]
    assert [name for name in named if name] == [name_of(kind("Secret"))]


def test_the_service_is_the_sets_and_leads_to_its_pods() -> None:
    """By the set's `serviceName`, the pods' labels and the container's ports."""
    service = kind("Service")
    labels = SET["template"]["metadata"]["labels"]
    assert SET["serviceName"] == name_of(service)
    assert service["spec"]["selector"] == SET["selector"]["matchLabels"] == labels
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    probed = {CONTAINER[f"{probe}Probe"]["httpGet"]["port"] for probe in PROBES}
    assert probed <= ports


PROBES = ("startup", "liveness", "readiness")


def variables() -> Iterator[tuple[str, str]]:
    """Those that either way of running sets."""
    yield from ((each["name"], each["value"]) for each in CONTAINER["env"])
    yield from SERVICE["environment"].items()


def test_every_variable_is_a_setting_and_its_value_is_one() -> None:
    """A wrong name would do nothing, a wrong value end the start."""
    known = {setting.variable: setting for setting in SETTINGS.values()}
    for name, value in variables():
        known[name].read(name, value)


def test_the_routes_are_good_with_the_secret_beside_them(tmp_path: Path) -> None:
    """What the page mounts is what `check --strict` finds nothing wrong with."""
    secret = kind("Secret")["stringData"]
    for file, text in {**kind("ConfigMap")["data"], **secret}.items():
        (tmp_path / file).write_text(text)
    said = ran("check", tmp_path / "routes.yaml", "--secrets-dir", tmp_path, "--strict")
    assert (said.code, said.err) == (0, ""), said.out
    environ = {each["name"]: each["value"] for each in CONTAINER["env"]}
    assert environ["EBAAS_ROUTER_SECRETS_DIR"] == MOUNTS["secrets"]
    [volume] = [each for each in POD["volumes"] if each["name"] == "secrets"]
    assert "secret" in volume


@pytest.mark.parametrize("name", ["secrets", "volumes"])
def test_what_the_service_of_compose_names_is_defined(name: str) -> None:
    """Every one, and nothing besides; a volume that begins with a dot is a folder of the host."""
    used = [each.partition(":")[0] for each in SERVICE[name]]
    assert [each for each in used if not each.startswith(".")] == list(COMPOSE[0][name])
