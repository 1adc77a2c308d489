"""routes.yaml is read strictly: every fault is reported, placed and explained, and nothing else.

Each file in `testdata/routes` has one fault and its name, and beside it the text that a terminal
shows. After an intended change, `make golden` writes these texts again.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import re
import string
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from router.config import document as reading
from router.config import loading, syntax
from router.config.document import MAX_SIZE
from router.config.loading import Caller, Config
from router.config.schema import Name
from router.config.schema import document as schema_of
from router.contract.schedule import PLATFORM, Schedule
from router.model.errors import ConfigInvalid, Problem
from router.routing.table import Route
from router.routing.target import BreakerPolicy, Rate, Target
from tests.support.certificates import dateless
from tests.support.effort import LONG, examples
from tests.support.engines import pem
from tests.support.golden import check_golden

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config/routes.yaml"
FILES = sorted((ROOT / "tests/testdata/routes").glob("*.yaml"))

#: In every value that no text may show.
CANARY = "canary-7f3a"
ENVIRON = {"CANARY": CANARY, "TWO_LINES": f"{CANARY}\n{CANARY}", "OPEN_SET": f"{CANARY}.[gs"}


def document(target: Any = None, route: Any = None, **top: Any) -> str:
    """A small valid routes.yaml (JSON is YAML) with changes to its target, its route, its top."""
    return json.dumps(
        {
            "version": 1,
            "targets": {"ledger": {"url": "http://127.0.0.1:9002/callback", **(target or {})}},
            "routes": [{"name": "all", "match": "*", "required": ["ledger"], **(route or {})}],
            **top,
        },
        ensure_ascii=False,
    )


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A secrets directory with every fault."""
    folder = tmp_path_factory.mktemp("house") / "secrets"
    (folder / "folder").mkdir(parents=True)
    (folder.parent / "outside").write_text(CANARY)
    (folder / "token").write_text(f"{CANARY}\n")
    (folder / "linked").symlink_to("folder/../token")
    (folder / "leads-out").symlink_to("../outside")
    (folder / "circle").symlink_to("circle")
    (folder / "binary").write_bytes(b"\xff" + CANARY.encode())
    (folder / "large").write_text(CANARY * 100_000)
    certify(folder)
    return folder


def certify(folder: Path) -> None:
    """Write good and bad certificates and keys."""
    authority, other = trustme.CA(), trustme.CA()
    client = authority.issue_cert("router.example")
    old = authority.issue_cert("router.example", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    for name, cert in (("old", old), ("client", client)):
        (folder / f"{name}.pem").write_bytes(cert.cert_chain_pems[0].bytes())
        (folder / f"{name}.key").write_bytes(cert.private_key_pem.bytes())
    # Around certificates there may be other text.
    (folder / "ca.pem").write_text(f"# {CANARY}, Autorità\n" + pem(authority) + pem(other))
    (folder / "other.key").write_bytes(other.issue_cert("x.example").private_key_pem.bytes())
    # Signed by an authority, but not an authority.
    (folder / "leaf.pem").write_bytes(client.cert_chain_pems[0].bytes())
    for name, inside in (("broken", CANARY), ("empty", "AAAA")):
        lines = ("-----BEGIN CERTIFICATE-----", inside, "-----END CERTIFICATE-----")
        (folder / f"{name}.pem").write_text("\n".join(lines))
    (folder / "dateless.pem").write_text(dateless(client.cert_chain_pems[0]))


def parse(text: str | bytes, secrets: Path | None = None, **environ: str) -> Config:
    content = text.encode() if isinstance(text, str) else text
    return loading.parse(content, "routes.yaml", environ, secrets)


def faults(text: str | bytes, secrets: Path | None = None, **environ: str) -> list[Problem]:
    with pytest.raises(ConfigInvalid) as raised:
        parse(text, secrets, **environ)
    return list(raised.value.problems)


def header(text: str, secrets: Path | None = None, **environ: str) -> str:
    """Return the value of a target's header that is written as `text`."""
    loaded = parse(document({"headers": {"x-token": text}}), secrets, **environ)
    return loaded.table.targets["ledger"].headers[0][1].reveal()


def verdict(path: Path, secrets: Path | None) -> str:
    """Return the text that a terminal shows about a file."""
    content = path.read_bytes()
    try:
        loaded = loading.parse(content, path.name, ENVIRON, secrets)
    except ConfigInvalid as error:
        return "".join(f"{problem}\n" for problem in error.problems)
    warnings = [f"warning: {problem}\n" for problem in loaded.warnings]
    return "".join(warnings) or "no problem\n"


# Every fault, one file each.


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_fault(path: Path, secrets: Path) -> None:
    """A file with one fault gives the golden text: the mistake, its place, the likely intention. No
    text has the value of a variable or of a secret file in it."""
    text = verdict(path, secrets)
    assert CANARY not in text
    check_golden(path.with_suffix(".txt"), text)


def problems(path: Path, secrets: Path | None) -> tuple[Problem, ...]:
    try:
        return loading.load(path, ENVIRON, secrets).warnings
    except ConfigInvalid as error:
        return error.problems


def test_one_fault_each(secrets: Path) -> None:
    """At least forty files have one fault and give one problem, and none gives more."""
    counts = {path.stem: len(problems(path, secrets)) for path in FILES}
    assert sum(counts.values()) >= 40
    assert {name: n for name, n in counts.items() if n != (not name.startswith("ok_"))} == {}


def test_every_syntax_error_has_a_file() -> None:
    """Each explanation of a syntax error is in one of the golden texts."""
    output = "".join(path.with_suffix(".txt").read_text(encoding="utf-8") for path in FILES)
    meanings = [*syntax.MISTAKES.values(), syntax.UNKNOWN]
    assert [meaning for meaning in meanings if meaning not in output] == []


@pytest.mark.parametrize(
    ("file", "folder", "warned"), [(0o644, 0o755, 1), (0o640, 0o755, 0), (0o644, 0o700, 0)]
)
def test_a_secret_that_everybody_can_read_is_warned_about(
    tmp_path: Path, file: int, folder: int, warned: int
) -> None:
    """A secret file that everybody on the machine can get at is a warning where it is used, and its
    value is not in it."""
    secret = tmp_path / "token"
    secret.write_text(CANARY)
    secret.chmod(file)
    tmp_path.chmod(folder)
    loaded = parse(document({"headers": {"x-token": "${file:token}"}}), tmp_path)
    warnings = [str(problem) for problem in loaded.warnings if "everybody" in str(problem)]
    assert len(warnings) == warned
    assert CANARY not in "".join(warnings)
    assert all("targets.ledger.headers" in warning for warning in warnings)


# Faults that no file in a repository can show.


def folder_instead(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def too_large(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_SIZE + 1))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def secret_without_a_folder(path: Path) -> None:
    path.write_text(document({"url": "${file:token}"}))


def too_many_values(path: Path) -> None:
    path.write_text("[" + "1," * (reading.MAX_NODES + 1) + "]")


UNUSABLE: dict[Callable[[Path], object], str] = {
    Path.exists: "can't be read: no such file or directory",
    folder_instead: "is a folder without a routes.yaml",
    pipe: "is not a regular file",
    too_large: "is larger than 32 MiB",
    link_to_itself: "can't be read: too many levels of symbolic links",
    secret_without_a_folder: (
        "there is no secrets directory to read a file from: see --secrets-dir"
    ),
    too_many_values: "has more than 50 values",
}


@pytest.mark.parametrize("make", UNUSABLE, ids=lambda make: make.__name__)
def test_unusable(
    make: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is not a usable file is one clear line with the path as it was given."""
    monkeypatch.setattr(reading, "MAX_NODES", 50)
    make(tmp_path / "routes.yaml")
    with pytest.raises(ConfigInvalid) as raised:
        loading.load(tmp_path / "routes.yaml", {}, None)
    [problem] = raised.value.problems
    assert (problem.message, problem.file) == (UNUSABLE[make], str(tmp_path / "routes.yaml"))
    with pytest.raises(ConfigInvalid, match="is not a file's name"):
        loading.load(Path("routes.yaml\0"), {}, None)


@pytest.mark.parametrize("folder", [None, Path("missing")])
def test_a_missing_secrets_directory_is_reported_once(folder: Path | None) -> None:
    """Several values that need it give one problem, at the first."""
    routes = [{"name": "all", "match": "*", "required": ["ledger"]}]
    url = "http://127.0.0.1:9002/callback"
    target = {"url": url, "secret": "${file:b}", "headers": {"x-token": "${file:a}"}}
    ebaas = {"token": "${file:c}"}
    text = {"version": 1, "targets": {"ledger": target}, "routes": routes, "ebaas": ebaas}
    [problem] = faults(json.dumps(text, indent=1), folder)
    assert (problem.line, problem.path) == (6, "targets.ledger.secret")
    assert "secrets" in problem.message


def test_unreadable(tmp_path: Path) -> None:
    """A file that may not be read is one clear line."""
    path = tmp_path / "routes.yaml"
    path.write_text(document())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ConfigInvalid, match="can't be read: permission denied"):
        loading.load(path, {}, None)


# Good files.


def test_defaults() -> None:
    """A key that is left out has the documented default, which the shipped file writes out."""
    loaded = parse(document())
    for config in (loaded, parse(SHIPPED.read_bytes())):
        assert (config.unmatched, config.ebaas, config.queue) == ("reject", Caller(), PLATFORM)
    target = loaded.table.targets["ledger"]
    assert target == Target("ledger", "http://127.0.0.1:9002/callback")
    with_breaker = parse(document({"breaker": True})).table.targets["ledger"]
    assert with_breaker.breaker == BreakerPolicy()


# Variables and secret files.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "v"),
        ("a${NAME}b${NAME}", "avbv"),
        ("${NAME:-d}", "v"),
        ("${OTHER:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${OTHER:-a:-b}", "a:-b"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$$$", "$$"),
        ("${file:token}", CANARY),
        ("Bearer ${file:linked}", f"Bearer {CANARY}"),
    ],
)
def test_variable(text: str, value: str, secrets: Path) -> None:
    """A variable is replaced within its value; a doubled dollar sign is one."""
    assert header(text, secrets, NAME="v", EMPTY="") == value


@pytest.mark.parametrize("value", ["${OTHER}", "$$", '", x-other: "y', "# c", "[a, b]", "*", "no"])
def test_variable_is_text(value: str) -> None:
    """The value of a variable is never parsed, neither for variables nor as YAML."""
    assert header("${NAME}", NAME=value) == value


def test_keys_have_no_variables() -> None:
    problems = faults(document({"headers": {"${NAME}": "v"}}), NAME="x-name")
    assert [problem.message for problem in problems] == ["'${NAME}' is not a header's name"]


def test_a_folder_beside_the_secrets_is_refused(tmp_path: Path) -> None:
    """Even if its name begins with the name of the secrets directory."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets-of-others").mkdir()
    (tmp_path / "secrets-of-others/token").write_text(CANARY)
    [problem] = faults(
        document({"headers": {"x-token": "${file:../secrets-of-others/token}"}}),
        tmp_path / "secrets",
    )
    assert "leads out of the secrets directory" in str(problem)


@pytest.mark.parametrize(("per_second", "burst"), [(0.4, 1), (2, 2), (2.5, 3)])
def test_default_burst(per_second: float, burst: int) -> None:
    """The default burst is the number of attempts of a second, and at least one."""
    loaded = parse(document({"rate": {"per_second": per_second}}))
    assert loaded.table.targets["ledger"].rate == Rate(per_second, burst)


@pytest.mark.parametrize(
    ("top", "usual", "own", "schedule"),
    [
        ({}, None, None, None),
        ({"retries": 7, "waits": ["9s"]}, None, {"retries": 2}, ((9.0,), 2)),
        ({"retries": 7}, {"waits": ["5s"]}, None, ((5.0,), 7)),
        ({}, {"retries": 3, "waits": ["5s"]}, {"waits": ["2s", "4s"]}, ((2.0, 4.0), 3)),
    ],
)
def test_the_schedule_of_a_target(top: Any, usual: Any, own: Any, schedule: Any) -> None:
    """A key that is left out comes from `defaults.queue`, then from `queue`."""
    sections = {"queue": top, "defaults": {"queue": usual} if usual else {}}
    loaded = parse(document({"queue": own} if own else {}, **sections))
    expected = Schedule(*schedule) if schedule else None
    assert loaded.table.targets["ledger"].queue == expected


@pytest.mark.parametrize("content", ["a\n", "a\r\n", "a"])
def test_secret_line_end(content: str, tmp_path: Path) -> None:
    """One line end at a secret file's end is not part of the secret; a second one is a fault."""
    (tmp_path / "token").write_bytes(content.encode())
    assert header("${file:token}", tmp_path) == "a"
    (tmp_path / "token").write_text("a\n\n")
    assert len(faults(document({"headers": {"x-token": "${file:token}"}}), tmp_path)) == 1


def test_hash_is_of_what_is_in_force(tmp_path: Path) -> None:
    """The hash changes with the file, a variable it uses, a secret file it uses; with no other."""
    text = document({"headers": {"x-a": "${A}", "x-b": "${file:b}"}})
    (tmp_path / "b").write_text("1")
    hashes = [
        parse(text, tmp_path, A="1").hash,
        parse(text, tmp_path, A="2").hash,
        parse(text + " ", tmp_path, A="1").hash,
    ]
    assert parse(text, tmp_path, A="1", C="3").hash == hashes[0]
    (tmp_path / "b").write_text("2")
    hashes.append(parse(text, tmp_path, A="1").hash)
    assert len(set(hashes)) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", text) for text in hashes)


# Warnings. Each has a golden file; these are the borders.


def warnings(text: str) -> list[str]:
    return [problem.message for problem in parse(text).warnings]


LOCAL = [
    *("localhost", "127.9.9.9", "[::1]", "10.1.2.3", "192.168.0.1", "100.64.0.1", "[fd12::1]"),
    *("ledger", "ledger.default.svc", "l.default.svc.cluster.local", "l.internal", "l.local."),
]
ELSEWHERE = ["ledger.example.com", "8.8.8.8", "[2606:4700::1]", "local.example"]


@pytest.mark.parametrize("host", LOCAL + ELSEWHERE)
def test_plain_http_is_for_the_local_network(host: str) -> None:
    assert len(warnings(document({"url": f"http://{host}/"}))) == (host in ELSEWHERE)
    assert warnings(document({"url": f"https://{host}/"})) == []


def test_only_required_targets_are_cut_off() -> None:
    """An optional target may take longer than the reply."""
    optional = {"required": ["other"], "optional": ["ledger"]}
    text = json.loads(document({"timeout": "9s"}, optional))
    text["targets"]["other"] = {"url": "http://127.0.0.1:9001/"}
    assert warnings(json.dumps(text)) == []


@pytest.mark.parametrize(
    "match", ["a.gs.cert.1", "a.*", "*", "a.gs.cert?1", "a.b[.]c.d", {"event_topic": "gs"}]
)
def test_patterns_that_can_match(match: Any) -> None:
    """A key of four parts, or another field."""
    assert warnings(document(route={"match": match})) == []


def many(count: int, kind: str) -> str:
    """A file with so many patterns: in one list, in routes of ten, in one field beside another."""
    patterns = [f"a.gs.k{n}.*" for n in range(count)]
    if kind == "routes":
        tens = [patterns[n : n + 10] for n in range(0, count, 10)]
        routes = [
            {"name": f"r{n}", "match": ten, "required": ["ledger"]} for n, ten in enumerate(tens)
        ]
        return document(routes=routes)
    field = {"event_type": patterns, "event_key": "a.*"}
    if kind == "except":
        return document(route={"match": "*", "except": patterns})
    match = {"list": patterns, "field": field, "exact": [p[:-1] + "1" for p in patterns]}[kind]
    return document(route={"match": match})


#: Patterns: a hundred thousand with LONG=1, which `make test-long` sets.
MANY = 100_000 if LONG else 12_000


@pytest.mark.parametrize("kind", ["list", "exact", "routes", "field", "except"])
def test_patterns_cost_what_they_are(no_collections: None, kind: str) -> None:
    """Very many patterns, wherever they are, cost about eight times an eighth of them: a quadratic
    cost would be sixty-four times as much."""

    def cost(count: int) -> float:
        text = many(count, kind)
        started = time.process_time()
        assert parse(text).warnings == ()
        return time.process_time() - started

    assert any(cost(MANY) < 26 * cost(MANY // 8) for _ in range(3))


@pytest.mark.parametrize("match", ["a.*", "a..*["])
def test_a_configuration_is_no_cycle(no_collections: None, match: str) -> None:
    """Reference counts free it, and so a refused one: collections are not needed."""

    def parts() -> int:
        return sum(isinstance(one, Config | Route | Target) for one in gc.get_objects())

    before = parts()
    with contextlib.suppress(ConfigInvalid):
        parse(document(route={"match": match}))
    assert parts() == before


# The schema, for editors.


def below(schema: Any) -> Iterator[dict[str, Any]]:
    """Iterate over a schema and all schemas in it."""
    if isinstance(schema, dict):
        yield schema
    for value in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(value, dict | list):
            yield from below(value)


def test_editor_schema_describes_every_key() -> None:
    definitions = schema_of("routes")["definitions"]
    for schema in below(schema_of("routes")):
        properties = schema.get("properties")
        for name, key in properties.items() if isinstance(properties, dict) else ():
            definition = definitions.get(key.get("$ref", "").rpartition("/")[2], {})
            assert key.get("description", definition.get("description")), name


#: The rules of lists and mappings that the reader knows; those in `WORDED` have words of their own.
WORDED = {"type", "additionalProperties", "required", "minItems", "minProperties"}
FORM = {"properties", "items", "propertyNames", "definitions", "title", "description", "default"}
WITH_WORDS = {"anyOf", "dependencies", "minProperties"}


def test_the_reader_knows_every_rule_of_a_schema() -> None:
    """It applies each rule for a list or a mapping, and has words for it. cases.py has the rules of
    a case."""
    formats: list[Name] = ["routes", "routes.common", "routes.team", "routes.test", "tokens"]
    unknown = set()
    for name in formats:
        for schema in below(schema_of(name)):
            if schema.get("type") in ("object", "array"):
                assert schema["type"] == "object" or schema["minItems"] == 1
                worded = schema.get("x-says", {}).keys() & WITH_WORDS
                rules = schema.keys() - WORDED - FORM - worded
                unknown |= {(name, rule) for rule in rules if rule[0] not in "$x"}
    assert unknown == {("routes.test", "anyOf"), ("routes.test", "oneOf")}


def test_editor_schema_accepts_what_loads() -> None:
    """No file that loads is underlined."""
    validator = jsonschema.Draft7Validator(schema_of("routes"))
    validator.check_schema(validator.schema)
    for path in [SHIPPED, *FILES]:
        if path.stem.startswith(("ok_", "warning_")) or path == SHIPPED:
            validator.validate(yaml.safe_load(path.read_bytes()))


#: Faults that an editor can't see, by the beginning of the files' names: names, variables, files,
#: hosts, and how a number or a boolean of YAML 1.1 was written.
ONLY_THE_LOADER = (
    "ok_", "warning_", "wide_comma", "wide_quotes",
    "utf16", "tag_str", "key_twice", "name_twice", "header_twice",
    "target_undefined", "target_required", "own_required", "pattern_", "variable_",
    "secret_file_", "url_",
    "allow_from_host_bits", "allow_from_mapped", "token_masked",
    "egress_host_bits", "egress_rules_out", "tls_leads_out", "tls_not_there", "tls_broken",
    "tls_ca_dateless", "tls_cert_dateless", "tls_empty", "tls_no_key", "tls_other_key",
    "tls_plain", "tls_yes",
    "duration_too_long", "owner_exponent", "retries_octal", "retries_underscore",
    "breaker_within_too_long", "breaker_yes", "paused_yes", "rate_octal", "secret_of_a_variable",
)  # fmt: skip


#: Faults of the document itself.
NO_MATTER_OF_SHAPE = (
    "alias_of_itself", "alias_as_key", "nested_a_thousand_deep", "yaml_version_absurd",
)  # fmt: skip


def test_editor_schema_underlines_faults() -> None:
    """A fault of shape is underlined in an editor too."""
    validator = jsonschema.Draft7Validator(schema_of("routes"))
    accepted = []
    for path in FILES:
        with contextlib.suppress(yaml.YAMLError):
            if path.stem not in NO_MATTER_OF_SHAPE and validator.is_valid(
                yaml.safe_load(path.read_bytes())
            ):
                accepted.append(path.stem)
    assert [name for name in accepted if not name.startswith(ONLY_THE_LOADER)] == []


# Anything at all.


def load_or_refuse(content: bytes) -> None:
    started = time.process_time()
    with contextlib.suppress(ConfigInvalid):
        loading.parse(content, "routes.yaml", {}, None)
    assert time.process_time() - started < 2


PIECES = [
    "version: 1\n", "targets:\n", "  a: {url: 'http://h/'}\n", "routes:\n", "  - name: n\n",
    "    match: ", "    required: [a]\n", "ebaas:\n", "headers: ", "event_key: ", "0x7f.1",
    "：", "，", "［", "“", "\u3000",
    "&a ", "*a", "<<: *a\n", "[", "]", "{", "}", ": ", "- ", "? ", "\n", "  ", ", ", "'", '"',
    "\\", "|\n", ">\n", "#", "!!", "%", "@", "~", "no", "012", "1_0", "8s", "${", "}", "$",
    "[!", "---\n", "\t", "\ufeff", "é", "证", "\U0001f600", "=", "<<", "...\n", "http://", "a.gs.*",
]  # fmt: skip


texts = st.lists(st.sampled_from(PIECES), max_size=200).map("".join).map(str.encode)


@examples(200)
@given(texts | st.binary(max_size=2000))
@example("version: 1\n\u3000".encode())  # a line of nothing but a wide space
def test_any_content(content: bytes) -> None:
    """Any content gives a Config or ConfigInvalid, soon."""
    load_or_refuse(content)


@examples(100)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """So does the shipped file with a piece replaced."""
    content = SHIPPED.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 200)))
    piece = data.draw(st.sampled_from(PIECES)).encode()
    load_or_refuse(content[:start] + piece + content[end:])


def shuffled(count: int, seed: int) -> list[str]:
    """Names of the same letters, which are costly to compare."""
    letters = random.Random(seed)
    return ["".join(letters.sample(string.ascii_letters, 52)) for _ in range(count)]


LARGEST = 64 * 1024
HEAD = "version: 1\ntargets: {t: {url: 'http://h/'}}\nroutes:\n"
HOSTILE = {
    "brackets": "[" * LARGEST,
    "braces": "{a: " * (LARGEST // 4),
    "questions": "? " * (LARGEST // 2),
    "dashes": "- " * (LARGEST // 2),
    "items": "[" + "a," * (LARGEST // 2 - 1) + "]",
    "keys": "".join(f"k{n:05}: 1\n" for n in range(LARGEST // 10)),
    "one key": "k: 1\n" * (LARGEST // 5),
    "targets": "targets:\n" + "".join(f" t{n:05}:\n" for n in range(LARGEST // 9 - 1)),
    "undefined": document(
        route={"required": [f"t{n:04}" for n in range(3000)]},
        targets={f"u{n:04}": None for n in range(2000)},
    ),
    "alike": document(
        route={"required": shuffled(500, 1)}, targets=dict.fromkeys(shuffled(500, 2))
    ),
    "long keys": document(**{"k" * 30_000: 1, "l" * 30_000: 2}),
    "long paths": "k" * 30_000 + ": [" + "!t x," * 7_000 + "]",
    "tabs": "a:\tb\n" * (LARGEST // 5),
    "controls": "\0" * LARGEST,
    "anchors": "a: &a {x: y}\n" + "".join(f"k{n:05}: *a\n" for n in range(LARGEST // 12)),
    "merges": "a0: &a0 {x: y}\n"
    + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: v}}\n" for n in range(1, 1500)),
    "aliases": HEAD + "- &r {name: n, match: x, bad: y}\n" + "- *r\n" * 12_000,
    "twins": HEAD + "".join(f"- {{name: n{n}, match: '*', required: [t]}}\n" for n in range(1400)),
    "exceptions": document(route={"match": ["a*"] * 5_000, "except": ["b*"] * 5_000}),
    "stars": document(route={"match": "*a" * 250}),
    "dollars": document({"owner": "$" * 60_000}),
    "digits": document({"owner": 0}).replace(": 0", ": " + "1" * 60_000 + "x"),
    "number": document(version=int("9" * 4000)),
    "wide line": "# " + "x" * (LARGEST - 10) + "\n: [",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile(text: str) -> None:
    """No file of 64 KB takes more than about a second."""
    assert len(text.encode()) <= LARGEST
    load_or_refuse(text.encode())


def test_report_has_an_end() -> None:
    """Past a thousand problems the rest is only counted."""
    problems = faults("".join(f"k{n}: 1\n" for n in range(5000)))
    assert len(problems) == 1001
    assert problems[0].message == "has 4003 more problems than are listed here"
