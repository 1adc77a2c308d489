"""A real `serve` process with a store and its targets, called like EBaaS calls it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from tests.support import receivers
from tests.support.command import PATIENCE, Running
from tests.support.house import event, routes
from tests.support.receivers import BROKEN, Right
from tests.support.rows import Store, option, query
from tests.support.sockets import free_port

#: A schedule that a test can wait for.
SOON = {"retries": 20, "waits": ["200ms"]}


def body(name: str) -> bytes:
    return event(changes=[name])


def name_of(body: bytes) -> str:
    name: str = json.loads(body)["changes"][0]
    return name


class Got(NamedTuple):
    """One request at a target."""

    event: str
    webhook_id: str
    code: str
    #: The header `x-ebaas-cause`.
    cause: str


#: Returns a target's answer for an event's name and `webhook-id`; `lost` breaks the connection.
Code = Callable[[str, str], str]


def always(code: str) -> Code:
    return lambda *_: code


_ACKNOWLEDGES = always("000")


class Target:
    """A business endpoint that answers by `code`, in threads of the test's process."""

    url: str

    def __init__(self, code: Code) -> None:
        self.code = code
        #: The requests, in the order of their answers.
        self.got: list[Got] = []

    def of(self, name: str) -> list[Got]:
        return [each for each in self.got if each.event == name]


@contextmanager
def target(code: Code = _ACKNOWLEDGES) -> Iterator[Target]:
    made = Target(code)

    class Answer(Right):
        def judge(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
            name, webhook_id = name_of(body), headers.get("webhook-id", "")
            code = made.code(name, webhook_id)
            # Before the answer, because a caller that has the answer may look here.
            made.got.append(Got(name, webhook_id, code, headers.get("x-ebaas-cause", "")))
            return BROKEN if code == "lost" else (200, {"code": code})

    with receivers.serving(Answer) as made.url:
        yield made


class Gate:
    """The code of a target that acknowledges once it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.open = self._open.set
        #: The names of the events that have come.
        self.come: list[str] = []

    def __call__(self, name: str, _: str) -> str:
        self.come.append(name)
        self._open.wait(PATIENCE)
        return "000"


@contextmanager
def gated() -> Iterator[tuple[Target, Gate]]:
    """Run a target whose answers wait until its gate is opened, or the block ends."""
    gate = Gate()
    with target(gate) as server:
        try:
            yield server, gate
        finally:
            gate.open()


class Serving(Running):
    """`serve` on a free port, once it is ready."""

    def __init__(
        self,
        config: Path,
        store: Store,
        options: Sequence[str],
        environ: Mapping[str, str],
        **how: Any,
    ) -> None:
        with patch.dict(os.environ, environ):
            super().__init__(
                *("serve", "--config", str(config), "--store", option(store), "--port", "0"),
                *("--log-format", "json", *options),
                **how,
            )
        try:
            self.wait_for(lambda: self.lines("serving") or self.process.poll() is not None)
            url = self.lines("serving")[0]["url"]
        except BaseException:
            self.close()
            raise
        self.port = int(url.rsplit(":", 1)[1].split("/")[0])

    def lines(self, happening: str) -> list[dict[str, Any]]:
        each = (json.loads(line) for line in list(self.stdout))
        return [line for line in each if line["happening"] == happening]

    def post(self, name: str) -> str:
        """Send an event and return the code of the reply; `""` if there was none."""
        return self.ask("POST", "/callback", body(name))[1]

    def ready(self) -> int:
        return self.ask("GET", "/readyz")[0]

    def ask(self, method: str, path: str, content: bytes = b"") -> tuple[int, str]:
        """Return the status and the code of the reply; 0 and `""` if there was none."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            try:
                connection.request(method, path, content)
                answer = connection.getresponse()
                code: str = json.loads(answer.read())["code"]
            except (OSError, HTTPException):
                return 0, ""
            return answer.status, code


@contextmanager
def serving(
    folder: Path,
    required: Mapping[str, Target],
    optional: Mapping[str, Target] | None = None,
    store: Store | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    how: Mapping[str, Any] | None = None,
    **top: Any,
) -> Iterator[Serving]:
    """Run a router with these targets and with its files in `folder`; `how` has arguments of
    `Running`."""
    table = routes(_urls(required), _urls(optional or {}), **top)
    config = folder / "routes.yaml"
    config.write_text(json.dumps(table))
    place = store or folder / "store.db"
    with closing(Serving(config, place, options, environ or {}, **(how or {}))) as started:
        yield started


def with_door(folder: Path) -> tuple[list[str], list[str]]:
    """Return options of `serve` for an ops port with one token, and of commands that use it."""
    port, tokens, token = free_port(), folder / "door.yaml", folder / "door"
    token.write_text("the-token-of-this-door")
    may = "[read, replay, discard, pause, bodies]"
    tokens.write_text(f"tokens: [{{name: ops, token: the-token-of-this-door, may: {may}}}]")
    for path in (tokens, token):
        path.chmod(0o600)
    url = f"http://127.0.0.1:{port}"
    return (
        ["--ops-port", str(port), "--ops-tokens", str(tokens)],
        ["--url", url, "--token-file", str(token)],
    )


def _urls(targets: Mapping[str, Target]) -> dict[str, str]:
    return {name: each.url for name, each in targets.items()}


def states(store: Store) -> dict[str, dict[str, str]]:
    """Return the state of each delivery in the store, by event name and target."""
    found: dict[str, dict[str, str]] = {}
    for content, target, state in query(store, _DELIVERIES):
        found.setdefault(name_of(bytes.fromhex(content)), {})[target] = state
    return found


def unsettled(store: Store) -> list[tuple[str, str]]:
    """Return the event names and the targets of unsettled deliveries."""
    found = query(store, f"{_DELIVERIES} WHERE state IN ('awaiting', 'queued')")
    return [(name_of(bytes.fromhex(content)), target) for content, target, _ in found]


_DELIVERIES = "SELECT encode(body, 'hex'), target, state FROM letters JOIN deliveries USING (seq)"
