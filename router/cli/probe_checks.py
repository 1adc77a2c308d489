"""The checks of `probe`: one table, each with its words in English and Chinese."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

from router.cli.printing import milliseconds
from router.cli.probe import LANGUAGES
from router.contract.signing import KEY_PREFIX, Signer
from router.delivery.target.judge import judge
from router.delivery.target.lane import usual_header_lines
from router.delivery.target.sender import addressed
from router.model.event import FIELDS, Attempt, Event, OutboundEvent, Reason, new_id
from router.model.secret import Secret
from router.routing.target import Target
from router.transport.engine import Answer, Failure, as_it_came, lines_of
from router.transport.native import NativePool

#: A text in each of LANGUAGES.
Text = tuple[str, str]


class Words:
    """Formats texts in one language, with values."""

    def __init__(self, language: str) -> None:
        self._index = LANGUAGES.index(language)

    def __call__(self, text: Text | str, **values: object) -> str:
        """Format a text, or the one of this name in WORDS."""
        template = (WORDS[text] if isinstance(text, str) else text)[self._index]
        return template.format(**values) if values else template


class Skipped(Exception):
    """Ends a check that cannot be made, with the reason."""


class Breach(Exception):
    """Ends a check with the fault, its fix, and the reason of an attempt that failed."""

    def __init__(self, text: str, fix: str, reason: Reason | None = None) -> None:
        super().__init__(text)
        self.fix = fix
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sample:
    """A request to send. Only its timestamp and signature differ from one sending to the next."""

    event_key: str
    body: bytes
    event_id: str = field(default_factory=new_id)
    content_type: str = "application/json"
    #: The signing secrets: the receiver's; another and the receiver's; only another; none.
    signed: Literal["right", "rotated", "wrong", "not"] = "right"
    #: The time since its signature, in seconds.
    age: float = 0.0


class Samples:
    """Events with one key, four fields joined by dots. Their changes are not real ids."""

    def __init__(self, key: str) -> None:
        self.key = key
        fields = dict(zip(FIELDS, (*key.split("."), key), strict=True))
        self._usual = {**fields, "changes": ["probe-1"]}

    def event(self, **fields: Any) -> Sample:
        """Make an event with other values for these fields; `...` leaves a field out."""
        members = {name: value for name, value in (self._usual | fields).items() if value != ...}
        texts = {name: text for name, text in members.items() if isinstance(text, str)}
        body = json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()
        return Sample(Event.of(texts).event_key, body)

    def raw(self, body: bytes, content_type: str = "application/json") -> Sample:
        """Make a sample whose body is not an event, with the headers of one."""
        return Sample(self.key, body, content_type=content_type)


class Client:
    """Sends to one target as the router would, except where a sample says otherwise.

    Its connections are its own; `aclose` closes them.
    """

    def __init__(self, target: Target, samples: Samples, words: Words) -> None:
        self.target = target
        self.samples = samples
        self.say = words
        self._pool = NativePool(target.url, target.tls, target.egress)
        self._usual = usual_header_lines(target)
        other = Secret(KEY_PREFIX + base64.b64encode(os.urandom(24)).decode())
        right = target.secret
        by = {"right": right, "rotated": (other, *right), "wrong": (other,)} if right else {}
        self._signers = {signed: Signer(secrets) for signed, secrets in by.items()}

    async def aclose(self) -> None:
        await self._pool.close()

    async def certificate(self, fault: Text) -> dict[str, Any]:
        """Connect by TLS, and return the target's certificate; empty if it is not verified. Raises
        Breach."""
        connection = await self._pool.open(asyncio.get_running_loop().time() + self.target.timeout)
        if isinstance(connection, Failure):
            raise self.unacknowledged(self._judged(connection, time.perf_counter()), fault)
        return connection.certificate or {}

    async def send(self, sample: Sample) -> Attempt:
        """Send a sample once, over a kept connection if there is one."""
        lines, started = self._lines(sample), time.perf_counter()
        timeout = self.target.timeout
        result = await self._pool.post(lines, sample.body, timeout, as_it_came)
        return self._judged(result, started)

    async def expect(
        self, sample: Sample, fault: Text, fix: Text | None = None, **values: object
    ) -> Attempt:
        """Send an event that must be acknowledged. Raises Breach."""
        attempt = await self.send(sample)
        if not attempt.acknowledged:
            raise self.unacknowledged(attempt, fault, fix, **values)
        return attempt

    def unacknowledged(
        self, attempt: Attempt, fault: Text, fix: Text | None = None, **values: object
    ) -> Breach:
        """Return the breach of an event that must be acknowledged.

        `fix` is for a receiver that acknowledges other events: a crash at a field ends its
        connection. It is not used if the receiver has not read the event.
        """
        if fix is None or attempt.reason in _UNREAD:
            *_, fix = REASONS[attempt.reason]
            fix = _WRONG_PATH if attempt.status == 404 else fix
        what = self.say(fault, **values)
        text = self.say(_ANSWERED, what=what, answer=self.describe(attempt))
        return Breach(text, self.say(fix), attempt.reason)

    def refused(self, attempt: Attempt, statuses: Collection[int], what: Text, fix: Text) -> str:
        """Describe a refusal by one of these statuses: the HTTP status, or the contract's code.
        Raises Breach for any other answer."""
        code = int(attempt.code) if attempt.code.isascii() and attempt.code.isdigit() else None
        answer = self.describe(attempt)
        if not attempt.acknowledged and (attempt.status in statuses or code in statuses):
            return self.say(_REFUSED, answer=answer)
        expected = "401" if len(statuses) == 1 else "4xx"
        text = self.say(_NOT_REFUSED, what=self.say(what), answer=answer, expected=expected)
        raise Breach(text, self.say(fix))

    def describe(self, attempt: Attempt) -> str:
        """Describe the answer to a request in a few words."""
        if attempt.acknowledged:
            return self.say(_ACKNOWLEDGED, status=attempt.status)
        name, _ = REASONS[attempt.reason]
        english = attempt.detail or (attempt.reason if name else "")
        chinese = f"{name}：{attempt.detail}" if attempt.detail else name
        status = f"HTTP {attempt.status}" if attempt.status else ""
        facts = filter(None, (status, self.say((english, chinese)), attempt.msg))
        return self.say((", ", "，")).join(facts)

    def _judged(self, result: Answer | Failure, started: float) -> Attempt:
        return judge(result, self.target, time.perf_counter() - started, time.time())

    def _lines(self, sample: Sample) -> bytes:
        event = Event.of({"event_key": sample.event_key})
        head = addressed(OutboundEvent.of(event, new_id()), sample.event_id, time.time()).head
        given = lines_of([(b"content-type", sample.content_type.encode())])
        head = head.replace(b"content-type: application/json\r\n", given)
        stamp = b"%d" % (time.time() - sample.age)
        signed = [(b"webhook-timestamp", stamp)]
        if (signer := self._signers.get(sample.signed)) is not None:
            signature = signer.sign(sample.event_id.encode(), stamp, sample.body)
            signed.append((b"webhook-signature", signature))
        return head + lines_of(signed) + self._usual


@dataclass(frozen=True, slots=True)
class Check:
    """A check, by default with unusual but valid events, which the receiver must acknowledge."""

    name: str
    samples: Sequence[Sample] = ()
    #: The fault of a receiver, and its fix.
    fault: Text = ("", "")
    fix: Text = ("", "")
    #: If the receiver must refuse the samples: the statuses of its answer.
    refuse: Collection[int] = ()
    #: Skip the check without a secret.
    signed: bool = False
    #: A check of another kind. Describes the result. Raises Breach and Skipped.
    special: Callable[[Client], Awaitable[str]] | None = None
    #: The most requests of a special check.
    most: int = 1
    #: If no event is acknowledged here, the other checks cannot find anything more.
    is_basic: bool = False

    @property
    def requests(self) -> int:
        return len(self.samples) or self.most

    async def run(self, client: Client) -> str:
        """Describe the result. Raises Breach and Skipped."""
        if self.signed and not client.target.secret:
            raise Skipped(client.say(_NO_SECRET))
        if self.special is not None:
            return await self.special(client)
        for sample in self.samples:
            if self.refuse:
                attempt = await client.send(sample)
                answer = client.refused(attempt, self.refuse, self.fault, self.fix)
            else:
                answer = client.describe(await client.expect(sample, self.fault, self.fix))
        return answer


async def _tls(client: Client) -> str:
    if not client.target.url.lower().startswith("https:"):
        raise Skipped(client.say(("the URL is http", "URL 是 http")))
    certificate = await client.certificate(("no TLS connection", "无法建立 TLS 连接"))
    if not certificate:
        return client.say(_UNVERIFIED)
    end = ssl.cert_time_to_seconds(certificate["notAfter"])
    days = (end - time.time()) / 86400
    if days < _LEAST_DAYS:
        raise Breach(client.say(_EXPIRES, days=f"{days:.1f}"), client.say(_EXPIRES_FIX))
    return client.say(_EXPIRES, days=f"{days:.0f}")


async def _answers(client: Client) -> str:
    attempt = await client.send(client.samples.event())
    if not attempt.acknowledged:
        fix = _CREDENTIALS if attempt.status in (401, 403) else None
        raise client.unacknowledged(attempt, _SAMPLE, fix)
    return f"{client.describe(attempt)}, {milliseconds(attempt.seconds)} ms"


async def _timing(client: Client) -> str:
    """Send events one after the other."""
    attempts = [
        await client.expect(client.samples.event(), _TIMING, number=number + 1)
        for number in range(_SERIES)
    ]
    return _times(client, attempts)


async def _at_once(client: Client) -> str:
    count = min(_SERIES, client.target.max_in_flight)
    attempts = await asyncio.gather(*(client.send(client.samples.event()) for _ in range(count)))
    failed = [attempt for attempt in attempts if not attempt.acknowledged]
    if failed:
        numbers = {"failed": len(failed), "count": count}
        raise client.unacknowledged(failed[0], _AT_ONCE, _AT_ONCE_FIX, **numbers)
    return _times(client, attempts)


def _times(client: Client, attempts: Sequence[Attempt]) -> str:
    seconds = [attempt.seconds for attempt in attempts]
    usual, most = milliseconds(median(seconds)), milliseconds(max(seconds))
    timeout = f"{client.target.timeout:g}"
    return client.say(_TIMES, usual=usual, most=most, count=len(seconds), timeout=timeout)


async def _keep_alive(client: Client) -> str:
    """Send an event, a faulty request and another event, over one connection if it is kept."""
    await client.expect(client.samples.event(), _SAMPLE)
    await client.send(client.samples.raw(b'{"event_source"'))
    fault, fix = _LEFT_OVER
    return client.describe(await client.expect(client.samples.event(), fault, fix))


#: The statuses of a request that is at fault.
_FAULTS = range(400, 500)

#: The events that are timed, and the events that are sent at the same time.
_SERIES = 20

#: The least time that a certificate must still be valid, in days.
_LEAST_DAYS = 14

#: The reasons of an event that the receiver has not read.
_UNREAD = (
    *(Reason.REDIRECT, Reason.CONNECT_REFUSED, Reason.CONNECT_TIMEOUT, Reason.UNREACHABLE),
    *(Reason.FORBIDDEN, Reason.DNS, Reason.TLS),
)


def checks(samples: Samples) -> tuple[Check, ...]:
    """Return all checks in order."""
    event, raw = samples.event, samples.raw
    form = raw(b"event_source=a&changes=", "application/x-www-form-urlencoded")
    scripts = {"event_type": "证书🎫", "event_key": "证书.🎫", "changes": ["编号-一", "🙂"]}
    # The largest event that a router accepts: many ids, padded with blanks.
    large = event(changes=[f"probe-{number:030}" for number in range(26_000)])
    large = replace(large, body=large.body.ljust(1024 * 1024))
    # Receivers allow clocks to differ by 300 s.
    stale = [replace(event(), age=age) for age in (600.0, -600.0)]
    return (
        Check("tls", special=_tls, most=0, is_basic=True),
        Check("answers", special=_answers, is_basic=True),
        Check("timing", special=_timing, most=_SERIES),
        Check("twice", [event()] * 2,
               ("the second request with the same webhook-id is not acknowledged", "同一个 webhook-id 第二次到来时没有得到确认"),
               ("acknowledge an id that was processed before, without processing it again", "对已处理过的 id 直接返回 000，不再重复处理")),
        Check("no-changes", [event(changes=[])],
               ("an event with `changes: []` is not acknowledged", "`changes: []` 的事件没有得到确认"),
               ("allow `changes` to be empty: there is nothing to process", "允许 `changes` 为空列表：无需处理，直接确认")),
        Check("no-key", [event(event_key=key) for key in (..., None, "")],
               ("an event whose event_key is missing, null or empty is not acknowledged", "event_key 缺失、为 null 或为空的事件没有得到确认"),
               ("treat `event_key` as optional; without it the key is the other four fields joined by dots", "`event_key` 不是必填字段；缺失时由其他四个字段以点号拼接而成")),
        Check("unknown-fields", [event(tenant="t", trace={"a": [1]})],
               ("an event with unknown fields is not acknowledged", "含未知字段的事件没有得到确认"),
               ("ignore unknown fields: the platform may add some", "忽略未知字段：平台以后可能会增加字段")),
        Check("scripts", [event(**scripts)],
               ("an event with Chinese and emoji is not acknowledged", "含中文和 emoji 的事件没有得到确认"),
               ("decode the body as UTF-8 in any locale, and let the database store all of Unicode", "无论系统 locale 是什么都按 UTF-8 解码请求体；数据库须能存储全部 Unicode 字符（MySQL 用 utf8mb4）")),
        Check("many-ids", [event(changes=[f"probe-{number}" for number in range(1000)])],
               ("an event with 1,000 ids in `changes` is not acknowledged", "`changes` 中有 1,000 个 id 的事件没有得到确认"),
               ("accept `changes` of any length, and process the ids after answering", "不要限制 `changes` 的长度；先响应，再处理其中的 id")),
        Check("large-body", [large],
               ("an event of 1 MiB is not acknowledged", "1 MiB 的事件没有得到确认"),
               ("allow bodies of 1 MiB in the server, its framework and any proxy in front", "服务器、框架和前置代理都要允许 1 MiB 的请求体")),
        Check("unsigned", [replace(event(), signed="not")],
                 ("an event without a signature", "没有签名的事件"),
                 ("answer 401 first of all if webhook-signature is missing", "缺少 webhook-signature 时，先返回 401，不做任何处理"), (401,), signed=True),
        Check("wrong-signature", [replace(event(), signed="wrong")],
                 ("an event signed with another secret", "用其他密钥签名的事件"),
                 ("compute the signature over the raw body, compare it with webhook-signature, and answer 401 if they differ", "用收到的原始请求体计算签名，与 webhook-signature 比较，不一致则返回 401"), (401,), signed=True),
        Check("stale", stale,
                 ("an event signed ten minutes ago or ahead", "签名时间早或晚十分钟的事件"),
                 ("answer 401 if webhook-timestamp differs from your clock by more than five minutes", "webhook-timestamp 与本机时钟相差超过五分钟时返回 401"), (401,), signed=True),
        Check("rotated", [replace(event(), signed="rotated")],
               ("an event with two signatures is not acknowledged", "带两个签名的事件没有得到确认"),
               ("split webhook-signature at its blanks, and accept the event if one signature is right", "按空格拆分 webhook-signature，其中任意一个正确即可通过"), signed=True),
        Check("content-type", [form],
                 ("a form", "表单请求"),
                 ("answer 400 or 415 if the body is not JSON", "请求体不是 JSON 时返回 400 或 415"), _FAULTS),
        Check("broken-json", [raw(b""), raw(b'{"event_source":"a",')],
                 ("broken JSON", "不完整的 JSON"),
                 ("catch the parser's exceptions, and answer 400", "捕获解析器的异常，返回 400"), _FAULTS),
        Check("keep-alive", special=_keep_alive, most=3),
        Check("at-once", special=_at_once, most=_SERIES),
    )  # fmt: skip


# One line for each text, the languages side by side.
# fmt: off
_FIX_OK = '{"code": "000", "msg": "成功"}'

#: The Chinese name of each reason, as the console has it, and how to fix its cause. The answer's
#: own status is the name of the reason `status`.
REASONS: dict[Reason, tuple[str, Text]] = {
    Reason.CODE: ("返回了错误码", (f"answer {_FIX_OK} once the work is stored durably; the code is a string", f"处理结果落盘后返回 {_FIX_OK}；code 是字符串")),
    Reason.STATUS: ("", ("answer 200 once the event is stored durably; for the cause see the receiver's log", "事件落盘后返回 200；出错原因见业务端自己的日志")),
    Reason.LOOPING: ("事件经过的路由服务过多", ("answer 508 only to an event that came through too many routers: the router does not send it again", "只对经过路由服务过多的事件返回 508：路由服务不会重发它")),
    Reason.REDIRECT: ("返回重定向（不跟随）", ("configure the URL that the redirect leads to; check for a missing or extra slash at the end", "改为配置重定向后的 URL；检查 URL 末尾是否多了或少了斜杠")),
    Reason.EMPTY: ("响应为空", (f"answer with the body {_FIX_OK}, or set `acknowledge: status` for the target", f"返回响应体 {_FIX_OK}，或为该业务端设置 `acknowledge: status`")),
    Reason.NOT_JSON: ("响应不是 JSON 对象", (f"answer with one JSON object in UTF-8, {_FIX_OK}, and nothing else", f"只返回一个 UTF-8 编码的 JSON 对象 {_FIX_OK}，前后不要有其他内容")),
    Reason.ENCODED: ("响应被压缩", ("do not compress the answer: the request does not ask for it", "不要压缩响应：请求并未要求压缩")),
    Reason.TOO_LARGE: ("响应过大", ("answer with the contract's fields only: at most 64 KiB are read", "只返回约定的几个字段：最多读取 64 KiB")),
    Reason.PROTOCOL: ("响应不是有效的 HTTP", ("answer with complete HTTP/1.1, and send nothing after the body", "返回完整的 HTTP/1.1 响应，响应体之后不要有多余的字节")),
    Reason.CONNECT_REFUSED: ("连接被拒绝", ("start the receiver, or correct the URL's port", "启动业务端，或改正 URL 的端口")),
    Reason.CONNECT_TIMEOUT: ("连接超时", ("check the firewall, and the URL's host and port", "检查防火墙以及 URL 的主机和端口")),
    Reason.UNREACHABLE: ("地址不可达", ("check the network, and the URL's host", "检查网络以及 URL 的主机")),
    Reason.FORBIDDEN: ("地址不在允许范围内", ("list the address in `egress` of routes.yaml, if events may go there", "若允许事件发往该地址，把它加入 routes.yaml 的 `egress`")),
    Reason.DNS: ("域名解析失败", ("correct the URL's host, or its DNS record", "改正 URL 的主机，或修正 DNS 记录")),
    Reason.TLS: ("TLS 握手失败", ("serve a certificate for the URL's host with its whole chain; for a private CA use --ca, or `tls: {ca: …}` in routes.yaml", "使用与 URL 主机相符的证书，并附上完整的证书链；自建 CA 用 --ca 指定，或在 routes.yaml 中配置 `tls: {ca: …}`")),
    Reason.TIMEOUT: ("响应超时", ("store the event, answer, and process it afterwards", "事件落盘后立即响应，然后再处理")),
    Reason.RESET: ("连接中断，响应不完整", ("keep the connection open until the whole answer is sent, with as many bytes as `content-length` says", "响应发送完之前保持连接，发送的字节数与 `content-length` 一致")),
}

_ACKNOWLEDGED = ("acknowledged, HTTP {status}", "已确认，HTTP {status}")
_ANSWERED = ("{what}: {answer}", "{what}：{answer}")
_REFUSED = ("refused: {answer}", "已拒绝：{answer}")
_NOT_REFUSED = ("{what}: {answer}; expected {expected}", "{what}：{answer}；应为 {expected}")
_NO_SECRET = ("no secret: give --secret, or `secret` in routes.yaml", "没有密钥：用 --secret 指定，或在 routes.yaml 中配置 `secret`")
_WRONG_PATH = ("correct the URL's path: the server has nothing there", "改正 URL 的路径：服务器上没有这个路径")
_CREDENTIALS = ("give credentials: --secret, --header, or --target NAME for those of routes.yaml", "提供凭据：--secret、--header，或用 --target NAME 取 routes.yaml 中的配置")
_SAMPLE = ("the sample event is not acknowledged", "示例事件没有得到确认")
_TIMING = ("request {number} of a series is not acknowledged", "连续发送的第 {number} 个请求没有得到确认")
_TIMES = ("median {usual} ms, slowest {most} ms of {count}; the timeout is {timeout} s", "{count} 次：中位数 {usual} ms，最慢 {most} ms；超时时间 {timeout} s")
_AT_ONCE = ("{failed} of {count} concurrent events are not acknowledged", "同时发送的 {count} 个事件中，{failed} 个没有得到确认")
_AT_ONCE_FIX = ("serve as many at a time, or set the target's `max_in_flight` to what it can handle", "提高并发处理能力，或把该业务端的 `max_in_flight` 设为它能承受的数目")
_UNVERIFIED = ("connected; `verify: false` turns verification off", "已连接；设置了 `verify: false`，不校验证书")
_EXPIRES = ("the certificate expires in {days} days", "证书将在 {days} 天后过期")
_EXPIRES_FIX = ("renew the certificate, automatically if possible", "更换证书，并设置自动续期")
_LEFT_OVER = (
    ("after a refused request, the next event on its connection is not acknowledged", "拒绝一个请求之后，同一连接上的下一个事件没有得到确认"),
    ("read the whole body before refusing a request, or send `connection: close`", "拒绝之前先读完整个请求体，或返回 `connection: close`"),
)

#: The texts of the command itself: what it is going to send, and its report.
WORDS: dict[str, Text] = {
    "plan": ("checks: {checks}, with up to {requests} real requests to {url}; the endpoint may process the events (key {key}, ids like probe-1)", "检查项：{checks}，最多向 {url} 发送 {requests} 个真实请求；业务端可能会处理这些事件（事件键 {key}，id 形如 probe-1）"),
    "question": ("send them? [y/N] ", "是否发送？[y/N] "),
    "no terminal": ("there is no terminal to ask at: --yes sends without asking", "没有终端可供确认：加上 --yes 直接发送"),
    "not sent": ("nothing was sent", "没有发送任何请求"),
    "good": ("good", "通过"),
    "breach": ("BREACH", "不符"),
    "skipped": ("skipped", "跳过"),
    "effect": ("effect", "影响"),
    "fix": ("fix", "修正方法"),
    "total": ("checks: {checks}, good {good}, breach {breach}, skipped {skipped}", "检查项：{checks}，通过 {good}，不符 {breach}，跳过 {skipped}"),
    "reason": ("reason `{reason}`: {again}", "原因 `{reason}`：{again}"),
    "again": ("the event is sent again, up to {retries} times within {hours} h", "事件会被重发，{hours} 小时内最多 {retries} 次"),
    "ebaas": ("EBaaS gets no 000 and sends the event again, up to {retries} times within {hours} h", "EBaaS 收不到 000，会重发该事件，{hours} 小时内最多 {retries} 次"),
    "queue": ("the router sends the event again, up to {retries} times within {hours} h", "路由服务会重发该事件，{hours} 小时内最多 {retries} 次"),
}
# fmt: on
