"""The tokens file of the ops port: who may do what there, each known by a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from router.config.access import TOKEN
from router.config.document import Problems, parse_document
from router.config.files import read_file
from router.config.kinds import Choice, ListOf, SecretText, Text
from router.config.reader import Reader
from router.config.section import Key, Section
from router.config.variables import Variables
from router.model.secret import is_exposed
from router.net.access import SHORT

#: What somebody may do at the ops port. `replay` and `discard` have `restore` with them; `bodies`
#: is to see what is in events.
Deed = Literal["read", "replay", "discard", "pause", "bodies"]

DEEDS: tuple[Deed, ...] = get_args(Deed)

#: What is no token, by its SHA-256, and why: nothing at all, which a hash is made of where the
#: variable that should have the token is not set; and what anybody tries first.
_NO_TOKENS = {
    sha256().digest(): "has the SHA-256 of nothing, no token's",
    **{
        sha256(word.encode()).digest(): f"has the word {word!r} for a token: anybody may try it"
        for word in ("test", "token", "secret", "password")
    },
}


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who asks the ops port for something."""

    #: None where nobody needs a token.
    name: str | None
    may: frozenset[Deed]
    #: Whose targets alone are seen and touched; `""` for all.
    owner: str = ""

    @property
    def sees_all(self) -> bool:
        """Whether it may read everybody's numbers."""
        return not self.owner and "read" in self.may

    def sees(self, owner: str) -> bool:
        """Whether a target of this owner is there for the holder."""
        return self.owner in ("", owner)


@dataclass(frozen=True, slots=True)
class Holders:
    """What one tokens file says."""

    #: The SHA-256 of each token that is good, and who has it.
    tokens: tuple[tuple[bytes, Holder], ...]
    #: Over the file and what its variables and secret files had in them: two that are equal say
    #: the same.
    hash: str
    #: What is dubious, for people.
    warnings: tuple[str, ...] = field(compare=False, default=())


class HolderSection(Section):
    name = Key(
        Text("a name", longest=64), "What is recorded of who acted.", default="", required=True
    )
    token = Key(
        ListOf(TOKEN, alone=True), "The token; while one replaces another, both.", default=()
    )
    sha256 = Key(
        ListOf(SecretText("a SHA-256 in hex", pattern="[0-9a-f]{64}"), alone=True),
        "The token's SHA-256 in hex instead of the token.",
        default=(),
    )
    owner = Key(
        Text("an owner", pattern=r".*\S.*"),
        "Only the targets of this owner are there for it.",
        default="",
    )
    may: Key[tuple[Deed, ...]] = Key(
        ListOf(Choice(*DEEDS), alone=True), "What it may do.", default=(), required=True
    )


class TokensFile(Section):
    tokens = Key(ListOf(HolderSection), "Who may do what.", default=(), required=True)


def load_holders(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Holders:
    """The holders in a file. Raises ConfigInvalid with every problem there is; no value of a
    variable and no token is in any of them."""
    content, problems, warnings = read_file(path), Problems(str(path)), Problems(str(path))
    variables = Variables(environ, secrets_dir)
    reader = Reader(problems, variables, warnings)
    file = reader.read(TokensFile, parse_document(content, str(path), problems), "", None)
    sections = file.tokens if file is not None else ()
    _check(sections, problems, warnings)
    if problems:
        raise problems.stop()
    told = [str(problem) for problem in warnings.in_order()]
    plain = [token for section in sections for token in section.token]
    if is_exposed(path) and any(token.reveal().encode() in content for token in plain):
        told.append(f"everybody on this machine can read the tokens in {path}: chmod 600")
    tokens = [(digest, _holder(section)) for section in sections for digest in _digests(section)]
    return Holders(tuple(tokens), variables.digest(content), tuple(told))


def _check(sections: tuple[HolderSection, ...], problems: Problems, warnings: Problems) -> None:
    names: set[str] = set()
    known: set[bytes] = set()
    for section in sections:
        if not section.nodes.keys() & {"token", "sha256"}:
            problems.add(section.node, section.path, "has no token: say token or sha256")
        if section.name in names:
            message = "is here twice: who acted could not be told"
            problems.add(section.nodes["name"], f"{section.path}.name", message)
        if section.name:
            names.add(section.name)
        if any(len(token.reveal()) < SHORT for token in section.token):
            message = f"is shorter than {SHORT} characters: it can be guessed"
            warnings.add(section.nodes["token"], f"{section.path}.token", message)
        for digest in _digests(section):
            if digest in _NO_TOKENS:
                problems.add(section.node, section.path, _NO_TOKENS[digest])
            if digest in known:
                problems.add(section.node, section.path, "has a token that is here twice")
            known.add(digest)


def _digests(section: HolderSection) -> Iterator[bytes]:
    yield from (sha256(token.reveal().encode()).digest() for token in section.token)
    yield from (bytes.fromhex(digest.reveal()) for digest in section.sha256)


def _holder(section: HolderSection) -> Holder:
    return Holder(section.name, frozenset(section.may), section.owner)
