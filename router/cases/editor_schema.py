"""The JSON Schema by which editors complete and check a tests file.

`python -m router.cases.editor_schema > schemas/routes.test.schema.json` writes it anew.
"""

from __future__ import annotations

import json

from router.cases.shape import CasesFile


def editor_schema() -> str:
    """The schema as the text of its file, made of the declarations that the file is read by."""
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "ebaas-router routes.test.yaml",
        **CasesFile.schema(),
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(editor_schema(), end="")
