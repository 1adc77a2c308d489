"""Problems in the formats of CI systems."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from router.cli.annotations import Annotation, Checked, say_checked

ODD = "50 %: a,b\nthe next line <&> \x1b[31m"
PLACED = Annotation("error", ODD, "./a,b:c.yaml", 3, 7)

Said = Callable[..., str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Said:
    """Return a function that gives the output in a format."""

    def printed(format: str, *checked: Checked) -> str:
        say_checked(format, "probe", checked)
        return capsys.readouterr().out

    return printed


def test_github_keeps_an_annotation_on_one_line(shown: Said) -> None:
    """Characters with a meaning are escaped, so that no text ends a command or begins one."""
    out = shown("github", Checked([PLACED, Annotation("notice", "::error::x")]))
    assert out.splitlines() == [
        "::error file=a%2Cb%3Ac.yaml,line=3,col=7::50 %25: a,b%0Athe next line <&> \\u001b[31m",
        "::notice ::::error::x",
    ]


def test_gitlab_has_a_fingerprint_for_each(shown: Said) -> None:
    """A message that a file has twice is two issues. Without a file, the program is named."""
    twice = [PLACED, PLACED, Annotation("warning", "x"), Annotation("notice", "y")]
    found = json.loads(shown("gitlab", Checked(twice)))
    assert len({each["fingerprint"] for each in found}) == 4
    assert [each["severity"] for each in found] == ["major", "major", "minor", "info"]
    assert found[0]["description"] == ODD
    assert found[0]["location"] == {"path": "a,b:c.yaml", "lines": {"begin": 3}}
    assert found[2]["location"] == {"path": "ebaas-router", "lines": {"begin": 1}}
