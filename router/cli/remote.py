"""A running router from afar: its API on the ops port, as the commands ask it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from router import __version__
from router.cli.asking import Unanswered, answering, ask, connect
from router.cli.options import AFAR, parse_url, value
from router.cli.printing import NAME
from router.cli.trust import add_ca, trust
from router.config import VARIABLE_PREFIX, parse_file
from router.model import RouterError, SettingInvalid

_URL, _TOKEN = (VARIABLE_PREFIX + name for name in AFAR)

#: Where the API is.
_PREFIX = "/api/v1"

#: The most that is read of an answer, in bytes.
_MAX_ANSWER = 64 * 1024 * 1024

#: Seconds for one question; and until a stream that says nothing is cut off, which beats each 15 s.
_TIMEOUT, _SILENCE = 30.0, 45.0


class RemoteProblem(RouterError):
    """What the router answered in place of what was asked for; the text is its own."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        #: 0 where no answer came.
        self.status = status


class Remote:
    """One router's API. Every method raises RemoteProblem."""

    def __init__(self, url: str, token: str, context: Any) -> None:
        parts = urlsplit(url)
        self._url = f"{parts.scheme}://{parts.netloc}"
        self._prefix = parts.path.rstrip("/") + _PREFIX
        self._headers = {"user-agent": f"{NAME}/{__version__}"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._context = context

    def get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> Any:
        return self._ask(path, query, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._ask(path, (), json.dumps(body).encode())

    def stream(self, path: str, query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
        """Server-sent events, by their names and data, until the router ends them."""
        connection = connect(self._url, self._context, _SILENCE)
        with contextlib.closing(connection), _told(), answering(self._url, _SILENCE):
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

    def _ask(self, path: str, query: Sequence[tuple[str, str]], body: bytes | None) -> Any:
        target, headers = self._target(path, query), dict(self._headers)
        if body is not None:
            headers["content-type"] = "application/json"
        with _told():
            status, content = ask(
                self._url, target, _TIMEOUT, self._context, _MAX_ANSWER, headers, body
            )
        if status != 200:
            raise self._problem(status, content)
        return _read(content)

    def _target(self, path: str, query: Sequence[tuple[str, str]]) -> str:
        return self._prefix + path + (f"?{urlencode(query)}" if query else "")

    def _problem(self, status: int, content: bytes) -> RemoteProblem:
        try:
            detail = json.loads(content)["detail"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return RemoteProblem(f"what answers at {self._url} is no router (HTTP {status})")
        more = "; see --token-file" if status == 401 else ""
        return RemoteProblem(f"{detail}{more}", status)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except Unanswered as error:
        raise RemoteProblem(str(error)) from None


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise RemoteProblem("the answer is no JSON: that is no router") from None


def add_remote(parser: argparse.ArgumentParser) -> None:
    """The options that `read_remote` reads."""
    remote = parser.add_argument_group("from afar")
    remote.add_argument(
        "--url",
        type=value(parse_url),
        help=f"ask the router whose ops port is there, like http://router:8081 (variable {_URL})",
    )
    remote.add_argument(
        "--token-file",
        type=value(parse_file),
        metavar="FILE",
        help=f"has the token for it (variable {_TOKEN})",
    )
    add_ca(remote)


def read_remote(args: argparse.Namespace) -> Remote | None:
    """None where no URL is given. Raises SettingInvalid, and StartFailed for a token's file of no
    use."""
    url = args.url
    if url is None and (text := os.environ.get(_URL)):
        try:
            url = parse_url(text)
        except ValueError as error:
            raise SettingInvalid(f"{_URL}: {error}") from None
    if url is None:
        return None
    context = trust(args).trust if urlsplit(url).scheme == "https" else None
    return Remote(url, _token(args), context)


def _token(args: argparse.Namespace) -> str:
    """`""` for none."""
    from router.ops import secrets_in

    text = os.environ.get(_TOKEN)
    path = args.token_file or (Path(text) if text else None)
    return secrets_in(path, "--token-file")[0].reveal() if path is not None else ""


def part(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")
