"""The JSON Schemas by which editors complete and check routes.yaml, a folder's files, and tests.

`make docs` writes them anew.
"""

from __future__ import annotations

import json
import sys

from router.config.cases.shape import CasesFile
from router.config.section import Section
from router.config.shape import CommonFile, RoutesFile, TeamFile

#: By the names of their schemas; of a folder what is everybody's, and what is in its routes.d.
_SHAPES: dict[str, type[Section]] = {
    "routes": RoutesFile,
    "routes.common": CommonFile,
    "routes.team": TeamFile,
    "routes.test": CasesFile,
}


def editor_schema(name: str = "routes") -> str:
    """The text of `schemas/NAME.schema.json`, made of the declarations that the loader reads by."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:ebaas-router:{name}.yaml",
        "title": f"ebaas-router {name}.yaml",
        **_SHAPES[name].schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(editor_schema(sys.argv[1]), end="")
