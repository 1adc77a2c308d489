"""routes.yaml, and what is below routes.d: files to a Config, whole or not at all."""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from router.config.checks import check, patterns_of, tls_of
from router.config.files import Written, read
from router.config.parts import Part, Parts, read_parts
from router.config.values import redacted
from router.config.variables import Unresolved, Variables, read_below
from router.config.warnings import warn
from router.contract.schedule import PLATFORM, Schedule, Terms
from router.model.errors import ConfigInvalid, Problem
from router.model.secret import Secret
from router.net.access import AUTHORIZATION
from router.net.egress import Egress, Network
from router.routing.table import Route, RouteTable
from router.routing.target import BreakerPolicy, Rate, Target

_SECRET_FILE = re.compile(rb"\$\{file:([^{}\n]{1,255})\}")


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
    with _without_collections():
        return _parsed(files, Variables(environ, secrets_dir, placeholders=placeholders))


@contextmanager
def _without_collections() -> Iterator[None]:
    """Hold the garbage collector: a large file makes some hundred thousand objects, none of them
    garbage, and to walk them again and again takes longer than to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parsed(files: Sequence[Written], variables: Variables) -> Config:
    parts = read_parts(files, variables)
    egress = _egress(parts.common.said.get("egress") or ())
    # What a file without a tree defines is not known: the others may be right.
    if all(part.tree for part in parts):
        check(parts, egress)
    if any(part.problems for part in parts):
        raise parts.stop()
    routes = [_route(part, at, route) for part in parts for at, route in part.routes()]
    targets = _targets(parts, egress)
    warn(parts, routes, targets)
    shape, said = parts.common.reader.shape, parts.common.said
    config = Config(
        version=said["version"],
        unmatched=said.get("unmatched", shape.default("unmatched")),
        ebaas=_caller(parts.section("ebaas")),
        queue=_schedule(parts.section("queue")),
        egress=egress,
        table=RouteTable(routes, targets),
        hash="" if variables.missing else variables.digest(*(each.content for each in files)),
        warnings=parts.warnings(),
        files={each.name: hashlib.sha256(each.content).digest() for each in files},
    )
    for part in parts:
        part.release()
    return config


def _egress(said: Sequence[Any]) -> Egress:
    networks = tuple(each for each in said if isinstance(each, Network))
    return Egress("public" in said, networks)


def _caller(said: dict[str, Any]) -> Caller:
    schedule = _schedule(said)
    own = {key: said[key] for key in said.keys() - {"retries", "waits"} if said[key] is not None}
    return Caller(schedule=schedule, **own)


def _schedule(said: Mapping[str, Any]) -> Schedule:
    return Schedule(said["waits"], said["retries"])


def _targets(parts: Parts, egress: Egress) -> dict[str, Target]:
    policy = parts.section("defaults")
    return {
        name: _target(name, {**policy, **target}, part, egress)
        for part in parts
        for name, target in part.targets.items()
    }


def _target(name: str, said: Mapping[str, Any], part: Part, egress: Egress) -> Target:
    rate = said.get("rate")
    return Target(
        name,
        said["url"],
        timeout=said["timeout"],
        acknowledge=said["acknowledge"],
        max_in_flight=said["max_in_flight"],
        headers=tuple(said.get("headers", {}).items()),
        secret=said.get("secret", ()),
        breaker=_breaker(said["breaker"], part),
        rate=Rate(rate["per_second"], rate.get("burst") or ceil(rate["per_second"]))
        if rate
        else None,
        paused=said.get("paused", False),
        owner=said.get("owner") or part.owner,
        tls=tls_of(said),
        egress=egress,
        public_url=redacted(said["url"], part.written("targets", name, "url")),
    )


def _breaker(said: Mapping[str, Any] | bool | None, part: Part) -> BreakerPolicy | None:
    """`true` has all as it is by default."""
    if said is None or said is False:
        return None
    shape = part.reader.shape.at(("targets", "", "breaker"))
    assert shape is not None
    return BreakerPolicy(**shape.filled({} if said is True else said))


def _route(part: Part, at: int, said: Mapping[str, Any]) -> Route:
    return Route(
        said["name"],
        patterns_of(said),
        said.get("required", ()),
        said.get("optional", ()),
        part.line("routes", at),
        part.name,
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a folder, and what its variables and secret files are looked up in."""

    path: Path
    environ: Mapping[str, str]
    secrets_dir: Path | None

    def look(self) -> Look:
        """What is there now: the files and the secret files that they name."""
        try:
            files = read(self.path)
        except ConfigInvalid as error:
            return Look((), str(error), error.problems)
        return Look(files, self._mark(files), ())

    def load(self, files: Sequence[Written]) -> Config:
        """Raises ConfigInvalid."""
        return parse_files(files, self.environ, self.secrets_dir)

    def _mark(self, files: Sequence[Written]) -> str:
        mark = hashlib.sha256()
        for file in files:
            mark.update(b"%b\0%d:%b" % (os.fsencode(file.name), len(file.content), file.content))
        secrets = {name for file in files for name in _SECRET_FILE.findall(file.content)}
        for name in sorted(secrets):
            mark.update(name + b"\0" + self._secret(name))
        return mark.hexdigest()

    def _secret(self, name: bytes) -> bytes:
        """Enough of a secret file to see that it changed; whether it may be read is load's say."""
        if self.secrets_dir is None:
            return b""
        try:
            return read_below(self.secrets_dir, name.decode())
        except (OSError, ValueError, RuntimeError, Unresolved):
            return b"unreadable"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a Source. Two looks with one mark saw the same."""

    files: tuple[Written, ...]
    mark: str
    #: Why they could not even be read.
    problems: tuple[Problem, ...]
