"""The pages promise nothing that is not so: names exist, and examples work."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from router.cli import COMMANDS, configured
from router.cli.options import Parser
from router.contract.signing import Signer
from router.model.secret import Secret
from scripts.reference import FILES
from tests.support.certificates import issued
from tests.support.command import PATIENCE, ROOT, run, shipped
from tests.support.inprocess import ran
from tests.support.serving import Serving, always, body, serving, states, target
from tests.support.sockets import serving_in_a_thread
from tests.support.waiting import wait_until

DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *shipped("docs", "*.md")]

_TEST = re.compile(r"`(?:(tests/[a-z_/]+\.py)(?:::)?)?(test_\w+)?(?:\[(\w+)\])?`")


def named_tests(page: str) -> list[tuple[str, str, str]]:
    """The tests that a page names: the file, the function, the parameter's id. Without a file it is
    the one that the section has as its usual one, or else the first section."""
    named, usual = [], ""
    for section in re.split("^## ", (DOCS / page).read_text(), flags=re.MULTILINE):
        own = re.search(r"`(tests/\S+)` unless", section)
        usual = usual or (own[1] if own else "")
        for file, function, parameter in _TEST.findall(section):
            if file or function:
                named.append((file or (own[1] if own else usual), function, parameter))
    return named


@pytest.mark.parametrize(
    "page", ["explanation/faults.md", "explanation/guarantees.md", "../SECURITY.md"]
)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    """With its parameter, where one is named."""
    named = named_tests(page)
    assert len(named) > 10
    for file, function, parameter in named:
        source = (ROOT / file).read_text()
        names = {
            node.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not function or function in names, (file, function)
        assert not parameter or f'"{parameter}"' in source, (file, parameter)


def test_the_guarantees_name_code_that_exists() -> None:
    """Each promise names the files that keep it, and what to read first in them."""
    page = (DOCS / "explanation/guarantees.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.count("|") == 5][2:]
    assert len(rows) > 25
    for row in rows:
        kept = re.findall(r"`([a-z/_]+\.(?:py|js))`(?:: `(\w+)`)?(?:, `(\w+)`)?", row[3])
        assert kept, row[1]
        for file, *names in kept:
            source = (ROOT / "router" / file).read_text("utf-8")
            for name in filter(None, names):
                assert re.search(rf"\b(class|def|function) {name}\b", source), (file, name)


def test_the_pages_are_no_longer_than_a_reader_has_time_for() -> None:
    """As `wc` counts: all pages in both languages, the README, and the newest release's changes."""
    assert sum(len(page.read_text("utf-8").split()) for page in PAGES) <= 34_000
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
    newest = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1]
    assert len(newest.split()) <= 800


def test_every_page_is_two_clicks_from_the_readme() -> None:
    """At most; so a reader finds it."""
    link = re.compile(r"\]\(([^)#:]+\.md)")

    def linked(page: Path) -> set[Path]:
        return {(page.parent / to).resolve() for to in link.findall(page.read_text("utf-8"))}

    near = {ROOT / "README.md"} | linked(ROOT / "README.md")
    assert {*PAGES} <= near.union(*map(linked, near))


@pytest.mark.parametrize("name", FILES)
def test_a_file_made_from_code_is_up_to_date(name: str) -> None:
    """`make docs` would change nothing, so each key, option and metric is in its page."""
    assert (ROOT / name).read_text("utf-8") == FILES[name](), "run `make docs`"


def test_the_page_about_containers_makes_each_secret() -> None:
    """Compose and the Kubernetes overlays ask for the same secrets."""
    page = (DOCS / "how-to/containers.md").read_text(encoding="utf-8")
    loop = re.search(r"for name in ([a-z -]+); do", page)
    assert loop
    compose = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
    asked = re.findall(r"file: \./compose/secrets/([a-z-]+)", compose)
    assert sorted(loop[1].split()) == sorted(asked)
    example = (ROOT / "deploy/kubernetes/secret.example.yaml").read_text(encoding="utf-8")
    keys = re.findall(r"^  ([a-z.-]+): ", example.split("stringData:")[1], re.MULTILINE)
    made = re.findall(r"--from-(?:file|literal)=([a-z.-]+)=", page)
    assert sorted(set(made)) == sorted(keys)


_COMMAND = re.compile(rf"\bebaas-router (?:{'|'.join(COMMANDS)})\b[^`\n]*")
#: Placeholders on pages, with values for them.
_PLACEHOLDERS = {"$port": "9001", "URL": "http://one"}
_END = re.compile(r" +#| [>|&]|;|\"?\)")


def shown(page: Path) -> Iterator[list[str]]:
    for line in _COMMAND.findall(page.read_text("utf-8").replace("\\\n", " ")):
        command = _END.split(line)[0]
        if "…" not in command and "[" not in command:
            words = shlex.split(command)[1:]
            if len(words) > 1 and "COMMAND" not in words:
                yield [_PLACEHOLDERS.get(word, word) for word in words]


def test_every_command_that_a_page_shows_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options and arguments are those of the command line."""
    monkeypatch.chdir(tmp_path)
    issued(tmp_path, "ca")
    lines = [words for page in PAGES if page.name != "CHANGELOG.md" for words in shown(page)]
    assert len(lines) > 100
    for name, *arguments in lines:
        parser = Parser(name)
        configured(name, parser)
        with suppress(SystemExit):  # --help
            parser.read(arguments)


def example(page: str) -> dict[str, Any]:
    defined: dict[str, Any] = {}
    exec(compile("\n".join(blocks(page, "python")), page, "exec"), defined)
    return defined


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_receiver_without_a_framework_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works for what `send` signs with its secret alone; `probe` finds nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", SECRET)
    code = (DOCS / "receivers/plain_receiver.py").read_text()
    for block in blocks("how-to/receivers.md", "python"):
        assert block.partition("\n\n\n")[2].rstrip() in code
    defined = runpy.run_path(str(DOCS / "receivers/plain_receiver.py"))
    done: list[dict[str, Any]] = []
    defined["handle"].__globals__["work"] = lambda event, _: done.append(event)
    server = defined["ThreadingHTTPServer"](("127.0.0.1", 0), defined["Endpoint"])
    with serving_in_a_thread(server):
        url = f"http://127.0.0.1:{server.server_address[1]}/callback"
        assert run("send", url, "--sign", SECRET).returncode == 0
        assert run("send", url, "--sign", "whsec_b2xkIHNlY3JldA==").returncode == 1
        assert [event["event_key"] for event in done] == ["a.gs.cert.1"]
        probed = ran("probe", url, "--secret", SECRET, "--yes")
        assert probed.code == 0, probed.out


def test_a_receiver_whose_work_fails_gets_the_event_again() -> None:
    """The page's transaction is rolled back, so that the retry does the work."""
    defined = example("how-to/receivers.md")
    tries: list[str] = []

    def work(_: object, database: sqlite3.Connection) -> None:
        tries.append("once more")
        if len(tries) == 1:
            raise sqlite3.OperationalError

    defined["work"] = work
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE done (webhook_id TEXT PRIMARY KEY)")
        with pytest.raises(sqlite3.OperationalError):
            defined["handle"]("id", body("event"), database)
        for _ in range(2):
            assert defined["handle"]("id", body("event"), database)["code"] == "000"
    assert len(tries) == 2


def test_every_line_of_the_log_is_in_its_reference() -> None:
    """Each word that the code logs literally."""
    page = (DOCS / "reference/log.md").read_text()
    written = re.compile(r"\.(?:info|warning|error)\(\s*\"(\w+)\"")
    code = [file.read_text() for file in (ROOT / "router").rglob("*.py")]
    words = {word for text in code for word in written.findall(text)}
    assert len(words) > 20
    assert [word for word in sorted(words) if f"`{word}`" not in page] == []


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = '{"changes":["成功"]}'


def requests() -> list[tuple[bool, dict[str, str], str]]:
    """Requests as a receiver may get them: whether each is to be trusted, its headers, its body."""
    now = int(time.time())

    def signed(at: int, *secrets: str) -> dict[str, str]:
        stamp, signer = str(at), Signer(map(Secret, secrets))
        signature = signer.sign(b"id", stamp.encode(), BODY.encode()).decode()
        return {"webhook-id": "id", "webhook-timestamp": stamp, "webhook-signature": signature}

    right, rotated = signed(now, SECRET), signed(now, "another of some length", SECRET)
    return [
        (True, right, BODY),
        (True, rotated, BODY),
        (False, right, BODY + " "),
        (False, {**right, "webhook-id": "other"}, BODY),
        (False, {**right, "webhook-timestamp": str(now + 1)}, BODY),
        (False, signed(now, "another of some length"), BODY),
        (False, signed(now - 400, SECRET), BODY),
        (False, signed(now + 400, SECRET), BODY),
        (False, {**right, "webhook-signature": "v1,é"}, BODY),
        (False, {**right, "webhook-timestamp": "soon"}, BODY),
        (False, {}, BODY),
    ]


def test_the_python_of_the_page_trusts_only_what_is_signed() -> None:
    """By one of the router's signatures, for this body, now."""
    trusted = example("how-to/receivers.md")["trusted"]
    for right, headers, text in requests():
        assert trusted(SECRET, headers, text.encode()) is right, headers


@pytest.mark.skipif(not shutil.which("node"), reason="no Node.js here: scripts/bench-tools has it")
def test_the_javascript_of_the_page_trusts_only_what_is_signed(tmp_path: Path) -> None:
    """The same requests, run by Node.js."""
    [code] = blocks("how-to/receivers.md", "javascript")
    cases = json.dumps([[headers, text] for _, headers, text in requests()])
    script = tmp_path / "receiver.mjs"
    asked = f"trusted({json.dumps(SECRET)}, headers, Buffer.from(body))"
    output = f"{cases}.map(([headers, body]) => {asked})"
    script.write_text(f"{code}\nconsole.log(JSON.stringify({output}));\n")
    done = subprocess.run(["node", script], capture_output=True, timeout=PATIENCE, check=True)
    assert json.loads(done.stdout) == [right for right, _, _ in requests()]


def test_a_copy_made_while_the_router_runs_is_whole(tmp_path: Path) -> None:
    """The documented statement copies every answered event, and the copy is consistent."""
    [statement] = re.findall(r"VACUUM INTO '[^']+'", (DOCS / "how-to/upgrade.md").read_text())
    answered: list[str] = []
    over = threading.Event()

    def call(router: Serving) -> None:
        while not over.is_set():
            name = f"event-{len(answered)}"
            assert router.post(name) == "500"
            answered.append(name)

    with target(always("500")) as one, serving(tmp_path, {"one": one}) as router:
        calling = threading.Thread(target=call, args=(router,))
        calling.start()
        try:
            wait_until(lambda: len(answered) > 20)
            before, copy = list(answered), tmp_path / "copy.db"
            with closing(sqlite3.connect(tmp_path / "store.db")) as database:
                database.execute(re.sub("'.+'", f"'{copy}'", statement))
        finally:
            over.set()
            calling.join(PATIENCE)
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert set(before) <= set(states(copy))
    with target() as one, serving(tmp_path, {"one": one}, store=copy) as router:
        assert router.post(before[0]) == "000"
        assert states(copy)[before[0]] == {"one": "acknowledged"}
