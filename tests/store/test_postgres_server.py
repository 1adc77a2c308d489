"""The PostgreSQL server of the tests, its pool and its proxy: what other tests rely on."""

from __future__ import annotations

import subprocess

from tests.support.postgres import Database, Server, pgbouncer
from tests.support.proxy import Loss, proxy


def ask(dsn: str, sql: str = "SELECT 'well'") -> str:
    """What psql says, whether it is an answer or an error."""
    told = subprocess.run(
        ["psql", "-X", "-A", "-t", "-q", dsn, "-c", sql],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or told.stderr.strip()


def test_a_database_survives_a_crash_of_its_server(postgresql: Server, database: Database) -> None:
    """What was committed is there after an immediate stop, at the same address."""
    ask(database.dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    with postgresql.down(immediately=True):
        assert "refused" in ask(database.dsn)
    assert ask(database.dsn, "SELECT number FROM kept") == "7"


def test_settings_are_in_force_for_a_block(postgresql: Server, database: Database) -> None:
    """Also for connections that are made without naming them."""
    with postgresql.reloaded(default_transaction_read_only="on"):
        assert "read-only" in ask(database.dsn, "CREATE TABLE kept ()")
    assert ask(database.dsn, "CREATE TABLE kept ()") == ""


def test_pgbouncer_stands_in_for_its_server(database: Database) -> None:
    """With the same user and password, at another port."""
    with pgbouncer(database) as pooled:
        assert pooled.dsn != database.dsn
        assert ask(pooled.dsn) == "well"


def test_a_lost_answer_is_one_that_was_carried_out(postgresql: Server, database: Database) -> None:
    """The server has committed, its client sees a broken connection; a lost question is not
    carried out."""
    ask(database.dsn, "CREATE TABLE kept (number int)")
    with proxy(postgresql.port) as between:
        dsn = database.through(between.port).dsn
        with between.losing(b"VALUES", Loss.ASKING):
            assert "connection" in ask(dsn, "INSERT INTO kept VALUES (1)")
        with between.losing(b"VALUES", Loss.ANSWERING):
            assert "connection" in ask(dsn, "INSERT INTO kept VALUES (2)")
        assert between.lost == 2
        assert ask(dsn, "SELECT number FROM kept") == "2"


def test_a_proxy_refuses_and_takes_connections_again(
    postgresql: Server, database: Database
) -> None:
    """At the same port."""
    with proxy(postgresql.port) as between:
        dsn = database.through(between.port).dsn
        with between.refusing():
            assert "refused" in ask(dsn)
        assert ask(dsn) == "well"
