"""routes.yaml, and what is below routes.d: files to a Config, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from router.config.addresses import redacted
from router.config.checks import check
from router.config.files import Written, read
from router.config.parts import Part, Parts, read_parts
from router.config.shape import EbaasSection, QueueSection, RouteSection, RoutesFile, TargetSection
from router.config.variables import Variables
from router.config.warnings import warn
from router.contract.schedule import PLATFORM, Schedule, Terms
from router.model.errors import Problem
from router.model.secret import Secret
from router.net.access import AUTHORIZATION
from router.net.egress import Egress, Network
from router.routing.table import Route, RouteTable
from router.routing.target import Target


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
    #: SHA-256 in hex over the files and what their variables and secret files had in them; `""`
    #: where placeholders stood for some.
    hash: str
    warnings: tuple[Problem, ...]
    #: By their names the files that it was made of, and the SHA-256 of each.
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False)
    #: `ebaas` and `queue` as delivery memory asks for them.
    terms: Terms = field(init=False)

    def __post_init__(self) -> None:
        ebaas = self.ebaas
        terms = Terms(
            ebaas.schedule, ebaas.grace, ebaas.reply_within, self.queue, ebaas.silent_after
        )
        object.__setattr__(self, "terms", terms)


def load(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Config:
    """The configuration in a file or a folder. Raises ConfigInvalid, also if it can't be read."""
    return parse_files(read(path), environ, secrets_dir)


def parse(
    content: bytes, name: str, environ: Mapping[str, str], secrets_dir: Path | None
) -> Config:
    """The configuration that one file is, as `parse_files` has it."""
    return parse_files([Written(name, content)], environ, secrets_dir)


def parse_files(
    files: Sequence[Written],
    environ: Mapping[str, str],
    secrets_dir: Path | None,
    *,
    placeholders: bool = False,
) -> Config:
    """The configuration that the files are; problems name them as they are named.

    With `placeholders` something stands for secrets that are not there: nothing that runs may have
    that, and it has no hash. Raises ConfigInvalid with every problem there is. No value of a
    variable is in any of them.
    """
    variables = Variables(environ, secrets_dir, placeholders=placeholders)
    parts = read_parts(files, variables)
    # What a file without a tree defines is not known: the others may be right.
    if all(part.is_whole for part in parts):
        check(parts)
    if any(part.problems for part in parts):
        raise parts.stop()
    routes = [_route(each, part) for part in parts for each in part.said.routes]
    warn(parts, routes)
    file = parts.file
    config = Config(
        version=file.version,
        unmatched=file.unmatched,
        ebaas=_caller(file.ebaas),
        queue=_schedule(file.queue),
        egress=file.egress,
        table=RouteTable(routes, _targets(parts)),
        hash="" if variables.missing else variables.digest(*(each.content for each in files)),
        warnings=parts.warnings(),
        files={each.name: sha256(each.content).digest() for each in files},
    )
    # What was read goes one by one: all at once, 10,000 routes hold the loop up for 25 ms.
    sections = [section for part in parts for section in part.said.routes]
    del parts, file
    while sections:
        sections.pop()
    return config


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


def _targets(parts: Parts) -> dict[str, Target]:
    return {
        name: _target(name, section, part, parts.file)
        for part in parts
        for name, section in part.said.targets.items()
    }


def _target(name: str, section: TargetSection, part: Part, file: RoutesFile) -> Target:
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
        owner=section.owner or part.owner,
        tls=section.tls,
        egress=file.egress,
        public_url=redacted(section.url, section.nodes["url"]),
    )


def _route(section: RouteSection, part: Part) -> Route:
    return Route(
        section.name,
        {field: tuple(p.value for p in patterns) for field, patterns in section.match.items()},
        tuple(target.value for target in section.required),
        tuple(target.value for target in section.optional),
        section.node.line,
        part.name,
    )
