"""Who may use the ops port: tokens, hosts, and protection against other sites."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.config.holders import DEEDS, Holders, TokenHolder, load_holders
from router.contract.replies import BUSY, FORBIDDEN, NO_TOKEN, NOT_FOUND, Reply, refusal
from router.contract.respond import request_id_of, respond
from router.model.errors import StartFailed, why_not
from router.model.secret import Secret
from router.net.access import AUTHORIZATION, Denial, Tokens
from router.net.egress import address_of, is_loopback
from router.ops.api.endpoint import Rejected
from router.telemetry.log import Log

#: What is read without any token, where that is allowed: nothing of what is in events.
ANYBODY = TokenHolder(None, frozenset({"read"}))

#: Whoever may read the store's lock file, by the key in it.
THIS_MACHINE = TokenHolder("this machine", frozenset(DEEDS))

#: The most that is read of a file of tokens, in bytes.
_MAX_FILE = 64 * 1024


class OpsTokens:
    """Who has which token. With no file nobody needs one."""

    def __init__(
        self,
        tokens: Path | None,
        environ: Mapping[str, str],
        secrets_dir: Path | None,
        key: Secret | None = None,
    ) -> None:
        """`key` is the token of commands on this machine, which needs no file and may do all.
        Raises RouterError for a file that can't be used."""
        self._key = [] if key is None else [key]
        self._file = tokens
        self._environ = environ
        self._secrets_dir = secrets_dir
        self.take(self.read())

    def __bool__(self) -> bool:
        return self._file is not None

    def read(self) -> Holders:
        """Return what the file says now. Raises RouterError."""
        if self._file is None:
            return Holders((), "")
        return load_holders(self._file, self._environ, self._secrets_dir)

    def take(self, holders: Holders) -> None:
        """From now on these are good, and no others."""
        self.holders = holders
        self._tokens = Tokens(self._key, AUTHORIZATION, [digest for digest, _ in holders.tokens])

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> TokenHolder | Denial:
        """Who has the token that a request with these headers brings."""
        found = self._tokens.find(headers)
        if isinstance(found, Denial):
            return found
        at = found - len(self._key)
        return THIS_MACHINE if at < 0 else self.holders.tokens[at][1]


def secrets_in(path: Path, option: str) -> list[Secret]:
    """Return a file's tokens, one on each line that is not blank; `option` has named it.

    Raises StartFailed with one clear line where it has none that can be used.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE).decode("ascii")
    except OSError as error:
        problem = f"{option}: {path} can't be read: {why_not(path, error)}"
        raise StartFailed(problem) from None
    except UnicodeDecodeError:
        raise StartFailed(f"{option}: {path} has more than ASCII in it") from None
    tokens = [line.strip() for line in text.splitlines() if line.strip()]
    if not tokens:
        raise StartFailed(f"{option}: {path} has no token in it")
    if not all(token.isprintable() and " " not in token for token in tokens):
        raise StartFailed(f"{option}: a token in {path} has a blank in it")
    return [Secret(token) for token in tokens]


#: Where the API begins, and the page's files.
API, PAGE = "/api/", ("/", "/page/")

_NO_SNIFFING = (
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

#: Nothing that is answered runs, is framed, is stored, or is taken for another type. No header lets
#: another site's page read it.
SAFE = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    *_NO_SNIFFING,
)

_PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

#: The page's files run, and have nothing but what comes from here.
SAFE_PAGE = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _PAGE_POLICY),
    *_NO_SNIFFING,
)

#: How the server of the ops port speaks in the application's place.
refuse = partial(refusal, more=SAFE)

#: What is said to who comes without a token where none is known.
_CLOSED = (
    "without tokens the console is open on this machine alone, by the name localhost or its "
    "address; see --ops-tokens"
)


#: A name or an address, IPv6 in brackets, and a port.
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")

#: So many wrong tokens of one address within so many seconds are looked at.
MOST_WRONG, WRONG_WITHIN = 10, 60.0

#: Addresses that are remembered; beyond them the one that began first is forgotten.
_ADDRESSES = 1024


class Barred(NamedTuple):
    """Why a request does not get in."""

    reply: Reply
    #: What to do about it.
    detail: str
    #: For the log; `""` where a line for each would only help who floods it.
    why: str
    #: Seconds to wait before another try.
    wait: float = 0.0


class Guard:
    """An ASGI application behind tokens. Who asks is in its requests' state, as `holder`.

    `/metrics` and `/status` need a token where there are any, one that sees everything. The page's
    files need none: there is no data in them.
    """

    def __init__(self, app: ASGIApp, tokens: OpsTokens, log: Log, *, local: bool) -> None:
        """`local`: only this machine reaches the port."""
        self._app = app
        self._tokens = tokens
        self._log = log
        self._local = local
        self._failures = Failures()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_page = scope["path"] == PAGE[0] or scope["path"].startswith(PAGE[1])
        safe = SAFE_PAGE if is_page else SAFE

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *safe]
            await send(message)

        found = self._admit(scope, is_page=is_page)
        if isinstance(found, TokenHolder):
            scope["state"] = {**scope.get("state", {}), "holder": found}
            await self._app(scope, receive, send_safely)
            return
        if found.why:
            self._log.warning("refused", code=found.reply.code, why=f"at the ops port: {found.why}")
        await _refusal(scope, found)(scope, receive, send_safely)

    def _admit(self, scope: Scope, *, is_page: bool) -> TokenHolder | Barred:
        is_new = is_page or scope["path"].startswith(API)
        if not self._tokens:
            if is_new and self._tokens.find(scope["headers"]) is THIS_MACHINE:
                return THIS_MACHINE
            named = not is_new or (self._local and is_loopback(_host(scope)))
            return ANYBODY if named else Barred(FORBIDDEN, _CLOSED, "no tokens are known")
        if is_page:
            return ANYBODY
        found = self._find(scope)
        if is_new or not isinstance(found, TokenHolder) or found.sees_all:
            return found
        return Barred(NOT_FOUND, "", f"the token of {found.name} may not read everything")

    def _find(self, scope: Scope) -> TokenHolder | Barred:
        now = time.monotonic()
        peer = scope["client"][0] if scope.get("client") else ""
        if wait := self._failures.wait(peer, now):
            return Barred(BUSY, "too many wrong tokens came from this address", "", wait)
        found = self._tokens.find(scope["headers"])
        if isinstance(found, TokenHolder):
            return found
        if found is Denial.WRONG:
            self._failures.note(peer, _given(scope, b"authorization"), now)
        return Barred(NO_TOKEN, f"{found}: send authorization: Bearer TOKEN", found)


def _host(scope: Scope) -> str:
    """The name that the request was sent to, without its port."""
    match = _HOST.fullmatch(_given(scope, b"host").decode("latin-1"))
    return (match[1] or match[2]) if match else ""


def _given(scope: Scope, header: bytes) -> bytes:
    return b",".join(value for name, value in scope["headers"] if name == header)


def _refusal(scope: Scope, barred: Barred) -> Response:
    if scope["path"].startswith((API, PAGE[1])) or scope["path"] == PAGE[0]:
        response = problem(Rejected(429 if barred.wait else barred.reply.status, barred.detail))
        if barred.reply is NO_TOKEN:
            response.headers["www-authenticate"] = "Bearer"
    else:
        response = respond(barred.reply, request_id_of(Request(scope)))
    if barred.wait:
        response.headers["retry-after"] = str(int(barred.wait) + 1)
    return response


def problem(rejected: Rejected) -> Response:
    """A problem document."""
    content = json.dumps(rejected.document)
    return Response(content, rejected.status, media_type="application/problem+json")


class Failures:
    """How many wrong tokens an address has shown: who guesses is soon not listened to. An IPv6
    address stands for its network of 64 bits, which one guest has.

    A token that comes again is no other guess: it counts once. So what goes on with an outdated
    one, a scrape or an open page, keeps out nobody who has its address too.
    """

    def __init__(self) -> None:
        #: When an address began to fail, and the wrong tokens since, by what `hash` makes of them.
        self._known: dict[str, tuple[float, set[int]]] = {}

    def wait(self, peer: str, now: float) -> float:
        """For how many seconds no token of this address is looked at."""
        began, wrong = self._known.get(_key(peer), (now, ()))
        return max(0.0, began + WRONG_WITHIN - now) if len(wrong) >= MOST_WRONG else 0.0

    def note(self, peer: str, token: bytes, now: float) -> None:
        """A wrong token, as it came."""
        key = _key(peer)
        began, wrong = self._known.pop(key, (now, set[int]()))
        if now - began >= WRONG_WITHIN:
            began, wrong = now, set()
        elif not wrong and len(self._known) >= _ADDRESSES:
            del self._known[next(iter(self._known))]
        self._known[key] = began, {*wrong, hash(token)}


def _key(peer: str) -> str:
    address = address_of(peer)
    if isinstance(address, IPv6Address):
        return f"{int(address) >> 64:x}"
    return str(address or peer)
