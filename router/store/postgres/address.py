"""Where a PostgreSQL store is: the address in libpq's own words, checked before it is tried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from psycopg import Error, conninfo

from router.errors import SettingInvalid

SCHEMES = ("postgresql", "postgres")

#: The schema that has the tables, unless the address says `schema=…`.
SCHEMA = "ebaas_router"

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")

#: What every connection has unless the address says otherwise: what is sent and not taken for so
#: long (in milliseconds) ends it, and an idle one finds out in a minute that nobody is there.
_DEFAULTS = {
    "application_name": "ebaas-router",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One database, and the schema in it."""

    #: libpq's parameters, the password perhaps among them.
    parameters: Mapping[str, str]
    schema: str
    #: Who and where, for people.
    shown: str

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    @classmethod
    def parse(cls, text: str) -> Address:
        """`postgresql://user@host:5432/database?sslmode=verify-full&schema=name`, with libpq's
        parameters: sslrootcert, passfile, several hosts and the rest.

        Raises SettingInvalid, with nothing of the text in it: it may hold a password.
        """
        try:
            url = urlsplit(text)
            options = parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query))
        except ValueError:
            raise SettingInvalid("the store's address is no URL") from None
        if url.scheme not in SCHEMES:
            raise SettingInvalid("the store's address does not start with postgresql://")
        schema = dict(options).get("schema", SCHEMA)
        if not _NAME.fullmatch(schema):
            raise SettingInvalid("schema: a name has up to 63 of a-z, 0-9 and _, no digit first")
        rest = [(name, value) for name, value in options if name != "schema"]
        parameters = _parsed(urlunsplit(url._replace(query=urlencode(rest))))
        if "," in parameters.get("host", ""):
            # Of several servers the one that can be written to.
            parameters.setdefault("target_session_attrs", "read-write")
        # What is sent and read is UTF-8, whatever the server or the environment has in mind.
        parameters["client_encoding"] = "UTF8"
        return cls({**_DEFAULTS, **parameters}, schema, _shown(parameters))


def _parsed(url: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except Error:
        # libpq's own message repeats what it could not read.
        raise SettingInvalid("the store's address has something that libpq can't read") from None


def _shown(parameters: Mapping[str, str]) -> str:
    user = f"{parameters['user']}@" if "user" in parameters else ""
    host = parameters.get("host", parameters.get("hostaddr", ""))
    if host.startswith("/"):
        host = ""
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"postgresql://{user}{host}{port}/{parameters.get('dbname', '')}"
