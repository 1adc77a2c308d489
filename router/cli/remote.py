"""The API of a router, as commands ask it: one that runs, or the same application in-process.

Nothing else of the command line imports httpx. A command that finds no router, or that is given a
store or an archive, runs the API over that store itself: there is one implementation of whatever
an operator can do.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from router import __version__
from router.cli.asking import (
    TOKEN_VARIABLE,
    URL_VARIABLE,
    RemoteProblem,
    add_ca,
    context_of,
    no_answer,
    own_url,
    refuse_here,
    why_unreachable,
)
from router.cli.options import Parser, add_settings, note_password, parse_url, read_setting, value
from router.cli.printing import NAME, PROGRESS_EVERY, note, told_while_slow
from router.config.settings import REMOVED, SETTINGS, archive_folder, parse_file
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import RouterError, SettingInvalid, StartFailed

if TYPE_CHECKING:
    import asyncio

    import httpx

    from router.ops.api.parts import ApiParts
    from router.store.admin import Admin

#: The most that is read of an answer, in bytes.
_MAX_ANSWER = 64 * 1024 * 1024

#: Seconds for one question; and until a stream that says nothing is cut off, which beats each 15 s.
_TIMEOUT, _SILENCE = 30.0, 45.0

#: Seconds to find out whether a router listens on this machine.
_LOOK = 1.0


class Remote:
    """One router's API. Every method raises RemoteProblem, and SettingInvalid where the router says
    that what was asked for can't be meant."""

    def __init__(
        self,
        runner: asyncio.Runner,
        client: httpx.AsyncClient,
        name: str,
        timeout: float | None,
        config: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`name` says who is asked; `config` is its routes.yaml if no router runs, and `now` its
        clock."""
        self._runner = runner
        self._client = client
        self._name = name
        self._timeout = timeout
        self._config = config
        self._now = now
        self._ahead = 0.0

    @property
    def is_running(self) -> bool:
        """Whether a router answers, and not its store and archive alone."""
        return self._config is None

    @property
    def routes(self) -> str:
        """How its routes.yaml is called."""
        return "the router's routes.yaml" if self._config is None else str(self._config)

    def now(self) -> float:
        """By the clock of who answers; of a running router to the second, once it has answered."""
        return self._now() + self._ahead

    def targets(self) -> set[str] | None:
        """Those of its routes.yaml; None where that can't be read."""
        if self._config is not None:
            return targets_of(self._config)
        return {each["name"] for each in self.get("/targets")["targets"]}

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        return self._ask("GET", path, query, None, self._timeout)

    def post(self, path: str, body: Mapping[str, Any], within: float | None = None) -> Any:
        """`within` so many seconds, if that is longer than usual."""
        timeout = self._timeout and max(self._timeout, within or 0.0)
        return self._ask("POST", path, (), body, timeout)

    def stream(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Server-sent events, by their names and data, until the router ends them."""
        lines = self._lines(path, query)

        async def following() -> str | None:
            return await anext(lines, None)

        name = ""
        try:
            while (line := self._runner.run(following())) is not None:
                field, _, said = line.partition(": ")
                if field == "event":
                    name = said
                elif field == "data":
                    yield name, _read(said.encode())
        finally:
            self._runner.run(lines.aclose())

    async def _lines(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncGenerator[str]:
        with _answering(self._name, _SILENCE):
            asked = self._client.stream("GET", path, params=[*query], timeout=_SILENCE)
            async with asked as answer:
                if answer.status_code != 200:
                    raise self._problem(answer.status_code, await answer.aread())
                async for line in answer.aiter_lines():
                    yield line

    def _ask(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        body: Any,
        timeout: float | None,
    ) -> Any:
        request = self._client.build_request(method, path, params=[*query], json=body)
        with told_while_slow(self._name):
            status, content, date = self._runner.run(self._answer(request, timeout))
        with contextlib.suppress(ValueError):
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        if status != 200:
            raise self._problem(status, content)
        return _read(content)

    async def _answer(
        self, request: httpx.Request, timeout: float | None
    ) -> tuple[int, bytes, str]:
        import asyncio

        content = bytearray()
        with _answering(self._name, timeout):
            async with asyncio.timeout(timeout):
                answer = await self._client.send(request, stream=True)
                async with contextlib.aclosing(answer):
                    async for part in answer.aiter_raw():
                        content += part
                        if len(content) > _MAX_ANSWER:
                            break
        return answer.status_code, bytes(content), answer.headers.get("date", "")

    def _problem(self, status: int, content: bytes) -> RouterError:
        try:
            detail = parse_json(content, ROUTER)["detail"]
        except (Unreadable, KeyError, TypeError):
            return RemoteProblem(
                f"what answers at {self._name} is no router's ops port (HTTP {status}); "
                "--url is for that one, not for the callback port"
            )
        if status == 400:
            return SettingInvalid(detail)
        more = "; see --token-file" if status == 401 else ""
        return RemoteProblem(f"{detail}{more}", status)


@contextlib.contextmanager
def _answering(url: str, timeout: float | None) -> Iterator[None]:
    """Raises RemoteProblem for what goes wrong on the way, and once the time is over."""
    import httpx

    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise no_answer(url, timeout or 0.0) from None
    except httpx.RemoteProtocolError as error:
        why = why_unreachable(OSError() if "disconnected" in str(error) else error)
        raise RemoteProblem(f"{url}: {why}") from None
    except httpx.TransportError as error:
        raise RemoteProblem(f"{url}: {why_unreachable(_cause(error))}") from None


def _cause(error: BaseException) -> BaseException:
    """What the system has said, below what httpx and anyio make of it."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        below = error.__cause__ or error.__context__
        if below is None or (isinstance(error, OSError) and error.strerror):
            return error
        error = below


def _read(content: bytes) -> Any:
    try:
        return parse_json(content, ROUTER)
    except Unreadable:
        raise RemoteProblem("the answer is no JSON: that is no router") from None


def add_remote(parser: argparse.ArgumentParser) -> None:
    """The options that name a running router."""
    remote = parser.add_argument_group("a running router")
    remote.add_argument(
        "--url",
        type=value(_parse_url),
        help="ask the router whose ops port is there, like http://router:8081 "
        f"(default the one of this machine; variable {URL_VARIABLE})",
    )
    remote.add_argument(
        "--token-file",
        type=value(parse_file),
        metavar="FILE",
        help=f"has the token for it (variable {TOKEN_VARIABLE})",
    )
    add_ca(remote)


def add_store(parser: Parser) -> None:
    parser.removed = {gone: REMOVED[gone] for gone in ("--store-password-file",)}
    add_settings(parser, store="the store of a router that does not run")


def add_archive(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    add_settings(parser, archive="the router's archive")


def _parse_url(text: str) -> str:
    return parse_url(text, "http://127.0.0.1:8081")


def read_url(args: argparse.Namespace) -> str | None:
    """The option's, or the variable's. Raises SettingInvalid."""
    if args.url is not None or not (text := os.environ.get(URL_VARIABLE)):
        url: str | None = args.url
        return url
    try:
        return _parse_url(text)
    except ValueError as error:
        raise SettingInvalid(f"{URL_VARIABLE}: {error}") from None


@contextlib.contextmanager
def opened(
    args: argparse.Namespace,
    *,
    needs: Literal["store", "archive", "either", "both"] = "store",
    timeout: float = _TIMEOUT,
    is_here: bool | None = None,
) -> Iterator[Remote]:
    """The router that the options name; without any, the one that runs on this machine, or else its
    store and archive, of which the command needs these. `is_here` says that no router, or only a
    running one, is meant. Raises RouterError and OSError."""
    import asyncio

    if is_here is None:
        is_here = _is_here(args)
    with asyncio.Runner() as runner:
        if is_here:
            with _here(args, runner, needs) as remote:
                yield remote
            return
        with _running(args, runner, timeout) as remote:
            try:
                yield remote
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
                said = f": {error} is missing" if isinstance(error, KeyError) else ""
                raise RemoteProblem(
                    f"the router is of another version than this command{said}"
                ) from None


def _is_here(args: argparse.Namespace) -> bool:
    """Whether no running router is meant. Raises SettingInvalid for options of both kinds."""
    if read_url(args) is not None:
        refuse_here(args, URL_VARIABLE if args.url is None else "--url")
        return False
    given = [name for name in ("store", "archive") if getattr(args, name, None) is not None]
    if given and args.token_file is not None:
        raise SettingInvalid(f"--token-file is for a running router, and not for --{given[0]}")
    url = own_url(args, "ops_host", "ops_port")
    if given or (args.token_file is None and not _listens(url)):
        return True
    refuse_here(args, f"the router that runs here, {url}")
    return False


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), _LOOK).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _running(args: argparse.Namespace, runner: asyncio.Runner, timeout: float) -> Iterator[Remote]:
    import httpx

    url = read_url(args)
    if url is None and read_setting(args, "ops_port") == 0:
        raise SettingInvalid("the router of this machine has no ops port: see --url")
    url = url or own_url(args, "ops_host", "ops_port")
    headers = {"user-agent": f"{NAME}/{__version__}", "accept-encoding": "identity"}
    if token := _token(args) or _key_of_this_machine(args, url):
        headers["authorization"] = f"Bearer {token}"
    client = httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers=headers,
        verify=context_of(url, args) or False,
        timeout=None,  # noqa: S113 - `_answering` has one
        trust_env=False,
    )
    try:
        yield Remote(runner, client, url, timeout)
    finally:
        runner.run(client.aclose())


def _token(args: argparse.Namespace) -> str:
    """`""` for none. Raises StartFailed."""
    from router.ops.guard import secrets_in

    text = os.environ.get(TOKEN_VARIABLE)
    path = args.token_file or (Path(text) if text else None)
    return secrets_in(path, "--token-file")[0].reveal() if path is not None else ""


def _key_of_this_machine(args: argparse.Namespace, url: str) -> str:
    """Return the token in the lock file of the settings' store, if its router's ops port is meant:
    whoever may use the file may use the router that holds it. `""` for none."""
    from router.store.sqlite.file import door_of

    store = read_setting(args, "store")
    if read_url(args) is not None or not isinstance(store, Path):
        return ""
    door = door_of(store)
    return door.key.reveal() if urlsplit(door.url).port == urlsplit(url).port else ""


@contextlib.contextmanager
def _here(args: argparse.Namespace, runner: asyncio.Runner, needs: str) -> Iterator[Remote]:
    """The same application, over a store and an archive that this machine reaches."""
    import httpx

    from router.config.holders import DEEDS, TokenHolder
    from router.ops.api.application import PREFIX, app_for

    folder = read_archive(args) if needs != "store" else None
    if needs in ("archive", "both") and folder is None:
        raise StartFailed("there is no archive: see --archive")
    ops = None
    if needs != "archive":
        ops = runner.run(open_store(args, is_needed=needs in ("store", "both")))
    try:
        if ops is None and folder is None:
            raise StartFailed(
                "there is nowhere to look, neither an archive nor a store: "
                "see --archive, --store, or --url for a running router"
            )
        holder = TokenHolder(getattr(args, "who", None) or whoever(), frozenset(DEEDS))
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
    from router.ops.api.parts import ApiParts, SearchHere, Stored
    from router.store.url import Database

    async def opening() -> Admin:
        assert ops is not None
        return ops

    stored = Stored(opening if ops else None, None, None)
    search = SearchHere(folder, stored if ops else None, Progress("looked through"), note)
    is_shared = isinstance(read_setting(args, "store"), Database)
    return ApiParts(None, None, stored, search, is_shared=is_shared)


async def open_store(args: argparse.Namespace, *, is_needed: bool) -> Admin | None:
    """The store of the settings; if it is not needed, and was not named, None where it is not
    there. Makes no file and no table. Raises StartFailed."""
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
    limits = StoreLimits(read_setting(args, "store_max_bytes"))
    try:
        return await look_into(store, limits)
    except StartFailed:
        is_named = args.store is not None or os.environ.get(SETTINGS["store"].variable)
        if is_needed or is_named:
            raise
        return None


def read_archive(args: argparse.Namespace) -> Path | None:
    """The archive's folder; None where there is none. StartFailed where one that was named is not
    there, PermissionError where nobody lets us see."""
    folder = archive_folder(read_setting(args, "archive"), read_setting(args, "store"))
    if folder is None or _is_there(folder):
        return folder
    if getattr(args, "archive", None) is not None:
        raise StartFailed(f"--archive: {folder} is no folder")
    return None


def _is_there(folder: Path) -> bool:
    try:
        folder.stat()
        return folder.is_dir()
    except PermissionError:
        raise
    except OSError:
        return False


class Progress:
    """Tells on stderr how far something is that takes its time."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._told_at = time.monotonic()

    def __call__(self, how_far: str) -> None:
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_EVERY:
            self._told_at = now
            note(f"{self._doing} {how_far}")


def targets_of(path: Path) -> set[str] | None:
    """Those of a routes.yaml, or of a folder of them, for which neither variables nor secrets are
    needed; None where it can't be read."""
    from router.config.document import parse_document
    from router.config.files import read
    from router.model.errors import ConfigInvalid

    try:
        trees = [parse_document(each.content, each.name) for each in read(path)]
    except ConfigInvalid:
        return None
    sections = (tree.entries(tree.root).get("targets") for tree in trees)
    found = zip(trees, sections, strict=True)
    return {name for tree, entry in found if entry for name in tree.entries(entry[1])}


def whoever() -> str:
    """Whoever runs this, as far as the system knows."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
