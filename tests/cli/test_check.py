"""`check`: the faults that a load would find, without a server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.command import ROOT, command, environment, run
from tests.support.inprocess import Ran, ran

#: In every value that must not be printed.
CANARY = "canary-7f3a"

GOOD = """\
version: 1
targets:
  ledger: {url: http://127.0.0.1:9002/callback}
  audit: {url: http://127.0.0.1:9003/callback}
routes:
  - name: all
    match: "*"
    required: [ledger]
    optional: [audit]
"""
TWO_FAULTS = GOOD.replace("[audit]", "[adit]").replace("version: 1", "version: 2")
UNUSED = GOOD.replace("    optional: [audit]\n", "")
CASES = """\
version: 1
cases:
  - key: a.gs.cert.1
    required: [ledger]
    optional: [audit]
"""


@pytest.fixture(autouse=True)
def _where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give files short names in the output."""
    monkeypatch.chdir(tmp_path)


def check(tmp_path: Path, text: str, *options: str, cases: str | None = None) -> Ran:
    """Check this text as routes.yaml, with these cases beside it."""
    path = tmp_path / "routes.yaml"
    path.write_text(text, encoding="utf-8")
    if cases is not None:
        (tmp_path / "routes.test.yaml").write_text(cases, encoding="utf-8")
    return ran("check", path.name, *options)


def test_a_good_file(tmp_path: Path) -> None:
    """It is summed up: the number of routes and targets, the start of the hash, and the total of
    each schedule of optional targets."""
    result = check(tmp_path, GOOD)
    assert (result.code, result.err) == (0, "")
    assert result.lines[0].startswith("routes.yaml is good: 1 route, 2 targets; ")
    total = "  audit (optional): 20 retries over 14h 6m, then a dead letter"
    assert result.lines[1:] == [total]
    queue = "version: 1\ndefaults: {queue: {retries: 4}}\nqueue: {waits: [1s, 10s]}"
    result = check(tmp_path, GOOD.replace("version: 1", queue))
    assert result.lines[1:] == ["  audit (optional): 4 retries over 31s, then a dead letter"]


def test_every_fault_in_the_files_order(tmp_path: Path) -> None:
    """All faults at once, each with its place, on stdout."""
    result = check(tmp_path, TWO_FAULTS)
    assert (result.code, result.err) == (1, "")
    first, second = result.lines
    assert first.startswith("routes.yaml:1:10: version: ")
    assert second == "routes.yaml:9:16: routes[0].optional: no target 'adit', did you mean 'audit'?"


def test_warnings(tmp_path: Path) -> None:
    """A warning passes; with --strict it fails, and the last line says so."""
    result = check(tmp_path, UNUSED)
    assert result.code == 0
    assert result.lines[0] == "warning: routes.yaml:4:3: targets.audit: no route uses this target"
    assert result.lines[1].startswith("routes.yaml is good")
    result = check(tmp_path, UNUSED, "--strict")
    assert result.code == 1
    assert result.lines[-1] == "routes.yaml has warnings, which --strict does not allow"
    assert check(tmp_path, GOOD, "--strict").code == 0


def test_the_cases_beside_it(tmp_path: Path) -> None:
    """A tests file beside the configuration is checked too."""
    result = check(tmp_path, GOOD, cases=CASES)
    assert (result.code, result.lines[-1]) == (0, "routes.test.yaml is good: 1 case")
    result = check(tmp_path, GOOD, cases=CASES.replace("required", "requried"))
    assert result.code == 1
    assert result.lines[2:] == [
        "routes.test.yaml:4:5: cases[0]: unknown key 'requried', did you mean 'required'?"
    ]


def test_stdin() -> None:
    """`-` is stdin; its problems carry that name."""
    assert ran("check", "-", stdin=GOOD.encode()).lines[0].startswith("stdin is good: 1 route")
    faulty = ran("check", "-", stdin=TWO_FAULTS.encode())
    assert faulty.code == 1
    assert faulty.lines[0].startswith("stdin:1:10: version: ")


def test_without_a_file_it_takes_what_serve_would(tmp_path: Path) -> None:
    """Without FILE, the variable of `serve` says which file is checked."""
    path = tmp_path / "other.yaml"
    path.write_text(GOOD, encoding="utf-8")
    finished = run("check", environ={"EBAAS_ROUTER_CONFIG": str(path)})
    assert finished.returncode == 0
    assert finished.stdout.decode().startswith(f"{path} is good")


@pytest.mark.parametrize("name", ["missing.yaml", "folder/missing.yaml", "/", ".", ".."])
def test_a_file_that_can_not_be_read(name: str) -> None:
    """One line with its path as it was given, exit code 1."""
    result = ran("check", name)
    assert (result.code, len(result.lines)) == (1, 1)
    assert result.out.startswith(f"{name}: ")


def test_where_it_looks_without_a_file() -> None:
    """Without FILE the message says where it looked, and how to name another."""
    message = ran("check").out
    assert message.startswith("config/routes.yaml: can't be read: no such file or directory; ")
    assert "working folder" in message
    assert "--config" in message


def test_the_option_that_other_commands_have() -> None:
    """--config is the same as FILE; both together are refused."""
    Path("other.yaml").write_text(GOOD)
    assert ran("check", "--config", "other.yaml").lines[0].startswith("other.yaml is good")
    assert ran("check", "--config", "other.yaml", "routes.yaml").code == 2


def test_a_shells_pipe_is_read(tmp_path: Path) -> None:
    """A shell's `<(…)` is a file like any other."""
    path = tmp_path / "routes.yaml"
    path.write_text(GOOD, encoding="utf-8")
    line = f"{' '.join(command('check'))} <(cat '{path}')"
    finished = subprocess.run(
        ["bash", "-c", line], capture_output=True, cwd=ROOT, env=environment(), check=False
    )
    assert finished.returncode == 0, finished
    assert b"is good: 1 route" in finished.stdout


def test_json(tmp_path: Path) -> None:
    """--format json is one object with problems, warnings and numbers."""
    result = check(tmp_path, UNUSED, "--format", "json", cases=CASES)
    assert result.code == 0
    shape = result.json
    assert len(shape.pop("hash")) == 64
    assert [(one["line"], one["path"]) for one in shape.pop("warnings")] == [(4, "targets.audit")]
    assert shape == {
        "good": True,
        "file": "routes.yaml",
        "files": ["routes.yaml"],
        "problems": [],
        "routes": 1,
        "targets": 2,
        "queue": [],
        "tests": "routes.test.yaml",
        "cases": 1,
    }
    shape = check(tmp_path, TWO_FAULTS, "--format", "json").json
    assert not shape["good"]
    assert shape["problems"][1] == {
        "file": "routes.yaml",
        "line": 9,
        "column": 16,
        "path": "routes[0].optional",
        "message": "no target 'adit', did you mean 'audit'?",
        "owner": "",
    }


def test_several_files(tmp_path: Path) -> None:
    """Each is checked by itself with its own tests file; a bad one makes the code 1."""
    (tmp_path / "other.yaml").write_text(TWO_FAULTS, encoding="utf-8")
    assert check(tmp_path, GOOD, "other.yaml", cases=CASES).code == 1
    result = check(tmp_path, GOOD, "other.yaml", "--format", "json")
    words = [json.loads(line) for line in result.lines]
    assert [(each["file"], each["good"]) for each in words] == [
        ("routes.yaml", True),
        ("other.yaml", False),
    ]
    assert ran("check", "-", "-").err == "ebaas-router: only one file can be '-', stdin\n"


def test_no_secret_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable's value is in nothing that `check` prints, faults included."""
    monkeypatch.setenv("CANARY", f"{CANARY} not a URL")
    text = GOOD.replace("http://127.0.0.1:9002/callback", "'${CANARY}'")
    result = check(tmp_path, text.replace("[audit]", '["${CANARY}"]'))
    assert result.code == 1
    assert len(result.lines) >= 2
    assert CANARY not in result.out + result.err


def test_a_variable_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    """Variables and secret files are looked up, as a load does."""
    text = GOOD.replace("http://127.0.0.1:9002/callback", '"${file:url}"')
    assert check(tmp_path, text).code == 1
    (tmp_path / "url").write_text("http://127.0.0.1:9002/callback\n")
    assert check(tmp_path, text, "--secrets-dir", str(tmp_path)).code == 0
    finished = check(tmp_path, text, "--secrets-dir", str(tmp_path / "missing"))
    assert finished.code == 1
    assert "the folder that --secrets-dir names is not there" in finished.out + finished.err
    assert str(tmp_path) not in finished.out + finished.err


def test_a_file_of_a_folder_leads_to_the_folder(tmp_path: Path) -> None:
    """A message says that the files below routes.d are not checked with the common file."""
    assert check(tmp_path, GOOD).err == ""
    (tmp_path / "routes.d").mkdir()
    result = check(tmp_path, GOOD)
    hint = "routes.d is not checked; `check .` checks it with routes.yaml"
    assert (result.code, result.err) == (0, f"ebaas-router: {hint}\n")
    assert ran("check", ".").err == ""


#: A secret at each place for one, in a form that is checked.
SECRETS = """\
version: 1
ebaas: {token: "${EBAAS_TOKEN}"}
targets:
  ledger:
    url: ${LEDGER_URL}
    secret: ["${file:new}", "whsec_${OLD}"]
    headers: {authorization: "Bearer ${file:token}"}
    tls: {ca: "${file:ca.pem}", cert: "${file:cert.pem}", key: "${file:key.pem}"}
  audit: {url: "http://${AUDIT_HOST}/hook/${AUDIT_PATH}"}
routes:
  - {name: all, match: "*", required: [ledger], optional: [audit]}
"""


def test_without_secrets_a_placeholder_passes_each_check(tmp_path: Path) -> None:
    """Checks of lengths and forms too, without a warning; so `test` and `diff` can run as well. The
    configuration has no hash."""
    assert check(tmp_path, SECRETS).code == 1
    result = check(tmp_path, SECRETS, "--without-secrets", "--strict", cases=CASES)
    assert (result.code, result.err) == (0, "")
    assert result.lines[0] == "routes.yaml is good: 1 route, 2 targets; without its secrets"
    machine = check(tmp_path, SECRETS, "--without-secrets", "--format", "json", cases=CASES)
    assert machine.json["hash"] is None
    assert ran("test", "--config", "routes.yaml", "--without-secrets").code == 0
    assert ran("diff", "routes.yaml", "routes.yaml", "--without-secrets").code == 0


@pytest.mark.parametrize(
    ("place", "wrong", "words"),
    [
        ("Bearer ${file:token}", "Bearer ${file:token", "a ${ that no } closes"),
        ("whsec_${OLD}", "whsec_?${OLD}", "what follows whsec_ is not base64"),
        ("http://${AUDIT_HOST}/", "http://${AUDIT_HOST} /", "a URL has only ASCII"),
        ("version: 1", "version: ${VERSION}", "the variable 'VERSION' is not set"),
    ],
)
def test_without_secrets_every_other_fault_is_found(
    tmp_path: Path, place: str, wrong: str, words: str
) -> None:
    """A placeholder excuses only the missing secret."""
    result = check(tmp_path, SECRETS.replace(place, wrong), "--without-secrets")
    assert result.code == 1
    (line,) = result.lines
    assert words in line


def test_a_secret_that_is_there_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with --without-secrets."""
    monkeypatch.setenv("EBAAS_TOKEN", CANARY)
    result = check(tmp_path, SECRETS, "--without-secrets", "--strict")
    assert (result.code, CANARY in result.out) == (1, False)
    assert "ebaas.token: is shorter than 16 characters" in result.out
