"""The API of a router as commands use it: a router that runs, or the same application in-process.

A command that finds no router, or is given a store or an archive, runs the API over that store: an
operator's action is implemented once. Nothing else of the command line imports httpx. It is
imported when it is needed, because that takes longer than all that `health` does.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import signal
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from urllib.parse import quote, urlsplit

from router import __version__
from router.cli.options import (
    OPS_URL,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    note_password,
    parse_url,
    read_setting,
)
from router.cli.printing import NAME, Progress, note, note_while_slow
from router.config.settings import SETTINGS, archive_folder
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import RouterError, SettingInvalid, StartFailed, why_not

if TYPE_CHECKING:
    import httpx

    from router.ops.api.view import ApiParts
    from router.store.admin import Admin

#: No response of a router is as large, in bytes.
_MAX_RESPONSE = 64 * 1024 * 1024
#: Seconds for one request; and until a silent stream is cut off: a router sends a beat each second,
#: one of 0.3.0 every 15 s.
_TIMEOUT, _SILENCE = 30.0, 45.0

#: The path of the API.
PREFIX = "/api/v1"

#: Seconds to find out whether a router listens on this machine.
_CONNECT = 1.0

#: The options that mean nothing to a running router, and why.
_LOCAL = {
    **dict.fromkeys(
        ("store", "archive", "config", "schema", "secrets_dir"), "that is the router's own"
    ),
    "who": "who acts is the token's name",
}


class RemoteProblem(RouterError):
    """An error response in the router's own words, or the reason for the missing response."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        #: 0 if no response came.
        self.status = status


@dataclass(slots=True)
class Remote:
    """The API of one router. Every method raises RemoteProblem, or SettingInvalid if the router
    finds the arguments wrong."""

    _client: httpx.Client
    #: The router's name in messages.
    _name: str
    _timeout: float | None
    #: The routes.yaml of a store, if no router runs.
    _config: Path | None = None
    _clock: Callable[[], float] = time.time
    #: How far a running router's clock is ahead of this machine's, in seconds.
    _ahead: float = 0.0

    @property
    def is_running(self) -> bool:
        """True for a running router, false for its store and archive alone."""
        return self._config is None

    @property
    def routes(self) -> str:
        """The name of its routes.yaml in messages."""
        return "the router's routes.yaml" if self._config is None else str(self._config)

    def now(self) -> float:
        """Return the time by the clock of the router or its database."""
        return self._clock() + self._ahead

    def targets(self) -> set[str] | None:
        """Return the targets of the routes.yaml; None if it can't be read."""
        if self._config is not None:
            return targets_of(self._config)
        return {target["name"] for target in self.get("/targets")["targets"]}

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        return self._request(self._timeout, "GET", path, params=[*query])

    def post(self, path: str, body: Mapping[str, Any], within: float = 0.0) -> Any:
        """Send a request that may take `within` seconds, if that is longer than usual."""
        timeout = self._timeout and max(self._timeout, within)
        return self._request(timeout, "POST", path, json=body)

    def stream(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Yield server-sent events, by their names and data, until the router ends them."""
        name, opening = "", self._client.stream("GET", path, params=[*query], timeout=_SILENCE)
        with _translated(self._name, _SILENCE), opening as response:
            if response.status_code != 200:
                raise self._problem(response.status_code, response.read())
            for line in response.iter_lines():
                field, _, text = line.partition(": ")
                if field == "event":
                    name = text
                elif field == "data":
                    yield name, _parsed(text.encode())

    def _request(self, timeout: float | None, method: str, path: str, **content: Any) -> Any:
        body, opening = bytearray(), self._client.stream(method, path, timeout=timeout, **content)
        translated = _translated(self._name, timeout)
        with note_while_slow(self._name), translated, deadline(timeout), opening as response:
            for part in response.iter_raw():
                body += part
                if len(body) > _MAX_RESPONSE:
                    most = f"{_MAX_RESPONSE // 2**20} MiB: the server is not a router"
                    raise RemoteProblem(f"the response is larger than {most}")
        with contextlib.suppress(ValueError):
            date = parsedate_to_datetime(response.headers.get("date", ""))
            self._ahead = date.timestamp() - time.time()
        if response.status_code != 200:
            raise self._problem(response.status_code, bytes(body))
        return _parsed(bytes(body))

    def _problem(self, status: int, body: bytes) -> RouterError:
        try:
            detail = parse_json(body, ROUTER)["detail"]
        except (Unreadable, KeyError, TypeError):
            return RemoteProblem(
                f"the server at {self._name} is not a router's ops port (HTTP {status}); "
                "--url names the ops port, not the callback port"
            )
        if status == 400:
            return SettingInvalid(detail)
        more = "; see --token-file" if status == 401 else ""
        return RemoteProblem(f"{detail}{more}", status)


# Errors.


@contextlib.contextmanager
def _translated(url: str, timeout: float | None) -> Iterator[None]:
    """Raises RemoteProblem for an error of httpx, and once the time is over."""
    import httpx

    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise no_response(url, timeout or 0.0) from None
    except httpx.RemoteProtocolError as error:
        why = why_unreachable(OSError() if "disconnected" in str(error) else error)
        raise RemoteProblem(f"{url}: {why}") from None
    except httpx.TransportError as error:
        raise RemoteProblem(f"{url}: {why_unreachable(_cause(error))}") from None


@contextlib.contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Raise TimeoutError in the block once the time is over. The timeouts of sockets and of httpx
    start anew with each part of a response, and do not cover the lookup of a name."""

    def expire(*_: object) -> NoReturn:
        raise TimeoutError

    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _cause(error: BaseException) -> BaseException:
    """Return the system's error below those of httpx."""
    below = error.__cause__ or error.__context__
    is_of_system = isinstance(error, OSError) and error.strerror
    return error if below is None or is_of_system else _cause(below)


def no_response(url: str, timeout: float) -> RemoteProblem:
    return RemoteProblem(f"no answer from {url} within {timeout:g} s")


def why_unreachable(error: BaseException) -> str:
    """Describe a failed connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "the server there does not speak TLS"
    if isinstance(error, OSError):
        number = error.errno or 0
        return (os.strerror(number) if number > 0 else error.strerror) or "the connection failed"
    return "the server there does not speak HTTP"


def _parsed(content: bytes) -> Any:
    try:
        return parse_json(content, ROUTER)
    except Unreadable:
        raise RemoteProblem("the response is not JSON: the server is not a router") from None


# Options.


def read_url(args: argparse.Namespace) -> str | None:
    """Return the URL of the option, or of the variable. Raises SettingInvalid."""
    if args.url is not None or not (text := os.environ.get(URL_VARIABLE)):
        url: str | None = args.url
        return url
    try:
        return parse_url(text, OPS_URL)
    except ValueError as error:
        raise SettingInvalid(f"{URL_VARIABLE}: {error}") from None


def own_url(args: argparse.Namespace, host: str, port: str, scheme: str = "http") -> str:
    """Return the address at which a `serve` with these settings listens."""
    name = read_setting(args, host)
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}:{read_setting(args, port)}"


def refuse_local(args: argparse.Namespace, named_by: str = "--url") -> None:
    """Raises SettingInvalid for an option that means nothing to a running router."""
    # The command signs its own requests with secrets of this machine.
    own = {"secrets_dir"} if getattr(args, "sign", None) is not None else set()
    for name, why in _LOCAL.items():
        if name not in own and getattr(args, name, None) is not None:
            option = "--as" if name == "who" else f"--{name.replace('_', '-')}"
            raise SettingInvalid(f"{option} can't be given with {named_by}: {why}")


# Which router.


@contextlib.contextmanager
def opened(
    args: argparse.Namespace,
    *,
    needs: Literal["store", "archive", "either", "both"] = "store",
    timeout: float = _TIMEOUT,
    must_run: bool = False,
) -> Iterator[Remote]:
    """Open the router that the options name. By default it is the one that runs on this machine,
    or else, unless it must run, its store and archive, of which the command `needs` these.

    Raises RouterError and OSError.
    """
    place = _running_router(args, must_run)
    if place is None:
        with here(args, needs) as remote:
            yield remote
        return
    import httpx

    url, token = place
    headers = {"user-agent": f"{NAME}/{__version__}", "accept-encoding": "identity"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    tls = args.ca.trust if urlsplit(url).scheme == "https" else False
    base = f"{url.rstrip('/')}{PREFIX}"
    with httpx.Client(base_url=base, headers=headers, verify=tls, trust_env=False) as client:
        try:
            yield Remote(client, url, timeout)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            missing = f": {error} is missing" if isinstance(error, KeyError) else ""
            raise RemoteProblem(
                f"the router is of another version than this command{missing}"
            ) from None


def _running_router(args: argparse.Namespace, must_run: bool) -> tuple[str, str] | None:
    """Return the URL of a running router and the token for it (`""` for none), or None for the
    store and archive of this machine. Raises SettingInvalid for options of both kinds, StartFailed
    for a token that can't be read."""
    if url := read_url(args):
        refuse_local(args, URL_VARIABLE if args.url is None else "--url")
        return url, _token(args)
    local = [name for name in ("store", "archive") if getattr(args, name, None) is not None]
    if local and args.token_file is not None:
        raise SettingInvalid(f"--token-file is for a running router, and not for --{local[0]}")
    port = read_setting(args, "ops_port")
    url = own_url(args, "ops_host", "ops_port")
    if not must_run:
        if local or (args.token_file is None and not (port and _listens(url))):
            return None
        refuse_local(args, f"the router that runs here, {url}")
    if port == 0:
        raise SettingInvalid("the router of this machine has no ops port: see --url")
    return url, _token(args) or _key_of_this_machine(args, port)


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), _CONNECT).close()
    except OSError:
        return False
    return True


def _token(args: argparse.Namespace) -> str:
    """Raises StartFailed."""
    text = os.environ.get(TOKEN_VARIABLE)
    path = args.token_file or (Path(text) if text else None)
    return read_token(path) if path is not None else ""


def read_token(path: Path) -> str:
    """Return the first line of a file. Raises StartFailed, without the token, if it is none."""
    try:
        token = path.read_text("latin-1").strip().partition("\n")[0].strip()
    except OSError as error:
        raise StartFailed(f"--token-file: {path} can't be read: {why_not(path, error)}") from None
    if not re.fullmatch("[!-~]+", token):
        raise StartFailed(
            f"--token-file: {path} needs a token on a line, in ASCII and without blanks in it"
        )
    return token


def _key_of_this_machine(args: argparse.Namespace, port: int) -> str:
    """Return the token in the lock file of the settings' store, if its router has this ops port:
    whoever may use the file may use the router that holds it. `""` for none."""
    from router.store.sqlite.file import door_of

    store = read_setting(args, "store")
    if not isinstance(store, Path):
        return ""
    door = door_of(store)
    return door.key.reveal() if urlsplit(door.url).port == port else ""


@contextlib.contextmanager
def here(args: argparse.Namespace, needs: str) -> Iterator[Remote]:
    """Run the API in this process, over a store and an archive that this machine reaches."""
    import asyncio

    import httpx

    from router.config.holders import PERMISSIONS, TokenHolder
    from router.ops.api.application import app_for

    folder = read_archive(args) if needs != "store" else None
    if needs in ("archive", "both") and folder is None:
        raise StartFailed("there is no archive: see --archive")
    with asyncio.Runner() as runner:
        ops = None
        if needs != "archive":
            ops = runner.run(_open_store(args, is_needed=needs != "either"))
        try:
            if ops is None and folder is None:
                raise StartFailed(
                    "there is nowhere to look, neither an archive nor a store: "
                    "see --archive, --store, or --url for a running router"
                )
            who = getattr(args, "who", None) or f"{_user()}@{socket.gethostname()}"
            who.encode()  # raises UnicodeEncodeError here, not in the API
            holder = TokenHolder(who, frozenset(PERMISSIONS))
            api = httpx.ASGITransport(app_for(holder, _parts(args, folder, ops)))

            class InProcess(httpx.BaseTransport):
                def handle_request(self, request: httpx.Request) -> httpx.Response:
                    response = runner.run(api.handle_async_request(request))
                    body = runner.run(response.aread())
                    return httpx.Response(response.status_code, stream=httpx.ByteStream(body))

            client = httpx.Client(transport=InProcess(), base_url=f"http://localhost{PREFIX}")
            config, clock = read_setting(args, "config"), ops.now if ops else time.time
            yield Remote(client, "the store", None, config, clock)
        finally:
            if ops is not None:
                runner.run(ops.close())


def _parts(args: argparse.Namespace, folder: Path | None, ops: Admin | None) -> ApiParts:
    from router.archive.reading import Sources
    from router.ops.api.view import ApiParts, Stored
    from router.ops.searching import SearchHere
    from router.store.url import Database

    async def opening() -> Admin:
        assert ops is not None
        return ops

    stored = Stored(opening if ops else None, None, None)
    sources = Sources(folder, Progress("looked through"), note)
    search = SearchHere(sources, stored.question if ops else contextlib.nullcontext)
    is_shared = isinstance(read_setting(args, "store"), Database)
    return ApiParts(None, None, stored, search, is_shared=is_shared)


async def _open_store(args: argparse.Namespace, *, is_needed: bool) -> Admin | None:
    """Open the store of the settings, without making a file or a table. Return None if it is
    missing, was not named, and is not needed. Raises StartFailed."""
    from router.store.opening import look_into
    from router.store.protocol import StoreLimits

    note_password(args)
    store = read_setting(args, "store")
    if store is None:
        if is_needed:
            raise StartFailed(
                "with --store none nothing is remembered, neither deliveries nor pauses; "
                "`paused` of routes.yaml needs no store"
            )
        return None
    try:
        return await look_into(store, StoreLimits(read_setting(args, "store_max_bytes")))
    except StartFailed:
        if is_needed or args.store is not None or os.environ.get(SETTINGS["store"].variable):
            raise
        return None


def read_archive(args: argparse.Namespace) -> Path | None:
    """Return the archive's folder, None if it does not exist. Raises StartFailed if --archive names
    a missing one, PermissionError if it may not be read."""
    folder = archive_folder(read_setting(args, "archive"), read_setting(args, "store"))
    if folder is None:
        return None
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except PermissionError:
        raise
    except OSError:
        is_folder = False
    if not is_folder and getattr(args, "archive", None) is not None:
        raise StartFailed(f"--archive: {folder} is not a folder")
    return folder if is_folder else None


def targets_of(path: Path) -> set[str] | None:
    """Return the targets of a routes.yaml, or of a folder of them; None if it can't be read.
    Variables and secrets are not needed."""
    from router.config.files import Part, read
    from router.config.variables import Variables
    from router.model.errors import ConfigInvalid

    try:
        parts = [Part(file, Variables({}, None)) for file in read(path)]
    except ConfigInvalid:
        return None
    if any(part.tree is None for part in parts):
        return None
    return {name for part in parts for name in part.values.get("targets") or ()}


def _user() -> str:
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return f"uid {os.getuid()}"


def part(name: str) -> str:
    """Quote a name as one part of a path."""
    return quote(name, safe="")
