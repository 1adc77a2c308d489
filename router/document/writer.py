"""Plain data as the text of a document."""

from __future__ import annotations

from math import inf
from typing import Any

import yaml


def write(value: Any) -> str:
    """YAML for mappings, lists, strings, numbers and booleans, in the order that they have.

    A list of single values is on one line.
    """
    style: dict[str, Any] = {"default_flow_style": None, "width": inf, "allow_unicode": True}
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes out what is there twice, for an alias would only puzzle."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        return super().represent_mapping(tag, mapping, flow_style=False)
