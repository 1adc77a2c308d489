"""Secrets stay secret. Each place that takes one has a distinctive one, a canary, and all output is
searched for canaries.

The router runs with Python's debugging on and its libraries at debug, with targets that fail in
every way, broken edits, wrong callers, and a planted fault that has the body in its text. No canary
is in the fields that are logged by design: the five fields that routes match, a valid request id,
and a target's code.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.archived import archived
from tests.support.command import PATIENCE, ROOT, answering, environment, http_answer
from tests.support.effort import LONG
from tests.support.house import event
from tests.support.inprocess import ran
from tests.support.receivers import Kept, keeping, serving
from tests.support.sockets import PLAIN, free_port
from tests.support.waiting import wait_until

#: Every canary begins with it, and nothing else does.
MARK = "cnry"

#: The name of the secret file and of the variables.
FILE, VARIABLE, PATH, QUERY = "token", "LEDGER_TOKEN", "LEDGER_PATH", "LEDGER_QUERY"

#: The same for the token of callers, and the file of the ops port's tokens.
DOOR_FILE, DOOR_VARIABLE, OPS_FILE = "door", "DOOR_TOKEN", "ops"

#: A real router with full debugging, and with a fault whose text is the body.
ROUTER = """
import logging, sys, warnings
from router.cli import main
from router.config import reload
from router.contract.intake import Intake

reload.SETTLE = 0.02  # many edits have to be seen

read = Intake.read

def faulty(intake, body):
    for name in ("", "httpx", "httpcore", "asyncio", "starlette", "uvicorn"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    if b"make-a-fault" in body:
        logging.getLogger("library").error("it was %s", body)
        logging.getLogger("library").warning(f"failed: {body!r}")
        warnings.warn(repr(body))
        raise ValueError(body)
    return read(intake, body)

Intake.read = faulty
sys.exit(main())
"""


def canary(place: str) -> str:
    return f"{MARK}-{place}"


ENVIRON = {
    VARIABLE: canary("variable"),
    PATH: canary("path"),
    QUERY: canary("query"),
    DOOR_VARIABLE: canary("door-variable"),
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONWARNINGS": "default",
}

#: The canaries that the working target must get.
SENT = ("variable", "file", "default", "literal", "path", "query", "changes", "unknown")


def failing() -> dict[str, bytes]:
    """Return answers that do not acknowledge, with a canary where nothing is logged by design."""
    mark = canary("answer")
    location = f"HTTP/1.1 302 Found\r\nlocation: http://x/{mark}\r\ncontent-length: 0\r\n\r\n"
    return {
        "code": http_answer(json.dumps({"code": "500", "msg": mark, mark: mark})),
        "status": http_answer(mark, "500 " + mark),
        "no-json": http_answer("<html>" + mark),
        "array": http_answer(json.dumps([mark])),
        "protocol": mark.encode() + b"\r\n\r\n",
        "reset": b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n" + mark.encode(),
        "redirect": location.encode(),
        "header": b"HTTP/1.1 200 OK\r\nx: " + mark.encode() + b"\x00\r\n\r\n",
    }


def target(url: str, **more: Any) -> dict[str, Any]:
    headers = {
        "authorization": f"Bearer ${{{VARIABLE}}}",
        "x-file": f"${{file:{FILE}}}",
        "x-default": f"${{NOT_SET:-{canary('default')}}}",
        "x-literal": canary("literal"),
    }
    return {
        "url": f"{url}/${{{PATH}}}?key=${{{QUERY}}}",
        "headers": headers,
        "secret": [f"${{file:{FILE}}}", canary("signing")],
        **more,
    }


@contextmanager
def table(got: list[Kept]) -> Iterator[dict[str, Any]]:
    """Yield a routes.yaml whose required target works; all optional ones fail."""
    with ExitStack() as stack:
        reply = {"code": "000", "msg": canary("message")}
        good = keeping(got, reply, 200, ("set-cookie", canary("cookie")))
        targets = {"good": target(stack.enter_context(serving(good)), timeout="10s")}
        for name, answer in failing().items():
            targets[name] = target(stack.enter_context(answering(answer)), timeout="2s")
        plain = stack.enter_context(answering(b"no TLS"))
        targets["tls"] = target(plain.replace("http:", "https:"), timeout="1s")
        targets["refused"] = target(f"http://127.0.0.1:{free_port()}")
        targets["name"] = target("http://name.invalid")
        optional = [name for name in targets if name != "good"]
        route = {"name": "all", "match": "a.*", "required": ["good"], "optional": optional}
        tokens = [f"${{file:{DOOR_FILE}}}", f"${{{DOOR_VARIABLE}}}", canary("door-literal")]
        ebaas = {"token": tokens}
        yield {"version": 1, "ebaas": ebaas, "targets": targets, "routes": [route]}


def broken(table: dict[str, Any]) -> dict[str, str]:
    """Return broken edits of the table, each with a canary at or beside its fault."""
    text = json.dumps(table, indent=1)
    missing = text.replace(f"${{{VARIABLE}}}", "${NOT_THERE} " + canary("beside"))
    userinfo = re.sub("http://127", f"http://{canary('user')}:{canary('password')}@127", text)
    return {
        "syntax": text.replace('"x-literal": ', '"x-literal": [', 1),
        "missing": missing,
        "userinfo": userinfo,
        "fragment": text.replace(f"?key=${{{QUERY}}}", "#" + canary("fragment")),
        "number": text.replace('"timeout": "2s"', f'"timeout": "${{{VARIABLE}}}"'),
        "unquoted": text.replace(f'"{canary("literal")}"', "12345"),
        "control": text.replace(canary("literal"), canary("literal") + "\\u0007"),
        "header": text.replace('"x-literal"', '"host"'),
        "file": text.replace(f"${{file:{FILE}}}", "${file:../" + FILE + "}"),
        "door-blank": text.replace(canary("door-literal"), canary("door") + " " + canary("blank")),
        "door-list": text.replace(f'"{canary("door-literal")}"', f'["{canary("door-list")}"]'),
        "door-missing": text.replace(f"${{file:{DOOR_FILE}}}", "${file:no} " + canary("door")),
        "door-syntax": text.replace(f'"{canary("door-literal")}"', f'"{canary("door-syntax")}'),
        "alias": text.replace(f'"{canary("door-literal")}"', f"*{canary('alias')}"),
        "anchor": text.replace('"all"', "&{0} a, &{0} b: c".format(canary("anchor"))),
        "dash": text.replace("${NOT_SET:-", "${NOT_SET:"),
        "comma": text.replace(f'"{canary("door-literal")}"', f"{{a: b,{canary('comma')}}}"),
        "network": text.replace('"ebaas": {', f'"ebaas": {{"allow_from": "${{{DOOR_VARIABLE}}}",'),
        "token-header": text.replace('"ebaas": {', '"ebaas": {"token_header": "host",'),
        "colon": "a: b: " + canary("colon") + "\n" + text,
    }


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / FILE).write_text(canary("file"))
    (folder / DOOR_FILE).write_text(canary("door-file") + "\n")
    token = f"{{name: ops, token: {canary('the-ops-token')}, may: read}}"
    (folder / OPS_FILE).write_text(f"tokens: [{token}]")
    return folder


def leaks(*outputs: bytes | str) -> set[str]:
    """Return canaries in the outputs, and other text that must not be there."""
    text = "\n".join(each.decode() if isinstance(each, bytes) else each for each in outputs)
    return {*re.findall(rf"{MARK}[\w-]*|Traceback|{ROOT}", text)}


def commands(path: Path, secrets: Path, format: str) -> Iterator[tuple[str, ...]]:
    """Yield the command lines that print a part of a configuration."""
    common = ("--secrets-dir", str(secrets))
    sample = path.with_name("event.json")
    sample.write_text(event(changes=[canary("changes")]).decode())
    yield ("check", str(path), *common, "--format", format)
    yield ("check", "--print", str(path), *common, "--format", format)
    yield ("explain", "a.gs.cert.1", "--config", str(path), *common, "--format", format)
    yield ("explain", "--event", str(sample), "--config", str(path), *common)


@pytest.mark.parametrize("format", ["text", "json"])
def test_commands(
    format: str, tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command shows a secret, whether the file is right or wrong."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "routes.yaml"
    with table([]) as right:
        for edit, text in {"": json.dumps(right), **broken(right)}.items():
            path.write_text(text)
            for arguments in commands(path, secrets, format):
                done = ran(*arguments)
                assert (done.code == 0) == (edit == ""), (edit, arguments)
                assert leaks(done.out, done.err) == set(), (edit, arguments)


class Running:
    def __init__(self, folder: Path, secrets: Path, format: str) -> None:
        self._out = folder / "out"
        self.port, self._ops_port = free_port(), free_port()
        options = {
            "config": folder / "routes.yaml",
            "port": self.port,
            "ops_port": self._ops_port,
            "store": folder / "store.db",
            "secrets_dir": secrets,
            "ops_tokens": secrets / OPS_FILE,
            "path": f"/callback/{canary('segment')}",
            "log_format": format,
        }
        named = {f"EBAAS_ROUTER_{name.upper()}": str(value) for name, value in options.items()}
        with self._out.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", ROUTER, "serve"],
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment({**ENVIRON, **named}),
            )
        self.replies: list[str] = []
        self.wait_for("serving")

    @property
    def output(self) -> str:
        return self._out.read_text()

    def wait_for(self, words: str, count: int = 1) -> None:
        wait_until(lambda: len(re.findall(words, self.output)) >= count)

    def post(self, body: bytes, token: str = "door-file", **options: Any) -> int:
        url = f"http://127.0.0.1:{self.port}/callback/{canary('segment')}"
        headers = {"authorization": f"Bearer {canary(token)}", **options.pop("headers", {})}
        options |= {"timeout": PATIENCE, **PLAIN}
        reply = httpx.post(url, content=body, headers=headers, **options)
        self._keep(reply)
        return reply.status_code

    def deliver(self, body: bytes, token: str = "door-file", **options: Any) -> None:
        """Post like EBaaS, which repeats what a slow store refused."""
        wait_until(lambda: self.post(body, token, **options) == 200)

    def get(self, path: str, *, ops: bool = False) -> None:
        url = f"http://127.0.0.1:{self._ops_port if ops else self.port}{path}"
        for token in ("the-ops-token", "wrong-ops-token"):
            headers = {"authorization": f"Bearer {canary(token)}"}
            self._keep(httpx.get(url, headers=headers, timeout=PATIENCE, **PLAIN))

    def _keep(self, reply: httpx.Response) -> None:
        self.replies.append(f"{reply.headers}\n{reply.text}")

    def say(self, data: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            self.replies.append(line.makefile("rb").read().decode())


@contextmanager
def running(folder: Path, secrets: Path, format: str) -> Iterator[Running]:
    router = Running(folder, secrets, format)
    try:
        yield router
        router.process.terminate()
        assert router.process.wait(PATIENCE) == 0
    finally:
        router.process.kill()
        router.process.wait(PATIENCE)


def call(router: Running) -> None:
    """Call as right and wrong callers do, with canaries in each request."""
    secret = {"x-secret": canary("caller"), "cookie": canary("caller-cookie")}
    full = event(changes=[canary("changes")], unknown={canary("unknown"): canary("unknown")})
    router.deliver(full, headers=secret, params={"token": canary("parameter")})
    router.deliver(full, "door-variable")
    router.deliver(full, "door-literal")
    assert router.post(full, "wrong-token") == 401
    assert router.post(full, headers={"authorization": canary("no-scheme")}) == 401
    router.deliver(full, headers={"x-request-id": "no token: " + canary("id")})
    assert router.post(event(event_key="unmatched", changes=[canary("changes")])) == 500
    assert router.post(event(event_topic=..., changes=[canary("changes")])) == 400
    assert router.post(event(changes=canary("changes"))) == 400
    assert router.post(b'{"%b":1,"%b":1}' % ((canary("twice").encode(),) * 2)) == 400
    assert router.post(canary("no-json").encode()) == 400
    assert router.post(full + b"\xff") == 400
    assert router.post(full, headers={"content-encoding": canary("encoding")}) == 415
    assert router.post(event(changes=["make-a-fault", canary("fault")])) == 500
    mark = canary("raw").encode()
    router.say(b"POST /" + mark + b" HTTP/1.1\r\nHost: a\r\nHost: " + mark + b"\r\n\r\n")
    router.say(b"POST /callback HTTP/1.1\r\nHost: a\r\n" + mark + b"\r\n\r\n" + mark)
    router.say(b"POST /callback HTTP/1.1\r\nHost: a\r\ncontent-length: 99\r\n\r\n" + mark)
    segment = canary("segment").encode()
    router.say(b"GET /callback/" + segment + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    router.say(b"POST /callback/" + segment + b"/x HTTP/1.1\r\nHost: a\r\n\r\n")
    router.get(f"/{canary('place')}?{canary('parameter')}")


#: With LONG=1, which `make test-long` sets, also the format for people. Both have the same fields.
FORMATS = ["json", "console"] if LONG else ["json"]


@pytest.mark.parametrize("format", FORMATS)
def test_serve(format: str, tmp_path: Path, secrets: Path) -> None:
    """No trouble of a router brings a secret into its log, replies, ops port or archive."""
    got: list[Kept] = []
    path = tmp_path / "routes.yaml"
    with table(got) as right:
        path.write_text(json.dumps(right))
        with running(tmp_path, secrets, format) as router:
            call(router)
            _ask_ops(router)
            for number, text in enumerate(broken(right).values(), 1):
                _replace(path, text)
                router.process.send_signal(signal.SIGHUP)
                router.wait_for('result"?[=:]"?refused', number)
                router.get("/status", ops=True)  # it shows what is wrong
            _ask_ops(router)
            router.deliver(event(changes=[canary("changes")]))
            router.wait_for(
                canary("answer")
            )  # in the format for people, only lines about retries have it
        names = [*failing(), "tls", "refused", "name"]
    assert [name for name in names if name not in router.output] == []
    assert [place for place in SENT if canary(place) not in repr(got)] == []
    assert "ValueError in faulty" in router.output
    # The log alone has the answers of targets and, as JSON, the ids in `changes`.
    ids = {canary("changes")} if format == "json" else set()
    assert leaks(router.output) == {canary("answer")} | ids
    assert leaks(*router.replies) == set()
    lines = [{**line, "payload": ""} for line in archived(tmp_path / "store.db-archive")]
    assert leaks(json.dumps(lines)) == {canary("answer"), canary("changes")}
    if format == "json":
        assert all(json.loads(line) for line in router.output.splitlines())


def _ask_ops(router: Running) -> None:
    for path in ("/metrics", "/status", f"/{canary('place')}"):
        router.get(path, ops=True)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)
