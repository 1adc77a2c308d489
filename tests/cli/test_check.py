"""`check`: the faults that a load would find, without a server, and the configuration in force."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from router.config import effective, loading
from router.config.comparison import edits_of
from router.config.loading import Config
from router.config.schema import Shape, shape_of
from tests.support import folders
from tests.support.certificates import issued
from tests.support.command import ROOT, command, environment, run
from tests.support.folders import CERTS, COMMON, LEDGER, written
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
    """A tests file beside the configuration is checked too. A case with a target that does not
    exist cannot hold, so it is a warning."""
    result = check(tmp_path, GOOD, cases=CASES)
    assert (result.code, result.lines[-1]) == (0, "routes.test.yaml is good: 1 case")
    result = check(tmp_path, GOOD, cases=CASES.replace("required", "requried"))
    assert result.code == 1
    assert result.lines[2:] == [
        "routes.test.yaml:4:5: cases[0]: unknown key 'requried', did you mean 'required'?"
    ]
    result = check(tmp_path, GOOD, cases=CASES.replace("[ledger]", "[ledgre]"))
    warning = "warning: routes.test.yaml:3: a.gs.cert.1: routes.yaml has no target 'ledgre'"
    assert (result.code, warning in result.lines) == (0, True)


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
        "refused": [],
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


# --print: every default filled in, every secret masked.

SMALL = """\
version: 1
targets:
  ledger: {url: http://127.0.0.1:9002/callback}
routes:
  - {name: all, match: "*", required: [ledger]}
"""


def shown(tmp_path: Path, text: str, *options: str) -> str:
    """Print this text as routes.yaml."""
    path = tmp_path / "routes.yaml"
    path.write_text(text, encoding="utf-8")
    result = ran("check", "--print", path.name, *options)
    assert (result.code, result.err) == (0, "")
    return result.out


def loaded(text: str) -> Config:
    return loading.parse(text.encode(), "routes.yaml", {}, None)


def test_every_default_is_filled_in(tmp_path: Path) -> None:
    """The smallest file is printed with all settings in force."""
    waits = ["1s", "3s", "7s", "30s", "60s", "300s", "3600s"]
    assert yaml.safe_load(shown(tmp_path, SMALL)) == {
        "version": 1,
        "unmatched": "reject",
        "recovery": "automatic",
        "ebaas": {
            "reply_within": "8s",
            "retries": 20,
            "waits": waits,
            "grace": "60s",
            "http_status": "mirror",
        },
        "queue": {"retries": 20, "waits": waits},
        "targets": {
            "ledger": {
                "url": "http://127.0.0.1:9002/callback",
                "timeout": "5s",
                "acknowledge": "code",
                "max_in_flight": 64,
            }
        },
        "routes": [{"name": "all", "match": "*", "required": ["ledger"]}],
    }


def test_the_heading_and_json(tmp_path: Path) -> None:
    """The first line is a comment with the file's name and hash. JSON is one object with both."""
    first = shown(tmp_path, SMALL).splitlines()[0]
    assert first == f"# routes.yaml, hash {loaded(SMALL).hash}"
    shape = json.loads(shown(tmp_path, SMALL, "--format", "json"))
    assert (shape.pop("file"), shape.pop("hash")) == ("routes.yaml", loaded(SMALL).hash)
    assert shape == effective.effective_of(loaded(SMALL))


@pytest.mark.parametrize(
    "text", ["no", "~", "012", "0o17", "1e3", ".5", "12:30:45", "1_000", "2021-07-01", "<<", "a: b"]
)
def test_ambiguous_strings_are_in_quotes(tmp_path: Path, text: str) -> None:
    """A string that any version of YAML reads as another type can be read again."""
    printed = shown(tmp_path, SMALL.replace("name: all", f'name: "{text}"'))
    assert loaded(printed).table.routes[0].name == text


def test_dollars_are_doubled(tmp_path: Path) -> None:
    """A dollar is written as a routes.yaml has to have it, and is one in JSON."""
    text = SMALL.replace('"*"', '"a.$$.成*"')
    assert loaded(shown(tmp_path, text)).table.routes[0].match["event_key"] == ("a.$.成*",)
    assert json.loads(shown(tmp_path, text, "--format", "json"))["routes"][0]["match"] == "a.$.成*"


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Header values, queries, and paths with variables are masked, in both formats. A variable for
    the host hides nothing."""
    for name in ("TOKEN", "HOOK"):
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.setenv("BASE", "https://base.example.com")
    monkeypatch.setenv("WHOLE", f"https://whole.example.com/{CANARY}?key={CANARY}")
    (tmp_path / "token").write_text(CANARY)
    text = f"""\
version: 1
targets:
  header:
    url: http://127.0.0.1/a
    headers: {{Authorization: "Bearer ${{TOKEN}}", x-plain: {CANARY}}}
    secret: ["${{TOKEN}}", {CANARY}]
  file: {{url: http://127.0.0.1/a, headers: {{x-token: "${{file:token}}"}}}}
  query: {{url: "https://query.example.com/hook?token={CANARY}"}}
  path: {{url: "https://path.example.com/services/${{HOOK}}/x"}}
  whole: {{url: "${{WHOLE}}"}}
  base: {{url: "${{BASE}}/ebaas/callback"}}
routes:
  - {{name: all, match: "*", optional: [header, file, query, path, whole, base]}}
"""
    options = ("--secrets-dir", str(tmp_path))
    printed = shown(tmp_path, text, *options)
    assert CANARY not in printed + shown(tmp_path, text, *options, "--format", "json")
    targets = yaml.safe_load(printed)["targets"]
    assert targets["header"]["headers"] == {"authorization": "***", "x-plain": "***"}
    assert targets["header"]["secret"] == ["***", "***"]
    assert {name: target["url"] for name, target in targets.items()} == {
        "header": "http://127.0.0.1/a",
        "file": "http://127.0.0.1/a",
        "query": "https://query.example.com/hook?***",
        "path": "https://path.example.com/***",
        "whole": "https://whole.example.com/***?***",
        "base": "https://base.example.com/ebaas/callback",
    }


#: Every key of routes.yaml but `defaults`, written as it is printed; `ledger` has no default.
EVERY = """\
version: 1
unmatched: accept
recovery: manual
ebaas:
  reply_within: 7s
  retries: 19
  waits: [2s, 1500ms]
  grace: 0s
  http_status: ok
  token: [abcdefghijklmnop]
  token_header: x-token
  allow_from: [10.0.0.0/8, "2001:db8::/32"]
  silent_after: 21600s
queue: {retries: 0, waits: [3s]}
egress: [public, 127.0.0.1/32]
targets:
  ledger:
    url: https://ledger.example.com/callback
    timeout: 3s
    acknowledge: status
    max_in_flight: 62
    breaker: {failures: 51%, of_at_least: 21, within: 31s, pause: 11s, refusals: count}
    headers: {x-tenant: "7"}
    secret: [whsec_b2xkIHNlY3JldA==]
    rate: {per_second: 3, burst: 4}
    queue: {retries: 5, waits: [4s]}
    paused: true
    owner: somebody
    tls:
      ca: ${CA}
      cert: ${CERT}
      key: ${KEY}
      server_name: other.example.com
      insecure_skip_verify: true
  audit: {url: "http://127.0.0.1:9003/", timeout: 5s, acknowledge: code, max_in_flight: 64}
routes:
  - name: all
    match: {event_source: a, event_topic: b, event_type: c, event_status: d, event_key: [a.b, c.*]}
    except: {event_source: A, event_topic: B, event_type: C, event_status: D, event_key: [a.c, d.*]}
    required: [audit]
    optional: [ledger]
"""
MASKED = r'abcdefghijklmnop|"7"|whsec_\S+==|\$\{\w+\}'


def declared(shape: Shape, path: str = "") -> Iterator[str]:
    """Iterate over the keys of routes.yaml that the schema declares."""
    for each in filter(None, (shape.item, shape.rest)):
        yield from declared(each, path)
    for name, each in shape.keys.items():
        below = [*declared(each, f"{path}{name}.")]
        yield from below or [f"{path}{name}"]


def test_every_key_is_loaded_printed_and_compared(tmp_path: Path) -> None:
    """A new key of the schema fails here until it has a line in the file above, which is printed as
    it is written, and until `diff` names it."""
    pair = issued(tmp_path)
    files = {"CA": tmp_path / "cert.ca", "CERT": pair.cert, "KEY": pair.key}
    variables = {name: file.read_text() for name, file in files.items()}
    every = loading.parse(EVERY.encode(), "routes.yaml", variables, None)
    masked = yaml.safe_load(re.sub(MASKED, '"***"', EVERY))
    assert effective.effective_of(every) == masked
    rooms = {"settings": "", "target": "targets.", "route": "routes."}
    compared = {
        f"{rooms[edit.kind]}{detail.name}"
        for edit in edits_of(loaded(SMALL), every)
        for detail in edit.details
    }
    # `version` and names can't change; `defaults` are compared in each target.
    same = ("version", "routes.name", "defaults.")
    keys = {key for key in declared(shape_of("routes")) if not key.startswith(same)}
    near = {key for key in keys for name in compared if f"{name}.".startswith(f"{key}.")}
    below = {key for key in keys for name in compared if key.startswith(f"{name}.")}
    assert keys - near - below == set()


@pytest.mark.parametrize(
    ("command", "files"),
    [("check --print routes.yaml", 1), ("explain x --config routes.yaml", 1),
     ("test --config routes.yaml", 1), ("diff routes.yaml other.yaml", 2)],
)  # fmt: skip
def test_a_faulty_configuration_is_reported(tmp_path: Path, command: str, files: int) -> None:
    """The problems of all files are messages, or with JSON the result; exit code 1."""
    for name in ("routes", "other"):
        (tmp_path / f"{name}.yaml").write_text(SMALL.replace("[ledger]", "[ledgr]"))
        (tmp_path / f"{name}.test.yaml").write_text(CASES)
    result = ran(*command.split())
    assert (result.code, result.out) == (1, "")
    why = "5:40: routes[0].required: no target 'ledgr', did you mean 'ledger'?"
    places = [f"{name}.yaml:{why}" for name in ("routes", "other")[:files]]
    assert result.err.splitlines() == places
    machine = ran(*command.split(), "--format", "json")
    assert (machine.code, machine.err, len(machine.json["problems"])) == (1, "", files)


def test_files_are_judged_by_what_is_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--in-force is the set that a router has; --owner judges the files of one owner. The last line
    names the files that a router would refuse."""
    monkeypatch.chdir(tmp_path)
    use = CERTS.replace("[certs]", "[certs, ledger]")
    files = {**folders.GOOD, "routes.yaml": f"{COMMON}share: {{ledger: team certs}}\n"}
    written({**files, "routes.d/certs.yaml": use}, Path("old"))
    gone = LEDGER.replace("ledger:", "book:").replace("[ledger]", "[book]")
    new = {**files, "routes.d/certs.yaml": use, "routes.d/ledger/routes.yml": gone}
    written(new, Path("new"))
    why = "the route in new/routes.d/certs.yaml:6 (team certs) still uses the target 'ledger'"
    refused = "a router would refuse new/routes.d/ledger/routes.yml (team ledger)"
    done = ran("check", "new", "--in-force", "old")
    assert done.out.splitlines() == [
        f"new/routes.d/ledger/routes.yml: {why} (team ledger)",
        f"{refused}; it would take 2 of 3 files",
    ]
    assert done.code == 1
    done = ran("check", "new", "--in-force", "old", "--owner", "team ledger")
    assert (done.out.splitlines()[-1], done.code) == (refused, 1)
    done = ran("check", "new", "--in-force", "old", "--owner", "team certs")
    assert (done.out, done.code) == ("a router would take each file of this owner\n", 0)
    done = ran("check", "new", "--owner", "team lodger")
    assert (done.code, "did you mean team ledger?" in done.err) == (2, True)
    # Without it the other file is at fault, and a broken routes.yaml is in everybody's way.
    assert ran("check", "new", "--owner", "team ledger").code == 0
    written({"routes.yaml": "version: 2\n"}, Path("new"))
    done = ran("check", "new", "--owner", "team certs")
    assert "(team certs), which waits" in done.out
    assert done.code == 1
