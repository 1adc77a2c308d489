"""The JSON Schema by which editors complete and check a tests file.

`python -m router.config.cases.editor_schema > schemas/routes.test.schema.json` writes it anew.
"""

from __future__ import annotations

from router.config import editor_schema as of
from router.config.cases.shape import CasesFile


def editor_schema() -> str:
    """The schema as the text of its file, made of the declarations that the file is read by."""
    return of.editor_schema(CasesFile, "routes.test.yaml")


if __name__ == "__main__":
    print(editor_schema(), end="")
