"""The router's way to its PostgreSQL server: by TLS, and through a pooler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

from tests.store.faults import at_once, scene
from tests.support.command import run
from tests.support.effort import long
from tests.support.house import routes
from tests.support.postgres import PASSWORD, USER, Database, Server, pgbouncer
from tests.support.serving import serving, target, unsettled
from tests.support.waiting import wait_until


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def certified(server: Server, authority: trustme.CA) -> Iterator[None]:
    """The server shows a certificate for its address."""
    issued = authority.issue_cert("127.0.0.1")
    certificate = server.give("server.crt", issued.cert_chain_pems[0].bytes().decode())
    key = server.give("server.key", issued.private_key_pem.bytes().decode())
    with server.configured(ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key)):
        yield


def verified(database: Database, authority: trustme.CA, folder: Path) -> Database:
    """Require TLS, and a certificate of this authority."""
    authority.cert_pem.write_to_path(folder / "ca.pem")
    strict = database.through(database.server.port)
    strict.dsn += f"?sslmode=verify-full&sslrootcert={quote(str(folder / 'ca.pem'), safe='')}"
    return strict


def test_every_connection_is_encrypted(
    postgresql: Server, database: Database, authority: trustme.CA, tmp_path: Path
) -> None:
    """With `sslmode=verify-full`, which requires a certificate of that authority."""
    with certified(postgresql, authority):
        strict = verified(database, authority, tmp_path)
        with target() as strong, serving(tmp_path, {"strong": strong}, store=strict) as router:
            assert router.post("secret") == "000"
            used = database.rows(
                "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                f"WHERE usename = '{USER}'"
            )
            assert used == [("t",)]


@long
def test_a_server_that_nobody_vouches_for_is_refused(
    postgresql: Server, database: Database, authority: trustme.CA, tmp_path: Path
) -> None:
    """Its certificate is from another authority: the router says so, and does not start."""
    with certified(postgresql, trustme.CA()):
        strict = verified(database, authority, tmp_path)
        assert "certificate verify failed" in refused(tmp_path, strict)


@long
def test_a_server_without_tls_is_not_used(
    database: Database, authority: trustme.CA, tmp_path: Path
) -> None:
    """If TLS is required nothing is sent in the clear, least of all the password: the router says
    why, and does not start."""
    strict = verified(database, authority, tmp_path)
    assert "server does not support SSL" in refused(tmp_path, strict)


def refused(folder: Path, database: Database) -> str:
    """Return the output of a router that does not start with this database."""
    config = folder / "routes.yaml"
    config.write_text(json.dumps(routes({"one": "http://127.0.0.1:1/"})))
    finished = run("serve", "--config", str(config), "--store", database.dsn, "--port", "0")
    text = finished.stderr.decode()
    assert finished.returncode == 3
    assert PASSWORD not in text
    return text


def test_a_router_works_through_pgbouncer(database: Database, tmp_path: Path) -> None:
    """In transaction mode: no statement depends on an earlier one of its session."""
    with pgbouncer(database, connections=2) as pooled, scene(tmp_path, pooled) as at:
        names = [f"{kind}-{number}" for number in range(20) for kind in ("fails", "queues", "well")]
        assert at_once(at.router, *names) == ["500", "000", "000"] * 20
        at.healed.set()
        assert set(at_once(at.router, *names)) == {"000"}
        wait_until(lambda: not unsettled(at.store))
        assert {len(at.strong.of(f"fails-{number}")) for number in range(20)} == {1}
