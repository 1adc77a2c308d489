"""One connection to a server: its address and login, statements and their rows, what went wrong."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg import Error, conninfo, pq
from psycopg.abc import RV, PQGen
from psycopg.types.numeric import FloatLoader
from psycopg.waiting import wait_async

from router.model.errors import SettingInvalid, closed, may, why_not
from router.net.egress import look_up
from router.store.protocol import StoreFailed
from router.store.url import Database, parse_database

#: By SQLSTATE, or by its class, which is the first two characters.
_WORDS = {
    "08": "unreachable",
    "23": "postgresql",
    "25006": "read_only",
    "28": "refused",
    "3D000": "refused",
    "40": "locked",
    "42501": "refused",
    "53100": "disk_full",
    "53200": "memory",
    "53300": "connections",
    "55P03": "locked",
    "57014": "slow",
    "57P": "unreachable",
    "58": "io",
    "XX001": "corrupt",
    "XX002": "corrupt",
}

#: Another server may have taken over, so that another connection is free of it.
_MOVED = "25006"

#: How a server, or the pooler before it, says that it is going, at whatever moment of a commit.
_GOING = ("08", "57P")

#: What does not mend by itself: the password, the database, the rights of the user.
_HOPELESS = ("28", "3D000", "42501")


#: What a server or libpq quotes: users, databases, hosts, files.
_QUOTED = re.compile('"[^"]*"?')

_MAX_DETAIL = 120


class Failed(StoreFailed):
    """The server has answered with an error; nothing of what was asked has come to pass."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(_word(sqlstate))
        self._sqlstate = sqlstate
        #: The server's own line, for people who set it up; it may quote what was asked.
        self.message = message
        self.detail = harmless(message)

    @property
    def moved(self) -> bool:
        """The connection should be made anew."""
        return self._sqlstate == _MOVED

    @property
    def hopeless(self) -> bool:
        """Trying again does not help."""
        return self._sqlstate.startswith(_HOPELESS)


class Away(StoreFailed):
    """There is no connection: nothing was sent."""

    def __init__(self, why: StoreFailed) -> None:
        super().__init__(str(why))
        self.detail = why.detail


class Lost(StoreFailed):
    """The connection has ended without an answer: nobody knows what has come to pass."""

    def __init__(self) -> None:
        super().__init__("lost")
        self.detail = "the connection broke before the answer"


def harmless(message: str) -> str:
    """A line of libpq or the server, with no name, no address and nothing else that is quoted."""
    words = _QUOTED.sub("…", message.rpartition(" failed: ")[2])
    return "".join(c if c.isprintable() else " " for c in words)[:_MAX_DETAIL]


def answered(error: psycopg.Error) -> Failed | Lost:
    """What an error means that has come in place of an answer."""
    if not error.sqlstate or error.sqlstate.startswith(_GOING):
        return Lost()
    return Failed(error.sqlstate, error.diag.message_primary or "")


def _word(sqlstate: str) -> str:
    for length in (5, 3, 2):
        if word := _WORDS.get(sqlstate[:length]):
            return word
    return "postgresql"


#: The schema that has the tables, unless the address says `schema=…`.
SCHEMA = "ebaas_router"

#: What every connection has unless the address says otherwise: what is sent and not taken for so
#: long (in milliseconds) ends it, and an idle one finds out in a minute that nobody is there.
_DEFAULTS = {
    "application_name": "ebaas-router",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """One database, and the schema in it."""

    #: libpq's parameters, the password perhaps among them.
    parameters: Mapping[str, str]
    schema: str
    #: Where, for people.
    shown: str

    def __repr__(self) -> str:
        return f"DatabaseAddress({self.shown})"

    @classmethod
    def of(cls, database: Database) -> DatabaseAddress:
        """With libpq's parameters: sslmode, passfile, several hosts and the rest; `schema=` is the
        router's own. Raises SettingInvalid, with nothing in it that may be a password."""
        url, _, query = database.url.reveal().partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        rest = [(name, value) for name, value in options if name != "schema"]
        parameters = _parsed(f"{url}?{urlencode(rest)}")
        if "," in parameters.get("host", ""):
            # Of several servers the one that can be written to.
            parameters.setdefault("target_session_attrs", "read-write")
            # libpq's list of ports has a comma where the URL has no port at all.
            if not parameters.get("port", "").strip(","):
                parameters.pop("port", None)
        # What is sent and read is UTF-8, whatever the server or the environment has in mind.
        parameters["client_encoding"] = "UTF8"
        schema = dict(options).get("schema", SCHEMA)
        return cls({**_DEFAULTS, **parameters}, schema, str(database))

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """The same of a URL. Raises ValueError too, likewise."""
        return cls.of(parse_database(text))

    def login(self) -> dict[str, str]:
        """Return the parameters of one more connection; libpq reads the passfile anew for it.

        Raises Failed for a passfile that libpq would ignore, and then ask without a password.
        """
        if "passfile" in self.parameters and "password" not in self.parameters:
            _check_passfile(Path(self.parameters["passfile"]))
        return dict(self.parameters)


def _check_passfile(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Failed("28P01", f"passfile: {why_not(path, error)}") from None
    if not stat.S_ISREG(mode):
        raise Failed("28P01", "passfile: it is not a file")
    if not may(path, os.R_OK):
        raise Failed("28P01", f"passfile: permission denied: {closed(path)}")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Failed("28P01", "passfile: others than its owner have access to it: chmod 600")


def _parsed(url: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except Error:
        # libpq's own message repeats what it could not read.
        raise SettingInvalid("the store's address has something that libpq can't read") from None


Row = tuple[Any, ...]

#: How long a request to end what was given up may take, in seconds. Nobody waits for it.
CANCEL_TIMEOUT = 2.0


class ServerConnection(psycopg.AsyncConnection[Row]):
    """A connection for one call at a time. The first call that is given up ends it.

    Nothing is prepared by name: poolers give every transaction another connection to the server.
    """

    def __init__(self, pgconn: pq.abc.PGconn, *arguments: Any, **options: Any) -> None:
        super().__init__(pgconn, *arguments, **options)
        self._cursor = psycopg.AsyncRawCursor(self)
        self._is_asking = self._is_given_up = False
        self.adapters.register_loader("numeric", FloatLoader)

    @classmethod
    async def open(cls, address: DatabaseAddress, timeout: float) -> ServerConnection:
        """Raises Failed or Lost."""
        try:
            async with asyncio.timeout(timeout):
                login = conninfo.make_conninfo("", **await _located(address.login()))
                return await cls.connect(login, autocommit=True, prepare_threshold=None)
        except TimeoutError:
            raise Failed("08001", "it does not answer") from None
        except psycopg.Error as error:
            raise _refusal(error) from None

    async def fetch(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of one statement; `$1`, `$2`, … are the values. Without values, it may be
        several statements, in one transaction unless they say otherwise. Raises Failed or Lost."""
        cursor, self._is_asking = self._cursor, True
        try:
            await cursor.execute(sql.encode(), values or None)
            return await cursor.fetchall() if cursor.rownumber is not None else []
        except psycopg.Error as error:
            failure = answered(error)
            if isinstance(failure, Lost):
                self.pgconn.finish()
            raise failure from None
        finally:
            self._is_asking = False

    @property
    def is_usable(self) -> bool:
        """False once a call was given up or the server has closed the connection."""
        with suppress(psycopg.Error):
            # The first read takes the server's last message, if any; the second finds the end.
            self.pgconn.consume_input()
            self.pgconn.consume_input()
        return not self._is_given_up and self.pgconn.status == pq.ConnStatus.OK

    def end(self) -> None:
        """Close at once. A call that is in flight raises Lost."""
        if self._is_given_up or self.closed:
            return
        if self._is_asking:
            # psycopg still waits for this socket; it finds the end and raises.
            with socket.socket(fileno=os.dup(self.pgconn.socket)) as shared, suppress(OSError):
                shared.shutdown(socket.SHUT_RDWR)
        else:
            self.pgconn.finish()

    async def wait(
        self, gen: PQGen[RV], interval: float = 60.0, timeout: float | None = None
    ) -> RV:
        """As psycopg's, but a call that is cancelled does not wait for the server, which may hang.
        psycopg wakes up ten times a second for Ctrl-C; the loop sees that by itself."""
        try:
            return await wait_async(gen, self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            self._is_given_up = True
            task = asyncio.create_task(self._cancel())
            _cancelling.add(task)
            task.add_done_callback(_cancelling.discard)
            raise

    async def _cancel(self) -> None:
        """Ask the server to end the call, then close. A server notices late that its client has
        gone: a commit that waits for a standby would hold its place until there is one."""
        try:
            with suppress(psycopg.Error):
                await self.cancel_safe(timeout=CANCEL_TIMEOUT)
        finally:
            self.pgconn.finish()


#: Requests to end what was given up; a loop alone would forget them.
_cancelling: set[asyncio.Task[None]] = set()


async def _located(login: dict[str, str]) -> dict[str, str]:
    """The parameters with the addresses of the hosts that they name. Raises Failed.

    psycopg would have the loop look them up, and uvloop's does not end before its look-ups do.
    """
    hosts = login.get("host", "").split(",")
    if "hostaddr" in login or any(not host or host.startswith("/") for host in hosts):
        return login
    # Where none is said libpq has its own.
    ports = login.get("port", "").split(",")
    looking = [
        look_up(host, int(port or 5432)) for host, port in zip(hosts, cycle(ports), strict=False)
    ]
    for each in looking:
        each.add_done_callback(asyncio.Future.exception)  # who gives up does not hear of it
    await asyncio.wait(looking)
    found = [
        (host, str(address[4][0]), port)
        for host, port, each in zip(hosts, cycle(ports), looking, strict=False)
        if each.exception() is None
        for address in each.result()
    ]
    if not found:
        raise Failed("08001", "no host of that name is known")
    columns = map(",".join, zip(*found, strict=True))
    said = dict(zip(("host", "hostaddr", "port"), columns, strict=True))
    if "port" not in login:
        del said["port"]
    return {**login, **said}


def _refusal(error: psycopg.Error) -> Failed:
    """Why there is no connection."""
    text = str(error).strip()
    sqlstate = next((code for words, code in _REFUSALS.items() if words in text), "08001")
    return Failed(sqlstate, text.partition("\n")[0])


#: libpq keeps the code of a refused connection to itself. Its words are the server's, in English or
#: not; of those that are not known the server counts as away.
_REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    'role "': "28000",
    "too many clients": "53300",
    "too many connections": "53300",
    "remaining connection slots": "53300",
    "no more connections allowed": "53300",
    "is starting up": "57P03",
    "is shutting down": "57P03",
    'database "': "3D000",
    "certificate": "28000",
    "does not support SSL": "28000",
}
