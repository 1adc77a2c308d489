"""The URL of a PostgreSQL database: parsed strictly, and shown without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote, urlsplit

from router.model.secret import Secret

SCHEMES = ("postgresql", "postgres")

#: The parameters that a URL may have. A mistyped `sslmode` that was ignored would be a connection
#: without TLS.
PARAMETERS = (
    *("application_name", "channel_binding", "gssencmode", "host", "hostaddr"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("krbsrvname", "load_balance_hosts", "passfile", "require_auth", "schema"),
    *("ssl_min_protocol_version", "sslcert", "sslcrl", "sslkey"),
    *("sslmode", "sslrootcert", "sslsni"),
    *("target_session_attrs", "tcp_user_timeout"),
)

#: The schema of the tables, unless the URL has the router's own parameter `schema`: a name that
#: needs no quotes.
SCHEMA = "ebaas_router"
_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,62}")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_LIKE = "like postgresql://router@db.example:5432/ebaas?sslmode=verify-full"
_WRONG = f"this is not the URL of a PostgreSQL database ({_LIKE})"

_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")

#: A server: a name, an IPv4 address, or an IPv6 address in brackets; and its port.
_SERVER = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Database:
    """A database and its login."""

    #: As it was given. It prints as servers and name, without user and parameters.
    url: Secret
    has_password: bool
    schema: str = SCHEMA

    def __str__(self) -> str:
        return str(self.url)


def parse_database(text: str) -> Database:
    """Raises ValueError with a sentence that repeats nothing that may be a password."""
    try:
        parts = urlsplit(text)
    except ValueError:  # its text may repeat a password
        raise ValueError(_WRONG) from None
    if parts.scheme not in SCHEMES or not text.isprintable() or " " in text:
        raise ValueError(_WRONG)
    user, _, servers = parts.netloc.rpartition("@")
    special = "@" in user + parts.path + parts.query or parts.fragment
    if special or _BARE_PERCENT.search(user):
        raise ValueError(
            "special characters in a user or a password are written as in URLs: / as %2F, "
            "? as %3F, # as %23, @ as %40, % as %25"
        )
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    _check_parameters(parameters)
    _check_servers(servers, parameters)
    if len(unquote(parts.path)) < 2:
        raise ValueError(f"the URL names no database ({_LIKE})")
    shown = f"postgresql://{servers}{parts.path}"
    return Database(Secret(text, shown), ":" in user, parameters.get("schema", SCHEMA))


def _check_servers(servers: str, parameters: dict[str, str]) -> None:
    if not servers and not parameters.get("host"):
        raise ValueError(f"the URL names no server ({_LIKE})")
    for server in servers.split(",") if servers else ():
        match = _SERVER.fullmatch(server)
        if match is None or not 0 < int(match[1] or 5432) < 65536:
            raise ValueError(f"the URL's servers are not NAME:PORT, separated by commas ({_LIKE})")


def _check_parameters(parameters: dict[str, str]) -> None:
    for name in parameters:
        if name == "password":
            raise ValueError("a password has its place before the @, or in a file: passfile=FILE")
        if name not in PARAMETERS:
            near = get_close_matches(name, PARAMETERS, n=1)
            meant = f", did you mean {near[0]}?" if near else f": {', '.join(PARAMETERS)}"
            raise ValueError(f"the URL has an unknown parameter{meant}")
    if not _SCHEMA.fullmatch(parameters.get("schema", "_")):
        raise ValueError("the URL's schema may have up to 63 of a-z, 0-9 and _, no digit first")
    mode = parameters.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        raise ValueError(f"the URL's sslmode is not one of {', '.join(SSL_MODES)}")
