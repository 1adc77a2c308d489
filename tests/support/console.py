"""A router with an ops port, and tokens of several teams."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from router.config.holders import PERMISSIONS
from tests.support.command import PATIENCE
from tests.support.house import event
from tests.support.rows import Store
from tests.support.serving import Serving, Target, target
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until

#: The holders of tokens. A token is its holder's name, repeated.
HOLDERS: dict[str, dict[str, Any]] = {
    "ops": {"may": ["read", "replay", "discard", "pause", "bodies"]},
    "reader": {"may": ["read"]},
    "ledger": {"may": ["read", "replay", "discard", "pause"], "owner": "team ledger"},
    "audit": {"may": ["read"], "owner": "team audit"},
    # One holder for each permission.
    **{f"only-{each}": {"may": [each]} for each in PERMISSIONS},
}

#: The targets and their owners.
OWNERS = {"ledger": "team ledger", "auditors": "team audit", "billing": ""}

#: One retry of the router's own, so that a failing delivery is soon a dead letter.
SHORT = {"retries": 1, "waits": ["10ms"]}


def token_of(name: str) -> str:
    return f"{name}-" * 5


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token_of(name)}"}


@dataclass
class Console:
    router: Serving
    config: Path
    url: str
    http: httpx.Client
    targets: dict[str, Target]

    def ask(self, method: str, path: str, who: str = "ops", **options: Any) -> httpx.Response:
        headers = {**(bearer(who) if who else {}), **options.pop("headers", {})}
        return self.http.request(
            method, f"{self.url}/api/v1{path}", headers=headers, timeout=PATIENCE, **options
        )

    def get(self, path: str, who: str = "ops", **params: Any) -> Any:
        answer = self.ask("GET", path, who, params=params)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def post(self, path: str, body: Any, who: str = "ops") -> Any:
        answer = self.ask("POST", path, who, json=body)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def send(self, key: str, name: str) -> str:
        source, topic, kind, status = key.split(".")
        content = event(
            event_source=source, event_topic=topic, event_type=kind, event_status=status,
            event_key=key, changes=[name],
        )  # fmt: skip
        return self.router.ask("POST", "/callback", content)[1]

    def wait_for(self, state: str, count: int, target: str, *match: str) -> None:
        """Wait until a target has so many deliveries of these keys in that state."""

        def is_reached() -> bool:
            found = self.get("/deliveries", target=target, state=state, match=match)["counts"]
            return bool(sum(each["deliveries"] for each in found) == count)

        wait_until(is_reached)


@contextmanager
def console(
    folder: Path, *options: str, tokens: bool = True, store: Store | None = None
) -> Iterator[Console]:
    """Start a router. `l.*` goes to the ledger, `u.*` to the auditors, `b.*` to both, `p.*` to
    billing, all as optional targets. Its files are in `folder`."""
    with ExitStack() as closing:
        targets = {name: closing.enter_context(target()) for name in OWNERS}
        config = folder / "routes.yaml"
        config.write_text(json.dumps(_routes(targets), indent=1))
        if tokens:
            options = (*options, "--ops-tokens", str(_tokens(folder)))
        options = ("--ops-port", str(free_port()), *options)
        started = Serving(config, store or folder / "store.db", options, {})
        closing.callback(started.close)
        http = closing.enter_context(httpx.Client(**PLAIN))
        yield Console(started, config, started.lines("serving")[0]["ops"], http, targets)


def _routes(targets: dict[str, Target]) -> dict[str, Any]:
    both = ["ledger", "auditors"]
    routes = {"l.*": ["ledger"], "u.*": ["auditors"], "b.*": both, "p.*": ["billing"]}
    return {
        "version": 1,
        "queue": SHORT,
        "targets": {
            name: {"url": each.url, **({"owner": OWNERS[name]} if OWNERS[name] else {})}
            for name, each in targets.items()
        },
        "routes": [
            *(
                {"name": f"what {key[0]} has", "match": key, "optional": names}
                for key, names in routes.items()
            ),
            {"name": "the auditors' own", "match": "b.*", "optional": ["auditors"]},
        ],
    }


def _tokens(folder: Path) -> Path:
    path = folder / "tokens.yaml"
    holders = [{"name": name, "token": token_of(name), **each} for name, each in HOLDERS.items()]
    path.write_text(json.dumps({"tokens": holders}))
    return path
