"""Where a PostgreSQL store is, and how to log in there, in libpq's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from psycopg import Error, conninfo

from router.model.errors import SettingInvalid, why_not
from router.store.postgres.trouble import Failed
from router.store.url import Database, parse_database

#: The schema that has the tables, unless the address says `schema=…`.
SCHEMA = "ebaas_router"

#: What every connection has unless the address says otherwise: what is sent and not taken for so
#: long (in milliseconds) ends it, and an idle one finds out in a minute that nobody is there.
_DEFAULTS = {
    "application_name": "ebaas-router",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


#: What names the file that has the password.
_OPTION = "--store-password-file"


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """One database, and the schema in it."""

    #: libpq's parameters, the password perhaps among them.
    parameters: Mapping[str, str]
    schema: str
    #: Where, for people.
    shown: str
    #: What has the password, if it is not among the parameters.
    password_file: Path | None = None

    def __repr__(self) -> str:
        return f"DatabaseAddress({self.shown})"

    @classmethod
    def of(cls, database: Database, password_file: Path | None = None) -> DatabaseAddress:
        """With libpq's parameters: sslmode, passfile, several hosts and the rest; `schema=` is the
        router's own. Raises SettingInvalid, with nothing in it that may be a password."""
        url, _, query = database.url.reveal().partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        rest = [(name, value) for name, value in options if name != "schema"]
        parameters = _parsed(f"{url}?{urlencode(rest)}")
        if "," in parameters.get("host", ""):
            # Of several servers the one that can be written to.
            parameters.setdefault("target_session_attrs", "read-write")
            # libpq's list of ports has a comma where the URL has no port at all.
            if not parameters.get("port", "").strip(","):
                parameters.pop("port", None)
        # What is sent and read is UTF-8, whatever the server or the environment has in mind.
        parameters["client_encoding"] = "UTF8"
        schema = dict(options).get("schema", SCHEMA)
        return cls({**_DEFAULTS, **parameters}, schema, str(database), password_file)

    @classmethod
    def parse(cls, text: str) -> DatabaseAddress:
        """The same of a URL. Raises ValueError too, likewise."""
        return cls.of(parse_database(text))

    def login(self) -> dict[str, str]:
        """The parameters for one connection more, the password as its file has it now. Raises
        Failed where that can't be read."""
        if self.password_file is None:
            return dict(self.parameters)
        try:
            password = self.password_file.read_text("utf-8").rstrip("\r\n")
        except FileNotFoundError:
            raise Failed("28P01", f"{_OPTION}: there is no such file") from None
        except PermissionError as error:
            why = why_not(self.password_file, error)
            raise Failed("28P01", f"{_OPTION}: the file can't be read: {why}") from None
        except (OSError, ValueError):
            raise Failed("28P01", f"{_OPTION}: the file can't be read") from None
        return {**self.parameters, "password": password}


def _parsed(url: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(url).items()}
    except Error:
        # libpq's own message repeats what it could not read.
        raise SettingInvalid("the store's address has something that libpq can't read") from None
