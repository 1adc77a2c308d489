"""A connection to a server: its address and login, statements and their rows, errors."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg import pq
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import FloatLoader
from psycopg.waiting import wait_async

from router.model.errors import SettingInvalid, may, why_closed, why_not
from router.net.egress import look_up
from router.store.protocol import StoreFailed
from router.store.url import Database

#: The words for logs and metrics, by SQLSTATE or its class, the first two characters.
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

#: The server is read only: another one may have taken over.
MOVED = "25006"

#: The server, or the pooler before it, is going down, at any moment of a commit.
_GOING = ("08", "57P")

#: Errors that waiting does not solve: the password, the database, the rights of the user.
_HOPELESS = ("28", "3D000", "42501")

#: Servers and libpq quote users, databases, hosts and files.
_QUOTED = re.compile('"[^"]*"?')

_MAX_DETAIL = 120


class Failed(StoreFailed):
    """The server has answered with an error; nothing has changed."""

    def __init__(self, sqlstate: str, message: str) -> None:
        words = (_WORDS.get(sqlstate[:length]) for length in (5, 3, 2))
        super().__init__(next(filter(None, words), "postgresql"))
        self._sqlstate = sqlstate
        #: The server's own line, for people who set it up. It may quote values.
        self.message = message
        harmless = _QUOTED.sub("…", message.rpartition(" failed: ")[2])
        self.detail = "".join(c if c.isprintable() else " " for c in harmless)[:_MAX_DETAIL]

    @property
    def moved(self) -> bool:
        """The connection should be replaced."""
        return self._sqlstate == MOVED

    @property
    def hopeless(self) -> bool:
        """Another attempt does not help."""
        return self._sqlstate.startswith(_HOPELESS)


class Away(StoreFailed):
    """There is no connection: nothing was sent."""

    def __init__(self, why: StoreFailed) -> None:
        super().__init__(str(why))
        self.detail = why.detail


class Lost(StoreFailed):
    """The connection has ended without an answer: the statement may have been carried out."""

    def __init__(self) -> None:
        super().__init__("lost")
        self.detail = "the connection broke before the answer"


#: The parameters of every connection, unless the URL has others. Unacknowledged data ends it after
#: 10 s, and an idle connection detects within a minute that the server has gone.
_DEFAULTS = {
    "application_name": "ebaas-router",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


def login_of(database: Database) -> dict[str, str]:
    """Return libpq's parameters of a database, perhaps with the password. Raises SettingInvalid,
    without anything that may be a password."""
    url, _, query = database.url.reveal().partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in options if name != "schema"])
    try:
        given = {name: str(value) for name, value in conninfo_to_dict(f"{url}?{rest}").items()}
    except psycopg.Error:
        # libpq's own message repeats the text.
        raise SettingInvalid("libpq cannot parse the store's address") from None
    if "," in given.get("host", ""):
        # Of several servers, the one that accepts writes.
        given.setdefault("target_session_attrs", "read-write")
        # libpq's list of ports has a comma where the URL has no port at all.
        if not given.get("port", "").strip(","):
            given.pop("port", None)
    # The default of the server or the environment may be another encoding.
    return {**_DEFAULTS, **given, "client_encoding": "UTF8"}


def _check_passfile(login: dict[str, str]) -> None:
    """Raises Failed for a passfile that libpq would ignore, and then ask without a password."""
    if "passfile" not in login or "password" in login:
        return
    path, why = Path(login["passfile"]), ""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Failed("28P01", f"passfile: {why_not(path, error)}") from None
    if not stat.S_ISREG(mode):
        why = "it is not a file"
    elif not may(path, os.R_OK):
        why = f"permission denied: {why_closed(path)}"
    elif mode & (stat.S_IRWXG | stat.S_IRWXO):
        why = "others than its owner have access to it: chmod 600"
    if why:
        raise Failed("28P01", f"passfile: {why}")


Row = tuple[Any, ...]

#: The timeout of a request to cancel a call, in seconds. Nothing waits for it.
CANCEL_TIMEOUT = 2.0


#: Prepares a new connection for its use, or raises StoreFailed.
Greet = Callable[["ServerConnection"], Awaitable[None]]

#: How long an address is tried before the next one is tried beside it, in seconds.
_LEAD = 0.5


class ServerConnection(psycopg.AsyncConnection[Row]):
    """A connection for one call at a time. A call that is cancelled ends it.

    No statement is prepared by name: a pooler may give every transaction another connection.
    """

    def __init__(self, pgconn: pq.abc.PGconn, *arguments: Any, **options: Any) -> None:
        super().__init__(pgconn, *arguments, **options)
        self._cursor = psycopg.AsyncRawCursor(self)
        self._is_asking = self._is_given_up = False
        self.adapters.register_loader("numeric", FloatLoader)

    @classmethod
    async def open(cls, database: Database, timeout: float, greet: Greet) -> ServerConnection:
        """Connect to any address of the database that answers and passes `greet`. An address that
        hangs holds up the next one for a moment only. Raises StoreFailed."""
        login = login_of(database)
        _check_passfile(login)
        try:
            async with asyncio.timeout(timeout):
                places = await _located(login)
                return await _first([partial(cls._open, place, greet) for place in places])
        except TimeoutError:
            raise Failed("08001", "it does not answer") from None

    @classmethod
    async def _open(cls, place: dict[str, str], greet: Greet) -> ServerConnection:
        try:
            conninfo = make_conninfo("", **place)
            connection = await cls.connect(conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            text = str(error).strip()
            sqlstate = next((code for words, code in _REFUSALS.items() if words in text), "08001")
            raise Failed(sqlstate, text.partition("\n")[0]) from None
        try:
            await greet(connection)
        except BaseException:
            connection.end()
            raise
        return connection

    async def fetch(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of one statement; `$1`, `$2`, … are the values. Without values, it may be
        several statements, in one transaction unless they say otherwise. Raises Failed or Lost."""
        cursor, self._is_asking = self._cursor, True
        try:
            await cursor.execute(sql.encode(), values or None)
            return await cursor.fetchall() if cursor.rownumber is not None else []
        except psycopg.Error as error:
            if not error.sqlstate or error.sqlstate.startswith(_GOING):
                self.pgconn.finish()
                raise Lost from None
            raise Failed(error.sqlstate, error.diag.message_primary or "") from None
        finally:
            self._is_asking = False

    @property
    def is_usable(self) -> bool:
        """False once a call was cancelled or the server has closed the connection."""
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
        """As psycopg's, but a cancelled call does not wait for the server, which may hang. psycopg
        wakes up ten times a second for Ctrl-C, which the loop handles itself."""
        try:
            return await wait_async(gen, self.pgconn.socket, interval, timeout)
        except asyncio.CancelledError:
            self._is_given_up = True
            task = asyncio.create_task(self._cancel())
            _cancelling.add(task)
            task.add_done_callback(_cancelling.discard)
            raise

    async def _cancel(self) -> None:
        """Ask the server to cancel the call, then close. Otherwise it would notice late that its
        client has gone: a commit that waits for a standby would keep its connection slot."""
        try:
            with suppress(psycopg.Error):
                await self.cancel_safe(timeout=CANCEL_TIMEOUT)
        finally:
            self.pgconn.finish()


#: Requests to cancel calls; the loop alone has only weak references to them.
_cancelling: set[asyncio.Task[None]] = set()


#: The parameters that say where a server is.
_PLACE = ("host", "hostaddr", "port")


async def _first(
    ways: Sequence[Callable[[], Coroutine[Any, Any, ServerConnection]]],
) -> ServerConnection:
    """Return the connection of the first way that succeeds. Each begins once the one before it has
    failed or had its lead. If all fail, raise an error that waiting does not solve, or the last."""
    tasks: list[asyncio.Task[ServerConnection]] = []
    made: asyncio.Task[ServerConnection] | None = None
    try:
        while made is None:
            if len(tasks) < len(ways):
                tasks.append(asyncio.create_task(ways[len(tasks)]()))
            elif all(task.done() for task in tasks):
                errors = [error for task in tasks if (error := task.exception())]
                hopeless = (e for e in errors if isinstance(e, Failed) and e.hopeless)
                raise next(hopeless, errors[-1])
            await asyncio.wait(
                [task for task in tasks if not task.done()],
                timeout=_LEAD if len(tasks) < len(ways) else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            made = next((task for task in tasks if task.done() and not task.exception()), None)
        return made.result()
    finally:
        others = [task for task in tasks if task is not made]
        for task in others:
            task.cancel()
        # At once: a cancelled attempt waits for nothing.
        if others:
            await asyncio.wait(others)
        for task in others:
            if not task.cancelled() and not task.exception():
                task.result().end()


async def _located(login: dict[str, str]) -> list[dict[str, str]]:
    """Return the parameters of each address of each host. Raises Failed."""
    hosts, addresses, ports = (login.get(name, "").split(",") for name in _PLACE)
    # One port for all hosts, or one for each; empty is libpq's default.
    servers = zip(cycle(hosts), cycle(addresses), cycle(ports), strict=False)
    known = list(islice(servers, max(len(hosts), len(addresses))))
    found = await asyncio.gather(*(_addresses(*server) for server in known))
    rest = {name: value for name, value in login.items() if name not in _PLACE}
    places = [
        {**rest, **{name: value for name, value in zip(_PLACE, place, strict=True) if value}}
        for (host, _, port), its_addresses in zip(known, found, strict=True)
        for place in ((host, address, port) for address in its_addresses)
    ]
    if not places:
        raise Failed("08001", "no host of that name is known")
    if rest.get("load_balance_hosts") == "random":
        random.shuffle(places)
    return places


async def _addresses(host: str, address: str, port: str) -> list[str]:
    """Look a host up, unless its address is known or it is a socket's folder.

    psycopg would look it up with the loop, and uvloop does not end before its look-ups do.
    """
    if address or not host or host.startswith("/"):
        return [address]
    lookup = look_up(host, int(port or 5432))
    lookup.add_done_callback(asyncio.Future.exception)  # in case the caller is cancelled
    await asyncio.wait([lookup])
    return [] if lookup.exception() else [str(found[4][0]) for found in lookup.result()]


#: libpq does not provide the code of a refused connection, only the server's words. If they are not
#: in this table, for instance not in English, the server counts as unreachable.
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
