"""`${NAME}`, `${NAME:-default}`, `${file:NAME}` and `$$`, replaced inside of one value's text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from stat import S_ISREG

from router.config.document import shown
from router.model.errors import why_not
from router.model.secret import is_exposed

#: The largest secret file, in bytes: all authorities of a system are a quarter of that.
MAX_SECRET = 1024 * 1024

_DOLLAR = re.compile(r"\$(?:(\$)|\{([^{}]*)\}|)")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_FORMS = "${NAME}, ${NAME:-default} and ${file:NAME}"


#: Begins what stands for a secret that is not there. In all it is 36 letters and digits, the same
#: for the same name: enough for a token, base64 where that is meant, and a part of a host's name.
_PLACEHOLDER = "placeholder0"


def is_placeholder(text: str) -> bool:
    """Whether nothing but a placeholder is left of a value."""
    return re.fullmatch(f"{_PLACEHOLDER}[0-9a-f]{{24}}", text) is not None


class Unresolved(Exception):
    """A variable that has no value; the text says why and never has a value in it.

    `once`: that is so for every other of its sort too, and enough to be told once.
    """

    def __init__(self, why: str, *, once: bool = False) -> None:
        super().__init__(why)
        self.once = once


class Unset(Unresolved):
    """One that has no value here and now, and may have one where the router runs."""


class Variables:
    """Where variables and secret files get their values, and which of them were used."""

    def __init__(
        self, environ: Mapping[str, str], secrets_dir: Path | None, *, placeholders: bool = False
    ) -> None:
        """With `placeholders` a secret that is not there is no fault: a placeholder stands for
        it."""
        self._environ = environ
        self._secrets_dir = secrets_dir
        self._placeholders = placeholders
        self._used: dict[str, str] = {}
        #: The variables and files that a placeholder stands for.
        self.missing: set[str] = set()
        #: The secret files that were used and can be read by everybody on this machine.
        self.exposed: set[str] = set()

    def resolve(self, text: str, *, may_be_secret: bool = False) -> str:
        """`text` with every variable replaced, once: a value is never looked into again."""
        return _DOLLAR.sub(lambda match: self._replace(match, may_be_secret), text)

    def digest(self, content: bytes, *others: bytes) -> str:
        """The SHA-256 of the files' contents and of all that was resolved for them, in hex."""
        used = [
            part.encode("utf-8", "surrogatepass")
            for pair in sorted(self._used.items())
            for part in pair
        ]
        digest = hashlib.sha256(content)
        for part in (*others, *used):
            digest.update(b"\n%d:%b" % (len(part), part))
        return digest.hexdigest()

    def _replace(self, match: re.Match[str], may_be_secret: bool) -> str:
        doubled, inner = match.groups()
        if doubled:
            return "$"
        if inner is None and match.string.startswith("{", match.end()):
            raise Unresolved("a ${ that no } closes, or with another one inside")
        if inner is None:
            raise Unresolved("a single $: write ${NAME} for a variable, $$ for a dollar sign")
        if inner not in self._used:
            try:
                self._used[inner] = self._value(inner)
            except Unset:
                if not (self._placeholders and may_be_secret):
                    raise
                self.missing.add(inner)
                return _PLACEHOLDER + hashlib.sha256(inner.encode()).hexdigest()[:24]
        return self._used[inner]

    def _value(self, inner: str) -> str:
        kind, colon, name = inner.partition(":")
        if kind == "file" and colon and not name.startswith("-"):
            return self._secret(name)
        match = _VARIABLE.fullmatch(inner)
        if match is None:
            # It is not repeated: `${NAME:default}` has a value in it.
            raise Unresolved(f"what is within ${{…}} is no variable: there are {_FORMS}")
        variable, default = match.groups()
        value = self._environ.get(variable)
        if default is not None:
            return value or default
        if value is None:
            raise Unset(f"the variable {shown(variable)} is not set, and has no default")
        return value

    def _secret(self, name: str) -> str:
        """The text of a file below the secrets directory, one line end at its end taken off."""
        if self._secrets_dir is None:
            why = "there is no secrets directory to read a file from: see --secrets-dir"
            raise Unset(why, once=True)
        try:
            content = read_below(self._secrets_dir, name)
            if is_exposed(self._secrets_dir / name) and not _is_public(content):
                self.exposed.add(name)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, links in a circle
            why = f"there is no secret file {shown(name)} that can be read"
            gone = isinstance(error, FileNotFoundError) and not self._secrets_dir.is_dir()
            if gone:
                why = "the folder that --secrets-dir names is not there"
            if isinstance(error, PermissionError):
                closed = why_not(self._secrets_dir / name, error)
                why = f"the secret file {shown(name)} can't be read: {closed}"
            raise Unset(why, once=gone) from None
        if len(content) > MAX_SECRET:
            raise Unresolved(f"the secret file {shown(name)} is over {MAX_SECRET // 1024} KiB")
        try:
            return re.sub(r"\r?\n\Z", "", content.decode("utf-8"))
        except UnicodeDecodeError:
            raise Unresolved(f"the secret file {shown(name)} is not UTF-8") from None


def _is_public(content: bytes) -> bool:
    """Whether a file has certificates, which everybody may read, and no key."""
    return b"-----BEGIN CERTIFICATE-----" in content and b"PRIVATE KEY-----" not in content


def read_below(folder: Path, name: str) -> bytes:
    """A regular file's content, and no more than a byte over what is allowed."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise Unresolved(f"{shown(name)} leads out of the secrets directory")
    if not S_ISREG(path.stat().st_mode):
        raise FileNotFoundError
    with path.open("rb") as file:
        return file.read(MAX_SECRET + 1)
