"""Write what is made of schemas/routes.schema.json: docs/routes-reference.md, and the schemas of a
folder's files: python -m scripts.routes_reference"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from router.config.schema import Name, Shape, document, shape_of
from router.config.values import Schema, expected

ROOT = Path(__file__).parents[1]

#: The keys that only a folder's routes.yaml has, and all keys of a file in its routes.d.
MORE, TEAM = ("share",), ("version", "owner", "targets", "routes")

HEAD = """\
# Every key of routes.yaml

Made from `schemas/routes.schema.json` by `make docs`; a test fails if it is out of date. How the
keys work together is in [routes.md](routes.md). A key without a default is off unless it is set.
Where a type says *or a list*, a single value needs no brackets. A target has every key of
`defaults` too.
"""


def page() -> str:
    shape = shape_of("routes")
    share = shape_of("routes.common").keys["share"]
    owner = shape_of("routes.team").keys["owner"]
    return "\n".join(
        [
            HEAD,
            *_section("At the top", "", shape),
            *_section("Only in a folder", "", Shape({}, keys={"share": share, "owner": owner})),
            *_below(shape, ""),
        ]
    )


def derived() -> dict[Name, Schema]:
    """The schemas of a folder's files. Only the version is required: the rest may be elsewhere."""
    schema = document("routes")
    every = {**schema["definitions"], **schema["properties"]}
    keys: dict[Name, tuple[str, ...]] = {
        "routes.common": (*schema["properties"], *MORE),
        "routes.team": TEAM,
    }
    return {
        name: {
            **schema,
            "$id": f"urn:ebaas-router:{name}.yaml",
            "title": f"ebaas-router {name}.yaml",
            "$comment": "Made of routes.schema.json by make docs.",
            "required": ["version"],
            "properties": {key: every[key] for key in own},
        }
        for name, own in keys.items()
    }


def _below(shape: Shape, path: str) -> Iterator[str]:
    """The sections below one, each with its own table."""
    for key, each in shape.keys.items():
        where = f"{path}{key}"
        if each.keys:
            yield from _section(where, where, each)
            yield from _below(each, f"{where}.")
        elif each.rest and each.rest.keys:
            yield from _section(f"{where}.NAME", where, own := _without_policy(each.rest))
            yield from _below(own, f"{where}.NAME.")
        elif each.item and each.item.keys:
            yield from _section(f"{where}[]", where, each.item)
            yield from _below(each.item, f"{where}[].")


def _without_policy(target: Shape) -> Shape:
    """A target without the keys that are in `defaults` already."""
    policy = shape_of("routes").keys["defaults"].keys
    own = {key: each for key, each in target.keys.items() if key not in policy}
    return Shape(target.schema, fixed=target.fixed, keys=own)


def _section(title: str, path: str, shape: Shape) -> Iterator[str]:
    yield from (f"## {title if not path else f'`{title}`'}", "")
    yield "| key | type | default | |"
    yield "| --- | --- | --- | --- |"
    required = shape.fixed.get("required", ())
    for key, each in shape.keys.items():
        default = "required" if key in required else _default(each.schema.get("default"))
        about = each.schema["description"].replace("|", "\\|")
        yield f"| `{key}` | {_type(each)} | {default} | {about} |"
    yield ""


def _default(value: Any) -> str:
    return "" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _type(shape: Shape) -> str:
    found = [expected(shape.leaf)] if shape.leaf else []
    if shape.leaf and "x-from" in shape.leaf:
        found = [f"{found[0]}, from {shape.leaf['x-from']} to {shape.leaf['x-to']}"]
    if shape.item:
        found.append(
            "a list" if found or not shape.item.leaf else f"a list; each {_type(shape.item)}"
        )
    if shape.is_map and "a mapping" not in " ".join(found):
        found.append("a mapping of names" if shape.rest else "a mapping")
    return ", or ".join(found).replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs/routes-reference.md").write_text(page(), encoding="utf-8")
    for name, schema in derived().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        (ROOT / f"schemas/{name}.schema.json").write_text(text, encoding="utf-8")
