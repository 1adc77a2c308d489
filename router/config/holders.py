"""The tokens file of the ops port: each token, its holder, and what the holder may do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from router.config.files import Part, Written, read_file, readable
from router.config.variables import Variables, digest
from router.model.secret import is_exposed
from router.net.access import SHORT

#: What a token allows at the ops port. `replay` and `discard` include `restore`; `bodies` shows
#: the contents of events.
Permission = Literal["read", "replay", "discard", "pause", "bodies"]

PERMISSIONS: tuple[Permission, ...] = get_args(Permission)

#: The words by their SHA-256 that anybody may try. The empty one is hashed if the variable for the
#: token is not set.
_GUESSED = {
    sha256(word.encode()).digest(): word for word in ("", "test", "token", "secret", "password")
}


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """The sender of a request to the ops port."""

    #: None if no token is needed.
    name: str | None
    may: frozenset[Permission]
    #: Only targets of this owner are seen and touched; `""` for all.
    owner: str = ""

    @property
    def sees_all(self) -> bool:
        """True if it may read the figures of all targets."""
        return not self.owner and "read" in self.may

    def sees(self, owner: str) -> bool:
        """True if it may see a target of this owner."""
        return self.owner in ("", owner)


@dataclass(frozen=True, slots=True)
class Holders:
    """The contents of a tokens file."""

    #: The SHA-256 of each valid token, and its holder.
    tokens: tuple[tuple[bytes, TokenHolder], ...]
    #: Over the file and the values of its variables and secret files.
    hash: str
    warnings: tuple[str, ...] = field(compare=False, default=())


def load_holders(path: Path, environ: Mapping[str, str], secrets_dir: Path | None) -> Holders:
    """Load a tokens file. Raises ConfigInvalid with every problem; none of them has the value of
    a variable or a token in it."""
    content, variables = read_file(path), Variables(environ, secrets_dir)
    part = Part(Written(str(path), content, "tokens"), variables)
    entries = list(readable(part.values.get("tokens")))
    _check(part, entries)
    if part.problems:
        raise part.problems.stop()
    messages = [str(problem) for problem in part.warnings.in_order()]
    plain = [token for _, entry in entries for token in entry.get("token", ())]
    if is_exposed(path) and any(token.reveal().encode() in content for token in plain):
        messages.append(f"everybody on this machine can read the tokens in {path}: chmod 600")
    tokens = (
        (token, TokenHolder(entry["name"], frozenset(entry["may"]), entry.get("owner", "")))
        for _, entry in entries
        for token in _digests(entry)
    )
    mark = digest([content], (part.written.values or {}).items())
    return Holders(tuple(tokens), mark, tuple(messages))


def _check(part: Part, entries: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
    names: set[str] = set()
    known: set[bytes] = set()
    for at, entry in entries:
        path, name = ("tokens", at), entry.get("name")
        if name in names:
            part.report(
                (*path, "name"), "is here twice: the log could not name the holder who acted"
            )
        if name:
            names.add(name)
        if any(token and len(token.reveal()) < SHORT for token in entry.get("token") or ()):
            message = f"is shorter than {SHORT} characters: it can be guessed"
            part.report((*path, "token"), message)
        for token in _digests(entry):
            if token in _GUESSED:
                word = repr(_GUESSED[token]) if _GUESSED[token] else "an empty text"
                part.report(path, f"has the SHA-256 of {word} for a token: anybody may try it")
            if token in known:
                part.report(path, "has a token that is here twice")
            known.add(token)


def _digests(entry: Mapping[str, Any]) -> Iterator[bytes]:
    for token in filter(None, entry.get("token") or ()):
        yield sha256(token.reveal().encode()).digest()
    for known in filter(None, entry.get("sha256") or ()):
        yield bytes.fromhex(known.reveal())
