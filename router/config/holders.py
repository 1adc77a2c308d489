"""The tokens file of the ops port: who may do what there, each known by a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from router.config.document import Problems, parse_document
from router.config.files import read_file
from router.config.parts import Part
from router.config.schema import Reader
from router.config.variables import Variables
from router.model.secret import is_exposed
from router.net.access import SHORT

#: What somebody may do at the ops port. `replay` and `discard` have `restore` with them; `bodies`
#: is to see what is in events.
Permission = Literal["read", "replay", "discard", "pause", "bodies"]

DEEDS: tuple[Permission, ...] = get_args(Permission)

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
class TokenHolder:
    """Somebody who asks the ops port for something."""

    #: None where nobody needs a token.
    name: str | None
    may: frozenset[Permission]
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
    tokens: tuple[tuple[bytes, TokenHolder], ...]
    #: Over the file and what its variables and secret files had in them: two that are equal say
    #: the same.
    hash: str
    #: What is dubious, for people.
    warnings: tuple[str, ...] = field(compare=False, default=())


def load_holders(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Holders:
    """The holders in a file. Raises ConfigInvalid with every problem there is; no value of a
    variable and no token is in any of them."""
    content, problems, warnings = read_file(path), Problems(str(path)), Problems(str(path))
    variables = Variables(environ, secrets_dir)
    reader = Reader("tokens", problems, variables, warnings)
    tree = parse_document(content, str(path), problems)
    part = Part(str(path), reader, tree, reader.read(tree))
    said = [*enumerate(part.said.get("tokens") or ())]
    found = [(at, each) for at, each in said if each is not None]
    _check(part, found)
    if problems:
        raise problems.stop()
    told = [str(problem) for problem in warnings.in_order()]
    plain = [token for _, each in found for token in each.get("token", ())]
    if is_exposed(path) and any(token.reveal().encode() in content for token in plain):
        told.append(f"everybody on this machine can read the tokens in {path}: chmod 600")
    tokens = [(digest, _holder(each)) for _, each in found for digest in _digests(each)]
    return Holders(tuple(tokens), variables.digest(content), tuple(told))


def _check(part: Part, found: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    names: set[str] = set()
    known: set[bytes] = set()
    for at, said in found:
        path, name = ("tokens", at), said.get("name")
        if name in names:
            part.report((*path, "name"), "is here twice: who acted could not be told")
        if name:
            names.add(name)
        if any(token and len(token.reveal()) < SHORT for token in said.get("token") or ()):
            message = f"is shorter than {SHORT} characters: it can be guessed"
            part.warn((*path, "token"), message)
        for digest in _digests(said):
            if digest in _NO_TOKENS:
                part.report(path, _NO_TOKENS[digest])
            if digest in known:
                part.report(path, "has a token that is here twice")
            known.add(digest)


def _digests(said: Mapping[str, Any]) -> Iterator[bytes]:
    for token in filter(None, said.get("token") or ()):
        yield sha256(token.reveal().encode()).digest()
    for digest in filter(None, said.get("sha256") or ()):
        yield bytes.fromhex(digest.reveal())


def _holder(said: Mapping[str, Any]) -> TokenHolder:
    return TokenHolder(said["name"], frozenset(said["may"]), said.get("owner", ""))
