"""Access to the ops port: tokens, hosts, and protection against other sites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.config.holders import PERMISSIONS, Holders, TokenHolder, load_holders
from router.contract.replies import refusal
from router.model.secret import Secret
from router.net.access import AUTHORIZATION, Denial, Tokens
from router.net.egress import is_loopback
from router.ops.problems import Rejected, problem
from router.telemetry.log import Log

#: Anybody without a token, if the router has no tokens. May not see what is in events.
ANYBODY = TokenHolder(None, frozenset({"read"}))

#: A command on this machine, which has the key in the store's lock file.
THIS_MACHINE = TokenHolder("this machine", frozenset(PERMISSIONS))


class OpsTokens:
    """The tokens of the ops port and their holders. Without a file, none is needed."""

    def __init__(
        self,
        tokens: Path | None,
        environ: Mapping[str, str],
        secrets_dir: Path | None,
        key: Secret | None = None,
    ) -> None:
        """`key` is the token of commands on this machine, which may do everything. Raises
        RouterError for a file that can't be used."""
        self._key = [] if key is None else [key]
        self._file, self._environ, self._secrets_dir = tokens, environ, secrets_dir
        self.take(self.read())

    def __bool__(self) -> bool:
        return self._file is not None

    def read(self) -> Holders:
        """Read the file. Raises RouterError."""
        if self._file is None:
            return Holders((), "")
        return load_holders(self._file, self._environ, self._secrets_dir)

    def take(self, holders: Holders) -> None:
        """Replace the tokens."""
        self.holders = holders
        self._tokens = Tokens(self._key, AUTHORIZATION, [digest for digest, _ in holders.tokens])

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> TokenHolder | Denial:
        """Return the holder of the token in a request's headers."""
        number = self._tokens.find(headers)
        if isinstance(number, Denial):
            return number
        at = number - len(self._key)
        return THIS_MACHINE if at < 0 else self.holders.tokens[at][1]


_NO_SNIFFING = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

#: A reply does not run, is not framed or stored, and keeps its type. No header lets a page of
#: another site read it. `cache-control` comes first.
SAFE = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    *_NO_SNIFFING,
)

_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: The page's files run, but load nothing from elsewhere.
SAFE_PAGE = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _PAGE_POLICY),
    *_NO_SNIFFING,
)

#: Makes the replies that the server of the ops port sends without the application.
refuse = partial(refusal, more=SAFE)

#: A name or an address, IPv6 in brackets, and a port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


class Guard:
    """An ASGI application behind tokens. The holder is in the state of its requests.

    If there are tokens, `/metrics` and `/status` need one that sees everything. The page's files
    need none: they have no data.
    """

    def __init__(self, app: ASGIApp, tokens: OpsTokens, log: Log, *, local: bool) -> None:
        """`local`: only this machine reaches the port."""
        self._app = app
        self._tokens = tokens
        self._log = log
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app, is_page = self._app, scope["path"] == "/" or scope["path"].startswith("/page/")
        safe = SAFE_PAGE if is_page else SAFE

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_kept = any(name == b"cache-control" for name, _ in message["headers"])
                message["headers"] = [*message["headers"], *safe[is_kept:]]
            await send(message)

        try:
            holder = self._admit(scope, is_page=is_page)
            scope["state"] = {**scope.get("state", {}), "holder": holder}
        except Rejected as error:
            app = await problem(scope, error)
        await app(scope, receive, send_safely)

    def _admit(self, scope: Scope, *, is_page: bool) -> TokenHolder:
        """Return the holder of the request's token. Raises Rejected."""
        is_console = is_page or scope["path"].startswith("/api/")
        if not self._tokens:
            if is_console and self._tokens.find(scope["headers"]) is THIS_MACHINE:
                return THIS_MACHINE
            if is_console and not (self._local and is_loopback(_host(scope))):
                raise self._refused("no tokens are known", "local_only")
            return ANYBODY
        if is_page:
            return ANYBODY
        holder = self._tokens.find(scope["headers"])
        if isinstance(holder, Denial):
            raise self._refused(holder, "wrong_token")
        if not (is_console or holder.sees_all):
            why = f"the token of {holder.name} may not read everything"
            raise self._refused(why, "no_endpoint")
        return holder

    def _refused(self, why: str, code: str) -> Rejected:
        rejected = Rejected(code, why=why)
        self._log.warning("refused", code=str(rejected.status), why=f"at the ops port: {why}")
        return rejected


def _host(scope: Scope) -> str:
    """Return the host of the request, without its port."""
    hosts = b",".join(value for name, value in scope["headers"] if name == b"host")
    match = _HOST.fullmatch(hosts.decode("latin-1"))
    return (match[1] or match[2]) if match else ""
