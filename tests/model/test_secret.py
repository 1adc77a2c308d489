"""A secret prints masked, whoever prints it."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.model.secret import MASK, Secret, is_exposed
from router.routing.target import Target
from router.telemetry.log import Log

CANARY = "cnry-secret"


@dataclass(frozen=True)
class TokenHolder:
    """Something that a secret is part of."""

    secret: Secret


HOLDER = TokenHolder(Secret(CANARY))


def logged(value: Any, format: Any) -> str:
    stream = io.StringIO()
    Log(stream, format).info("x", secret=value, inside={"of": [value]})
    return stream.getvalue()


def library_line() -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("test_secret")
    logger.addHandler(handler)
    logger.error("%s %r", HOLDER.secret, HOLDER)
    logger.removeHandler(handler)
    return stream.getvalue()


def traceback_of_all_variables() -> str:
    try:
        secret = HOLDER.secret
        int({"secret": secret})  # type: ignore[call-overload]
    except TypeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        return "".join(shown.format())
    raise AssertionError("no traceback")


PRINTED: dict[str, Callable[[], str]] = {
    "str": lambda: str(HOLDER.secret),
    "repr": lambda: repr(HOLDER.secret),
    "format": lambda: f"{HOLDER.secret} {HOLDER.secret!s:>9} {HOLDER.secret!r} {HOLDER.secret:<9}",
    "percent": lambda: "%s %r" % (HOLDER.secret, HOLDER.secret),  # noqa: UP031 - a way to print
    "a dataclass": lambda: repr(HOLDER) + str(asdict(HOLDER)),
    "a container": lambda: str([HOLDER.secret, {HOLDER.secret: HOLDER.secret}]),
    "pprint": lambda: pprint.pformat({"x": [HOLDER]}),
    "an exception": lambda: str(ValueError(HOLDER.secret)) + repr(KeyError(HOLDER.secret)),
    "a traceback": traceback_of_all_variables,
    "logging": library_line,
    "a JSON line": lambda: logged(HOLDER.secret, "json"),
    "a console line": lambda: logged(HOLDER.secret, "console"),
    "json with a default": lambda: json.dumps({"x": HOLDER.secret}, default=str),
    "a copy": lambda: str(copy.deepcopy(HOLDER)) + str(copy.copy(HOLDER.secret)),
    "a target": lambda: str(Target("x", "http://h/", headers=(("x", HOLDER.secret),))),
}


@pytest.mark.parametrize("way", PRINTED)
def test_it_prints_masked(way: str) -> None:
    """Every way to print it shows the mask."""
    printed = PRINTED[way]()
    assert MASK in printed
    assert CANARY not in printed


REFUSING: dict[str, Callable[[Any], object]] = {
    "pickle": pickle.dumps,
    "json": json.dumps,
    "orjson": orjson.dumps,
    "vars": vars,
    "bytes": bytes,
    "iter": iter,
    "len": len,
}


@pytest.mark.parametrize("way", REFUSING)
def test_it_is_refused(way: str) -> None:
    """Anything else refuses it, without its text."""
    with pytest.raises(TypeError) as caught:
        REFUSING[way](HOLDER.secret)
    assert CANARY not in str(caught.value)


def test_a_part_may_be_shown() -> None:
    """A part that is not secret can be printed."""
    secret = Secret("http://h/path?key=1", "http://h/path?***")
    assert f"{secret}" == "http://h/path?***"
    assert secret.reveal() == "http://h/path?key=1"


def test_equal_texts_are_equal_secrets() -> None:
    """A reload sees whether a secret has changed."""
    assert Secret("é\ud800") == Secret("é\ud800", shown="other")
    assert len({Secret("a"), Secret("a", shown="other"), Secret("b")}) == 2
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


@pytest.mark.parametrize(
    ("file", "folder", "exposed"),
    [
        (0o644, 0o755, True),
        (0o604, 0o711, True),
        (0o640, 0o755, False),
        (0o644, 0o754, False),
        (0o644, 0o700, False),
    ],
)
def test_a_file_is_exposed_if_everybody_can_reach_it(
    tmp_path: Path, file: int, folder: int, exposed: bool
) -> None:
    """Its own mode counts, and whether others may enter its folder; files of other users, as a
    container's secrets are, do not count."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(file)
    tmp_path.chmod(folder)
    assert is_exposed(path) is exposed
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
        assert not is_exposed(path)
    path.unlink()
    assert not is_exposed(path)
