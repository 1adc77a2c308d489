"""A store of each kind, which tests of commands fill and inspect."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from router.model.event import Event, OutboundEvent
from router.store.postgres.schema import migration
from router.store.postgres.store import addition_of, to_json
from router.store.protocol import DeliveryRow, Record, Stage, State, StoreLimits
from router.store.sqlite.file import connect
from router.store.sqlite.statements import Statements
from tests.support.filled import fill
from tests.support.inprocess import Ran, ran
from tests.support.postgres import USER, Database
from tests.support.sockets import HOST

LIMITS = StoreLimits(max_bytes=1 << 40, share=1.0)

#: The schema that the router creates by default.
SCHEMA = "ebaas_router"


def dead(target: str = "ledger", reason: str = "timeout") -> DeliveryRow:
    return DeliveryRow(target, State.DEAD, reason, retries=20)


class Shop(ABC):
    #: The value of `--store`.
    option: str
    #: The tables with events, in the order in which they can be emptied.
    tables: Sequence[str]
    #: A number of deliveries that takes several steps, but hardly any time.
    many: int

    def add(
        self,
        event_id: str,
        *rows: DeliveryRow,
        key: str = "a.gs.cert.1",
        body: bytes = b"{}",
        ago: float = 60.0,
        stage: Stage = Stage.ENDED,
    ) -> None:
        """Add an event whose first request came `ago` seconds ago."""
        at = time.time() - ago
        record = Record(event_id, stage, at, 21, at, at, at, at + 1e6)
        letter = OutboundEvent(
            Event("a", "gs", "cert", "1", key, body), hashlib.sha256(body).digest(), "r"
        )
        self.put(record, letter, rows or (dead(),))

    def add_many(self, number: int) -> None:
        with self.at_once():
            for n in range(number):
                self.add(f"event-{n}", dead(f"target-{n % 4}"), body=b'{"n":%d}' % n)

    @abstractmethod
    def put(self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow]) -> None: ...

    @abstractmethod
    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Commit everything added in the block at once."""
        yield

    @abstractmethod
    def acknowledged_later(self, event_id: str) -> None: ...

    @abstractmethod
    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock out other writers."""
        yield

    def is_alone(self) -> bool:
        """Return whether no other connection is open, not even one of a client that has gone."""
        return True

    @abstractmethod
    def query(self, sql: str) -> list[tuple[Any, ...]]: ...

    def states(self) -> dict[str, str]:
        found = self.query(
            "SELECT event_id, target, state, reason FROM deliveries JOIN events USING (seq)"
        )
        return {f"{event} {target}": f"{state} {reason}" for event, target, state, reason in found}

    def forget(self) -> None:
        for table in self.tables:
            self.query(f"DELETE FROM {table} RETURNING 1")

    def count(self, state: State) -> int:
        ((number,),) = self.query(f"SELECT count(*) FROM deliveries WHERE state = '{state}'")
        return int(number)

    def actions(self) -> list[tuple[Any, ...]]:
        return self.query("SELECT verb, who, what, deliveries FROM actions ORDER BY seq")

    def run(self, *arguments: str) -> Ran:
        return ran("deliveries", *arguments, "--store", self.option)

    def lines(self, *arguments: str) -> list[Any]:
        finished = self.run(*arguments, "--format", "json")
        assert (finished.code, finished.err) == (0, "")
        return [json.loads(line) for line in finished.lines]

    def listed(self, *arguments: str) -> list[str]:
        found = self.lines("list", *arguments)
        return [f"{e['event_id']} {e['target']}" for e in found if e["kind"] == "delivery"]


class SqliteShop(Shop):
    tables = ("deliveries", "bodies", "events")
    many = 5000

    def __init__(self, path: Path) -> None:
        self.option = str(path)
        fill(path, 0)
        self._connection = connect(path)
        self._rows = Statements(self._connection, LIMITS)

    def put(self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow]) -> None:
        self._rows.add(record, letter, rows)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        yield
        self._connection.execute("COMMIT")

    def acknowledged_later(self, event_id: str) -> None:
        self._rows.supersede([event_id], ["ledger"], time.time())

    @contextmanager
    def locked(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        yield
        self._connection.execute("ROLLBACK")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def close(self) -> None:
        self._connection.close()


class PostgresShop(Shop):
    tables = ("events",)
    many = 1000

    def __init__(self, database: Database) -> None:
        # The password is in the environment, which is not warned about.
        self.option = f"postgresql://{USER}@{HOST}:{database.server.port}/{database.name}"
        self._connection = psycopg.connect(database.dsn, autocommit=True)
        self._limits = to_json(asdict(LIMITS))
        #: What is to be added with the next statement.
        self._asked: list[dict[str, Any]] = []
        self._bodies: list[bytes] = []
        self._gathering = False
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        self._connection.execute(f"SET search_path = {SCHEMA}")

    def prepare(self) -> None:
        self._connection.execute(migration(0, SCHEMA))

    def clear(self) -> None:
        self._connection.execute("TRUNCATE events, actions, pauses, usage CASCADE")

    def put(self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow]) -> None:
        self._asked.append(addition_of(record, letter, rows, 1e12, ()))
        self._bodies.append(letter.event.body)
        if not self._gathering:
            self._send()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._gathering = True
        yield
        self._gathering = False
        self._send()

    def _send(self) -> None:
        values = (to_json(self._asked), self._bodies, self._limits)
        self._connection.execute("SELECT * FROM add(%s, %s, %s)", values)
        self._asked, self._bodies = [], []

    def acknowledged_later(self, event_id: str) -> None:
        asked = {"event_ids": [event_id], "reached": ["ledger"], "now": time.time()}
        self._connection.execute("SELECT supersede(%s, %s)", (to_json([asked]), self._limits))

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._locked("EXCLUSIVE"):
            yield

    @contextmanager
    def unreadable(self) -> Iterator[None]:
        """Make readers wait."""
        with self._locked("ACCESS EXCLUSIVE"):
            yield

    @contextmanager
    def _locked(self, mode: LiteralString) -> Iterator[None]:
        with self._connection.transaction(force_rollback=True):
            self._connection.execute(f"LOCK TABLE events, deliveries IN {mode} MODE")
            yield

    def is_alone(self) -> bool:
        return self.query(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ) == [(0,)]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()

    def close(self) -> None:
        self._connection.close()
