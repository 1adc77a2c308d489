"""The API of a router as commands use it: a router that runs, or the same application in-process.

A command that finds no router, or is given a store or an archive, runs the API over that store: an
operator's action is implemented once. Nothing else of the command line imports httpx. It is
imported when it is needed, for that takes longer than all that `health` does.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import socket
import ssl
import stat
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from router import __version__
from router.cli.options import (
    REMOTE_VARIABLES,
    Parser,
    add_format,
    add_option,
    add_settings,
    note_password,
    parse_url,
    read_setting,
)
from router.cli.printing import NAME, Progress, note, note_while_slow
from router.config.settings import (
    REMOVED_OPTIONS,
    SETTINGS,
    VARIABLE_PREFIX,
    archive_folder,
    parse_file,
)
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import RouterError, SettingInvalid, StartFailed, why_not
from router.net.tls import USUAL, BadCertificate, Tls, certificates_in

if TYPE_CHECKING:
    import asyncio

    import httpx

    from router.ops.api.parts import ApiParts
    from router.store.admin import Admin

#: The variables that name a router and the file of a token for it.
URL_VARIABLE, TOKEN_VARIABLE = (VARIABLE_PREFIX + name for name in REMOTE_VARIABLES)

#: No response of a router is as large, in bytes.
_MAX_RESPONSE = 64 * 1024 * 1024
#: Seconds for one request; and until a silent stream is cut off, which has a heartbeat each 15 s.
_TIMEOUT, _SILENCE = 30.0, 45.0

#: Seconds to find out whether a router listens on this machine.
_CONNECT = 1.0

_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}

#: The options that mean nothing to a running router, and why.
_LOCAL = {
    **dict.fromkeys(
        ("store", "archive", "config", "schema", "secrets_dir"), "that is the router's own"
    ),
    **dict.fromkeys(("host", "port", "tls_cert"), "both say where it is"),
    "who": "who acts is the token's name",
}


class RemoteProblem(RouterError):
    """An error response of the router, in its own words; or the reason why no response came."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        #: 0 if no response came.
        self.status = status


@dataclass(slots=True)
class Remote:
    """The API of one router. Every method raises RemoteProblem, or SettingInvalid if the router
    finds the arguments wrong."""

    _runner: asyncio.Runner
    _client: httpx.AsyncClient
    #: The router's name in messages.
    _name: str
    _timeout: float | None
    #: Its routes.yaml, if no router runs.
    _config: Path | None = None
    _clock: Callable[[], float] = time.time
    #: How far a running router's clock is ahead of this machine's, in seconds.
    _ahead: float = 0.0

    @property
    def is_running(self) -> bool:
        """True if a router responds, and not its store and archive alone."""
        return self._config is None

    @property
    def routes(self) -> str:
        """The name of its routes.yaml in messages."""
        return "the router's routes.yaml" if self._config is None else str(self._config)

    def now(self) -> float:
        """Return the time by the router's clock: to the second, once a running one has responded.
        A store has its own."""
        return self._clock() + self._ahead

    def targets(self) -> set[str] | None:
        """Return the targets of its routes.yaml; None if that can't be read."""
        if self._config is not None:
            return targets_of(self._config)
        return {target["name"] for target in self.get("/targets")["targets"]}

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        return self._request(self._timeout, "GET", path, params=[*query])

    def post(self, path: str, body: Mapping[str, Any], within: float = 0.0) -> Any:
        """A response may take `within` seconds if that is longer than usual."""
        timeout = self._timeout and max(self._timeout, within)
        return self._request(timeout, "POST", path, json=body)

    def stream(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Yield server-sent events, by their names and data, until the router ends them."""
        lines = self._lines(path, query)

        async def following() -> str | None:
            return await anext(lines, None)

        name = ""
        try:
            while (line := self._runner.run(following())) is not None:
                field, _, text = line.partition(": ")
                if field == "event":
                    name = text
                elif field == "data":
                    yield name, _parsed(text.encode())
        finally:
            self._runner.run(lines.aclose())

    async def _lines(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncGenerator[str]:
        with _translated(self._name, _SILENCE):
            opening = self._client.stream("GET", path, params=[*query], timeout=_SILENCE)
            async with opening as response:
                if response.status_code != 200:
                    raise self._problem(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    yield line

    def _request(self, timeout: float | None, method: str, path: str, **content: Any) -> Any:
        import asyncio

        # httpx's own timeout starts anew with each part of a response.
        with note_while_slow(self._name), _translated(self._name, timeout):
            asking = self._response(method, path, **content)
            status, date, body = self._runner.run(asyncio.wait_for(asking, timeout))
        with contextlib.suppress(ValueError):
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        if status != 200:
            raise self._problem(status, body)
        return _parsed(body)

    async def _response(self, method: str, path: str, **content: Any) -> tuple[int, str, bytes]:
        """Return status, date and body. Raises RemoteProblem for a body that is too large."""
        body = bytearray()
        async with self._client.stream(method, path, **content) as response:
            async for part in response.aiter_raw():
                body += part
                if len(body) > _MAX_RESPONSE:
                    size = f"{_MAX_RESPONSE // 2**20} MiB"
                    why = f"the response is larger than {size}: the server is not a router"
                    raise RemoteProblem(why)
        return response.status_code, response.headers.get("date", ""), bytes(body)

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


def _cause(error: BaseException) -> BaseException:
    """Return the system's error below those of httpx and anyio."""
    if isinstance(error, BaseExceptionGroup):
        return _cause(error.exceptions[0])
    below = error.__cause__ or error.__context__
    is_systems = isinstance(error, OSError) and error.strerror
    return error if below is None or is_systems else _cause(below)


def no_response(url: str, timeout: float) -> RemoteProblem:
    return RemoteProblem(f"no answer from {url} within {timeout:g} s")


def why_unreachable(error: BaseException) -> str:
    """Return why a connection failed."""
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


def add_remote(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a running router."""
    group = parser.add_argument_group("a running router")
    url = "the ops port of the router to ask, like http://router:8081 (default the one of this "
    url += f"machine; variable {URL_VARIABLE})"
    add_option(group, "--url", "URL", url, _parse_url)
    token = f"has the token for it (variable {TOKEN_VARIABLE})"
    add_option(group, "--token-file", "FILE", token, parse_file)
    add_ca(group)


def add_store(parser: Parser) -> None:
    parser.removed = {gone: REMOVED_OPTIONS[gone] for gone in ("--store-password-file",)}
    add_settings(parser, store="the store of a router that does not run")


def add_router(parser: Parser) -> None:
    """Add the options of a command that asks a running router or works on a store, and its
    format."""
    add_store(parser)
    add_settings(parser, "config")
    add_remote(parser)
    add_format(parser)


def add_archive(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    add_settings(parser, archive="the router's archive")


def add_ca(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that `trust` reads."""
    about = "for an https URL: the only trusted CA certificates, in PEM (default the system's)"
    add_option(parser, "--ca", "FILE", about, parse_file)


def trust(args: argparse.Namespace) -> Tls:
    """Raises SettingInvalid for a file of no use."""
    path: Path | None = args.ca
    if path is None:
        return USUAL
    try:
        ca = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = f"--ca: {str(path)!r} can't be read: {why_not(path, error)}"
        raise SettingInvalid(problem) from None
    if not certificates_in(ca):
        raise SettingInvalid(f"--ca: {str(path)!r} has no certificate in PEM in it")
    try:
        return Tls.of(ca)
    except BadCertificate as error:
        raise SettingInvalid(f"--ca: {str(path)!r}: {error}") from None


def context_of(url: str, args: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the TLS context for an https URL, None for http. Raises SettingInvalid for a --ca of
    no use, even if none is needed."""
    tls = trust(args)
    return tls.trust if urlsplit(url).scheme == "https" else None


def _parse_url(text: str) -> str:
    return parse_url(text, "http://127.0.0.1:8081")


def read_url(args: argparse.Namespace) -> str | None:
    """Return the option's, or the variable's. Raises SettingInvalid."""
    if args.url is not None or not (text := os.environ.get(URL_VARIABLE)):
        url: str | None = args.url
        return url
    try:
        return _parse_url(text)
    except ValueError as error:
        raise SettingInvalid(f"{URL_VARIABLE}: {error}") from None


def own_url(args: argparse.Namespace, host: str, port: str, scheme: str = "http") -> str:
    """Return the address at which a `serve` with these settings listens."""
    name = read_setting(args, host)
    name = _EVERY_ADDRESS.get(name, name)
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}:{read_setting(args, port)}"


def refuse_local(args: argparse.Namespace, named_by: str = "--url") -> None:
    """Raises SettingInvalid for an option that means nothing to a running router."""
    # Secrets that sign the command's own requests are of this machine.
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
    import asyncio

    place = _running_router(args, must_run)
    with asyncio.Runner() as runner:
        if place is None:
            with here(args, runner, needs) as remote:
                yield remote
            return
        with _running(args, runner, *place, timeout) as remote:
            try:
                yield remote
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
                missing = f": {error} is missing" if isinstance(error, KeyError) else ""
                raise RemoteProblem(
                    f"the router is of another version than this command{missing}"
                ) from None


def _running_router(args: argparse.Namespace, must_run: bool) -> tuple[str, str] | None:
    """Return the URL of the running router that is meant and the token for it (`""` for none), or
    None for the store and archive of this machine. Raises SettingInvalid for options of both kinds,
    StartFailed for a token that can't be read."""
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
def _running(
    args: argparse.Namespace, runner: asyncio.Runner, url: str, token: str, timeout: float
) -> Iterator[Remote]:
    import httpx

    headers = {"user-agent": f"{NAME}/{__version__}", "accept-encoding": "identity"}
    if token:
        headers["authorization"] = f"Bearer {token}"
    client = httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers=headers,
        verify=context_of(url, args) or False,
        timeout=None,  # noqa: S113 - `_translated` has one
        trust_env=False,
    )
    try:
        yield Remote(runner, client, url, timeout)
    finally:
        runner.run(client.aclose())


@contextlib.contextmanager
def here(args: argparse.Namespace, runner: asyncio.Runner, needs: str) -> Iterator[Remote]:
    """Run the API in this process, over a store and an archive that this machine reaches."""
    import httpx

    from router.config.holders import PERMISSIONS, TokenHolder
    from router.ops.api.application import PREFIX, app_for

    folder = read_archive(args) if needs != "store" else None
    if needs in ("archive", "both") and folder is None:
        raise StartFailed("there is no archive: see --archive")
    ops = None
    if needs != "archive":
        ops = runner.run(_open_store(args, is_needed=needs != "either"))
    try:
        if ops is None and folder is None:
            raise StartFailed(
                "there is nowhere to look, neither an archive nor a store: "
                "see --archive, --store, or --url for a running router"
            )
        who = getattr(args, "who", None) or whoever()
        who.encode()  # raises UnicodeEncodeError here, not in the API
        holder = TokenHolder(who, frozenset(PERMISSIONS))
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app_for(holder, _parts(args, folder, ops))),
            base_url=f"http://localhost{PREFIX}",
            timeout=None,  # noqa: S113 - nothing here hangs
        )
        config = read_setting(args, "config")
        yield Remote(runner, client, "the store", None, config, ops.now if ops else time.time)
    finally:
        if ops is not None:
            runner.run(ops.close())


def _parts(args: argparse.Namespace, folder: Path | None, ops: Admin | None) -> ApiParts:
    from router.archive.reading import Sources
    from router.ops.api.parts import ApiParts, Stored
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
    """Open the store of the settings, which makes no file and no table. If it is missing, was not
    named, and is not needed, return None. Raises StartFailed."""
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
    """Return the archive's folder; None if there is none. Raises StartFailed if one that was named
    is missing, PermissionError if it is closed to us."""
    folder = archive_folder(read_setting(args, "archive"), read_setting(args, "store"))
    if folder is None or _is_folder(folder):
        return folder
    if getattr(args, "archive", None) is not None:
        raise StartFailed(f"--archive: {folder} is no folder")
    return None


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except PermissionError:
        raise
    except OSError:
        return False


def targets_of(path: Path) -> set[str] | None:
    """Return the targets of a routes.yaml, or of a folder of them; None if it can't be read. This
    needs neither its variables nor its secrets."""
    from router.config.document import parse_document
    from router.config.files import read
    from router.model.errors import ConfigInvalid

    try:
        trees = [parse_document(file.content, file.name) for file in read(path)]
    except ConfigInvalid:
        return None
    sections = [(tree, tree.entries(tree.root).get("targets")) for tree in trees]
    return {name for tree, entry in sections if entry for name in tree.entries(entry[1])}


def whoever() -> str:
    """Return the user who runs this command, as far as the system knows."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def part(name: str) -> str:
    """Quote a name as one part of a path."""
    return quote(name, safe="")
