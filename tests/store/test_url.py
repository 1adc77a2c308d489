"""The URL of a store: its syntax, and that nothing secret of it is ever shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.model.errors import SettingInvalid
from router.store.opening import kind_of
from router.store.postgres.connection import Failed
from router.store.url import Database, parse_database
from tests.support.command import run
from tests.support.inprocess import read

#: Planted where a URL may have a password.
CANARY = "hunter2"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://db/ebaas", "postgresql://db/ebaas"),
        (f"postgres://router:{CANARY}@db:5433/ebaas", "postgresql://db:5433/ebaas"),
        (f"postgresql://a%40b:{CANARY}%2F@[::1]:5432/e", "postgresql://[::1]:5432/e"),
        (
            f"postgresql://r:{CANARY}@one:1,two:2/e?sslmode=verify-full",
            "postgresql://one:1,two:2/e",
        ),
        (f"postgresql:///ebaas?host=/run/postgresql&passfile={CANARY}", "postgresql:///ebaas"),
        (
            "postgresql://db/e?target_session_attrs=read-write&sslrootcert=ca.pem",
            "postgresql://db/e",
        ),
    ],
)
def test_a_database_is_shown_without_its_user_and_parameters(url: str, shown: str) -> None:
    """Several servers, an IPv6 address or a socket are parsed; only the location is shown."""
    database = parse_database(url)
    assert database.url.reveal() == url
    assert str(database) == shown
    assert CANARY not in repr(database)
    assert read(STORE=url).store == database


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (f"mysql://router:{CANARY}@db/ebaas", "not the URL of a PostgreSQL database"),
        (f"postgresql://router:{CANARY}@[db/ebaas", "not the URL of a PostgreSQL database"),
        (f"postgresql://router:{CANARY}\u2100@db/ebaas", "not the URL of a PostgreSQL database"),
        (f"postgresql://router:{CANARY} @db/ebaas", "not the URL of a PostgreSQL database"),
        (f"postgresql://router:{CANARY}@db", "names no database"),
        (f"postgresql://router:{CANARY}@db/", "names no database"),
        (f"postgresql://router:{CANARY}@/ebaas", "names no server"),
        (f"postgresql://router:{CANARY}@db:0/ebaas", "NAME:PORT"),
        (f"postgresql://router:{CANARY}@db,/ebaas", "NAME:PORT"),
        (f"postgresql://router:{CANARY}/x@db/ebaas", "/ as %2F"),
        (f"postgresql://router:{CANARY}#x@db/ebaas", "# as %23"),
        (f"postgresql://router:{CANARY}?x@db/ebaas", "? as %3F"),
        (f"postgresql://router:{CANARY}@x@db/ebaas", "@ as %40"),
        (f"postgresql://router:{CANARY}%x@db/ebaas", "% as %25"),
        (f"postgresql://db/ebaas?password={CANARY}", "before the @"),
        (f"postgresql://router:{CANARY}@db/e?sslmod=require", "did you mean sslmode?"),
        (f"postgresql://router:{CANARY}@db/e?{CANARY}=1", "unknown parameter"),
        (f"postgresql://router:{CANARY}@db/e?sslmode=on", "not one of disable, allow"),
        (f"postgresql://router:{CANARY}@db/e?schema=Quoted%22{CANARY}", "the URL's schema"),
        (f"postgresql://router:{CANARY}@db/e?{CANARY}", "unknown parameter"),
        (f"router:{CANARY}@db://e", "not the URL of a PostgreSQL database"),
        (f"host=db dbname=e password={CANARY}", "a URL (postgresql://USER@HOST/NAME)"),
        (f"router:{CANARY}@db/ebaas", "a URL (postgresql://USER@HOST/NAME)"),
        ("127.0.0.1:5432/ebaas", "a URL (postgresql://USER@HOST/NAME)"),
    ],
)
def test_a_wrong_url_is_explained_and_not_repeated(url: str, why: str) -> None:
    """One line says what is wrong; in a wrong URL the password may be anywhere."""
    with pytest.raises(SettingInvalid) as raised:
        read(f"--store={url}")
    assert why in str(raised.value)
    assert CANARY not in str(raised.value)


def test_a_password_in_the_command_line_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Every user of the machine can read it there, but not in a variable."""
    url = f"postgresql://router:{CANARY}@db/ebaas"
    assert isinstance(read(STORE=url).store, Database)
    assert capsys.readouterr().err == ""
    read("--store", url)
    output = capsys.readouterr().err
    assert "use passfile=FILE in the URL, PGPASSWORD, or EBAAS_ROUTER_STORE" in output
    assert CANARY not in output


@pytest.mark.parametrize("command", [("serve",), ("deliveries", "list"), ("status",)])
def test_every_command_takes_the_same_url(command: tuple[str, ...]) -> None:
    """A wrong one is a usage error, one line, before anything is opened."""
    finished = run(*command, "--store", f"postgresql://router:{CANARY}@db/e?sslmod=x")
    assert finished.returncode == 2
    assert finished.stdout == b""
    assert len(finished.stderr.splitlines()) == 1
    assert CANARY.encode() not in finished.stderr


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            'connection to server at "db.example" (10.1.2.3), port 5432 failed: Connection refused',
            "Connection refused",
        ),
        (
            'connection failed: FATAL:  password authentication failed for user "s3cret"',
            "FATAL:  password authentication failed for user …",
        ),
        ('could not read "s3cret', "could not read …"),
        ("no host of that name is known", "no host of that name is known"),
        ("a\x1b[31mb\n" + "x" * 200, "a [31mb " + "x" * 112),
    ],
)
def test_a_servers_line_is_made_harmless(message: str, shown: str) -> None:
    """A line of libpq is shown without names, addresses and control characters, and shortened."""
    assert Failed("", message).detail == shown


def test_a_store_is_shown_as_it_was_given() -> None:
    """`/status` and the log name the file or the database, without secrets."""
    assert kind_of(Path("data/router.db")) == ("sqlite", "data/router.db")
    database = parse_database(f"postgresql://u:{CANARY}@db.example/ebaas")
    assert kind_of(database) == ("postgresql", "postgresql://db.example/ebaas")
    assert kind_of(None) == ("none", "")
