"""The JSON Schema by which editors complete and check a tests file.

`make docs` writes `schemas/routes.test.schema.json` anew.
"""

from __future__ import annotations

from router.config import editor_schema as of
from router.config.cases.shape import CasesFile


def editor_schema() -> str:
    """The schema as the text of its file, made of the declarations that the file is read by."""
    return of.editor_schema(CasesFile, "routes.test.yaml")


if __name__ == "__main__":
    print(editor_schema(), end="")
