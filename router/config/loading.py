"""Loads routes.yaml, or a folder with one and a routes.d, into a Config: whole, or as far as the
changed files fit to those in force."""

from __future__ import annotations

import gc
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

from router.config.checks import check_file, patterns_of, tls_of, warn
from router.config.document import MAX_PROBLEMS, Guesses
from router.config.files import Part, Written, read
from router.config.fitting import FileRefusal, fit, fits
from router.config.lastgood import LastGood
from router.config.values import redacted
from router.config.variables import Unresolved, Variables, digest, read_below
from router.contract.schedule import PLATFORM, Schedule, Terms
from router.model.errors import ConfigInvalid, Problem
from router.model.secret import Secret
from router.net.access import AUTHORIZATION
from router.net.egress import Egress, Network
from router.routing.table import Route, RouteTable
from router.routing.target import BreakerPolicy, Rate, Target

#: Of many files each lists at least so many problems before it only counts them.
_LEAST = 20

_SECRET_FILE = re.compile(rb"\$\{file:([^{}\n]{1,255})\}")


@dataclass(frozen=True, slots=True)
class Caller:
    """The settings of EBaaS, and its retry schedule. Times are in seconds."""

    #: A reply is sent within this time.
    reply_within: float = 8.0
    schedule: Schedule = PLATFORM
    #: A retry may come this much later than its schedule.
    grace: float = 60.0
    #: The HTTP status of replies: the code's own, or always 200.
    http_status: Literal["mirror", "ok"] = "mirror"
    #: Any of these lets a caller in; if there are none, a caller needs none.
    token: tuple[Secret, ...] = ()
    #: The header of the token, in lower case.
    token_header: str = AUTHORIZATION
    #: The networks of callers; empty for any.
    allow_from: tuple[Network, ...] = ()
    #: Silence for this long is reported; None: never.
    silent_after: float | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration that passed every check."""

    version: int
    #: The reply to an event that no route matches: a failure, or `000`.
    unmatched: Literal["reject", "accept"]
    #: Whether a target that works again gets at once what waits for it, or only if a person asks.
    recovery: Literal["automatic", "manual"]
    ebaas: Caller
    #: The router's own retries of optional targets.
    queue: Schedule
    #: Where events may go; every target has it too.
    egress: Egress
    table: RouteTable
    #: SHA-256 in hex over the files, and the values of their variables and secret files; `""` if
    #: placeholders stood for some.
    hash: str
    warnings: tuple[Problem, ...]
    #: The text of each file with the values of its variables, by its name.
    files: Mapping[str, Written] = field(default_factory=dict, compare=False, repr=False)
    #: `ebaas` and `queue` as delivery memory needs them.
    terms: Terms = field(init=False)

    def __post_init__(self) -> None:
        ebaas = self.ebaas
        terms = Terms(
            ebaas.schedule,
            ebaas.grace,
            ebaas.reply_within,
            self.queue,
            ebaas.silent_after,
            recovers=self.recovery == "automatic",
        )
        object.__setattr__(self, "terms", terms)

    def schedules(self) -> dict[Schedule, list[str]]:
        """Return the schedules of all targets that are optional in some route, with their names."""
        schedules: dict[Schedule, list[str]] = {}
        for name in sorted({name for route in self.table.routes for name in route.optional}):
            schedules.setdefault(self.table.targets[name].queue or self.queue, []).append(name)
        return schedules


def load(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Config:
    """Load a file or a folder. Raises ConfigInvalid, also if it cannot be read."""
    return load_files(read(path), environ, secrets_dir)[0]


def parse(
    content: bytes, name: str, environ: Mapping[str, str], secrets_dir: Path | None
) -> Config:
    """Parse a configuration of one file."""
    return load_files([Written(name, content)], environ, secrets_dir)[0]


def problems_of(refused: Mapping[str, FileRefusal]) -> list[Problem]:
    return [problem for file in refused.values() for problem in file.problems]


def refused_by_file(problems: Iterable[Problem]) -> Mapping[str, FileRefusal]:
    """Return the files that problems are about."""
    refused: dict[str, FileRefusal] = {}
    for problem in problems:
        known = refused.get(problem.file, FileRefusal(problem.owner, ()))
        refused[problem.file] = known._replace(problems=(*known.problems, problem))
    return refused


def load_files(
    files: Sequence[Written],
    environ: Mapping[str, str],
    secrets_dir: Path | None,
    *,
    in_force: Sequence[Written] = (),
    placeholders: bool = False,
) -> tuple[Config, Mapping[str, FileRefusal]]:
    """Load the files as far as they fit to the texts in force. Return the refused ones by name.

    With `placeholders`, something stands for each secret that is missing; such a configuration has
    no hash, and must not run. No problem has the value of a variable in it. Raises ConfigInvalid
    with every problem if files are refused and nothing is in force, or cannot be any more: for
    instance, it lacks a variable by now.
    """
    variables = Variables(environ, secrets_dir, placeholders=placeholders)
    with collections_off():
        after = _parsed(files, variables, {})
        if fits(after.values()):
            return _config(after.values(), variables), {}
        before = _parsed(in_force, variables, after)
        usable = {name: part for name, part in before.items() if not part.problems}
        parts, refused = fit(usable, after)
        lost = refused.keys() & (before.keys() - usable.keys())
        if not in_force or lost or not fits(parts):
            raise ConfigInvalid(problems_of(refused))
        return _config(parts, variables), refused


@contextmanager
def collections_off() -> Iterator[None]:
    """Turn garbage collections off. A large file makes some hundred thousand objects, none of them
    garbage: to walk them again and again takes longer than to make them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parsed(
    files: Sequence[Written], variables: Variables, known: Mapping[str, Part]
) -> dict[str, Part]:
    """Parse the files of one configuration, and check each alone: a single file, which has all
    keys, or a folder's. A file that is known, with the same values of its variables, is kept."""
    most, guesses = max(_LEAST, MAX_PROBLEMS // max(1, len(files))), Guesses()
    parts: dict[str, Part] = {}
    for file in files:
        part = known.get(file.name)
        if part is None or not part.has(file):
            part = Part(file, variables, guesses, most)
            check_file(part)
        parts[part.name] = part
    return parts


def _config(fitting: Iterable[Part], variables: Variables) -> Config:
    parts = sorted(fitting, key=lambda part: part.order)
    common = parts[0]
    routes = [_route(part, at, route) for part in parts for at, route in part.routes()]
    usual = {**common.section("defaults"), "egress": common.egress}
    queue = common.section("queue")
    targets = {
        name: _target(part, name, given, usual, queue)
        for part in parts
        for name, given in part.targets.items()
    }
    table = RouteTable(routes, targets)
    warn(parts, table)
    top = common.reader.shape.filled(common.values)
    ebaas = {key: value for key, value in common.section("ebaas").items() if value is not None}
    files = {part.name: part.written for part in parts}
    used = {pair for file in files.values() for pair in (file.values or {}).items()}
    config = Config(
        version=top["version"],
        unmatched=top["unmatched"],
        recovery=top["recovery"],
        ebaas=Caller(schedule=Schedule(ebaas.pop("waits"), ebaas.pop("retries")), **ebaas),
        queue=Schedule(**queue),
        egress=common.egress,
        table=table,
        hash="" if variables.missing else digest([one.content for one in files.values()], used),
        warnings=tuple(one for part in parts for one in part.warnings.in_order()),
        files=files,
    )
    for part in parts:
        part.release()
    return config


def _target(
    part: Part,
    name: str,
    given: Mapping[str, Any],
    usual: Mapping[str, Any],
    queue: Mapping[str, Any],
) -> Target:
    """Return a target, whose fields are named as its keys and those of `defaults`."""
    own = {**(usual["queue"] or {}), **given.get("queue", {})}
    values = {
        **usual,
        **given,
        "headers": tuple(given.get("headers", {}).items()),
        "queue": Schedule(**{**queue, **own}) if own else None,
        "owner": given.get("owner") or part.owner,
        "tls": tls_of(given),
    }
    breaker, rate = values.pop("breaker"), values.pop("rate", None)
    if breaker:  # `true` is every default
        shape = part.reader.shape.at(("targets", "", "breaker"))
        breaker = BreakerPolicy(**shape.filled({} if breaker is True else breaker))
    if rate:
        rate = Rate(rate["per_second"], rate.get("burst") or ceil(rate["per_second"]))
    public_url = redacted(given["url"], part.text("targets", name, "url"))
    return Target(name, breaker=breaker or None, rate=rate, public_url=public_url, **values)


def _route(part: Part, at: int, values: Mapping[str, Any]) -> Route:
    return Route(
        values["name"],
        patterns_of(values, "match"),
        values.get("required", ()),
        values.get("optional", ()),
        patterns_of(values, "except"),
        part.line("routes", at),
        part.name,
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A file or a folder, with the environment and the secrets directory to load it with."""

    path: Path
    environ: Mapping[str, str]
    secrets_dir: Path | None
    #: Where the texts in force are kept, if they are.
    last_good: LastGood | None = None

    def start(self) -> tuple[Look, Config, Mapping[str, FileRefusal]]:
        """Look at the files, and load them. Those that are broken keep the texts that were in force
        before, if these were kept. Raises ConfigInvalid."""
        look, kept = self.look(), self.last_good.read() if self.last_good else ()
        if not look.problems:
            return look, *self.load(look.files, kept)
        if not kept:
            raise ConfigInvalid(look.problems)
        return look, self.load(kept)[0], refused_by_file(look.problems)

    def look(self) -> Look:
        """Read the files and the secret files that they name."""
        try:
            files = read(self.path)
        except ConfigInvalid as error:
            return Look((), str(error), error.problems)
        return Look(files, self._mark(files), ())

    def load(
        self, files: Sequence[Written], in_force: Sequence[Written] = ()
    ) -> tuple[Config, Mapping[str, FileRefusal]]:
        """Load the files as far as they fit to the texts in force. Raises ConfigInvalid."""
        return load_files(files, self.environ, self.secrets_dir, in_force=in_force)

    def _mark(self, files: Sequence[Written]) -> str:
        mark = hashlib.sha256()
        for file in files:
            mark.update(b"%b\0%d:%b" % (os.fsencode(file.name), len(file.content), file.content))
        secrets = {name for file in files for name in _SECRET_FILE.findall(file.content)}
        for name in sorted(secrets):
            mark.update(name + b"\0" + self._secret(name))
        return mark.hexdigest()

    def _secret(self, name: bytes) -> bytes:
        """Return enough of a secret file to see a change; `load` reports faults."""
        if self.secrets_dir is None:
            return b""
        try:
            return read_below(self.secrets_dir, name.decode())
        except (OSError, ValueError, RuntimeError, Unresolved):
            return b"unreadable"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a Source. Two looks with the same mark saw the same contents."""

    files: tuple[Written, ...]
    mark: str
    #: Why the files could not be read.
    problems: tuple[Problem, ...]
