"""A running router from afar: its API on the ops port, as the commands ask it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from router import __version__
from router.cli.asking import RemoteProblem, answering, ask, connect, own_url
from router.cli.options import AFAR, add_settings, parse_url, read_setting, value
from router.cli.printing import NAME, told_while_slow
from router.cli.shapes import Misfit, mind_shape
from router.cli.trust import add_ca, context_of
from router.config.settings import VARIABLE_PREFIX, parse_file
from router.contract.strictjson import ROUTER, Unreadable, parse_json
from router.model.errors import RouterError, SettingInvalid

T = TypeVar("T")

URL_VARIABLE, _TOKEN = (VARIABLE_PREFIX + name for name in AFAR)

#: Where the API is.
_PREFIX = "/api/v1"

#: The most that is read of an answer, in bytes.
_MAX_ANSWER = 64 * 1024 * 1024

#: Seconds for one question; and until a stream that says nothing is cut off, which beats each 15 s.
_TIMEOUT, _SILENCE = 30.0, 45.0


#: The options that mean nothing where a URL names the router, and why.
_HERE = {
    **dict.fromkeys(
        ("store", "store_password_file", "archive", "log", "config", "schema", "secrets_dir"),
        "that is the router's own",
    ),
    **dict.fromkeys(("ops_host", "ops_port", "host", "port", "tls_cert"), "both say where it is"),
    "who": "who acts is the token's name",
}


class Remote:
    """One router's API. Every method raises RemoteProblem, and SettingInvalid where the router says
    that what was asked for can't be meant."""

    def __init__(self, url: str, token: str, context: Any) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/") + _PREFIX
        self._headers = {"user-agent": f"{NAME}/{__version__}"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._context = context
        self._ahead = 0.0

    def now(self) -> float:
        """By the router's clock, to the second, once it has answered."""
        return time.time() + self._ahead

    def get(self, path: str, shape: Any, query: Sequence[tuple[str, str]] = ()) -> Any:
        """The answer, which has that shape."""
        return self._ask(path, shape, query, None)

    def member(self, path: str, name: str, kind: type[T]) -> T:
        """One member of the answer, which is of that kind; the others are not looked at."""
        found: T = self.get(path, {name: kind})[name]
        return found

    def post(self, path: str, shape: Any, body: Mapping[str, Any]) -> Any:
        return self._ask(path, shape, (), json.dumps(body).encode())

    def stream(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Server-sent events, by their names and data, until the router ends them."""
        connection = connect(self._url, self._context, _SILENCE)
        with contextlib.closing(connection), answering(self._url, _SILENCE):
            with told_while_slow(self._url):
                connection.request("GET", self._target(path, query), headers=self._headers)
                answer = connection.getresponse()
            if answer.status != 200:
                raise self._problem(answer.status, answer.read(_MAX_ANSWER))
            name = ""
            for line in answer:
                field, _, said = line.decode("utf-8", "replace").rstrip("\r\n").partition(": ")
                if field == "event":
                    name = said
                elif field == "data":
                    yield name, _read(said.encode())

    def _ask(
        self, path: str, shape: Any, query: Sequence[tuple[str, str]], body: bytes | None
    ) -> Any:
        target, headers = self._target(path, query), dict(self._headers)
        if body is not None:
            headers["content-type"] = "application/json"
        answer = ask(self._url, target, _TIMEOUT, self._context, _MAX_ANSWER, headers, body)
        with contextlib.suppress(ValueError):
            self._ahead = parsedate_to_datetime(answer.date).timestamp() - time.time()
        if answer.status != 200:
            raise self._problem(answer.status, answer.content)
        return shaped(_read(answer.content), shape)

    def _target(self, path: str, query: Sequence[tuple[str, str]]) -> str:
        return self._prefix + path + (f"?{urlencode(query)}" if query else "")

    def _problem(self, status: int, content: bytes) -> RouterError:
        try:
            detail = parse_json(content, ROUTER)["detail"]
        except (Unreadable, KeyError, TypeError):
            return RemoteProblem(f"what answers at {self._url} is {no_ops_port(status)}")
        if status == 400:
            return SettingInvalid(detail)
        more = "; see --token-file" if status == 401 else ""
        return RemoteProblem(f"{detail}{more}", status)


def _read(content: bytes) -> Any:
    try:
        return parse_json(content, ROUTER)
    except Unreadable:
        raise RemoteProblem("the answer is no JSON: that is no router") from None


def shaped(value: Any, shape: Any) -> Any:
    """What came, where it has that shape. Raises RemoteProblem."""
    try:
        mind_shape(value, shape)
    except Misfit as error:
        raise RemoteProblem(
            f"the router is of another version than this command: {error}"
        ) from None
    return value


def no_ops_port(status: int) -> str:
    """What else answers, with that HTTP status; and what may be meant."""
    return f"no router's ops port (HTTP {status}); --url is for that one, not for the callback port"


def add_remote(parser: argparse.ArgumentParser) -> None:
    """The options that `read_remote` reads, or `read_url` and `read_token`."""
    remote = parser.add_argument_group("from afar")
    remote.add_argument(
        "--url",
        type=value(_parse_url),
        help="ask the router whose ops port is there, like http://router:8081 "
        f"(variable {URL_VARIABLE})",
    )
    remote.add_argument(
        "--token-file",
        type=value(parse_file),
        metavar="FILE",
        help=f"has the token for it (variable {_TOKEN})",
    )
    add_ca(remote)


def _parse_url(text: str) -> str:
    return parse_url(text, "http://127.0.0.1:8081")


def add_own(parser: argparse.ArgumentParser) -> None:
    """The options that `ops_url` reads where no URL is given."""
    add_settings(parser, ops_host="the address of its ops port", ops_port="its ops port")


def read_remote(args: argparse.Namespace) -> Remote | None:
    """None where no URL is given. Raises SettingInvalid, also for an option that is about what is
    on this machine, and StartFailed for a token's file of no use."""
    url = read_url(args)
    if url is None:
        if args.token_file is not None:
            raise SettingInvalid("--token-file is for a router that --url names")
        return None
    refuse_here(args)
    return Remote(url, read_token(args), context_of(url, args))


def refuse_here(args: argparse.Namespace) -> None:
    """Raises SettingInvalid for an option that means nothing where a URL names the router."""
    named_by = URL_VARIABLE if args.url is None else "--url"
    # Secrets that sign what this command itself sends are of this machine.
    own = {"secrets_dir"} if getattr(args, "sign", None) is not None else set()
    for name, why in _HERE.items():
        if name not in own and getattr(args, name, None) is not None:
            option = "--as" if name == "who" else f"--{name.replace('_', '-')}"
            raise SettingInvalid(f"{option} can't be given with {named_by}: {why}")


def read_url(args: argparse.Namespace) -> str | None:
    """The option's, or the variable's. Raises SettingInvalid."""
    if args.url is not None or not (text := os.environ.get(URL_VARIABLE)):
        url: str | None = args.url
        return url
    try:
        return _parse_url(text)
    except ValueError as error:
        raise SettingInvalid(f"{URL_VARIABLE}: {error}") from None


def ops_url(args: argparse.Namespace) -> str:
    """The same, or else where a `serve` with these settings has its ops port. Raises
    SettingInvalid."""
    if (url := read_url(args)) is not None:
        refuse_here(args)
        return url
    if read_setting(args, "ops_port") == 0:
        raise SettingInvalid("--ops-port: 0 is no port to ask at; see --url")
    return own_url(args, "ops_host", "ops_port")


def read_token(args: argparse.Namespace) -> str:
    """`""` for none. Raises StartFailed."""
    from router.ops.guard import secrets_in

    text = os.environ.get(_TOKEN)
    path = args.token_file or (Path(text) if text else None)
    return secrets_in(path, "--token-file")[0].reveal() if path is not None else ""


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
