"""Replaces `${NAME}`, `${NAME:-default}`, `${file:NAME}` and `$$` in a value's text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from stat import S_ISREG

from router.config.document import shown
from router.model.errors import why_not
from router.model.secret import is_exposed

#: The largest secret file, in bytes: the certificates of all authorities are a quarter of it.
MAX_SECRET = 1024 * 1024

_DOLLAR = re.compile(r"\$(?:(\$)|\{([^{}]*)\}|)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_FORMS = "${NAME}, ${NAME:-default} and ${file:NAME}"

#: The beginning of a placeholder for a missing secret. A placeholder has 36 letters and digits, the
#: same for the same name: it is a valid token, valid base64, and a valid part of a host's name.
_PLACEHOLDER = "placeholder0"


def is_placeholder(text: str) -> bool:
    """True if a value is a placeholder and nothing else."""
    return re.fullmatch(f"{_PLACEHOLDER}[0-9a-f]{{24}}", text) is not None


class Unresolved(Exception):
    """A variable without a value. The text says why, and has no value in it.

    With `once` the reason holds for all variables of its sort, and is reported once.
    """

    def __init__(self, why: str, *, once: bool = False) -> None:
        super().__init__(why)
        self.once = once


class Unset(Unresolved):
    """A variable without a value here; it may have one where the router runs."""


class Variables:
    """The values of variables and secret files; `of_file` is for one of several files."""

    def __init__(
        self, environ: Mapping[str, str], secrets_dir: Path | None, *, placeholders: bool = False
    ) -> None:
        """With `placeholders`, something stands for a missing secret, which is not a fault then."""
        self._environ = environ
        self._secrets_dir = secrets_dir
        self._placeholders = placeholders
        #: Every value that was looked up: the same for all files.
        self._found: dict[str, str] = {}
        #: The values in use.
        self.values: dict[str, str] = {}
        #: The names that a placeholder stands for.
        self.missing: set[str] = set()
        #: The secret files in use that everybody on this machine can read.
        self.exposed: set[str] = set()

    def of_file(self, known: Mapping[str, str] | None) -> Variables:
        """Return the variables of one file. Those that are `known` keep that value."""
        variables = copy(self)
        variables.values = dict(known or {})
        return variables

    def resolve(self, text: str, *, may_be_secret: bool = False) -> str:
        """Replace every variable once: values are not searched for variables."""
        return _DOLLAR.sub(lambda match: self._replace(match, may_be_secret), text)

    def _replace(self, match: re.Match[str], may_be_secret: bool) -> str:
        doubled, inner = match.groups()
        if doubled:
            return "$"
        if inner is None and match.string.startswith("{", match.end()):
            raise Unresolved("a ${ that no } closes, or with another one inside")
        if inner is None:
            raise Unresolved("a single $: write ${NAME} for a variable, $$ for a dollar sign")
        if inner not in self.values:
            try:
                if inner not in self._found:
                    self._found[inner] = self._value(inner)
            except Unset:
                if not (self._placeholders and may_be_secret):
                    raise
                self.missing.add(inner)
                return _PLACEHOLDER + hashlib.sha256(inner.encode()).hexdigest()[:24]
            self.values[inner] = self._found[inner]
        return self.values[inner]

    def _value(self, inner: str) -> str:
        kind, colon, name = inner.partition(":")
        if kind == "file" and colon and not name.startswith("-"):
            return self._secret(name)
        match = _VARIABLE.fullmatch(inner)
        if match is None:
            # Not repeated: `${NAME:default}` has a value in it.
            raise Unresolved(f"this ${{…}} is not a variable: there are {_FORMS}")
        variable, default = match.groups()
        value = self._environ.get(variable)
        if default is not None:
            return value or default
        if value is None:
            raise Unset(f"the variable {shown(variable)} is not set, and has no default")
        return value

    def _secret(self, name: str) -> str:
        """Return the text of a secret file without the line end at its end."""
        if self._secrets_dir is None:
            why = "there is no secrets directory to read a file from: see --secrets-dir"
            raise Unset(why, once=True)
        try:
            content = read_below(self._secrets_dir, name)
            # Everybody may read certificates, but not a key.
            is_public = (
                b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY-----" not in content
            )
            if not is_public and is_exposed(self._secrets_dir / name):
                self.exposed.add(name)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, links in a circle
            if isinstance(error, FileNotFoundError) and not self._secrets_dir.is_dir():
                why = "the folder that --secrets-dir names is not there"
                raise Unset(why, once=True) from None
            if isinstance(error, PermissionError):
                closed = why_not(self._secrets_dir / name, error)
                raise Unset(f"the secret file {shown(name)} can't be read: {closed}") from None
            raise Unset(f"there is no secret file {shown(name)} that can be read") from None
        if len(content) > MAX_SECRET:
            raise Unresolved(f"the secret file {shown(name)} is over {MAX_SECRET // 1024} KiB")
        try:
            return re.sub(r"\r?\n\Z", "", content.decode("utf-8"))
        except UnicodeDecodeError:
            raise Unresolved(f"the secret file {shown(name)} is not UTF-8") from None


def digest(contents: Iterable[bytes], values: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256 of files' contents and of the values of their variables, in hex."""
    first, *others = contents
    used = (part.encode("utf-8", "surrogatepass") for pair in sorted(values) for part in pair)
    parts = (b"\n%d:%b" % (len(part), part) for part in (*others, *used))
    return hashlib.sha256(first + b"".join(parts)).hexdigest()


def read_below(folder: Path, name: str) -> bytes:
    """Return a regular file's contents, at most a byte more than it may have."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Unresolved(f"{shown(name)} leads out of the secrets directory")
    if not S_ISREG(path.stat().st_mode):
        raise FileNotFoundError
    with path.open("rb") as file:
        return file.read(MAX_SECRET + 1)
