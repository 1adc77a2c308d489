"""The texts in force are kept beside the store: readable after any crash, and without a secret."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from router.config.files import Written
from router.config.lastgood import LastGood, Reloaded
from router.config.loading import Config, Source
from router.config.settings import Settings, last_good_file
from router.model.errors import ConfigInvalid
from router.store.url import parse_database
from tests.support.command import ROOT, environment
from tests.support.folders import GOOD
from tests.support.folders import written as folder_of

#: Writes texts, and is killed at the call with a number of those that change the file system.
KILLED = """
import os, signal, sys
from pathlib import Path
from router.config.files import Written
from router.config.lastgood import LastGood

left = int(sys.argv[1])

def dies_in(module, name):
    call = getattr(module, name)
    def counted(*args, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    setattr(module, name, counted)

for name in ("open", "fdopen", "fsync", "close"):
    dies_in(os, name)
for name in ("unlink", "replace"):
    dies_in(Path, name)
kept, config = map(Path, sys.argv[2:])
LastGood(kept, config).write([Written(str(config), b"new" * 100_000)])
"""


#: The steps: unlink, open, fdopen, fsync, replace, open, fsync, close.
RENAME, LAST = 5, 9


@pytest.mark.parametrize("step", range(1, 10))
def test_a_crash_while_writing_leaves_a_readable_text(step: int, tmp_path: Path) -> None:
    """kill -9 at each step leaves the old texts or the new ones; the next write succeeds."""
    path, config = tmp_path / "kept", tmp_path / "routes.yaml"
    kept = LastGood(path, config)
    kept.write([Written(str(config), b"old")])
    arguments = [sys.executable, "-c", KILLED, str(step), str(path), str(config)]
    killed = subprocess.run(arguments, cwd=ROOT, env=environment(), check=False)
    assert killed.returncode == (-signal.SIGKILL if step < LAST else 0)
    (text,) = kept.read()
    assert text.content == (b"old" if step <= RENAME else b"new" * 100_000)
    kept.write([Written(str(config), b"last")])
    assert [file.content for file in kept.read()] == [b"last"]


def test_it_is_private_and_has_no_secret(tmp_path: Path) -> None:
    """Texts are as people wrote them, also those of variables and secret files; for their user
    alone."""
    (tmp_path / "token").write_text("canary-in-a-file-of-secrets")
    target = "{url: 'https://${HOST}/', headers: {authorization: '${file:token}'}}"
    text = f"version: 1\ntargets: {{a: {target}}}\nroutes: [{{name: a, match: b, required: [a]}}]\n"
    config = tmp_path / "routes.yaml"
    config.write_text(text)
    kept = LastGood(tmp_path / "kept", config)
    source = Source(config, {"HOST": "canary.example"}, tmp_path, kept)
    loaded = source.start()[1]
    before = os.umask(0)
    try:
        kept.write(loaded.files.values())
    finally:
        os.umask(before)
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600
    assert b"canary" not in kept.path.read_bytes()
    assert kept.read() == (Written(str(config), text.encode()),)
    assert "canary" not in repr(loaded)


def test_the_last_reloads_are_kept(tmp_path: Path) -> None:
    """With their changes and problems, for the next start. Names of files may be any bytes."""
    config, kept = tmp_path / "routes.yaml", LastGood(tmp_path / "kept", tmp_path / "routes.yaml")
    wrong = Reloaded(2.0, "", problems=("\udcff.yaml: wrong",), owner="team")
    reloads = (wrong, Reloaded(1.0, "ab", ("new",)))
    kept.write([Written(str(config), b"text")], reloads)
    assert (kept.reloads(), len(kept.read())) == (reloads, 1)
    assert LastGood(kept.path, tmp_path / "other").reloads() == ()
    kept.path.write_bytes(b'{"reloads": [{}]}')
    assert kept.reloads() == ()


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    """A file of another configuration, and a damaged file, count as no texts."""
    path = tmp_path / "kept"
    assert LastGood(path, tmp_path / "a").read() == ()
    LastGood(path, tmp_path / "a").write([Written(str(tmp_path / "a"), b"text")])
    assert LastGood(path, tmp_path / "b").read() == ()
    for damaged in (b"", b"[]", path.read_bytes()[:-20], b"{}", b'{"config": 1, "files": []}'):
        path.write_bytes(damaged)
        assert LastGood(path, tmp_path / "a").read() == ()


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({}, "data/ebaas-router.db-routes.json"),
        ({"archive": None}, "data/ebaas-router.db-routes.json"),
        ({"store": None, "archive": Path("lines")}, None),
        ({"store": parse_database("postgresql://somebody@host/name")}, None),
        (
            {"store": parse_database("postgresql://somebody@host/name"), "archive": Path("lines")},
            "lines-routes.json",
        ),
        ({"strict_start": True}, None),
    ],
)
def test_the_place(options: dict[str, Any], file: str | None) -> None:
    """Beside a store in a file; with PostgreSQL beside the archive; without a store nowhere."""
    assert last_good_file(Settings(**options)) == (Path(file) if file else None)


def started(folder: Path, kept: LastGood, **environ: str) -> tuple[Config, list[str]]:
    """Start, and return the configuration and the refused files."""
    _, config, refused = Source(folder, environ, None, kept).start()
    return config, [str(Path(name).relative_to(folder)) for name in refused]


def test_a_start_needs_a_text_of_each_file(tmp_path: Path) -> None:
    """A file that never was in force stays out. A text in force that cannot be used any more, for
    a missing variable, prevents the start: its events would go nowhere. A folder that cannot be
    read has all of its texts."""
    certs = GOOD["routes.d/certs.yaml"]
    texts = {
        **GOOD,
        "routes.d/certs.yaml": certs.replace("https://certs.example.com/hook", "'https://${E}/'"),
    }
    folder = folder_of(texts, tmp_path / "config")
    kept = LastGood(tmp_path / "kept", folder)
    good, refused = started(folder, kept, E="e")
    assert refused == []
    kept.write(good.files.values())
    folder_of({"routes.d/new.yaml": "version: 1\nowner: team new\n- \n"}, folder)
    config, refused = started(folder, kept, E="e")
    assert (config.hash, refused) == (good.hash, ["routes.d/new.yaml"])
    with pytest.raises(ConfigInvalid, match="the variable 'E' is not set"):
        started(folder, kept)
    folder_of({"routes.d/certs.yaml": certs}, folder)
    config, refused = started(folder, kept)
    assert refused == ["routes.d/new.yaml"]
    (folder / "routes.d/new.yaml").unlink()
    (folder / "routes.d/new.yaml").symlink_to("nowhere")
    assert started(folder, kept)[1] == ["routes.d/new.yaml"]
    (folder / "routes.yaml").unlink()
    config, refused = started(folder, kept, E="e")
    assert (config.hash, refused) == (good.hash, ["."])
