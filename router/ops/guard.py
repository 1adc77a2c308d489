"""What stands before the ops port: its token, and headers that keep other sites' pages out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.contract import NO_TOKEN, refusal
from router.contract.respond import request_id_of, respond
from router.model import Secret, StartFailed, why_not
from router.net import Tokens
from router.telemetry import Log

#: Nothing that is answered runs, is framed, is stored, or is taken for another type. No header lets
#: another site's page read it.
SAFE = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

#: How the server of the ops port speaks in the application's place.
refuse = partial(refusal, more=SAFE)

#: The most that is read of a file of tokens, in bytes.
_MAX_FILE = 64 * 1024


class Guard:
    """An ASGI application behind a token; without tokens anybody gets through."""

    def __init__(self, app: ASGIApp, tokens: Tokens, log: Log) -> None:
        self._app = app
        self._tokens = tokens
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *SAFE]
            await send(message)

        barrier = self._tokens.barrier(scope["headers"]) if self._tokens else None
        if barrier is None:
            await self._app(scope, receive, send_safely)
            return
        self._log.warning("refused", code=NO_TOKEN.code, why=f"at the ops port: {barrier}")
        response = respond(NO_TOKEN, request_id_of(Request(scope)))
        await response(scope, receive, send_safely)


def tokens_of(path: Path | None) -> Tokens:
    """The tokens that a file has; none without a file. Raises as `secrets_in`."""
    return Tokens([] if path is None else secrets_in(path))


def secrets_in(path: Path) -> list[Secret]:
    """A file's tokens, one on each line that is not blank.

    Raises StartFailed with one clear line where it has none that can be used.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("ascii")
    except OSError as error:
        problem = f"--ops-token-file: {path} can't be read: {why_not(path, error)}"
        raise StartFailed(problem) from None
    except UnicodeDecodeError:
        raise StartFailed(f"--ops-token-file: {path} has more than ASCII in it") from None
    tokens = [line.strip() for line in text.splitlines() if line.strip()]
    if not tokens:
        raise StartFailed(f"--ops-token-file: {path} has no token in it")
    if not all(token.isprintable() and " " not in token for token in tokens):
        raise StartFailed(f"--ops-token-file: a token in {path} has a blank in it")
    return [Secret(token) for token in tokens]
