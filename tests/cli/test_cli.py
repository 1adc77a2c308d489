"""The command line: help that teaches, settings, and one clear line for a mistake."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import sqlite3
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import IO, Any

import pytest

from router import __version__
from router.cli import COMMANDS
from router.cli.options import Parser, parse_url, read_settings
from router.config.settings import REMOVED_OPTIONS, SETTINGS, Settings
from router.model.build import COMPILED
from router.model.errors import SettingInvalid
from router.model.secret import Secret
from router.store.protocol import State
from router.telemetry.log.lines import printable
from tests.support.command import ROOT, Finished, command, environment, one_line, run, shipped
from tests.support.inprocess import quick, read
from tests.support.shop import SqliteShop

HEAVY = (
    "httpx",
    "jsonschema_rs",
    "prometheus_client",
    "starlette",
    "uvicorn",
    "uvloop",
)


def complaint(finished: Finished, code: int = 2) -> str:
    """Return the only line of a command that fails with this exit code."""
    assert finished.returncode == code
    assert finished.stdout == b""
    line = one_line(finished.stderr)
    assert line.startswith("ebaas-router: ")
    return line.removeprefix("ebaas-router: ")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_alone_it_lists_every_command(arguments: tuple[str, ...]) -> None:
    """`ebaas-router` alone prints the commands, each with what it is for, and ends well."""
    finished = quick(*arguments)
    assert finished.returncode == 0
    listed = finished.stdout.decode().partition("commands:\n")[2].partition("\n\n")[0]
    names = [line.split(maxsplit=1)[0] for line in listed.splitlines()]
    assert names == list(COMMANDS)
    assert all(len(line.split()) > 3 for line in listed.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    """A command's help has a paragraph, examples that name it, and its exit codes."""
    finished = quick(name, "--help")
    assert finished.returncode == 0
    text = finished.stdout.decode()
    about, examples, exit_codes = (
        text.partition("\n\n")[2].partition("\n\n")[0],
        text.partition("\nexamples:\n")[2].partition("\n\n")[0],
        text.partition("\nexit codes:\n")[2],
    )
    assert len(about) > 150
    assert examples.count(f"ebaas-router {name}") >= 2
    assert "\n  2   " in exit_codes
    assert quick("help", name).stdout == finished.stdout


@pytest.mark.parametrize(
    ("arguments", "others"),
    [
        (("--help",), ()),
        (("serve", "--help"), ()),
        (("health", "--port", "1"), ("asyncio", "yaml", "sqlite3", "router.config.document")),
    ],
)
def test_help_and_health_load_nothing_heavy(
    arguments: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """Quick commands load none of the large libraries, and health hardly any room."""
    code = (
        f"import sys; from router.cli import main; main({list(arguments)!r});"
        f"print([name for name in {HEAVY + others!r} if name in sys.modules], file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, env=environment(), check=True
    )
    assert one_line(finished.stderr) == "[]"


@pytest.mark.parametrize("worktree", [False, True])
def test_a_checkout_names_its_commit(tmp_path: Path, worktree: bool) -> None:
    """Between releases the version ends with the commit, which git's own files say."""

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        command = ["git", *who, "-C", str(tmp_path / "main"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (tmp_path / "main").mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    if worktree:
        git("worktree", "add", "-q", "../other")
    folder = tmp_path / ("other" if worktree else "main")
    package = folder / "router"
    package.mkdir()
    text = (ROOT / "router/__init__.py").read_text()
    package.joinpath("__init__.py").write_text(
        re.sub("^__version__ = .*", '__version__ = "1.2.0.dev0"', text, flags=re.MULTILINE)
    )
    commit = git("rev-parse", "HEAD")[:9]
    code = "import router; print(router.__version__)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"1.2.0.dev0+g{commit}\n"


def test_version() -> None:
    """`--version` is the program's name and version, alone on a line; then Python, whether what
    runs is compiled, the machine and the stores."""
    finished = run("--version")
    assert finished.returncode == 0
    first, python, stores = finished.stdout.decode().splitlines()
    assert first == f"ebaas-router {__version__}"
    assert platform.python_version() in python
    assert f", {'compiled' if COMPILED else 'pure Python'}, " in python
    assert platform.machine() in python
    assert sqlite3.sqlite_version in stores
    assert "with psycopg" in stores


WRONG_LINES = [
    ("sevre", "'sevre' is not a command, did you mean serve? See ebaas-router --help"),
    ("xyz", "'xyz' is not a command. See ebaas-router --help"),
    ("help sedn", "'sedn' is not a command, did you mean send"),
    # Options. An abbreviation may mean another option tomorrow.
    ("send --keey cert", "'--keey' is not an option or argument, did you mean --key?"),
    ("send --concurr 2", "'--concurr' is not an option"),
    ("serve --port", "--port: expected one argument"),
    ("serve --port 80a", "--port: '80a' is not a port (0 to 65535)"),
    ("trace --since 1h --until 2h", "--since 1h is not before --until 2h"),
    ("status --url http://h:1 --store x.db", "--store can't be given with --url"),
    ("deliveries list --token-file x --store y", "--token-file is for a running router, and not"),
    ("health --timeout 2", "--timeout: '2' is not a duration"),
    ("status --ca /nowhere.pem", "--ca: '/nowhere.pem' can't be read: no such file"),
    *(
        (f"{command} --store-password-file x", "--store-password-file is not an option any more:")
        for command in ("deliveries", "archive", "pause")
    ),
    # routes.yaml.
    *((f"{two} - -", "only one file can be '-', stdin") for two in ("check", "test", "diff")),
    ("check --config a.yaml b.yaml", "FILE and --config are the same: one of them can be"),
    ("check --print a.yaml b.yaml", "--print takes one FILE"),
    ("explain", "KEY or --event FILE has to be given, and one alone"),
    ("explain a.gs.cert.1 --event -", "KEY or --event FILE has to be given, and one alone"),
    ("explain ''", "KEY: is empty"),
    ("explain --event missing.json", "--event: 'missing.json' can't be read"),
    ("explain a.gs.cert.1 --schema x.json", "--schema is for --event only"),
    # Requests.
    ("listen --no-forward --sign x", "--sign needs --forward-to: there is nothing else to"),
    ("send 127.0.0.1:8080/callback", "'127.0.0.1:8080/callback' can't be read: "),
    ("send ftp://127.0.0.1/", "URL: 'ftp://127.0.0.1/' is not a URL"),
    ("send http://[::1/", "URL: "),
    ("send --url nonsense", "--url: 'nonsense' is not a URL"),
    ("send missing.json", "'missing.json' can't be read: No such file"),
    ("send /etc", "'/etc' can't be read: Is a directory"),
    ("send a.json b.json", "one FILE and one URL"),
    ("send http://a/ --url http://b/", "one FILE and one URL"),
    ("send - --change a", "--change: can't be given with FILE"),
    ("send --key a.b", "--key: 'a.b' is not a key (like a.gs.cert.1)"),
    ("send --header nonsense", "--header: 'nonsense' is not a header"),
    ("send --header 'a: b\r\nc: d'", "--header: 'a' is not a header"),
    ("send --header 'Host: b'", "--header: host can't be set"),
    ("send --header 'a: ${NO_SUCH}'", "--header: the variable 'NO_SUCH' is not set"),
    ("send --sign whsec_!", "--sign: what follows whsec_ is not base64"),
    ("send --sign '${NO_SUCH}'", "--sign: the variable 'NO_SUCH' is not set"),
    ("send --timeout 10", "--timeout: '10' is not a duration"),
    ("send --waits 1s,,2s", "--waits: '' is not a duration"),
    # A business endpoint. A secret is not repeated.
    ("receive --port 0 --verify=S3CRET\udcff", "--verify: is not UTF-8"),
    ("receive --verify='${file:signing}'", "--verify: there is no secrets directory to read a"),
    *(
        (f"receive {option}={value}", f"{option}: ")
        for option, value in (
            *(("--status", "99"), ("--status", "101"), ("--code", ""), ("--fail-first", "-1")),
            *(("--delay", "3"), ("--port", "65536"), ("--format", "xml")),
        )
    ),
    ("probe", "URL or --target NAME has to be given, and not both"),
    ("probe ftp://x", "URL: 'ftp://x' is not a URL"),
    ("probe http://h/ --only answer", "--only: 'answer' is not a check, did you mean answers?"),
    ("probe http://h/ --only x", "--only: 'x' is not a check; there are tls, answers, "),
    ("probe http://h/ --secret whsec_?", "--secret: what follows whsec_ is not base64"),
    ("probe http://h/ --header 'x-request-id: 7'", "--header: x-request-id is set by the"),
    ("probe http://h/ --key a.b.c.\udcff", "--key: 'a.b.c.\\udcff' is not a key"),
    ("probe --target ledgr", "--target: routes.yaml has no target 'ledgr', did you mean ledger?"),
    ("probe --target ledger --timeout 1s", "--timeout: can't be given with --target"),
    # The archive.
    ("archive replay", "replay to which target? One of them: --target NAME"),
    ("archive replay --target a --target b", "replay to which target? One of them: --target NAME"),
    ("archive replay --target ledger", "replay which events? --since TIME, or"),
    ("archive replay --target x --since 1h --rate fast", "--rate: 'fast' is not a rate"),
    ("archive replay --refused --target x", "--refused goes to all targets of the routes"),
    ("archive list --since 1h", "--match, --since and --until are for export, replay and"),
    ("archive export --yes", "--yes is for replay only"),
]


@pytest.mark.parametrize(("arguments", "why"), WRONG_LINES)
def test_a_wrong_command_line_is_one_line(arguments: str, why: str) -> None:
    """With the word that was probably meant, and without a secret. Nothing is read, sent or
    changed."""
    line = complaint(quick(*shlex.split(arguments)))
    assert line.startswith(why)
    assert "S3CRET" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        "resume rec\udcff",
        "pause rec\udcff --until 1m --because x",
        "pause ledger --until 1m --because \udcff",
        "deliveries list --match \udcff",
        "deliveries discard --match * --as \udcff",
        "trace ab \udcff",
    ],
)
def test_an_argument_that_is_not_text_is_refused(tmp_path: Path, arguments: str) -> None:
    """In one line, and nothing is changed."""
    shop = SqliteShop(tmp_path / "store.db")
    shop.add("one")
    refused = complaint(quick(*arguments.split(), "--store", shop.option))
    assert refused == "an argument is not UTF-8" or "no target 'rec\\udcff' in" in refused
    assert shop.count(State.DEAD) == 1
    shop.close()


def test_a_path_may_be_any_bytes(tmp_path: Path) -> None:
    folder = str(tmp_path / "con\udcfffig")
    assert quick("init", folder).returncode == 0
    assert quick("check", f"{folder}/routes.yaml").returncode == 0
    assert quick("check", "--config", f"{folder}/routes.yaml").returncode == 0
    assert quick("diff", *[f"{folder}/routes.yaml"] * 2).returncode == 0
    none = complaint(quick("deliveries", "list", "--store", folder), code=3)
    assert none == f"can't use the store {tmp_path}/con\\udcfffig: it can't be opened"


def test_without_options_and_variables_every_setting_has_its_default() -> None:
    assert read() == Settings()


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_an_option_and_a_variable(name: str) -> None:
    """The help shows both, and the default."""
    setting = SETTINGS[name]
    parser = Parser("serve")
    parser.settings()
    text = " ".join(parser.format_help().split())
    value = f"[{setting.metavar}]" if setting.is_switch else setting.metavar
    assert f"{setting.option} {value}" in text
    assert f"(default {setting.default or 'none'}; {setting.variable})" in text


def test_an_option_counts_before_its_variable() -> None:
    """Even if the variable is wrong. An empty variable counts as absent."""
    assert read(PORT="9000").port == 9000
    assert read("--port", "9000", PORT="80a").port == 9000
    assert read(PORT="", SCHEMA="") == Settings()
    # A setting that a command does not offer is read from its variable all the same.
    assert read_settings(argparse.Namespace(), {"EBAAS_ROUTER_PORT": "9000"}).port == 9000


def test_a_switch_needs_no_value() -> None:
    """A switch that is given alone is on, and leaves what follows it alone."""
    settings = read("--reuse-port", "--port", "9000")
    assert (settings.reuse_port, settings.port) == (True, 9000)


def test_the_help_of_serve_begins_with_what_matters_most() -> None:
    """Ten of its options come first, the others in a list of their own."""
    first, _, further = quick("serve", "--help").stdout.decode().partition("\nfurther options:\n")
    assert len(re.findall(r"^  --", first, re.MULTILINE)) == 10
    assert len(re.findall(r"^  --", further, re.MULTILINE)) == len(SETTINGS) - 10
    assert len(SETTINGS) <= 24


@pytest.mark.parametrize("option", REMOVED_OPTIONS)
def test_a_removed_option_says_what_replaces_it(option: str) -> None:
    """So does its variable, which would else do nothing without a word."""
    instead = f"any more: {REMOVED_OPTIONS[option]}. See ebaas-router serve --help"
    assert complaint(quick("serve", f"{option}=1" if "--" in option else option)) == (
        f"{option} is not an option {instead}"
    )
    if "--" in option:
        variable = option.strip("-").replace("-", "_").upper()
        with pytest.raises(SettingInvalid) as raised:
            read(**{variable: "x"})
        assert str(raised.value) == (
            f"EBAAS_ROUTER_{variable} is not a setting any more: {REMOVED_OPTIONS[option]}"
        )


_TEXTS = {".py", ".js", ".md", ".yaml", ".yml", ".env", ".service", ".json", ".sh"}


def test_no_text_names_a_removed_option() -> None:
    """Except for the table of removed options, and for the options of other programs."""
    names = "|".join(option for option in REMOVED_OPTIONS if option.startswith("--"))
    variables = names.replace("--", "EBAAS_ROUTER_").replace("-", "_").upper()
    removed = re.compile(rf"(?<![\w-])(?:{names}|{variables})\b")
    others = ("settings.py", "options.py", "flask_receiver.py", "django_receiver.py")
    for path in (*shipped("router"), *shipped("deploy"), *shipped("docs")):
        if path.suffix in _TEXTS and path.name not in others:
            assert not removed.search(path.read_text()), path


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        ("--port", "0", 0),
        ("--path", "/", Secret("/")),
        ("--path", "/ebaas/v1/callback", Secret("/ebaas/v1/callback")),
        ("--trusted-proxies", "10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
        ("--store", "none", None),
        ("--store", "there/router.db", Path("there/router.db")),
        ("--store-max-bytes", "2048KiB", 2 * 1024 * 1024),
        ("--store-max-bytes", "2MiB", 2 * 1024 * 1024),
        ("--reuse-port", "on", True),
        ("--reuse-port", "off", False),
        ("--drain-delay", "1500ms", 1.5),
    ],
)
def test_right_values(option: str, text: str, value: Any) -> None:
    assert getattr(read(option, text), option[2:].replace("-", "_")) == value


WRONG = {
    "--config": [""],
    "--host": ["", "http://localhost", "a b"],
    "--port": ["", "-1", "65536", "٨٠", "9" * 5000],
    "--path": [
        *("", "callback", "/callback?a=1", "/callback#a", "/{rest:path}", "/a b", "/%2e"),
        *("/livez", "/readyz"),
    ],
    "--trusted-proxies": ["10.0.0.1/8", "10.0.0.0/8,", "proxy.example.com"],
    "--store": ["mysql://db/router", "", ".", "/", "../.."],
    "--store-max-bytes": ["0", "1MB", "-1", "1.5MiB"],
    "--max-requests": ["0", "many"],
    "--log-format": ["xml"],
    "--reuse-port": ["true"],
    "--drain-delay": ["30", "-1s", "9" * 400 + "h"],
}


@pytest.mark.parametrize(
    ("option", "text"), [(option, text) for option, texts in WRONG.items() for text in texts]
)
def test_wrong_values(option: str, text: str) -> None:
    """One line that starts with the option."""
    with pytest.raises(SettingInvalid) as raised:
        read(f"{option}={text}")
    assert str(raised.value).startswith(f"{option}: ")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "least", "less"),
    [
        ("--store-max-bytes", "1MiB", "64"),
        ("--archive-max-bytes", "1MiB", "64"),
        ("--archive-keep", "1m", "0s"),
    ],
)
def test_a_limit_that_is_too_small_to_work_is_refused(option: str, least: str, less: str) -> None:
    read(f"{option}={least}")
    with pytest.raises(SettingInvalid, match=rf"{less}' is too little \({least} at least\)"):
        read(f"{option}={less}")


def test_a_service_link_is_explained() -> None:
    """Kubernetes sets EBAAS_ROUTER_PORT for a Service of that name."""
    with pytest.raises(SettingInvalid, match="Kubernetes"):
        read(PORT="tcp://10.0.0.1:8080")


def test_a_mistyped_variable_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """With the likely setting. A variable that resembles none is not ours: a Kubernetes service
    link, say."""
    read(PROT="9000", MAXREQUESTS="1", SERVICE_HOST="10.0.0.1", PORT_8080_TCP="tcp://10.0.0.1:80")
    ignored = "is not a setting and is ignored, did you mean"
    assert capsys.readouterr().err.splitlines() == [
        f"ebaas-router: EBAAS_ROUTER_MAXREQUESTS {ignored} EBAAS_ROUTER_MAX_REQUESTS?",
        f"ebaas-router: EBAAS_ROUTER_PROT {ignored} EBAAS_ROUTER_PORT?",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:8080",
        "ftp://127.0.0.1/",
        "http://",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://[::1/",
        "http://a b/",
        "http://é.example/",
        "http://a/\n",
        f"http://{'a' * 64}.example/",
        "http://router:hunter2@127.0.0.1/",
        "htp://router:hunter2@127.0.0.1/",
    ],
)
def test_wrong_urls(text: str) -> None:
    """A password in it is not repeated."""
    with pytest.raises(ValueError, match="URL") as raised:
        parse_url(text)
    assert "hunter2" not in str(raised.value)


def test_nothing_that_is_printed_moves_the_cursor() -> None:
    """Control and invisible characters are shown as escapes, everything else as it is."""
    assert printable("成功 \x1b[2J\u202e\ud800😀\U000e0001") == (
        "成功 \\u001b[2J\\u202e\\ud800😀\\udb40\\udc01"
    )


def test_a_reader_that_went_away_is_no_traceback() -> None:
    """A command whose stdout nobody reads any more ends quietly, as by SIGPIPE."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as stdout:
        finished = with_stdout(stdout, "--help")
    assert (finished.returncode, finished.stderr) == (141, b"")


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as stdout:
        finished = with_stdout(stdout, "--version")
    assert finished.returncode == 1
    assert one_line(finished.stderr) == "ebaas-router: No space left on device"


def with_stdout(stdout: IO[bytes], *arguments: str) -> Finished:
    return subprocess.run(
        command(*arguments),
        stdout=stdout,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        check=False,
    )


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    """It has the path as given."""
    for path in (tmp_path / "missing.yaml", Path("no/missing.yaml")):
        finished = run("serve", "--port", "0", "--config", str(path))
        assert finished.returncode == 3
        assert f"ebaas-router: {path}: can't be read" in one_line(finished.stderr)


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/", "/"), ("/callback", "/callback"), ("/callback/", "/callback/"),
     ("/callback/s3cret", "/callback/***"), ("/a/b/c", "/a/***"), ("//s3cret", "//***")],
)  # fmt: skip
def test_a_path_is_shown_up_to_its_first_segment(path: str, shown: str) -> None:
    """The rest may be a secret, for a caller that can't send a header."""
    settings = read("--path", path)
    assert str(settings.path) == shown
    assert settings.path.reveal() == path
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize("path", ["s3cret", "/callback/s3cret?x", "/callback/s3cret/%2e"])
def test_a_wrong_path_is_not_repeated(path: str) -> None:
    """It may contain a secret."""
    with pytest.raises(SettingInvalid) as caught:
        read("--path", path)
    assert "s3cret" not in str(caught.value)
