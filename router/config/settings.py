"""The settings of `serve`, each declared once. Changing one needs a restart; routes.yaml reloads.

A declaration's name gives its option and its variable: `max_requests` is `--max-requests` and
`EBAAS_ROUTER_MAX_REQUESTS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from router.contract.schedule import parse_duration
from router.model.errors import SettingInvalid
from router.model.secret import MASK, Secret
from router.net.egress import Network, NotANetwork, network_of
from router.store.url import Database, parse_database
from router.telemetry.log.lines import Format

VARIABLE_PREFIX = "EBAAS_ROUTER_"

_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
#: A database without its scheme, or in libpq's other notation. It must not become a file's name,
#: which might have a password in it.
_ALMOST_A_URL = re.compile(r"[=@]|:[0-9]+(/|$)")
_SIZE = re.compile(r"([0-9]{1,15})(|KiB|MiB|GiB)")
_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}")
#: Literal path characters: no escapes, and no parameters of a routing pattern.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_PROBES = ("/livez", "/readyz")

#: The archive beside the store.
AUTO: Final = "auto"


# Each parser raises ValueError with the second half of a sentence.


def parse_file(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(f"{text!r} is not a file's name")
    return Path(text)


def parse_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host's name or address (like 127.0.0.1, ::1)")
    return text


def parse_port(text: str) -> int:
    number = int(text) if re.fullmatch("[0-9]{1,5}", text) else -1
    if 0 <= number <= 65535:
        return number
    problem = f"{text!r} is not a port (0 to 65535)"
    if text.startswith("tcp://"):
        problem += "; Kubernetes sets it for a Service of that name: see enableServiceLinks"
    raise ValueError(problem)


def parse_path(text: str) -> Secret:
    """A path whose further segments may be a secret, for callers that can't send a header. Only
    the first segment is ever shown."""
    if not text.startswith("/"):
        raise ValueError("a path starts with '/'")
    if not _PATH.fullmatch(text):
        raise ValueError("not a plain path (no query, no escapes)")
    if text in _PROBES:
        raise ValueError(f"{text!r} is one of the router's own probes")
    first, slash, rest = text[1:].partition("/")
    return Secret(text, f"/{first}{slash}{MASK if rest else ''}")


def parse_networks(text: str) -> tuple[Network, ...]:
    return tuple(map(_network, text.split(",")))


def _network(text: str) -> Network:
    try:
        return network_of(text.strip())
    except NotANetwork as error:
        likely = f", did you mean {error.likely!r}?" if error.likely else ""
        raise ValueError(f"{text!r} {error}{likely}") from None


def parse_store(text: str) -> Path | Database | None:
    """The store's file or database; None for `none`."""
    if "://" in text:
        # A wrong URL is not repeated: it may have a password.
        return parse_database(text)
    if _ALMOST_A_URL.search(text):
        raise ValueError("a store is a file's name, a URL (postgresql://USER@HOST/NAME), or 'none'")
    if text == "none":
        return None
    path = parse_file(text)
    if path.name in ("", ".."):
        raise ValueError(f"can't use the store {text}: it is a folder")
    return path


def parse_archive(text: str) -> Path | Literal["auto"] | None:
    """The archive's folder; None for `none`."""
    if text == AUTO:
        return AUTO
    return None if text == "none" else parse_file(text)


def archive_folder(
    archive: Path | Literal["auto"] | None, store: Path | Database | None
) -> Path | None:
    """Return the archive's folder; None if there is none."""
    if archive != AUTO:
        return archive
    return store.with_name(f"{store.name}-archive") if isinstance(store, Path) else None


def last_good_file(settings: Settings) -> Path | None:
    """Return the file with the texts in force: beside a store in a file. With PostgreSQL it is
    beside the archive, the only folder of this node, if there is one. Without a store there is no
    such file, and with `strict_start` nobody reads it."""
    store = settings.store
    beside = archive_folder(settings.archive, store) if isinstance(store, Database) else store
    if beside is None or settings.strict_start:
        return None
    return beside.with_name(f"{beside.name}-routes.json")


def parse_size(text: str) -> int:
    """Bytes, at least one."""
    match = _SIZE.fullmatch(text)
    number = int(match[1]) * _UNITS[match[2]] if match else 0
    if number == 0:
        raise ValueError(f"{text!r} is not a size (like 65536, 64KiB, 1MiB)")
    return number


def parse_count(text: str) -> int:
    """A whole number from 1."""
    number = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    if number == 0:
        raise ValueError(f"{text!r} is not a whole number from 1")
    return number


def at_least(least: str, parse: Callable[[str], float]) -> Callable[[str], Any]:
    """Return `parse` with a lower limit: a smaller value has probably lost its unit."""
    floor = parse(least)

    def parse_enough(text: str) -> float:
        number = parse(text)
        if number < floor:
            raise ValueError(f"{text!r} is too little ({least} at least)")
        return number

    return parse_enough


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that takes one of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return parse


def parse_switch(text: str) -> bool:
    return one_of("on", "off")(text) == "on"


def setting(parse: Callable[[str], Any], default: str | None, metavar: str, about: str) -> Any:
    """Declare a field of Settings, its default written as by a user."""
    declared = {"parse": parse, "default": default, "metavar": metavar, "about": about}
    return field(default=None if default is None else parse(default), metadata=declared)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of `serve`. The files and addresses may not exist. Sizes are in bytes, times in
    seconds."""

    config: Path = setting(
        parse_file, "config/routes.yaml", "FILE", "routes.yaml, or a folder with one and a routes.d"
    )
    strict_start: bool = setting(
        parse_switch, "off", "on|off", "start only if every file of --config is good: else exit 3"
    )
    schema: Path | None = setting(
        parse_file, None, "FILE", "a JSON Schema that callbacks must meet besides the contract's"
    )
    host: str = setting(
        parse_host, "127.0.0.1", "HOST", "the address to listen on; 0.0.0.0 means all"
    )
    port: int = setting(parse_port, "8080", "PORT", "the port to listen on; 0 takes any free one")
    reuse_port: bool = setting(
        parse_switch, "off", "on|off", "share the port with other nodes on this host (SO_REUSEPORT)"
    )
    path: Secret = setting(
        parse_path, "/callback", "PATH", "the path of callbacks; only its first segment is shown"
    )
    trusted_proxies: tuple[Network, ...] = setting(
        parse_networks, None, "CIDR,…", "the only proxies whose x-forwarded-for is believed"
    )
    tls_cert: Path | None = setting(
        parse_file, None, "FILE", "serve https with this certificate chain, in PEM; it reloads"
    )
    tls_key: Path | None = setting(parse_file, None, "FILE", "the certificate's key, in PEM")
    store: Path | Database | None = setting(
        parse_store,
        "data/ebaas-router.db",
        "STORE",
        "where unsettled events are kept: a file; postgresql://USER@HOST/NAME, for several nodes; "
        "or 'none': every retry goes to every target, and optional targets get one attempt",
    )
    store_max_bytes: int = setting(
        at_least("1MiB", parse_size), "1GiB", "SIZE", "the most it holds; more is not recorded"
    )
    archive: Path | Literal["auto"] | None = setting(
        parse_archive,
        AUTO,
        "DIR",
        "the folder with a line for each handled event, for trace and archive; 'none'; or 'auto': "
        "STORE-archive beside a store in a file, and none with PostgreSQL",
    )
    archive_max_bytes: int = setting(
        at_least("1MiB", parse_size), "256MiB", "SIZE", "the most it holds; the oldest goes first"
    )
    archive_keep: float = setting(
        at_least("1m", parse_duration),
        "7d",
        "TIME",
        "how long the archive keeps a line, if it has room",
    )
    archive_bodies: bool = setting(
        parse_switch, "on", "on|off", "'off': the archive has no bodies, so it cannot replay"
    )
    max_requests: int = setting(
        parse_count, "1024", "N", "the most callbacks in flight; further ones get 503"
    )
    engine: Literal["native", "httpx"] = setting(
        one_of("native", "httpx"), "native", "ENGINE", "the HTTP client for targets; httpx is slow"
    )
    secrets_dir: Path | None = setting(
        parse_file, None, "DIR", "the folder that ${file:NAME} in routes.yaml reads from"
    )
    log_format: Format = setting(
        one_of("console", "json"),
        "console",
        "FORMAT",
        "'console' for people, or 'json'",
    )
    ops_host: str = setting(
        parse_host, "127.0.0.1", "HOST", "the address of the page, the API, /metrics and /status"
    )
    ops_port: int = setting(parse_port, "8081", "PORT", "their port; 0 turns them off")
    ops_tokens: Path | None = setting(
        parse_file, None, "FILE", "the tokens of the ops port, in YAML; the file reloads"
    )
    drain_delay: float = setting(
        parse_duration, "0s", "TIME", "how long a stop takes callbacks, with /readyz at 503"
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as users give it."""

    name: str
    parse: Callable[[str], Any]
    #: As a user would write it; None if there is none.
    default: str | None
    metavar: str
    about: str

    @property
    def is_switch(self) -> bool:
        """True if the option alone means on."""
        return self.default == "off"

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    def read(self, source: str, text: str) -> Any:
        """Parse a text from an option or variable. Raises SettingInvalid."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise SettingInvalid(f"{source}: {error}") from None

    def value(self, environ: Mapping[str, str], given: Mapping[str, str | None]) -> Any:
        """Return the value of the option in `given`, else of the variable, else the default.

        An empty variable counts as absent."""
        if (text := given.get(self.name)) is not None:
            return self.read(self.option, text)
        if text := environ.get(self.variable):
            return self.read(self.variable, text)
        return getattr(Settings(), self.name)


#: Every setting by its name, in the order of the help.
SETTINGS = {
    declared.name: Setting(declared.name, **declared.metadata) for declared in fields(Settings)
}

#: Options that `serve` had in earlier versions, and their replacements.
REMOVED_OPTIONS = {
    "--drain-timeout": "a stop waits 15 s for callbacks in flight; a second signal ends the wait",
    "--keep-alive": "an idle connection stays open for 620 s",
    "--log-changes": "the log always has an event's first 20 changes",
    "--max-body": "a body may have 1 MiB",
    "--max-connections": "callers may have four connections for each of --max-requests",
    "--max-head": "a head may have 16 KiB",
    "--max-headers": "a request may have 100 headers",
    "--ops-token-file": "put the token into the file of --ops-tokens",
    "--receive-timeout": "a request has 10 s to arrive",
    "--store-connections": "a router opens at most four connections to PostgreSQL",
    "--store-max-rows": "use --store-max-bytes",
    "--store-password-file": "use ?passfile=FILE in the URL of --store, or PGPASSWORD",
    "--verbose": "use --log-format json",
    "--workers": "use several nodes on PostgreSQL",
    "-v": "use --log-format json",
}


def settings_from(environ: Mapping[str, str], given: Mapping[str, str | None]) -> Settings:
    """Return every setting: the option in `given`, else its variable, else its default.

    An empty variable counts as absent. Raises SettingInvalid, also for the variable of an option
    that was removed: to ignore it would change the router's behaviour silently.
    """
    for option, instead in REMOVED_OPTIONS.items():
        variable = VARIABLE_PREFIX + option.strip("-").replace("-", "_").upper()
        if environ.get(variable):
            raise SettingInvalid(f"{variable} is not a setting any more: {instead}")
    return Settings(**{name: one.value(environ, given) for name, one in SETTINGS.items()})
