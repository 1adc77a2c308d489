"""The JSON Schema by which editors complete and check routes.yaml.

`make docs` writes `schemas/routes.schema.json` anew.
"""

from __future__ import annotations

import json

from router.config.section import Section
from router.config.shape import RoutesFile


def editor_schema(file: type[Section] = RoutesFile, name: str = "routes.yaml") -> str:
    """A schema as the text of its file, made of the declarations that the loader reads by."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:ebaas-router:{name}",
        "title": f"ebaas-router {name}",
        **file.schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(editor_schema(), end="")
