"""A schema file read and checked once, and what it finds in a value.

Two validators know it. The quick one lets the good values pass, where a schema has only keywords
that both read the same way; the reference finds, and words, what is wrong. That one is read from
disk when it is needed: to check a schema that is somebody else's, or at the first faulty value,
which waits some 30 ms for it. Most processes never need its 5 MB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.contract.schema.quick import SchemaFault, validity
from router.model.errors import StartFailed, why_not

if TYPE_CHECKING:
    from router.contract.schema.reference import Reference

#: The contract's own schema, by its file name.
CALLBACK_SCHEMA = "callback.schema.json"

#: Where the schemas are in an installed package, and in a checkout.
_PACKAGE = Path(__file__).parents[2]
_FOLDERS = (_PACKAGE / "schemas", _PACKAGE.parent / "schemas")


def shipped_schema(name: str) -> Path:
    """A schema file of this project's own, by its file name."""
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise StartFailed(f"the installation is incomplete: {name} is missing")


class Schema:
    """A JSON Schema, valid and without references to other places."""

    def __init__(self, document: Any, name: str, *, is_ours: bool = False) -> None:
        """Raises StartFailed, which names the place, for anything that is no usable schema. One
        that `is_ours` is taken for one where the quick validator takes it."""
        self._document, self._name = document, name
        self._validity = validity(document) if is_ours else None
        self._reference: Reference | None = None
        if self._validity is None:
            self._reference = _reference(document, name)
            self._validity = validity(document)

    @classmethod
    def shipped(cls) -> Schema:
        """The contract's own. Raises StartFailed as `load` does."""
        return cls._read(shipped_schema(CALLBACK_SCHEMA), CALLBACK_SCHEMA, is_ours=True)

    @classmethod
    def load(cls, path: Path) -> Schema:
        """Read a schema file. Raises StartFailed with one line that names the file and place."""
        return cls._read(path, str(path), is_ours=False)

    @classmethod
    def _read(cls, path: Path, name: str, *, is_ours: bool) -> Schema:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            raise StartFailed(f"{name}: not UTF-8") from None
        except OSError as error:
            raise StartFailed(f"{name}: can't be read: {why_not(path, error)}") from None
        try:
            return cls(json.loads(text), name, is_ours=is_ours)
        except json.JSONDecodeError as error:
            raise StartFailed(
                f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}"
            ) from None
        except ValueError:  # int() refuses more digits than sys.get_int_max_str_digits()
            raise StartFailed(f"{name}: a number with too many digits") from None
        except RecursionError:
            raise StartFailed(f"{name}: nested too deeply") from None

    def faults(self, value: Any) -> Iterator[SchemaFault]:
        """Every fault of `value`, in no promised order; none means it is valid.

        Raises nothing: what a rule can't even compute, such as a multiple of a huge number,
        counts as a fault of the whole.
        """
        if self.passes(value):
            return iter(())
        if self._reference is None:
            self._reference = _reference(self._document, self._name)
        return self._reference.faults(value)

    def passes(self, value: Any) -> bool:
        """Whether `value` is seen to be valid quickly; where it is not, it may be valid still."""
        return self._validity is not None and self._validity(value)


def _reference(document: Any, name: str) -> Reference:
    from router.contract.schema.reference import Reference

    return Reference(document, name)
