"""routes.yaml: a file to a Config, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from router.config.addresses import redacted
from router.config.checks import check
from router.config.document import MAX_SIZE, Node, Problems, parse_document
from router.config.reader import Reader
from router.config.settings import SETTINGS
from router.config.shape import EbaasSection, QueueSection, RouteSection, RoutesFile, TargetSection
from router.config.variables import Variables
from router.config.warnings import warn
from router.contract import PLATFORM, Schedule, Terms
from router.model import ConfigInvalid, Problem, Secret, why_not
from router.net import AUTHORIZATION, Egress, Network
from router.routing import Route, RouteTable, Target

__all__ = ["Caller", "Config", "load", "parse", "read"]


@dataclass(frozen=True, slots=True)
class Caller:
    """EBaaS, and how it retries."""

    #: In seconds: it always has its reply by then.
    reply_within: float = 8.0
    schedule: Schedule = PLATFORM
    #: In seconds: how much later than its schedule a retry may come.
    grace: float = 60.0
    #: The HTTP status of replies: the code's own, or always 200.
    http_status: Literal["mirror", "ok"] = "mirror"
    #: Any of them lets it in; with none it needs none.
    token: tuple[Secret, ...] = ()
    #: Which header has it; in lower case.
    token_header: str = AUTHORIZATION
    #: Where it may call from; empty for anywhere.
    allow_from: tuple[Network, ...] = ()
    #: In seconds: for how long it may send nothing before that is told; None: for ever.
    silent_after: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """What one routes.yaml says, checked as a whole."""

    version: int
    #: What an event gets that no route matches: a failure, or `000`.
    unmatched: Literal["reject", "accept"]
    ebaas: Caller
    #: How the router itself retries optional targets.
    queue: Schedule
    #: Where events may go; every target has it too.
    egress: Egress
    table: RouteTable
    #: SHA-256 in hex over the file and what its variables and secret files had in them.
    hash: str
    warnings: tuple[Problem, ...]
    #: `ebaas` and `queue` as delivery memory asks for them.
    terms: Terms = field(init=False)

    def __post_init__(self) -> None:
        ebaas = self.ebaas
        terms = Terms(
            ebaas.schedule, ebaas.grace, ebaas.reply_within, self.queue, ebaas.silent_after
        )
        object.__setattr__(self, "terms", terms)


def load(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Config:
    """The configuration in a file. Raises ConfigInvalid, also where the file can't be read."""
    return parse(read(path), str(path), environ, secrets_dir)


def parse(
    content: bytes, name: str, environ: Mapping[str, str], secrets_dir: Path | None
) -> Config:
    """The configuration that is `content`; problems name the file as `name`.

    Raises ConfigInvalid with every problem there is. No value of a variable is in any of them.
    """
    problems = Problems(name)
    variables = Variables(environ, secrets_dir)
    warnings = Problems(name)
    file = _file(parse_document(content, name, problems), Reader(problems, variables, warnings))
    if problems:
        raise problems.stop()
    routes = [_route(section) for section in file.routes]
    targets = {key: _target(key, each, file) for key, each in file.targets.items()}
    warn(file, routes, warnings)
    config = Config(
        version=file.version,
        unmatched=file.unmatched,
        ebaas=_caller(file.ebaas),
        queue=_schedule(file.queue),
        egress=file.egress,
        table=RouteTable(routes, targets),
        hash=variables.digest(content),
        warnings=warnings.in_order(),
    )
    # What was read goes one by one: all at once, 10,000 routes hold every other thread for 25 ms.
    sections = list(file.routes)
    del file
    while sections:
        sections.pop()
    return config


def read(path: Path) -> bytes:
    """A file's bytes, at most one more than `parse` allows. Raises ConfigInvalid."""
    try:
        # A pipe or a device might never end.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _unreadable(path, "is no regular file")
        with path.open("rb") as file:
            return file.read(MAX_SIZE + 1)
    except OSError as error:
        why = f"can't be read: {why_not(path, error)}"
        if str(path) == SETTINGS["config"].default:
            why += "; it is looked for below the working folder, unless --config names another"
        raise _unreadable(path, why) from None
    except ValueError:
        raise _unreadable(path, "is not a file's name") from None


def _unreadable(path: Path, message: str) -> ConfigInvalid:
    return ConfigInvalid([Problem(str(path), 0, 0, "", message)])


def _file(root: Node, reader: Reader) -> RoutesFile:
    """What the file says. Whatever is wrong with it is in the reader's problems."""
    file = reader.read(RoutesFile, root, "", RoutesFile.blank())
    check(file, reader)
    return file


def _caller(section: EbaasSection) -> Caller:
    return Caller(
        section.reply_within,
        _schedule(section),
        section.grace,
        section.http_status,
        section.token,
        section.token_header,
        section.allow_from,
        section.silent_after,
    )


def _schedule(section: EbaasSection | QueueSection) -> Schedule:
    return Schedule(section.waits, section.retries)


def _target(name: str, section: TargetSection, file: RoutesFile) -> Target:
    policy = file.policy(section)
    return Target(
        name,
        section.url,
        timeout=policy.timeout,
        acknowledge=policy.acknowledge,
        max_in_flight=policy.max_in_flight,
        headers=tuple(section.headers.items()),
        secret=section.secret,
        breaker=policy.breaker.policy if policy.breaker else None,
        rate=section.rate.rate if section.rate else None,
        paused=section.paused,
        owner=section.owner,
        tls=section.tls,
        egress=file.egress,
        public_url=redacted(section.url, section.nodes["url"]),
    )


def _route(section: RouteSection) -> Route:
    return Route(
        section.name,
        {field: tuple(p.value for p in patterns) for field, patterns in section.match.items()},
        tuple(target.value for target in section.required),
        tuple(target.value for target in section.optional),
        section.node.line,
    )
