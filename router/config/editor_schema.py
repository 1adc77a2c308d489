"""The JSON Schemas by which editors complete and check routes.yaml, and the files of a folder.

`make docs` writes them anew.
"""

from __future__ import annotations

import json
import sys

from router.config.section import Section
from router.config.shape import CommonFile, RoutesFile, TeamFile

#: By the names of their schemas, beside a folder's routes.yaml what is in its routes.d.
_SHAPES: dict[str, type[Section]] = {
    "routes": RoutesFile,
    "routes.common": CommonFile,
    "routes.team": TeamFile,
}


def editor_schema(file: type[Section] = RoutesFile, name: str = "routes.yaml") -> str:
    """A schema as the text of its file, made of the declarations that the loader reads by."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:ebaas-router:{name}",
        "title": f"ebaas-router {name}",
        **file.schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def editor_schema_of(name: str) -> str:
    """The one of that name, as `schemas/NAME.schema.json` has it."""
    return editor_schema(_SHAPES[name], f"{name}.yaml")


if __name__ == "__main__":
    print(editor_schema_of(sys.argv[1]), end="")
