"""deploy/compose.yaml, as docker-compose understands it: what it mounts is there, and is confined.

`make deploy-check` gives the folder with what docker-compose makes of it in DEPLOY_BUILT.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.config.settings import Settings
from router.contract.schedule import parse_duration
from router.ops.guard import OpsTokens
from router.store.url import Database
from tests.deploy.variables import longest_stop, settings_of
from tests.support.command import ROOT
from tests.support.inprocess import ran

BUILT = os.environ.get("DEPLOY_BUILT")
DEPLOY = ROOT / "deploy"

pytestmark = pytest.mark.skipif(not BUILT, reason="make deploy-check builds it")


def built(name: str) -> Any:
    return json.loads((Path(BUILT or "") / f"{name}.json").read_text())


@pytest.fixture(params=["compose", "compose-postgresql"])
def compose(request: pytest.FixtureRequest) -> Any:
    return built(request.param)


def test_every_file_that_is_mounted_is_there(compose: Any) -> None:
    """A missing one would be made as an empty folder, by root, without a word."""
    sources = [
        volume["source"]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume["type"] == "bind"
    ]
    assert len(sources) > 3
    assert [source for source in sources if not Path(source).exists()] == []


def test_only_data_can_be_written(compose: Any) -> None:
    """No service is root, none has a capability, a root to write to, or a way to more rights."""
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].partition(":")[0] != "0", name
        bound = [each for each in service.get("volumes", []) if each["type"] == "bind"]
        assert [each for each in bound if not each.get("read_only")] == [], name


def test_only_callbacks_are_published_to_others(compose: Any) -> None:
    """All else is for this machine alone."""
    ports = [port for each in compose["services"].values() for port in each.get("ports", [])]
    others = [port["target"] for port in ports if port.get("host_ip") != "127.0.0.1"]
    assert others == [Settings().port]


def test_the_router_takes_its_variables_and_is_given_the_files_they_name(compose: Any) -> None:
    """A wrong name would do nothing, a wrong value end the start."""
    router = compose["services"]["router"]
    settings = settings_of(router["environment"])
    mounted = {volume["target"]: Path(volume.get("source", "")) for volume in router["volumes"]}
    file = settings["ops_tokens"]
    assert (mounted[str(file.parent)] / file.name).exists()
    if "postgresql" in compose["services"]:
        assert isinstance(settings["store"], Database)
    else:
        assert settings["store"] == Path("/data/ebaas-router.db")


def test_a_stop_is_waited_for(compose: Any) -> None:
    """Longer than the drain's delay, its timeout and the time for the last replies together."""
    router = compose["services"]["router"]
    needs = longest_stop(settings_of(router["environment"]))
    assert parse_duration(router["stop_grace_period"]) > needs


def test_the_database_is_the_one_that_the_router_asks_for() -> None:
    """Its user, its name, its host and its password, and a network that has both."""
    services = built("compose-postgresql")["services"]
    server, router = services["postgresql"], services["router"]
    is_told, asks = server["environment"], router["environment"]
    address = f"postgresql://{is_told['POSTGRES_USER']}@postgresql/{is_told['POSTGRES_DB']}"
    assert asks["EBAAS_ROUTER_STORE"] == address
    assert "PGPASSWORD" in asks
    given = [f"/run/secrets/{secret['source']}" for secret in server["secrets"]]
    assert given == [is_told["POSTGRES_PASSWORD_FILE"]]
    assert set(server["networks"]) <= set(router["networks"])


def test_the_routes_go_to_the_stand_in(compose: Any, tmp_path: Path) -> None:
    """Their target has its name and port; `check --strict` finds nothing wrong."""
    for name in compose["secrets"]:
        (tmp_path / name).write_text(f"a-long-random-{name}")
    file = DEPLOY / "compose/config/routes.yaml"
    output = ran("check", file, "--secrets-dir", tmp_path, "--strict")
    assert (output.code, output.err) == (0, ""), output.out
    OpsTokens(DEPLOY / "compose/config/ops-tokens.yaml", {}, tmp_path)
    [target] = yaml.safe_load(file.read_text())["targets"].values()
    command = compose["services"]["receiver"]["command"]
    assert target["url"] == f"http://receiver:{command[command.index('--port') + 1]}/callback"


def test_prometheus_scrapes_the_router(compose: Any) -> None:
    """Its ops port, with its token, under the name that the rules ask for; the rules are there."""
    prometheus = compose["services"]["prometheus"]
    settings = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())
    [scrape] = settings["scrape_configs"]
    assert scrape["job_name"] == "ebaas-router"
    assert scrape["static_configs"] == [{"targets": [f"router:{Settings().ops_port}"]}]
    given = [f"/run/secrets/{each['source']}" for each in prometheus["secrets"]]
    assert scrape["authorization"] == {"credentials_file": given[0]}
    mounted = {each["target"] for each in prometheus["volumes"]}
    assert {f"/etc/prometheus/{file}" for file in settings["rule_files"]} <= mounted
    router = compose["services"]["router"]
    assert set(router["networks"]) & set(prometheus["networks"])
