"""A router with an ops port, a target that fails, and a target with dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.serving import Serving, Target, always, states, target
from tests.support.sockets import free_port
from tests.support.waiting import wait_until

OPS_TOKEN, LEDGER_TOKEN = "ops-token-of-the-tests", "ledger-token-of-the-tests"

#: A hostile answer of a receiver.
HOSTILE = "<img src=x onerror=x()>"


@dataclass
class Troubled:
    """One router for the tests of the page."""

    folder: Path
    port: int
    config: Path
    serve: Serving
    #: Targets by name: `certificates` acknowledges; the required `ledger` and the optional `audit`
    #: fail.
    targets: dict[str, Target]
    ops_token: str = OPS_TOKEN
    ledger_token: str = LEDGER_TOKEN

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> Path:
        return store_of(self.folder)

    def post(self, *names: str) -> None:
        """Send events."""
        for name in names:
            self.serve.post(name)

    def dead(self, name: str) -> None:
        """Send an event whose delivery to `audit` becomes a dead letter."""
        self.post(name)
        wait_until(lambda: states(self.store).get(name, {}).get("audit") == "dead")

    def start(self) -> None:
        """Start it again, at the same ports."""
        self.serve = _serve(self.folder, self.config, self.port)

    def stop(self) -> None:
        self.serve.close()


def store_of(folder: Path) -> Path:
    return folder / "store.db"


@contextmanager
def troubled(folder: Path) -> Iterator[Troubled]:
    with ExitStack() as open_until_the_end:
        targets = {
            name: open_until_the_end.enter_context(target(always(code)))
            for name, code in {"certificates": "000", "ledger": HOSTILE, "audit": "700"}.items()
        }
        config = folder / "routes.yaml"
        config.write_text(json.dumps(_routes(targets)))
        (folder / "tokens.yaml").write_text(json.dumps(_TOKENS))
        port = free_port()
        made = Troubled(folder, port, config, _serve(folder, config, port), targets)
        open_until_the_end.callback(made.stop)
        yield made


def _serve(folder: Path, config: Path, port: int) -> Serving:
    options = ["--ops-port", str(port), "--ops-tokens", str(folder / "tokens.yaml")]
    return Serving(config, store_of(folder), options, {})


_TOKENS = {
    "tokens": [
        {
            "name": "ops",
            "token": OPS_TOKEN,
            "may": ["read", "replay", "discard", "pause", "bodies"],
        },
        {"name": "ledger", "token": LEDGER_TOKEN, "owner": "team ledger", "may": ["read"]},
    ]
}


def _routes(targets: dict[str, Target]) -> dict[str, object]:
    """EBaaS retries late; the queue retries once and soon."""
    return {
        "version": 1,
        "ebaas": {"waits": ["1h"]},
        "queue": {"retries": 1, "waits": ["50ms"]},
        "targets": {
            name: {"url": each.url, "owner": f"team {name}"} for name, each in targets.items()
        },
        "routes": [
            {
                "name": "everything under gs",
                "match": "a.gs.*",
                "required": ["certificates", "ledger"],
            },
            {"name": "for the auditors", "match": "*.cert.*", "optional": ["audit"]},
            {"name": "revoked", "match": {"event_status": ["3", "4"]}, "required": ["ledger"]},
        ],
    }
