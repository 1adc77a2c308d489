"""One connection to a server: its address and login, statements and their rows, what went wrong."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import psycopg
from psycopg import Error, conninfo, pq

from router.model.errors import SettingInvalid, why_not
from router.net.egress import look_up
from router.store.promises import StoreFailed
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


def answered(sqlstate: str, message: str) -> Failed | Lost:
    """What an error means that has come in place of an answer."""
    return Lost() if sqlstate.startswith(_GOING) else Failed(sqlstate, message)


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


#: What names the file that has the password.
_OPTION = "--store-password-file"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """One database, and the schema in it."""

    #: libpq's parameters, the password perhaps among them.
    parameters: Mapping[str, str]
    schema: str
    #: Where, for people.
    shown: str
    #: What has the password, if it is not among the parameters.
    password_file: Path | None = None

    def __repr__(self) -> str:
        return f"DatabaseAddress({self.shown})"

    @classmethod
    def of(cls, database: Database, password_file: Path | None = None) -> DatabaseAddress:
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
        return cls({**_DEFAULTS, **parameters}, schema, str(database), password_file)

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """The same of a URL. Raises ValueError too, likewise."""
        return cls.of(parse_database(text))

    def login(self) -> dict[str, str]:
        """The parameters for one connection more, the password as its file has it now. Raises
        Failed where that can't be read."""
        if self.password_file is None:
            return dict(self.parameters)
        try:
            password = self.password_file.read_text("utf-8").rstrip("\r\n")
        except FileNotFoundError:
            raise Failed("28P01", f"{_OPTION}: there is no such file") from None
        except PermissionError as error:
            why = why_not(self.password_file, error)
            raise Failed("28P01", f"{_OPTION}: the file can't be read: {why}") from None
        except (OSError, ValueError):
            raise Failed("28P01", f"{_OPTION}: the file can't be read") from None
        return {**self.parameters, "password": password}


def _parsed(url: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except Error:
        # libpq's own message repeats what it could not read.
        raise SettingInvalid("the store's address has something that libpq can't read") from None


Row = tuple[Any, ...]

#: How long a request to end what was given up may take, in seconds. Nobody waits for it.
CANCEL_TIMEOUT = 2.0

#: How the types that the store's statements give are read, by PostgreSQL's number for them.
_LOADERS: Mapping[int, Callable[[bytes], Any]] = {
    16: lambda text: text == b"t",
    17: lambda text: bytes.fromhex(text[2:].decode()),
    20: int,
    21: int,
    23: int,
    26: int,
    700: float,
    701: float,
    1700: float,
}


class ServerConnection:
    """For one call at a time. It ends with the first one that is given up, and by itself when the
    server ends it; then `ended` is called."""

    def __init__(
        self, raw: psycopg.AsyncConnection, ended: Callable[[ServerConnection], None]
    ) -> None:
        self._raw = raw
        self._libpq = raw.pgconn
        self._libpq.nonblocking = 1
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._socket = self._libpq.socket
        self._loop.add_reader(self._socket, self._readable)
        self._answer: asyncio.Future[list[pq.abc.PGresult]] | None = None
        self._results: list[pq.abc.PGresult] = []

    @classmethod
    async def open(
        cls,
        address: DatabaseAddress,
        timeout: float,
        ended: Callable[[ServerConnection], None] = lambda connection: None,
    ) -> ServerConnection:
        """Raises Failed or Lost."""
        try:
            async with asyncio.timeout(timeout):
                login = await _located(address.login())
                raw = await psycopg.AsyncConnection.connect(**login)  # type: ignore[arg-type]
        except TimeoutError:
            raise Failed("08001", "it does not answer") from None
        except psycopg.Error as error:
            raise _refusal(error) from None
        return cls(raw, ended)

    @property
    def open_(self) -> bool:
        return self._socket >= 0 and self._libpq.status == pq.ConnStatus.OK

    async def fetch(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of one statement, whose `$1`, `$2`, … are the values: None, str, bytes, bool,
        int, float, and sequences of these. Raises Failed or Lost."""
        dumped = [_dumped(value) for value in values]
        formats = [int(isinstance(value, bytes)) for value in values]
        self._send(lambda: self._libpq.send_query_params(sql.encode(), dumped, None, formats))
        (*_, result) = await self._results_of()
        return _rows(result)

    async def script(self, sql: str) -> None:
        """Several statements, as one transaction unless they say otherwise. Raises the same."""
        self._send(lambda: self._libpq.send_query(sql.encode()))
        for result in await self._results_of():
            _check(result)

    def close(self) -> None:
        """At once, whatever is under way: that is lost."""
        if self._let_go():
            self._libpq.finish()

    def _give_up(self) -> None:
        if self._let_go():
            task = self._loop.create_task(_cancelled(self._raw))
            _cancelling.add(task)
            task.add_done_callback(_cancelling.discard)

    def _let_go(self) -> bool:
        """Nobody has it any more; False where that is so already."""
        if self._socket < 0:
            return False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket = -1
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Lost())
        self._ended(self)
        return True

    def _send(self, send: Callable[[], None]) -> None:
        assert self._answer is None, "one call at a time"
        self._answer = self._loop.create_future()
        self._results = []
        try:
            send()
            self._flush()
        except psycopg.Error:
            self.close()

    async def _results_of(self) -> list[pq.abc.PGresult]:
        assert self._answer is not None
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._give_up()
            raise
        finally:
            self._answer = None

    def _flush(self) -> None:
        """Large values take more than one write."""
        if self._libpq.flush():
            self._loop.add_writer(self._socket, self._writable)
        else:
            self._loop.remove_writer(self._socket)

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error:
            self.close()

    def _readable(self) -> None:
        """Called for the end of an idle connection, too."""
        try:
            self._libpq.consume_input()
            while self._answer is not None and not self._libpq.is_busy():
                result = self._libpq.get_result()
                if result is None:
                    self._deliver(self._answer)
                    break
                self._results.append(result)
        except psycopg.Error:
            self.close()
            return
        if not self.open_:
            self.close()

    def _deliver(self, answer: asyncio.Future[list[pq.abc.PGresult]]) -> None:
        if answer.done():
            return
        if self.open_:
            answer.set_result(self._results)
        else:
            self.close()


#: Requests to end what was given up; a loop alone would forget them.
_cancelling: set[asyncio.Task[None]] = set()


async def _cancelled(raw: psycopg.AsyncConnection) -> None:
    """Closed, once its server has been asked to end what is under way. By itself it finds out late
    that nobody waits: a commit that waits for a standby holds its place until there is one."""
    try:
        with suppress(psycopg.Error):
            await raw.cancel_safe(timeout=CANCEL_TIMEOUT)
    finally:
        raw.pgconn.finish()


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
    """Why there is no connection. libpq has no code where the server has sent none."""
    lines = str(error).strip().splitlines()
    return Failed(_sqlstate_of(error) or "08001", lines[0] if lines else "")


def _sqlstate_of(error: psycopg.Error) -> str:
    if error.sqlstate:
        return error.sqlstate
    # What a server has refused while connecting comes without its code.
    text = str(error)
    for words, sqlstate in _REFUSALS.items():
        if words in text:
            return sqlstate
    return ""


#: libpq keeps the code of a refusal to itself; its words are the server's, in English or not.
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


def _dumped(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        assert "\0" not in value, "a text with a NUL has to be escaped"
        return value.encode()
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, int | float):
        return repr(value).encode()
    return b"{%b}" % b",".join(map(_element, value))


def _element(value: Any) -> bytes:
    """One of an array."""
    if value is None:
        return b"NULL"
    if isinstance(value, bytes):
        return b'"\\\\x%b"' % value.hex().encode()
    dumped = _dumped(value)
    assert dumped is not None
    return b'"%b"' % dumped.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def _rows(result: pq.abc.PGresult) -> list[Row]:
    _check(result)
    columns = [
        (column, _LOADERS.get(result.ftype(column), bytes.decode))
        for column in range(result.nfields)
    ]
    return [
        tuple(_loaded(result.get_value(row, column), load) for column, load in columns)
        for row in range(result.ntuples)
    ]


def _loaded(text: bytes | None, load: Callable[[bytes], Any]) -> Any:
    return None if text is None else load(text)


def _check(result: pq.abc.PGresult) -> None:
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        return
    sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
    message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
    raise answered(sqlstate.decode(), message.decode(errors="replace"))
